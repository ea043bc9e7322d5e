#!/bin/bash
# Figures of a large store (state.md §12): BENCH_SCALE (100,000) VMs, as many snapshots, a directory each.
#	list.100k         cocoon vm list                     floor: bare SQLite reading every record
#	mem.list_100k     its peak memory                    floor: the same
#	gc.100k           cocoon gc with nothing to collect  floor: bare SQLite reading the keys of all tables
#	complete.10k      cocoon __complete vm start ''      floor: bare SQLite reading 1,000 names; 10,000 VMs
#	store.get_100k    one record by ID among them, store.get_100: among 100; floor of both: the SELECT
set -euo pipefail

n=${BENCH_SCALE:-100000}
bin=$BENCH_BUILD
work=$(mktemp -d /tmp/cocoon-scale-XXXXXX)
trap 'rm -rf "$work"' EXIT

# A store of N VMs and snapshots in $work/N.
fill()
{
	"$bin/seed" "$work/$1" "$work/$1/run" "$1" "$1" "$work/$1/log"
}

keys='SELECT id FROM vms UNION ALL SELECT id FROM snapshots UNION ALL SELECT vm_id FROM networks
	UNION ALL SELECT id FROM tombstones'

# use N: what the program works on from here.
use()
{
	export COCOON_ROOT_DIR=$work/$1 COCOON_RUN_DIR=$work/$1/run COCOON_LOG_DIR=$work/$1/log
}

fill "$n"
use "$n"
"$bin/procbench" list.100k mem.list_100k 30 -- "$COCOON" vm list -- "$bin/sqlite_read" "$work/$n"
if [ "$(id -u)" = 0 ]; then
	# gc looks at the host's namespaces and devices: it gets some of its own.
	mkdir -p /run/netns
	unshare --net --mount --propagation private bash -c 'mount -t tmpfs tmpfs /run/netns && exec "$@"' - \
		"$bin/procbench" gc.100k - 30 -- "$COCOON" gc --log-level error -- \
		"$bin/sqlite_read" "$work/$n" "$keys"
else
	echo "bench: gc.100k: left out: needs root" >&2
fi
"$bin/store_bench" --get store.get_100k "$work/$n"
fill 100
"$bin/store_bench" --get store.get_100 "$work/100"
fill 10000
use 10000
"$bin/procbench" complete.10k - 100 -- "$COCOON" __complete vm start '' -- \
	"$bin/sqlite_read" "$work/10000" 'SELECT name FROM vms ORDER BY name LIMIT 1000'
