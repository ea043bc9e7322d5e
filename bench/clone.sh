#!/bin/bash
# What cocoon itself takes for `vm clone`, against doubles that take nothing (clone.ch, clone.fc): median
# beside an empty process; that it does not grow with 10,000 resident VMs (clone.slope10k, the ratio);
# 64 at once (clone.storm64, clones a second). The phases of one clone go to stderr. Called by bench/run,
# which sets COCOON, BENCH_BUILD and TOP. BENCH_DIR names another place than /tmp: without reflinks the
# copy of a disk is the file system's time.
set -euo pipefail

[ "$(id -u)" = 0 ] || { echo "bench: clone: left out: not root" >&2 && exit 0; }
work=$(mktemp -d "${BENCH_DIR:-/tmp}/cc-clone-XXXXXX")
export COCOON_CNI_CONF_DIR=$work/cni
export COCOON_LOG_LEVEL=warn
cache=${COCOON_TEST_CACHE:-$work}
rounds=${BENCH_CLONES:-30}

trap 'quit; rm -rf "$work"' EXIT

# remove JQ: the VMs that it selects from the list, as many at a time as a command line takes.
remove()
{
	"$COCOON" vm list --format json 2>/dev/null | jq -r "$1" | xargs -r -n 500 "$COCOON" vm rm --force >/dev/null 2>&1 || true
}

median()
{
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# now: microseconds
now()
{
	echo "${EPOCHREALTIME/./}"
}

# at ROOT: where the program works from here on.
at()
{
	export COCOON_ROOT_DIR=$work/$1 COCOON_RUN_DIR=$work/$1/run COCOON_LOG_DIR=$work/$1/log
}

# once PREFIX FILE: one clone, its time in ms appended to FILE; then its removal.
once()
{
	local start

	start=$(now)
	"$COCOON" vm clone -q --name "$1" base >/dev/null
	echo "$(($(now) - start))" | awk '{ print $1 / 1000 }' >>"$2"
	"$COCOON" vm rm --force "$1" >/dev/null 2>&1
}

# clones N ROOT...: N clones in each root by turns, and as many empty processes; the first round does
# not count. The times are in $work/times.ROOT and $work/floor.
clones()
{
	local i start root n=$1

	shift
	rm -f "$work"/times.* "$work/floor"
	for ((i = 0; i <= n; i++)); do
		for root; do
			at "$root"
			once "c$i" "$work/times.$root"
		done
		start=$(now)
		"$BENCH_BUILD/empty"
		echo "$(($(now) - start))" | awk '{ print $1 / 1000 }' >>"$work/floor"
		[ "$i" -gt 0 ] || rm -f "$work"/times.* "$work/floor"
	done
}

# prepare_root ROOT: a source VM and its snapshot; fails when the driver has none.
prepare_root()
{
	at "$1"
	"$COCOON" image import tiny "$cache/tiny.tar"
	"$COCOON" vm run --name src --cpu 1 --memory 512M --nics 0 tiny
	"$COCOON" snapshot save --name base src 2>"$work/err"
}

# Every VM of every root that runs; those that are only records go with their directory.
quit()
{
	local root

	for root in few many; do
		at "$root"
		[ ! -d "$COCOON_ROOT_DIR" ] || remove '.[] | select(.state == "running") | .id'
		rm -rf "${work:?}/$root"
	done
}

COCOON_TEST_CLOUD=no "$TOP/tests/e2e/prepare" "$cache" >/dev/null
mkdir "$work/bin"
# clone.<suffix>, driver, binary, variable
while read -r suffix driver binary variable; do
	double=$BENCH_BUILD/../tests/double/$suffix/$binary
	[ -x "$double" ] || { echo "bench: clone.$suffix: left out: no double" >&2 && continue; }
	ln -s "$(realpath "$double")" "$work/bin/$binary"
	export "$variable=$work/bin/$binary" COCOON_HYPERVISOR=$driver
	quit
	prepare_root few || {
		echo "bench: clone.$suffix: left out: $(tail -1 "$work/err")" >&2
		continue
	}
	clones "$rounds" few
	few=$(median <"$work/times.few") floor=$(median <"$work/floor")
	printf 'clone.%s\t%s\tms\t%s\t%s\n' "$suffix" "$few" "$floor" "$(awk "BEGIN { print $few / $floor }")"
	"$COCOON" --log-level debug vm clone --name phases base 2>&1 >/dev/null | sed -n 's/.*phase \(clone.*us\).*/bench: \1/p' >&2
	"$COCOON" vm rm --force phases
	[ "$suffix" = ch ] || continue
	start=$(now)
	for ((i = 0; i < 64; i++)); do
		"$COCOON" vm clone -q --name "s$i" base >/dev/null &
	done
	failed=0
	for ((i = 0; i < 64; i++)); do
		wait -n || failed=$((failed + 1))
	done
	took=$(($(now) - start))
	printf 'clone.storm64\t%s\tclones/s\t%s\tfailed\n' "$(awk "BEGIN { print 64e6 / $took }")" "$failed"
	remove '.[] | select(.config.name | startswith("s") and . != "src") | .id'
	# 10,000 rows beside the real ones, of VMs that are only records.
	prepare_root many
	"$BENCH_BUILD/seed" "$COCOON_ROOT_DIR" "$COCOON_RUN_DIR" 10000
	clones "$rounds" few many
	few=$(median <"$work/times.few") many=$(median <"$work/times.many")
	printf 'clone.slope10k\t%s\tms\t%s\t%s\n' "$many" "$few" "$(awk "BEGIN { print $many / $few }")"
done <<LIST
ch cloud-hypervisor cloud-hypervisor COCOON_CH_BINARY
fc firecracker firecracker COCOON_FC_BINARY
LIST
