#!/usr/bin/env bats
# kill -9 and failures at every labelled step of save, hibernate, clone, restore, import, export and
# snapshot rm, then the verb that repairs (state.md §8): invariants hold, repairing again changes nothing.
# The guest is a real one that need not have booted: what runs is what is saved.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4 sqlite3 flock jq socat
	with_net
	with_tiny tiny
	cocoon vm run --name v --memory 512M --network user tiny
	V=$(vm v .id)
}

teardown()
{
	cocoon_teardown
}

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

# What QEMU itself says the guest does.
guest_is()
{
	local status

	status=$( (
		printf '{"execute":"qmp_capabilities"}\n{"execute":"query-status"}\n'
		sleep 0.3
	) | timeout 5 socat - "UNIX-CONNECT:$T/run/qemu/$V/events.sock" | grep -o '"status": "[a-z]*"')
	[ "$status" = "\"status\": \"$1\"" ] || {
		echo "guest: $status, wanted $1"
		return 1
	}
}

vmms()
{
	cocoon_leftovers | grep -c 'qemu-system' || true
}

# A store and its directories, without times.
state()
{
	db 'SELECT id, name, state, seq FROM vms ORDER BY id; SELECT id, name, pending FROM snapshots ORDER BY id;
		SELECT kind, id FROM tombstones; SELECT * FROM vm_snapshots; SELECT id FROM networks;'
	(cd "$T" && find run log root/locks root/snapshot -mindepth 1 ! -name '*.sock' | sort)
}

# Every directory has its row and every row its directory, every VMM is somebody's, every pin is there,
# nothing is half done, every lock can be taken.
invariants()
{
	local dir lock hex ids snaps

	ids=$(db 'SELECT id FROM vms')
	snaps=$(db 'SELECT id FROM snapshots')
	for dir in "$T"/run/qemu/* "$T"/log/qemu/*; do
		[ ! -e "$dir" ] || grep -qxF "${dir##*/}" <<<"$ids" || {
			echo "no row for $dir"
			return 1
		}
	done
	for dir in "$T"/root/snapshot/localfile/*; do
		[ ! -e "$dir" ] || grep -qxF "${dir##*/}" <<<"$snaps" || {
			echo "no row for $dir"
			return 1
		}
	done
	for id in $snaps; do
		[ -f "$T/root/snapshot/localfile/$id/cocoon.json" ]
	done
	[ "$(vmms)" = "$(db "SELECT count(*) FROM vms WHERE state = 'running'")" ] || {
		echo "VMMs: $(vmms)"
		db 'SELECT id, state FROM vms'
		return 1
	}
	for hex in $(db 'SELECT hex FROM vm_blobs UNION SELECT hex FROM snapshot_blobs'); do
		[ -e "$T/root/oci/blobs/$hex.erofs" ] || [ -d "$T/root/oci/boot/$hex" ]
	done
	[ "$(db 'SELECT count(*) FROM tombstones')" = 0 ]
	[ "$(db "SELECT count(*) FROM vms WHERE state = 'creating'")" = 0 ]
	[ "$(db 'SELECT count(*) FROM snapshots WHERE pending')" = 0 ]
	[ "$(db "SELECT count(*) FROM vms WHERE json_extract(data, '\$.hibernating') = 1")" = 0 ]
	for lock in "$T"/root/locks/vm/*.lock "$T"/root/locks/snap/*.lock; do
		case $lock in
		*'*'* | *.console.lock) continue ;;
		esac
		flock --nonblock --exclusive "$lock" true || {
			echo "$lock is held"
			return 1
		}
	done
	[ "$(db 'PRAGMA integrity_check')" = ok ]
	[ "$(db 'PRAGMA foreign_key_check')" = '' ]
}

repair()
{
	local before

	cocoon "$@" || {
		echo "repair failed: $*"
		return 1
	}
	invariants
	before=$(state)
	cocoon "$@" >/dev/null 2>&1 || true
	[ "$before" = "$(state)" ] || {
		echo "repairing again changed something:"
		diff <(echo "$before") <(state)
		return 1
	}
}

snapshots()
{
	cocoon snapshot list -q | wc -l
}

@test "save killed at S1-S3: the VM runs, gc takes the pending row" {
	for label in save.S1 save.S2 save.S3; do
		crash $label snapshot save --name s v
		guest_is running
		[ "$(snapshots)" = 0 ]
		repair gc
		[ "$(snapshots)" = 0 ]
	done
}

@test "save killed at S4-S6: the VM is paused; gc resumes it and removes what there is" {
	for label in save.S4 save.S5 save.S6; do
		crash $label snapshot save --name s v
		guest_is paused
		[ "$(snapshots)" = 0 ]
		repair gc
		guest_is running
	done
}

@test "save killed at S4-S6: every verb on the VM finds it and goes on" {
	crash save.S4 snapshot save --name s v
	cocoon vm start v
	guest_is running
	crash save.S5 snapshot save --name t v
	# A name held by an abandoned build is free for who asks.
	cocoon snapshot save --name t v
	guest_is running
	crash save.S6 snapshot save --name u v
	cocoon vm stop --force v
	[ "$(vm v .state)" = stopped ]
	repair gc
	[ "$(snapshots)" = 1 ]
	cocoon vm start v
	crash save.S6 snapshot save --name u v
	# By its ID an abandoned one can be removed, too; its VM is woken.
	id=$(db 'SELECT id FROM snapshots WHERE pending')
	run -1 cocoon snapshot inspect "$id"
	cocoon snapshot rm "$id"
	guest_is running
	invariants
	crash save.S5 snapshot save v
	cocoon vm restore v t
	guest_is running
	repair gc
	crash save.S4 snapshot save v
	cocoon vm rm --force v
	repair gc
}

@test "save killed at S7-S8: never promoted; at S9: complete" {
	for label in save.S7 save.S8; do
		crash $label snapshot save --name s v
		guest_is running
		[ "$(snapshots)" = 0 ]
		run -1 cocoon vm clone s
		[[ $output == *'snapshot not found'* ]]
		repair gc
	done
	crash save.S9 snapshot save --name s v
	guest_is running
	invariants
	[ "$(snapshots)" = 1 ]
	cocoon vm restore v s
}

@test "save failing at S1-S8: the VM runs on, nothing is left" {
	for n in 1 2 3 4 5 6 7 8; do
		inject save.S$n snapshot save --name s v
		guest_is running
		invariants
		[ "$(db 'SELECT count(*) FROM snapshots')" = 0 ]
		[ -z "$(ls "$T/root/snapshot/localfile")" ]
	done
	cocoon snapshot save --name s v
}

@test "hibernate killed at H1-H7: as save; at H8-H11: rolled forward" {
	for n in 1 2 3; do
		crash hibernate.H$n vm hibernate --name h v
		guest_is running
		repair gc
	done
	for n in 4 5 6 7; do
		crash hibernate.H$n vm hibernate --name h v
		guest_is paused
		repair gc
		guest_is running
		[ "$(snapshots)" = 0 ]
	done
	for n in 8 9 10 11; do
		crash hibernate.H$n vm hibernate --name h$n v
		cocoon vm stop v
		[ "$(vm v .state)" = stopped ]
		[ "$(vmms)" = 0 ]
		invariants
		cocoon vm restore v h$n
		guest_is running
	done
	[ "$(snapshots)" = 4 ]
	# Whoever comes first finishes it.
	crash hibernate.H8 vm hibernate --name again v
	cocoon vm start v
	[ "$(vm v .last_transition_reason)" = restart ]
	invariants
	crash hibernate.H8 vm hibernate --name more v
	cocoon vm rm v
	[ "$(vmms)" = 0 ]
	invariants
}

@test "hibernate failing at H1-H7: the VM runs on, nothing is left" {
	for n in 1 2 3 4 5 6 7; do
		inject hibernate.H$n vm hibernate --name h v
		guest_is running
		invariants
		[ "$(db 'SELECT count(*) FROM snapshots')" = 0 ]
	done
}

@test "clone killed at K1-K7: reconcile and gc remove it, source and siblings are left alone" {
	cocoon snapshot save --name s v
	cocoon vm clone --name sibling s >/dev/null
	pids=$(vm v .pid; vm sibling .pid)
	for n in 1 2 3 4 5 6 7; do
		for repair in 'gc' 'vm reconcile-stale-create c'; do
			crash clone.K$n vm clone --name c s
			[ "$(db "SELECT count(*) FROM vms WHERE name = 'c' AND state = 'creating'")" = $((n > 1)) ]
			case $n in
			5 | 6 | 7) [ "$(vmms)" = 3 ] ;;
			*) [ "$(vmms)" = 2 ] ;;
			esac
			run ! cocoon vm start c
			# shellcheck disable=SC2086 # words
			repair $repair
			[ "$(cocoon vm list -q | wc -l)" = 2 ]
			[ "$(vm v .pid; vm sibling .pid)" = "$pids" ]
		done
	done
	for n in 8 9; do
		crash clone.K$n vm clone --name c$n s
		[ "$(vm c$n .state)" = running ]
		invariants
	done
	cocoon snapshot rm s
	invariants
}

@test "clone failing at K1-K7: rolled back" {
	cocoon snapshot save --name s v
	for n in 1 2 3 4 5 6 7; do
		inject clone.K$n vm clone --name c s
		invariants
		[ "$(cocoon vm list -q | wc -l)" = 1 ]
		[ "$(db 'SELECT count(*) FROM vms')" = 1 ]
	done
	cocoon vm clone --name c s >/dev/null
}

@test "restore killed at R1-R3: the VM is as it was" {
	cocoon snapshot save --name s v
	pid=$(vm v .pid)
	for n in 1 2 3; do
		crash restore.R$n vm restore v s
		[ "$(vm v .pid)" = "$pid" ]
		guest_is running
		if [ $n -gt 1 ]; then
			[ -d "$T/run/qemu/$V.restore-staging" ]
		fi
		# The marker is any verb's to clear; files that nothing tells of are gc's.
		if [ $n -eq 3 ]; then
			repair vm start v
		fi
		repair gc
		[ "$(vm v .pid)" = "$pid" ]
		guest_is running
		[ ! -e "$T/run/qemu/$V.restore-staging" ]
	done
	crash restore.R2 vm restore v s
	cocoon vm restore v s
	guest_is running
	invariants
}

@test "restore killed at R4: stopped, with the old files" {
	cocoon snapshot save --name s v
	disk=$(stat -c %i "$T/run/qemu/$V/cow.raw")
	crash restore.R4 vm restore v s
	[ "$(vmms)" = 0 ]
	repair vm stop v
	[ "$(vm v .state)" = stopped ]
	[ "$(stat -c %i "$T/run/qemu/$V/cow.raw")" = "$disk" ]
	[ ! -e "$T/run/qemu/$V.restore-staging" ]
	cocoon vm start v
	guest_is running
}

@test "restore killed at R5-R7: start refuses, stop keeps the error, restore and rm go on" {
	cocoon snapshot save --name s v
	for n in 5 6 7; do
		crash restore.R$n vm restore v s
		run -1 cocoon vm start v
		[[ $output == *'its restore was interrupted'* ]]
		run -1 cocoon snapshot save v
		cocoon vm stop --force v
		[ "$(vm v .state)" = error ]
		[ "$(vmms)" = 0 ]
		run -1 cocoon vm start v
		# A bad source still touches nothing.
		run -1 cocoon vm restore v nosuch
		cocoon vm restore v s
		guest_is running
		invariants
		[ ! -e "$T/run/qemu/$V.restore-staging" ]
	done
	for n in 5 6 7; do
		cocoon vm clone --name c$n s >/dev/null
		cocoon snapshot save --name s$n c$n
		crash restore.R$n vm restore c$n s$n
		repair vm rm --force c$n
		[ -z "$(ls -d "$T"/run/qemu/*.restore-staging 2>/dev/null)" ]
	done
}

@test "restore killed at R8-R9: running; the staging directory goes with gc" {
	cocoon snapshot save --name s v
	crash restore.R8 vm restore v s
	[ "$(vm v .state)" = running ]
	guest_is running
	repair gc
	[ ! -e "$T/run/qemu/$V.restore-staging" ]
	crash restore.R9 vm restore v s
	guest_is running
	invariants
}

@test "restore failing at R1-R7: as it was, or an error that restore and rm repair" {
	cocoon snapshot save --name s v
	pid=$(vm v .pid)
	for n in 1 2 3; do
		inject restore.R$n vm restore v s
		[ "$(vm v .pid)" = "$pid" ]
		guest_is running
		invariants
	done
	for n in 4 5 6 7; do
		inject restore.R$n vm restore v s
		[ "$(vmms)" = 0 ]
		[ "$(vm v .state)" = error ]
		cocoon vm restore v s
		guest_is running
		invariants
	done
}

@test "import killed at I1-I4: gc, and the name is free for who asks; at I5: complete" {
	cocoon snapshot save --name s v
	cocoon snapshot export s -o "$T/s.tar"
	cocoon snapshot rm s
	for n in 1 2 3 4; do
		crash import.I$n snapshot import --name i "$T/s.tar"
		[ "$(snapshots)" = 0 ]
		repair gc
	done
	for n in 2 3 4; do
		crash import.I$n snapshot import --name i "$T/s.tar"
		cocoon snapshot import --name i "$T/s.tar"
		invariants
		cocoon snapshot rm i
	done
	for n in 1 2 3 4; do
		inject import.I$n snapshot import --name i "$T/s.tar"
		[ "$(db 'SELECT count(*) FROM snapshots')" = 0 ]
		[ -z "$(ls "$T/root/snapshot/localfile")" ]
		invariants
	done
	crash import.I5 snapshot import --name i "$T/s.tar"
	invariants
	cocoon vm clone --name c i >/dev/null
}

@test "import of cut, flipped and hostile archives: refused, and nothing is left" {
	cocoon snapshot save --name s v
	cocoon snapshot export s -o "$T/s.tar"
	cocoon snapshot export s --gzip -o "$T/s.tgz"
	cocoon snapshot rm s
	size=$(stat -c %s "$T/s.tar")
	zipped=$(stat -c %s "$T/s.tgz")
	refuse()
	{
		run -1 timeout 60 "$COCOON" snapshot import --name i "$1"
		[[ $output == *"$2"* ]] || {
			echo "said: $output (wanted $2)"
			return 1
		}
		[ "$(db 'SELECT count(*) FROM snapshots')" = 0 ]
		[ -z "$(ls "$T/root/snapshot/localfile")" ]
	}
	for n in 0 100 512 2000 5000 $((size / 2)) $((size - 1024)) $((size - 512)) $((size - 1)); do
		head -c $n "$T/s.tar" >"$T/bad"
		refuse "$T/bad" 'archive truncated'
	done
	for n in 1 100 $((zipped / 2)) $((zipped - 8)) $((zipped - 1)); do
		head -c $n "$T/s.tgz" >"$T/bad"
		refuse "$T/bad" 'truncated'
	done
	cp "$T/s.tgz" "$T/bad"
	printf '\377\377\377\377' | dd of="$T/bad" bs=1 seek=$((zipped - 8)) conv=notrunc status=none
	refuse "$T/bad" 'archive damaged'
	cp "$T/s.tar" "$T/bad"
	printf 'x' | dd of="$T/bad" bs=1 seek=10 conv=notrunc status=none
	refuse "$T/bad" 'bad header checksum'
	mkdir "$T/x"
	tar -C "$T/x" -xf "$T/s.tar" snapshot.json cocoon.json qemu.json state.bin 2>/dev/null
	ln -s /etc/passwd "$T/x/link"
	mkfifo "$T/x/fifo"
	while IFS='|' read -r args text; do
		# shellcheck disable=SC2086 # options of tar
		(cd "$T/x" && tar -cf "$T/bad" $args 2>/dev/null)
		refuse "$T/bad" "$text"
	done <<-EOF2
		cocoon.json|snapshot.json not found
		snapshot.json link|neither file nor directory
		snapshot.json fifo|neither file nor directory
		snapshot.json --hard-dereference cocoon.json cocoon.json|occurs twice
		snapshot.json --transform=s,^q,../q, qemu.json|refused
		snapshot.json --transform=s,^q,/q, -P qemu.json|refused
		snapshot.json --transform=s,^q,a/q, qemu.json|refused
		snapshot.json cocoon.json qemu.json state.bin|missing
	EOF2
	# Behind its end anything may follow; the files are what they are.
	(cat "$T/s.tar"; head -c 3000 /dev/zero) >"$T/long"
	cocoon snapshot import --name i "$T/long"
	cocoon snapshot rm i
	(cat "$T/s.tgz"; echo garbage) | cocoon snapshot import --name i
	invariants
}

@test "export killed: only a partial file, and the next one takes its place" {
	cocoon snapshot save --name s v
	cd "$T"
	crash export.partial snapshot export s
	[ ! -e s.tar ]
	[ -f s.tar.partial ]
	cocoon snapshot export s
	[ -f s.tar ]
	[ ! -e s.tar.partial ]
	inject export.partial snapshot export s -o t.tar
	[ -z "$(ls t.tar* 2>/dev/null)" ]
	crash export.files snapshot export s --to-dir d
	run -1 cocoon vm clone --from-dir d
	[[ $output == *'not a complete snapshot'* ]]
	inject export.files snapshot export s --to-dir e
	[ ! -e e ]
	run -1 cocoon snapshot export s -o /nonexistent/s.tar
	if [ -w /dev/full ]; then
		run -1 bash -c "'$COCOON' snapshot export s -o - >/dev/full"
	fi
	invariants
}

@test "snapshot rm killed: rm or gc finishes it, nothing uses it in between" {
	for label in tombstone dir; do
		for repair in 'snapshot rm s' gc; do
			cocoon snapshot save --name s v
			crash snapshot_rm.$label snapshot rm s
			run -1 cocoon vm clone s
			# shellcheck disable=SC2086 # words
			cocoon $repair
			invariants
			[ "$(snapshots)" = 0 ]
			[ "$(vm v '.snapshot_ids // {} | length')" = 0 ]
		done
	done
	cocoon snapshot save --name s v
	crash snapshot_rm.done snapshot rm s
	[ "$(snapshots)" = 0 ]
	invariants
}
