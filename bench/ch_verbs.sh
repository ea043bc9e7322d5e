#!/bin/bash
# ch.create, ch.start, ch.stop: what cocoon itself takes for these verbs on Cloud Hypervisor, against the
# double without delays. Called by bench/run, which sets COCOON, BENCH_BUILD, TOP and the directories.
set -euo pipefail

double=$BENCH_BUILD/../tests/double/ch/cloud-hypervisor
[ -x "$double" ] || { echo "bench: ch: left out: no double" >&2 && exit 0; }
[ "$(id -u)" = 0 ] || { echo "bench: ch: left out: not root" >&2 && exit 0; }
work=$(mktemp -d /tmp/cc-ch-XXXXXX)
trap 'rm -rf "$work"' EXIT
export COCOON_ROOT_DIR=$work/root COCOON_RUN_DIR=$work/run COCOON_LOG_DIR=$work/log COCOON_CNI_CONF_DIR=$work/cni
export COCOON_LOG_LEVEL=warn COCOON_HYPERVISOR=cloud-hypervisor COCOON_CH_BINARY=$work/bin/cloud-hypervisor
mkdir "$work/bin"
ln -s "$(realpath "$double")" "$COCOON_CH_BINARY"

COCOON_TEST_CLOUD=no "$TOP/tests/e2e/prepare" "${COCOON_TEST_CACHE:-$work}" >/dev/null
"$COCOON" image import tiny "${COCOON_TEST_CACHE:-$work}/tiny.tar"
# The floor launches the VMM with the arguments that cocoon would.
cd "$work"
"$COCOON" vm debug -o json --cpu 1 --memory 512M --nics 0 --cow "$work/cow.raw" tiny |
	jq -r '.[] | gsub("\n"; " ")' >"$work/argv"
exec_floor=$BENCH_BUILD/empty
"$BENCH_BUILD/ch_verbs" "${BENCH_BOOTS:-30}" "$COCOON" "$exec_floor" "$work"
