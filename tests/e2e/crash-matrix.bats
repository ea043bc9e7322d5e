#!/usr/bin/env bats
# The rows of crash-matrix.tsv: a command is killed at a label, another repairs, and the invariants of
# state.md §8 hold: a name has one row, no VMM, directory, namespace, device or network row is nobody's,
# every pinned blob is there, repairing again changes nothing. On the double of Cloud Hypervisor with the
# built-in network: what each driver makes of a label is in the other crash tests. Rows marked "+" are
# walked there, too, and here only with COCOON_TEST_MATRIX=all.

load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 sqlite3 flock jq ip nft
	with_binary cloud-hypervisor COCOON_CH_BINARY '' ch/cloud-hypervisor
	export COCOON_HYPERVISOR=cloud-hypervisor
	with_net
	with_tiny tiny
	mv "$T/root" "$T/fresh"
	ln -s "$(tiny)" "$T/tiny.tar"
	in_net ip link add br0 type bridge
}

teardown()
{
	cocoon_teardown
}

CREATE='vm create --name v --memory 512M --nics 1 --network cocoon-builtin tiny'

# What stands for commands in the table.
expand()
{
	local words=$1

	words=${words//CREATE --flat/${CREATE% tiny} --flat tiny}
	words=${words//CREATE/$CREATE}
	echo "${words//T\//$T/}"
}

# commands TEXT: each of them works.
commands()
{
	local text words

	while IFS= read -r text; do
		case $text in
		- | empty) continue ;;
		create) text=$CREATE ;;
		run) text=${CREATE/create/run} ;;
		esac
		read -ra words <<<"$(expand "$text")"
		cocoon "${words[@]}" >"$T/out" 2>&1 || {
			echo "$text:"
			cat "$T/out"
			return 1
		}
	done < <(sed 's/save/run;snapshot save --name s v/' <<<"$1" | tr ';' '\n' | sed 's/^ *//; s/ *$//')
}

# How many VMMs run; a helper process belongs to the one that started it.
vmms()
{
	local pid pids n=0

	pids=$(cocoon_leftovers | awk '/bin\/cloud-hypervisor/ { print $1 }')
	for pid in $pids; do
		grep -qxF "$(awk '$1 == "PPid:" { print $2 }' "/proc/$pid/status" 2>/dev/null)" <<<"$pids" || n=$((n + 1))
	done
	echo $n
}

ids()
{
	db "SELECT id FROM $1 ORDER BY id"
}

invariants()
{
	local entry

	for entry in "$T"/run/*/* "$T"/log/*/*; do
		[ ! -e "$entry" ] || grep -qxF "${entry##*/}" <<<"$(ids vms)" || {
			echo "no VM for $entry"
			return 1
		}
	done
	for entry in "$T"/root/snapshot/localfile/*; do
		[ ! -e "$entry" ] || grep -qxF "${entry##*/}" <<<"$(ids snapshots)" || {
			echo "no snapshot for $entry"
			return 1
		}
	done
	for entry in $(in_net ls /run/netns); do
		grep -qxF "${entry#cocoon-}" <<<"$(ids vms)" || {
			echo "no VM for namespace $entry"
			return 1
		}
	done
	for entry in $(db 'SELECT hex FROM vm_blobs UNION SELECT hex FROM snapshot_blobs UNION SELECT hex FROM image_blobs'); do
		[ -e "$T/root/oci/blobs/$entry.erofs" ] || [ -d "$T/root/oci/boot/$entry" ] || {
			echo "blob $entry is pinned and not there"
			return 1
		}
	done
	[ "$(vmms)" = "$(db "SELECT count(*) FROM vms WHERE state = 'running'")" ] || {
		echo "VMMs: $(vmms)"
		db 'SELECT id, name, state FROM vms'
		return 1
	}
	[ -z "$(db "SELECT kind, id FROM tombstones")" ]
	[ -z "$(db "SELECT id FROM vms WHERE state = 'creating' UNION SELECT id FROM snapshots WHERE pending")" ]
	[ -z "$(db 'SELECT id FROM networks WHERE vm_id NOT IN (SELECT id FROM vms)')" ]
	[ "$(db 'PRAGMA integrity_check')" = ok ]
	[ -z "$(db 'PRAGMA foreign_key_check')" ]
	for entry in "$T"/root/locks/vm/*.lock "$T"/root/locks/snap/*.lock; do
		case $entry in
		*'*'* | *.console.lock) continue ;;
		esac
		flock --nonblock --exclusive "$entry" true || {
			echo "$entry is held"
			return 1
		}
	done
}

# A store and what is on the host, without times.
state()
{
	db 'SELECT id, name, state, seq FROM vms ORDER BY id; SELECT id, name FROM snapshots ORDER BY id;
		SELECT id FROM networks; SELECT ref FROM image_refs'
	(cd "$T" && find run log root/snapshot root/oci -mindepth 1 ! -name '*.sock' ! -path '*/temp/*' 2>/dev/null | sort)
	in_net sh -c 'ls /run/netns; ip -o link | cut -d: -f 2 | sort'
}

# "running running 1": state of v, of c, number of snapshots; a number that is 0 is left out.
summary()
{
	local text

	text=$(cocoon vm list --format name,state --sort name | awk -F '\t' '{ s[$1] = $2 } END {
		printf "%s%s", ("v" in s) ? s["v"] : "-", ("c" in s) ? " " s["c"] : "" }')
	case $(cocoon snapshot list -q | wc -l) in
	0) echo "$text" ;;
	*) echo "$text $(cocoon snapshot list -q | wc -l)" ;;
	esac
}

# row LABEL BEFORE KILLED REPAIR AFTER
row()
{
	local words again

	rm -rf "$T/root" "$T/run" "$T/log" "$T/s.tar" "$T/d"
	[ "$2" = empty ] || cp -a --reflink=auto "$T/fresh" "$T/root"
	commands "$2"
	read -ra words <<<"$(expand "$3")"
	crash "$1" "${words[@]}"
	read -ra words <<<"$(expand "${4#! }")"
	[[ $4 != '! '* ]] || cocoon "${words[@]}" >"$T/out" 2>&1 || true
	commands "${4#! }"
	invariants
	again=$(state)
	cocoon "${words[@]}" >"$T/out" 2>&1 || true
	# A restore is not idempotent: it happens again.
	[ "$again" = "$(state)" ] || [[ $4 == 'vm restore '* ]] || {
		echo "repairing again changed something:"
		diff <(echo "$again") <(state)
		return 1
	}
	[ "$(summary)" = "$5" ] || {
		echo "after the repair: $(summary), wanted $5"
		return 1
	}
	# The next row starts on a clean host, and removal has to leave one.
	for words in $(ids vms); do
		cocoon vm rm --force "$words" 2>/dev/null
	done
	[ -z "$(in_net ls /run/netns)" ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 2>/dev/null)" ]
	[ -z "$(ids networks)" ]
	[ "$(vmms)" = 0 ]
}

# flow NAME...: the rows whose label begins with one of these.
flow()
{
	local label before killed repair after name n=0

	while IFS='|' read -r label before killed repair after; do
		label=${label// /}
		[[ -n $label && $label != '#'* && $killed != *@* ]] || continue
		[[ $label != +* || ${COCOON_TEST_MATRIX-} = all ]] || continue
		label=${label#+}
		for name; do
			[[ $label == "$name".* ]] || continue
			echo "# $label"
			row "$label" "$(trim "$before")" "$(trim "$killed")" "$(trim "$repair")" "$(trim "$after")"
			n=$((n + 1))
		done
	done <"$BATS_TEST_DIRNAME/crash-matrix.tsv"
	[ $n -gt 0 ] || skip "COCOON_TEST_MATRIX=all walks these rows, crash.bats and crash-snapshot.bats their labels"
}

trim()
{
	sed 's/^ *//; s/ *$//' <<<"$1"
}

@test "create" { flow create; }
@test "start" { flow start; }
@test "stop and rm" { flow stop rm; }
@test "save" { flow save; }
@test "hibernate" { flow hibernate; }
@test "clone" { flow clone; }
@test "restore" { flow restore; }
@test "import, export, snapshot rm" { flow import export snapshot_rm; }
@test "networks" { flow net net_add net_remove; }
@test "images, gc, a new store" { flow image gc meta_init; }

@test "a NIC that a killed net add left: no snapshot has it, and what has been saved is restored" {
	mv "$T/fresh" "$T/root"
	commands run
	crash net_add.N2 vm net --nics 2 v
	cocoon snapshot save --name s v
	[ "$(jq '.net | length' "$T"/root/snapshot/localfile/*/config.json)" = 1 ]
	cocoon vm restore v s
	cocoon vm clone --name c s
	invariants
}
