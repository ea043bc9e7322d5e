#!/bin/bash
# Snapshots of a 2 GiB guest on QEMU: how long a clone takes until it runs and until its guest answers,
# beside a bare QEMU that loads the same files, by turns (clone.qemu_running, clone.qemu_answers, ms); what
# of it is cocoon's own (clone.qemu: without launch, load and the guest's exchange of its NIC); how much
# of its memory is its own when it idles (qemu.clone_private, MiB, beside the guest's size); export and
# import against tar -S on the same files. Called by bench/run; BENCH_DIR names another place than /tmp.
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

# answers SOCKET: waits until the guest behind a console's socket does.
answers()
{
	until { printf "echo ans''wer\r"; sleep 0.1; } | timeout 5 socat -t 0.1 - "UNIX-CONNECT:$1" 2>/dev/null |
		grep -q answer; do :; done
}

# bare DIR: QEMU as cocoon starts it for a clone (its words are in $work/cmdline), by hand over the files of
# a snapshot; appends its times until it runs and until the guest answers.
bare()
{
	local dir=$work/bare start pid status i argv=() sockets=(api events serial agent0 agent1 agent2 agent3)

	rm -rf "$dir"
	mkdir "$dir"
	cp --sparse=always --reflink=auto "$1/cow.raw" "$dir/cow.raw"
	mapfile -t -d '' argv <"$work/cmdline"
	for i in "${!argv[@]}"; do
		argv[i]=${argv[i]//"$old"\/memory.bin/"$1/memory.bin"}
		argv[i]=${argv[i]//"$old"/"$dir"}
		argv[i]=${argv[i]/,logfile=*,logappend=on/}
		if [[ ${argv[i]} =~ ,fd=([0-9]+), ]]; then
			argv[i]=${argv[i]/,fd=${BASH_REMATCH[1]},/,path="$dir/${sockets[BASH_REMATCH[1] - 11]}",}
		fi
	done
	start=$(now)
	"${argv[@]}" 9<"$1/state.bin" >/dev/null 2>"$work/bare.err" &
	pid=$!
	until [ -S "$dir/serial" ]; do
		kill -0 "$pid" || { cat "$work/bare.err" && return 1; }
		sleep 0.002
	done
	coproc socat - "UNIX-CONNECT:$dir/api"
	printf '%s\n' '{"execute":"qmp_capabilities"}' '{"execute":"migrate-incoming","arguments":{"uri":"fd:9"}}' >&"${COPROC[1]}"
	status=
	while [[ $status != *'"paused"'* ]]; do
		[[ $status != *inmigrate* && $status != *'QMP'* && -n $status ]] || echo '{"execute":"query-status"}' >&"${COPROC[1]}"
		read -r status <&"${COPROC[0]}"
	done
	echo '{"execute":"cont"}' >&"${COPROC[1]}"
	until [[ $status == *RESUME* ]]; do read -r status <&"${COPROC[0]}"; done
	echo "$(($(now) - start))" >>"$work/bare.running"
	answers "$dir/serial"
	echo "$(($(now) - start))" >>"$work/bare.answers"
	kill -9 "$pid"
	wait "$pid" 2>/dev/null || true
	wait "$COPROC_PID" 2>/dev/null || true
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

dir=$COCOON_ROOT_DIR/snapshot/localfile/$("$COCOON" snapshot inspect base | jq -r .id)

for ((i = 0; i <= rounds; i++)); do
	start=$(now)
	"$COCOON" --log-level debug vm clone --name c base >/dev/null 2>"$work/log.$i"
	running=$(($(now) - start))
	# What QEMU itself took: from the launch to the loaded state, and the guest to swap its NIC.
	theirs=$(sed -n 's/.*phase clone.K[67] \([0-9]*\) us.*/\1/p' "$work/log.$i" | awk '{ s += $1 } END { print s }')
	old=$(echo "$COCOON_RUN_DIR"/qemu/*)
	answers "$old/console.sock"
	answered=$(($(now) - start))
	pid=$(cat "$old/qemu.pid")
	sleep 1
	private=$(awk '/^Private_(Dirty|Clean):/ { s += $2 } END { print s / 1024 }' "/proc/$pid/smaps_rollup")
	cat "/proc/$pid/cmdline" >"$work/cmdline"
	"$COCOON" vm rm --force c >/dev/null
	bare "$dir"
	if [ "$i" = 0 ]; then
		rm "$work"/bare.running "$work"/bare.answers
		continue
	fi
	echo "$running" >>"$work/running"
	echo "$answered" >>"$work/answers"
	echo "$theirs" >>"$work/theirs"
	echo "$((running - theirs))" >>"$work/own"
	echo "$private" >>"$work/private"
done
sed -n 's/.*phase \(clone.*us\).*/bench: \1/p' "$work/log.$rounds" >&2
# beside NAME FILE FLOOR: both in ms, and their ratio.
beside()
{
	awk -v n="$1" -v a="$(median <"$work/$2")" -v b="$(median <"$work/$3")" \
		'BEGIN { printf "%s\t%.1f\tms\t%.1f\t%.2f\n", n, a / 1e3, b / 1e3, a / b }'
}
beside clone.qemu own theirs
beside clone.qemu_running running bare.running
beside clone.qemu_answers answers bare.answers
p=$(median <"$work/private")
awk "BEGIN { printf \"qemu.clone_private\t%.1f\tMiB\t2048\t%.3f\n\", $p, $p / 2048 }"

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
