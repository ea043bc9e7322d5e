#!/bin/bash
# Snapshots of a 2 GiB guest on QEMU: how long a clone takes until it runs and until its guest answers,
# how much of its memory is its own when it idles (qemu.clone_private, MiB, beside the guest's size), and
# export and import against tar -S on the same files. Called by bench/run.
set -euo pipefail

work=$(mktemp -d "${BENCH_DIR:-/tmp}/cc-snap-XXXXXX")
trap '"$COCOON" vm list -q | xargs -r "$COCOON" vm rm --force >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
export COCOON_ROOT_DIR=$work/root COCOON_RUN_DIR=$work/run COCOON_LOG_DIR=$work/log
export COCOON_LOG_LEVEL=warn COCOON_HYPERVISOR=qemu
cache=${COCOON_TEST_CACHE:-$work}
rounds=${BENCH_CLONES:-10}

median()
{
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

now()
{
	echo "${EPOCHREALTIME/./}"
}

type_at()
{
	{ printf '%s\r' "$2"; sleep "${3:-1}"; printf '\035.'; sleep 0.2; } |
		timeout 30 script -qec "'$COCOON' vm console $1" /dev/null 2>&1
}

COCOON_TEST_CLOUD=no "$TOP/tests/e2e/prepare" "$cache" >/dev/null
"$COCOON" image import tiny "$cache/tiny.tar"
"$COCOON" vm run --name src --cpu 1 --memory 2G --network user tiny
for _ in $(seq 100); do
	! grep -q 'cocoon-tiny ready' "$COCOON_LOG_DIR"/qemu/*/console.log || break
	sleep 0.3
done
# Something to carry: random data in the guest's page cache.
type_at src 'dd if=/dev/urandom of=/tmp/r bs=1M count=200; sync; echo fil''led' 20 >/dev/null
"$COCOON" snapshot save --name base src
"$COCOON" vm rm --force src >/dev/null

for ((i = 0; i <= rounds; i++)); do
	start=$(now)
	"$COCOON" --log-level debug vm clone --name c base >/dev/null 2>"$work/log.$i"
	running=$(($(now) - start))
	# What QEMU itself took: from the launch to the loaded state, and the guest to swap its NIC.
	theirs=$(sed -n 's/.*phase clone.K[67] \([0-9]*\) us.*/\1/p' "$work/log.$i" | awk '{ s += $1 } END { print s }')
	until type_at c "echo ans''wer" 0.1 | grep -q answer; do :; done
	answers=$(($(now) - start))
	pid=$(cat "$COCOON_RUN_DIR"/qemu/*/qemu.pid)
	sleep 1
	private=$(awk '/^Private_(Dirty|Clean):/ { s += $2 } END { print s / 1024 }' "/proc/$pid/smaps_rollup")
	[ "$i" = 0 ] || {
		echo "$running" >>"$work/running"
		echo "$answers" >>"$work/answers"
		echo "$theirs" >>"$work/theirs"
		echo "$private" >>"$work/private"
	}
	"$COCOON" vm rm --force c >/dev/null
done
sed -n 's/.*phase \(clone.*us\).*/bench: \1/p' "$work/log.$rounds" >&2
r=$(median <"$work/running") t=$(median <"$work/theirs") a=$(median <"$work/answers") p=$(median <"$work/private")
awk "BEGIN { printf \"clone.qemu\t%.1f\tms\t%.1f\t%.2f\n\", $r / 1e3, $t / 1e3, $r / $t
	printf \"clone.qemu_answers\t%.1f\tms\t%.1f\t%.2f\n\", $a / 1e3, $t / 1e3, $a / $t
	printf \"qemu.clone_private\t%.1f\tMiB\t2048\t%.3f\n\", $p, $p / 2048 }"

dir=$COCOON_ROOT_DIR/snapshot/localfile/$("$COCOON" snapshot inspect base | jq -r .id)
for ((i = 0; i <= 3; i++)); do
	start=$(now)
	"$COCOON" snapshot export base -o "$work/ours.tar"
	ours=$(($(now) - start))
	start=$(now)
	tar -S -C "$dir" -cf "$work/theirs.tar" .
	sync "$work/theirs.tar" # ours is on the disk, too
	theirs=$(($(now) - start))
	start=$(now)
	"$COCOON" snapshot import --name i <"$work/ours.tar"
	import=$(($(now) - start))
	"$COCOON" snapshot rm i
	mkdir "$work/x"
	start=$(now)
	tar -S -C "$work/x" -xf "$work/theirs.tar"
	sync -f "$work/x"
	untar=$(($(now) - start))
	rm -rf "$work/x" "$work"/*.tar
	[ "$i" = 0 ] || echo "$ours $theirs $import $untar" >>"$work/tar"
done
column()
{
	cut -d' ' -f"$1" "$work/tar" | median
}
awk "BEGIN { printf \"snapshot.export\t%.0f\tms\t%.0f\t%.2f\n\", $(column 1) / 1e3, $(column 2) / 1e3, $(column 1) / $(column 2)
	printf \"snapshot.import\t%.0f\tms\t%.0f\t%.2f\n\", $(column 3) / 1e3, $(column 4) / 1e3, $(column 3) / $(column 4) }"
