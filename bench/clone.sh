#!/bin/bash
# What cocoon itself takes for `vm clone`, against doubles that take nothing (clone.ch, clone.fc): median
# beside an empty process; that it does not grow with 10,000 resident VMs (clone.slope10k, the ratio);
# 64 at once (clone.storm64, clones a second). The phases of one clone go to stderr. Called by bench/run,
# which sets COCOON, BENCH_BUILD, TOP and the directories.
set -euo pipefail

[ "$(id -u)" = 0 ] || { echo "bench: clone: left out: not root" >&2 && exit 0; }
work=$(mktemp -d /tmp/cc-clone-XXXXXX)
export COCOON_ROOT_DIR=$work/root COCOON_RUN_DIR=$work/run COCOON_LOG_DIR=$work/log COCOON_CNI_CONF_DIR=$work/cni
export COCOON_LOG_LEVEL=warn
cache=${COCOON_TEST_CACHE:-$work}
rounds=${BENCH_CLONES:-30}

quit()
{
	remove '.[] | select(.state == "running") | .id'
	rm -rf "$work"
}
trap quit EXIT

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

# clones N PREFIX: the time of each of N clones in ms, on stdout; every second sample is an empty process,
# whose times go to $work/floor.
clones()
{
	local i start

	: >"$work/floor"
	for ((i = 0; i <= $1; i++)); do
		start=$(now)
		"$COCOON" vm clone -q --name "$2$i" base >/dev/null
		[ "$i" = 0 ] || echo "$(($(now) - start))" | awk '{ print $1 / 1000 }'
		start=$(now)
		"$BENCH_BUILD/empty"
		[ "$i" = 0 ] || echo "$(($(now) - start))" | awk '{ print $1 / 1000 }' >>"$work/floor"
		"$COCOON" vm rm --force "$2$i" >/dev/null 2>&1
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
	rm -rf "$COCOON_ROOT_DIR"
	"$COCOON" image import tiny "$cache/tiny.tar"
	"$COCOON" vm run --name src --cpu 1 --memory 512M --nics 0 tiny
	"$COCOON" snapshot save --name base src 2>"$work/err" || {
		echo "bench: clone.$suffix: left out: $(tail -1 "$work/err")" >&2
		"$COCOON" vm rm --force src
		continue
	}
	clones "$rounds" c >"$work/few"
	few=$(median <"$work/few") floor=$(median <"$work/floor")
	printf 'clone.%s\t%s\tms\t%s\t%s\n' "$suffix" "$few" "$floor" "$(awk "BEGIN { print $few / $floor }")"
	"$COCOON" --log-level debug vm clone --name phases base 2>&1 >/dev/null | sed -n 's/.*phase \(clone.*us\).*/bench: \1/p' >&2
	"$COCOON" vm rm --force phases
	if [ "$suffix" = ch ]; then
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
		"$BENCH_BUILD/seed" "$COCOON_ROOT_DIR" "$COCOON_RUN_DIR" 10000
		clones "$rounds" d >"$work/many"
		many=$(median <"$work/many")
		printf 'clone.slope10k\t%s\tms\t%s\t%s\n' "$many" "$few" "$(awk "BEGIN { print $many / $few }")"
	fi
	"$COCOON" vm rm --force src >/dev/null 2>&1
done <<LIST
ch cloud-hypervisor cloud-hypervisor COCOON_CH_BINARY
fc firecracker firecracker COCOON_FC_BINARY
LIST
