#!/usr/bin/env bats
# cocoon gc (state.md §7): it removes what nothing uses, finishes what killed commands began, and leaves
# everything else alone.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 sqlite3 flock jq
	# Beside the program, not beside the script that with_net makes of it.
	FC=$(dirname "$COCOON")/tests/double/fc/firecracker
	with_net
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

CREATE=(vm create --name v --memory 512M --nics 0 tiny)

blobs()
{
	find "$T/root/oci/blobs" "$T/root/oci/boot" -mindepth 1 -maxdepth 1 | sort
}

# A store without VMs and a root without their traces.
clean()
{
	[ "$(db 'SELECT count(*) FROM vms')" -eq 0 ]
	[ "$(db 'SELECT count(*) FROM tombstones')" -eq 0 ]
	[ "$(db 'SELECT count(*) FROM vm_blobs')" -eq 0 ]
	[ -z "$(find "$T"/run/*/ "$T"/log/*/ -mindepth 1 2>/dev/null)" ]
}

@test "an image in use stays; once nothing pins them its blobs go, in one cycle with the VM's remains" {
	local before

	before=$(blobs)
	[ -n "$before" ]
	run -0 --separate-stderr cocoon gc -o json
	[ "$(jq -c '[.collected, .failures]' <<<"$output")" = '[[],[]]' ]

	cocoon "${CREATE[@]}"
	cocoon image rm tiny
	cocoon gc
	[ "$(blobs)" = "$before" ]

	cocoon vm rm v
	run -0 --separate-stderr cocoon gc --dry-run -o json
	jq -e '.dry_run and ([.collected[] | select(.module == "oci" and .reason == "unreferenced" and .bytes > 0)] | length) > 0' <<<"$output"
	[ "$(blobs)" = "$before" ]

	run -0 --separate-stderr cocoon gc -o json
	jq -e '(.collected | length) > 0 and .failures == [] and (.duration_ms | type) == "number"' <<<"$output"
	[ -z "$(blobs)" ]
	[ "$(db 'SELECT count(*) FROM tombstones')" -eq 0 ]
	run -0 cocoon gc
	[[ $output == *"nothing to collect"* ]]
}

@test "creations killed at every step, and removals" {
	local label

	for label in create.C2 create.C3 create.C4; do
		crash $label "${CREATE[@]}"
		cocoon gc
		clean
	done
	for label in rm.D2 rm.D3 rm.D4; do
		cocoon "${CREATE[@]}"
		crash $label vm rm v
		cocoon gc
		clean
		run -0 cocoon gc
		[[ $output == *"nothing to collect"* ]]
	done
}

@test "a creation that still runs is not touched, and not waited for" {
	local id

	crash create.C4 "${CREATE[@]}"
	id=$(db 'SELECT id FROM vms')
	exec 9>"$T/root/locks/vm/$id.lock"
	flock 9
	run -0 timeout 10 "$COCOON" gc
	[ "$(db 'SELECT count(*) FROM vms')" -eq 1 ]
	exec 9>&-
	cocoon gc
	clean
}

@test "a running VM without a record is ended and removed" {
	local id pid

	need qemu-system-x86_64
	cocoon vm run --name v --memory 512M --nics 0 tiny
	id=$(db 'SELECT id FROM vms')
	pid=$(cat "$T/run/qemu/$id/qemu.pid")
	db 'PRAGMA foreign_keys = ON; DELETE FROM vms'
	run -0 --separate-stderr cocoon gc --dry-run -o json
	jq -e --arg id "$id" '[.collected[] | select(.id == $id)] | map(.reason) | sort == ["orphan-logDir", "orphan-runDir"]' <<<"$output"
	kill -0 "$pid"
	run -0 cocoon gc
	[[ $output == *"id=$id runDir=$T/run/qemu/$id reason=orphan-runDir"* ]]
	wait_for 5 test ! -e "/proc/$pid"
	clean
}

@test "a module that cannot be read: exit 1, nothing is removed" {
	local before

	cocoon image rm tiny
	before=$(blobs)
	mkdir -p "$T/log"
	touch "$T/log/qemu"
	run -1 cocoon gc
	[[ $output == *"Error: gc aborted: qemu: read directory $T/log/qemu: Not a directory"* ]]
	[ "$(blobs)" = "$before" ]
	rm "$T/log/qemu"
	cocoon gc
	[ -z "$(blobs)" ]
}

@test "two at once: the second says so and succeeds" {
	mkdir -p "$T/root/locks"
	exec 9>"$T/root/locks/gc.lock"
	flock 9
	run -0 timeout 10 "$COCOON" gc
	[[ $output == *"another gc is running"* ]]
	exec 9>&-
}

@test "killed while it removes a blob: the next cycle finishes it, a pull is refused until then" {
	local label archive

	archive=$(tiny)
	for label in gc.deleting gc.removed; do
		cocoon image rm tiny
		crash $label gc
		[ "$(db 'SELECT count(*) FROM tombstones')" -eq 1 ]
		cocoon gc
		[ -z "$(blobs)" ]
		[ "$(db 'SELECT count(*) FROM tombstones')" -eq 0 ]
		cocoon image import tiny "$archive"
	done
	cocoon "${CREATE[@]}"
}

@test "old temporary files and locks of gone VMs go, young ones stay" {
	local id=AAAAAAAAAAAAAAAAAAAAAAAAAA

	echo x >"$T/root/oci/temp/download"
	echo x >"$T/root/oci/temp/young"
	echo x >"$T/root/oci/temp/old.lock"
	mkdir -p "$T/root/locks/vm"
	echo x >"$T/root/locks/vm/$id.lock"
	echo x >"$T/root/locks/vm/$id.console.lock"
	touch -d '2 hours ago' "$T/root/oci/temp/download" "$T/root/oci/temp/old.lock" \
		"$T/root/locks/vm/$id.lock" "$T/root/locks/vm/$id.console.lock"
	cocoon gc
	[ ! -e "$T/root/oci/temp/download" ]
	[ -e "$T/root/oci/temp/young" ]
	[ -e "$T/root/oci/temp/old.lock" ]
	[ ! -e "$T/root/locks/vm/$id.lock" ]
	[ ! -e "$T/root/locks/vm/$id.console.lock" ]
}

# row ID NAME USED BYTES [PENDING]: a snapshot as the store knows it, with a directory.
row()
{
	mkdir -p "$T/root/snapshot/localfile/$1"
	db "INSERT INTO snapshots(id, name, pending, created_at, accessed_at, bytes, data) VALUES('$1', '$2',
		${5:-0}, 1, $3, $4, json_object('id', '$1', 'name', '$2', 'hypervisor', 'qemu', 'bytes', $4, 'cpu', 1,
		'memory', 536870912, 'storage', 10737418240, 'pending', json('${6:-false}'),
		'data_dir', '$T/root/snapshot/localfile/$1'))"
}

ids()
{
	jq -c '[.collected[] | select(.module == "snapshot") | [.id[0:1], .reason]] | sort' <<<"$output"
}

@test "snapshots: unfinished and unknown ones go, finished ones only when asked, the least used first" {
	local now a b c

	now=$(date +%s%N)
	a=$(printf 'A%.0s' {1..26}) b=$(printf 'B%.0s' {1..26}) c=$(printf 'C%.0s' {1..26})
	cocoon image list >/dev/null
	row "$a" old $((now - 3600000000000)) 100
	row "$b" mid $((now - 60000000000)) 100
	row "$c" new "$now" 100
	row DDDDDDDDDDDDDDDDDDDDDDDDDD building 0 0 1 true
	mkdir "$T/root/snapshot/localfile/EEEEEEEEEEEEEEEEEEEEEEEEEE"

	run -1 cocoon gc --snapshot-keep 1
	[[ $output == *"--snapshot-keep requires --snapshot"* ]]
	run -1 cocoon gc --snapshot --snapshot-age=-1s
	[[ $output == *"--snapshot-age must not be negative"* ]]

	run -0 --separate-stderr cocoon gc --dry-run --snapshot -o json
	[ "$(ids)" = '[["A","lru-all"],["B","lru-all"],["C","lru-all"],["D","stale-pending"],["E","orphan"]]' ]
	run -0 --separate-stderr cocoon gc --snapshot --snapshot-keep 2 --snapshot-age 30m --snapshot-dry-run -o json
	[ "$(ids)" = '[["A","lru-age+lru-keep"],["D","stale-pending"],["E","orphan"]]' ]
	[ "$(db 'SELECT group_concat(substr(id, 1, 1), "") FROM (SELECT id FROM snapshots ORDER BY id)')" = ABC ]
	run -0 --separate-stderr cocoon gc --snapshot --snapshot-size 200 -o json
	[ "$(ids)" = '[["A","lru-size"]]' ]
	exec 9>"$T/root/locks/snap/$c.lock"
	flock -s 9
	run -0 cocoon gc --snapshot
	[[ $output == *"id=$b name=mid bytes=100 last_accessed="*"reason=lru-all"* ]]
	[ "$(ls "$T/root/snapshot/localfile")" = "$c" ]
	exec 9>&-
}

@test "networks of VMs that are gone: namespace, lease and rules go with the next cycle" {
	cocoon vm create --name v --memory 512M tiny
	[ -n "$(in_net ls /run/netns)" ]
	db 'PRAGMA foreign_keys = ON; DELETE FROM vms'
	run -0 cocoon gc --dry-run
	[[ $output == *"would collect id="*" network=cni reason=orphan"* ]]
	[ -n "$(in_net ls /run/netns)" ]
	cocoon gc
	[ -z "$(in_net ls /run/netns)" ]
	[ "$(db 'SELECT count(*) FROM networks')" -eq 0 ]
	[ -z "$(in_net nft list ruleset)" ]
	[ "$(in_net ip -o link | wc -l)" -eq 1 ]
}

@test "a host without the binary of a VM's driver: its pins count all the same" {
	local before

	with_binary firecracker COCOON_FC_BINARY "$FC" ''
	cocoon vm create --fc --name f --memory 512M --nics 0 tiny
	cocoon image rm tiny
	before=$(blobs)
	export COCOON_FC_BINARY=$T/absent
	run -0 --separate-stderr cocoon gc -o json
	[ "$(jq -c '[.collected, .failures]' <<<"$output")" = '[[],[]]' ]
	[ "$(blobs)" = "$before" ]
	cocoon vm rm f
	cocoon gc
	[ -z "$(blobs)" ]
}
