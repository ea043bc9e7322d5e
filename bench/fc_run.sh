#!/bin/bash
# fc.run: `vm run --fc` against the double, which answers at once: all that is left is ours and what we have
# others do. fc.run_own is that less mkfs.ext4 of the same disk in the same round. fc.step_*: what the outside
# steps cost alone (the double's start stands for a VMM's; one plugin is executed about twice a NIC). Called by
# bench/run, which sets COCOON, BENCH_BUILD and TOP.
# shellcheck disable=SC2016 # awk's columns
set -euo pipefail

rounds=${BENCH_SAMPLES:-200}
build=$(dirname "$COCOON")
double=$build/tests/double/fc/firecracker
[ -x "$double" ] || {
	echo "bench: fc: left out: no double" >&2
	exit 0
}
work=$(mktemp -d "${BENCH_DIR:-/tmp}/cc-fc-XXXXXX")
trap '"$COCOON" vm rm --force bench >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
export COCOON_ROOT_DIR=$work/root COCOON_RUN_DIR=$work/run COCOON_LOG_DIR=$work/log
export COCOON_LOG_LEVEL=warn COCOON_FC_BINARY=$double COCOON_CNI_CONF_DIR=$work/cni
export CNI_COMMAND=VERSION
unset COCOON_FAILPOINT

tiny=$build/test-cache/tiny.tar
[ -f "$tiny" ] || {
	tiny=$work/tiny.tar
	"$TOP/os-image/tiny/build" "$tiny" >/dev/null 2>&1
}
"$COCOON" image import tiny "$tiny"
disk=$work/disk.raw
# shellcheck disable=SC2054 # one option
mkfs=(mkfs.ext4 -F -m 0 -q -E lazy_itable_init=1,lazy_journal_init=1,discard
	-O '^orphan_file,^metadata_csum_seed' "$disk")
plugin=
for dir in /opt/cni/bin /usr/lib/cni; do
	[ ! -x "$dir/bridge" ] || plugin=$dir/bridge
done

steps=("$COCOON" vm run --fc --cpu 1 --memory 512M --nics 0 --name bench tiny
	-- "-$COCOON" vm rm --force bench
	-- -rm -f "$disk" -- -truncate -s 10G "$disk"
	-- "${mkfs[@]}"
	-- "$double" --version
	-- "$BENCH_BUILD/empty")
[ -z "$plugin" ] || steps+=(-- "$plugin")
"$BENCH_BUILD/steps" "$rounds" "${steps[@]}" >"$work/samples"

# figure NAME VALUE FLOOR: medians of two expressions over a round's columns
figure()
{
	awk -v name="$1" '
		function median(v, n,    i, j, t) {
			for (i = 2; i <= n; i++) {
				t = v[i]
				for (j = i - 1; j > 0 && v[j] > t; j--)
					v[j + 1] = v[j]
				v[j + 1] = t
			}
			return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
		}
		{ a[NR] = '"$2"'; b[NR] = '"$3"' }
		END {
			x = median(a, NR)
			y = median(b, NR)
			printf "%s\t%.3f\tms\t%.3f\t%.2f\n", name, x, y, x / y
		}' "$work/samples"
}
figure fc.run '$1' '$2'
figure fc.run_own '$1 - $2' '$4'
figure fc.step_mkfs '$2' '$4'
figure fc.step_vmm '$3' '$4'
[ -z "$plugin" ] || figure fc.step_plugin '$5' '$4'
