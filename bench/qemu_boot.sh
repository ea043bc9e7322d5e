#!/bin/bash
# qemu.boot_tiny: `vm run` of the tiny image until the guest's banner is on the console, against the bare
# hypervisor with the same kernel, layers, memory and network, until the same banner. Interleaved, first
# round dropped. Called by bench/run, which sets COCOON, BENCH_BUILD, TOP and the directories.
set -euo pipefail

rounds=${BENCH_BOOTS:-30}
work=$(mktemp -d /tmp/cc-boot-XXXXXX)
trap '"$COCOON" vm rm --force boot >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
export COCOON_ROOT_DIR=$work/root COCOON_RUN_DIR=$work/run COCOON_LOG_DIR=$work/log
export COCOON_LOG_LEVEL=warn COCOON_HYPERVISOR=qemu
banner='cocoon-tiny ready:'
flags=(--cpu 1 --memory 512M --network user --no-direct-io)

"$TOP/tests/e2e/prepare" "$work" >/dev/null
"$COCOON" image import tiny "$work/tiny.tar"

# The launch cocoon would do, reduced to what the guest needs to boot the same way.
"$COCOON" vm debug -o json "${flags[@]}" tiny >"$work/argv"
value()
{
	jq -r --arg o "$1" '. as $a | [range(length)] | map(select($a[.] == $o)) | .[] | $a[. + 1]' "$work/argv"
}
kernel=$(value -kernel) initrd=$(value -initrd)
accel=$(value -accel) cmdline=$(value -append) cpu=$(value -cpu)
mac=$(value -device | jq -rR 'fromjson? | select(.driver == "virtio-net-pci") | .mac')
mapfile -t layers < <(value -blockdev | jq -rR 'fromjson? | .file.filename // empty' | grep '\.erofs$')
truncate -s 10G "$work/cow.ext4"
mkfs.ext4 -F -m 0 -q -E lazy_itable_init=1,lazy_journal_init=1,discard "$work/cow.ext4"

bare=(qemu-system-x86_64 -nodefaults -display none -M q35 -accel "$accel" -cpu "$cpu" -m 512M -smp 1
	-serial stdio -kernel "$kernel" -initrd "$initrd" -append "$cmdline"
	-netdev "user,id=net0" -device "virtio-net-pci,netdev=net0,mac=$mac,romfile=")
n=0
for file in "${layers[@]}"; do
	bare+=(-drive "if=none,id=d$n,format=raw,readonly=on,file=$file"
		-device "virtio-blk-pci,drive=d$n,serial=cocoon-layer$n")
	n=$((n + 1))
done
bare+=(-drive "if=none,id=cow,format=raw,file=$work/cow.raw" -device "virtio-blk-pci,drive=cow,serial=cocoon-cow")

for ((i = 0; i <= rounds; i++)); do
	ours=$("$BENCH_BUILD/until" -u "$COCOON_RUN_DIR/qemu/*/console.sock" 120 "$banner" \
		"$COCOON" vm run --name boot "${flags[@]}" tiny)
	"$COCOON" vm rm --force boot
	cp --sparse=always "$work/cow.ext4" "$work/cow.raw"
	theirs=$("$BENCH_BUILD/until" 120 "$banner" "${bare[@]}")
	[ "$i" = 0 ] || echo "$ours $theirs" >>"$work/samples"
done

median()
{
	cut -d' ' -f"$1" "$work/samples" | sort -n | awk '{ v[NR] = $1 }
		END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
awk -v ours="$(median 1)" -v floor="$(median 2)" \
	'BEGIN { printf "qemu.boot_tiny\t%.3f\tms\t%.3f\t%.2f\n", ours, floor, ours / floor }'
