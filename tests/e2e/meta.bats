#!/usr/bin/env bats
# cocoon meta backup and meta import (state.md §2): an older installation's root, JSON or SQLite, becomes
# ours wholly or not at all, whatever is in its files and wherever the import is killed.

bats_require_minimum_version 1.5.0
load lib

A=AAAAAAAAAAAAAAAAAAAAAAAAAA
B=BBBBBBBBBBBBBBBBBBBBBBBBBB
S=SSSSSSSSSSSSSSSSSSSSSSSSSS
HEX=$(printf '%064d' 7)

setup()
{
	cocoon_setup
	need sqlite3 jq flock
}

teardown()
{
	cocoon_teardown
}

db()
{
	sqlite3 "$T/root/meta/meta.db" "$1"
}

record()
{
	local id=$1 name=$2 driver=$3 dir=$4

	jq -nc --arg id "$id" --arg name "$name" --arg h "$driver" --arg hex "$HEX" \
		--arg run "$T/run/$dir/$id" --arg log "$T/log/$dir/$id" '{
		id: $id, hypervisor: $h, state: "stopped",
		config: {cpu: 2, memory: 536870912, storage: 10737418240, image: "tiny", name: $name, unheard_of: [1]},
		pid: 0, network_configs: null, snapshot_ids: {}, image_blob_ids: {($hex): {}},
		run_dir: $run, log_dir: $log, created_at: "2024-03-01T10:20:30.123456789+02:00",
		updated_at: "2024-03-02T00:00:00Z", x_future: {"a": null}} | if $h == "" then del(.hypervisor) else . end'
}

snapshot()
{
	jq -nc --arg id "$S" --arg hex "$HEX" --arg dir "$T/root/snapshot/localfile/$S" '{
		id: $id, name: "snap/1:a", cpu: 2, memory: 536870912, storage: 10737418240, nics: 0,
		hypervisor: "cloud-hypervisor", image_blob_ids: {($hex): {}},
		created_at: "2024-03-01T11:00:00Z", data_dir: $dir}'
}

network()
{
	jq -nc --arg vm "$A" '{id: "net-1", type: "cocoon", vm_id: $vm, if_name: "eth0",
		network: {ip: "10.88.0.5", gateway: "10.88.0.1", prefix: 16}}'
}

image()
{
	jq -nc --arg d "sha256:$HEX" '{ref: "docker.example/tiny:1", manifest_digest: $d, layers: [{digest: $d}],
		kernel_layer: $d, initrd_layer: $d, size: 4096, created_at: "2024-02-01T00:00:00Z"}'
}

cloudimg()
{
	jq -nc --arg d "sha256:$HEX" '{ref: "https://example.test/a.img", content_sum: $d, size: 8192,
		created_at: "2024-02-02T00:00:00Z"}'
}

# A root as the JSON program leaves it.
json_root()
{
	mkdir -p "$T"/root/{cloudhypervisor,firecracker,snapshot,cni,oci,cloudimg}/db
	mkdir -p "$T/root/snapshot/localfile/$S" "$T/run/cloudhypervisor/$A" "$T/run/firecracker/$B"
	jq -n --argjson a "$(record $A web '' cloudhypervisor)" --arg id $A \
		'{vms: {($id): $a}, names: {web: $id}}' >"$T/root/cloudhypervisor/db/vms.json"
	jq -n --argjson b "$(record $B job firecracker firecracker)" --arg id $B \
		'{vms: {($id): $b}, names: {job: $id}}' >"$T/root/firecracker/db/vms.json"
	jq -n --argjson s "$(snapshot)" --arg id $S '{snapshots: {($id): $s}, names: {"snap/1:a": $id}}' \
		>"$T/root/snapshot/db/snapshots.json"
	jq -n --argjson n "$(network)" '{networks: {"net-1": $n}}' >"$T/root/cni/db/networks.json"
	jq -n --argjson i "$(image)" '{images: {"docker.example/tiny:1": $i}}' >"$T/root/oci/db/images.json"
	jq -n --argjson i "$(cloudimg)" '{images: {"https://example.test/a.img": $i}}' \
		>"$T/root/cloudimg/db/images.json"
}

# The same records as the SQLite program leaves them, in the file $1 below the root.
sqlite_root()
{
	local file=$T/root/$1

	mkdir -p "$(dirname "$file")" "$T/root/snapshot/localfile/$S" "$T/run/cloudhypervisor/$A" "$T/run/firecracker/$B"
	sqlite3 "$file" >/dev/null <<-EOF
		PRAGMA journal_mode = WAL;
		PRAGMA application_id = 0x434F434E;
		PRAGMA user_version = 1;
		CREATE TABLE meta_state (namespace TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL, source TEXT, sha256 TEXT, records INTEGER, applied_at TEXT);
		CREATE TABLE vms_cloudhypervisor (id TEXT NOT NULL PRIMARY KEY, name TEXT UNIQUE, data TEXT NOT NULL);
		CREATE TABLE vms_firecracker (id TEXT NOT NULL PRIMARY KEY, name TEXT UNIQUE, data TEXT NOT NULL);
		CREATE TABLE vms_firecracker_tombstones (id TEXT NOT NULL PRIMARY KEY, lease_id TEXT NOT NULL, phase TEXT NOT NULL, leased_at TEXT NOT NULL, payload TEXT NOT NULL);
		CREATE TABLE snapshots (id TEXT NOT NULL PRIMARY KEY, name TEXT UNIQUE, data TEXT NOT NULL);
		CREATE TABLE networks (id TEXT NOT NULL PRIMARY KEY, vm_id TEXT, data TEXT NOT NULL);
		CREATE TABLE images_oci (digest TEXT NOT NULL PRIMARY KEY, data TEXT NOT NULL);
		CREATE TABLE image_oci_refs (ref TEXT NOT NULL PRIMARY KEY, digest TEXT NOT NULL REFERENCES images_oci(digest), data TEXT NOT NULL);
		CREATE TABLE images_cloudimg (digest TEXT NOT NULL PRIMARY KEY, data TEXT NOT NULL);
		CREATE TABLE image_cloudimg_refs (ref TEXT NOT NULL PRIMARY KEY, digest TEXT NOT NULL, data TEXT NOT NULL);
		INSERT INTO meta_state(namespace, state) VALUES('vms_cloudhypervisor', 'converted');
		INSERT INTO vms_cloudhypervisor VALUES('$A', 'web', '$(record $A web '' cloudhypervisor)');
		INSERT INTO vms_firecracker VALUES('$B', 'job', '$(record $B job firecracker firecracker)');
		INSERT INTO snapshots VALUES('$S', 'snap/1:a', '$(snapshot)');
		INSERT INTO networks VALUES('net-1', '$A', '$(network)');
		INSERT INTO images_oci VALUES('sha256:$HEX', '$(image | jq -c 'del(.ref)')');
		INSERT INTO image_oci_refs VALUES('docker.example/tiny:1', 'sha256:$HEX', '{"ref":"docker.example/tiny:1","created_at":"2024-02-01T00:00:00Z"}');
		INSERT INTO images_cloudimg VALUES('sha256:$HEX', '$(cloudimg)');
		INSERT INTO image_cloudimg_refs VALUES('https://example.test/a.img', 'sha256:$HEX', '$(cloudimg)');
	EOF
}

# What an import of either must have made.
imported()
{
	[ "$(db "SELECT v FROM meta_kv WHERE k = 'state'")" = imported ]
	[ "$(db 'PRAGMA application_id')" = $((0x434F4343)) ]
	[ "$(db 'PRAGMA integrity_check')" = ok ]
	[ "$(cocoon vm list -o json | jq -c '[.[] | [.config.name, .hypervisor, .state]] | sort')" = \
		'[["job","firecracker","stopped"],["web","cloud-hypervisor","stopped"]]' ]
	[ "$(cocoon snapshot list -o json | jq -r '.[].name')" = snap/1:a ]
	[ "$(cocoon image list -o json | jq -r '.[].name' | sort | paste -sd' ')" = \
		"docker.example/tiny:1 https://example.test/a.img" ]
	# Word for word, also what we do not know.
	[ "$(db "SELECT data FROM vms WHERE id = '$A'" | jq -cS 'del(.hypervisor)')" = \
		"$(record $A web '' cloudhypervisor | jq -cS .)" ]
	[ "$(db "SELECT data FROM snapshots" | jq -cS .)" = "$(snapshot | jq -cS .)" ]
	[ "$(db "SELECT data FROM networks" | jq -cS .)" = "$(network | jq -cS .)" ]
	[ "$(db "SELECT count(*) FROM vm_blobs WHERE hex = '$HEX'")" -eq 2 ]
	[ "$(db "SELECT count(*) FROM image_blobs WHERE hex = '$HEX'")" -eq 2 ]
	[ ! -e "$T/root/meta/import.manifest" ] && [ ! -e "$T/root/meta/meta.db.new" ]
}

# The doctor finds rows and records in agreement.
sound()
{
	run --separate-stderr cocoon doctor -o json
	[ "$(jq -r '.checks[] | select(.check == "store") | .status' <<<"$output")" = pass ]
}

@test "JSON: before it every verb says what to do, after it list, inspect and rm work" {
	json_root
	run -1 cocoon vm list
	[[ $output == *'run "cocoon meta import"'* ]]
	run -0 --separate-stderr cocoon meta import -o json
	[ "$(jq -c '[.vms, .snapshots, .networks, .images, (.sources | length)]' <<<"$output")" = "[2,1,1,2,6]" ]
	imported
	sound
	[ "$(find "$T/root" -name '*.converted-*Z' | wc -l)" -eq 6 ]
	[ "$(field web .created_at)" = "$(cocoon vm list -o json | jq -r '.[] | select(.config.name == "web") | .created_at')" ]
	[ "$(date -ud "$(field web .created_at)" +%s)" = "$(date -ud 2024-03-01T10:20:30+02:00 +%s)" ]
	cocoon vm rm web job
	[ ! -e "$T/run/cloudhypervisor/$A" ] && [ ! -e "$T/run/firecracker/$B" ]
	cocoon snapshot rm snap/1:a
	[ ! -e "$T/root/snapshot/localfile/$S" ]
	cocoon image rm docker.example/tiny:1
	[ "$(cocoon vm list -o json)" = "[]" ]
	run -1 cocoon meta import
	[[ $output == *"holds 1 records already"* || $output == *"no records of an older installation"* ]]
}

@test "SQLite: under any name, and in the place of our own store" {
	local file

	for file in cocoon.db meta/meta.db "db dir/s%20t?#.sqlite"; do
		rm -rf "$T/root" "$T/run"
		sqlite_root "$file"
		run -1 cocoon vm list
		[[ $output == *'run "cocoon meta import"'* ]]
		cocoon meta import
		imported
		sound
		[ "$(find "$T/root" -name '*.converted-*Z' | wc -l)" -eq 1 ]
		[ "$(sqlite3 "$(find "$T/root" -name '*.converted-*Z')" 'PRAGMA application_id')" = $((0x434F434E)) ]
		cocoon vm rm web
	done
}

# Short form of imported().
complete()
{
	[ "$(db "SELECT (SELECT v FROM meta_kv WHERE k = 'state'), (SELECT count(*) FROM vms),
		(SELECT count(*) FROM snapshots), (SELECT count(*) FROM networks),
		(SELECT count(*) FROM image_refs), (SELECT count(*) FROM vm_blobs)")" = "imported|2|1|1|2|2" ]
	[ -z "$(find "$T/root" -name '*.json' -o -name cocoon.db -o -name '*.new*' -o -name import.manifest)" ]
	[ -n "$(find "$T/root" -name '*.converted-*Z')" ]
}

# killed COMMAND...: the import of what the command sets up, killed at every step.
killed()
{
	local label

	for label in I1 I2 I3 I4; do
		rm -rf "$T/root" "$T/run"
		"$@"
		echo "$* $label"
		run env COCOON_FAILPOINT=meta_import.$label "$COCOON" meta import
		[ "$status" -eq 137 ]
		if [ $label = I1 ]; then
			# There is no store yet, or the old one, or an empty one that was there before.
			run cocoon vm list
			[[ $output == *"cocoon meta import"* || $output == *"No VMs found"* ]]
		fi
		[ $label = I4 ] || cocoon meta import
		complete
	done
}

existing_root()
{
	cocoon vm list >/dev/null
	json_root
}

@test "killed at every step, a second run completes it: JSON" {
	killed json_root
}

@test "killed at every step, a second run completes it: SQLite" {
	killed sqlite_root cocoon.db
}

@test "killed at every step, a second run completes it: SQLite in our place" {
	killed sqlite_root meta/meta.db
}

@test "killed at every step, a second run completes it: into an empty store" {
	killed existing_root
}

@test "names: a map that disagrees is refused, one name on two drivers is renamed when asked" {
	json_root
	jq '.names = {other: .names.web}' "$T/root/cloudhypervisor/db/vms.json" >"$T/x"
	mv "$T/x" "$T/root/cloudhypervisor/db/vms.json"
	run -1 cocoon meta import
	[[ $output == *"the map of names gives to nobody"* ]]
	[ ! -e "$T/root/meta/meta.db" ] && [ ! -e "$T/root/meta/import.manifest" ]

	json_root
	jq -n --argjson b "$(record $B web firecracker firecracker)" --arg id $B \
		'{vms: {($id): $b}, names: {web: $id}}' >"$T/root/firecracker/db/vms.json"
	run -1 cocoon meta import
	[[ $output == *"vm name \"web\" belongs to both $A and $B"*--rename-conflicts* ]]
	run -0 cocoon meta import --rename-conflicts
	[[ $output == *"renamed $B: web -> web-BBBBBBBB"* ]]
	[ "$(field web .id)" = $A ] && [ "$(field web-BBBBBBBB .id)" = $B ]
}

@test "a damaged index gives way to the generation before it, without one nothing happens" {
	json_root
	cp "$T/root/oci/db/images.json" "$T/root/oci/db/images.json.prev"
	echo '{"images": {' >"$T/root/oci/db/images.json"
	run -0 cocoon meta import
	[[ $output == *"images.json is damaged: "*"images.json.prev was used"* ]]
	imported
	rm -rf "$T/root"
	json_root
	echo '{"vms": {' >"$T/root/firecracker/db/vms.json"
	run -1 cocoon meta import
	[[ $output == *"firecracker/db/vms.json"* ]]
	[ ! -e "$T/root/meta/meta.db" ] && [ -e "$T/root/cloudhypervisor/db/vms.json" ]
}

@test "hostile records are refused as a whole, and name themselves" {
	local change

	for change in '.vms[] .id = "../../etc"' '.vms = [1]' '.vms[] = 7' '.vms[].config = "x"' '.vms[].state = 3' \
		'.vms[].state = ""' '.vms[].hypervisor = "qemu"' '.vms["../../x"] = .vms[]' '.names = []' \
		'.vms[].created_at = "yesterday"' '.vms[].image_blob_ids = 5'; do
		rm -rf "$T/root"
		json_root
		jq "$change" "$T/root/cloudhypervisor/db/vms.json" >"$T/x"
		mv "$T/x" "$T/root/cloudhypervisor/db/vms.json"
		echo "$change"
		run -1 --separate-stderr cocoon meta import
		[ -n "$stderr" ]
		[ ! -e "$T/root/meta/meta.db" ] && [ -z "$(ls "$T/root/meta")" ]
	done
	rm -rf "$T/root"
	json_root
	jq '.images[].layers[0].digest = "sha256:../../../etc/passwd"' "$T/root/oci/db/images.json" >"$T/x"
	mv "$T/x" "$T/root/oci/db/images.json"
	run -1 cocoon meta import
	[[ $output == *'invalid digest "sha256:../../../etc/passwd"'* ]]
}

@test "SQLite: views, damage, a newer version and unfinished removals are refused" {
	sqlite_root cocoon.db
	sqlite3 "$T/root/cocoon.db" "INSERT INTO vms_firecracker_tombstones VALUES('x', 'l', 'deleting', 't', '{}')"
	run -1 cocoon meta import
	[[ $output == *"unfinished removals in vms_firecracker_tombstones"* ]]
	sqlite3 "$T/root/cocoon.db" "UPDATE vms_firecracker_tombstones SET phase = 'leased'; PRAGMA user_version = 2"
	run -1 cocoon meta import
	[[ $output == *"has version 2, this cocoon reads 1"* ]]
	sqlite3 "$T/root/cocoon.db" "PRAGMA user_version = 1; UPDATE vms_firecracker SET name = 'else'"
	run -1 cocoon meta import
	[[ $output == *"record $B has another name than its row"* ]]
	sqlite3 "$T/root/cocoon.db" "DROP TABLE vms_firecracker;
		CREATE VIEW vms_firecracker AS SELECT 'x' AS id, 'y' AS name, '{}' AS data"
	cocoon meta import
	[ "$(cocoon vm list -o json | jq length)" -eq 1 ]
	rm -rf "$T/root"
	sqlite_root cocoon.db
	dd if=/dev/urandom of="$T/root/cocoon.db" bs=1024 seek=8 count=16 conv=notrunc status=none
	run -1 cocoon meta import
	[ ! -e "$T/root/meta/meta.db" ]
}

@test "refused: both kinds of store, a lock that is held, records of our own" {
	local lock

	json_root
	sqlite_root cocoon.db
	run -1 cocoon meta import
	[[ $output == *"both "*" hold records: move away the one that is out of date"* ]]
	rm "$T/root/cocoon.db"
	exec {lock}>"$T/root/firecracker/db/vms.lock"
	flock "$lock"
	run -1 cocoon meta import
	exec {lock}>&-
	[[ $output == *"the older program is at work"* ]]
	[ ! -e "$T/root/meta/meta.db" ]
	cocoon meta import
	json_root
	run -1 cocoon meta import
	[[ $output == *"holds "*" records already: only an empty one can take an import"* ]]
	rm -rf "$T/root"
	mkdir "$T/root"
	run -1 cocoon meta import
	[[ $output == *"no records of an older installation below $T/root"* ]]
}

@test "a VM that runs keeps running and is found again" {
	local pid

	export COCOON_TEST_DRIVER=cloud-hypervisor
	with_driver
	with_tiny tiny
	cocoon vm run --name live --memory 512M --nics 0 tiny
	pid=$(field live .pid)
	mkdir -p "$T/root/cloudhypervisor/db" "$T/root/oci/db"
	db "SELECT json_object('vms', json_group_object(id, json(data)), 'names', json_group_object(name, id)) FROM vms" \
		>"$T/root/cloudhypervisor/db/vms.json"
	db "SELECT json_object('images', json_group_object(ref, json(data))) FROM image_refs" \
		>"$T/root/oci/db/images.json"
	rm -r "$T/root/meta"
	cocoon meta import
	[ "$(field live '[.state, .pid] | @csv')" = "\"running\",$pid" ]
	cocoon vm stop --force live
	cocoon vm start live
	cocoon vm rm --force live
}

@test "backup: complete while in use, replaces an earlier one only when it is whole" {
	with_tiny tiny
	cocoon meta backup "$T/backup.db"
	[ "$(stat -c %a "$T/backup.db")" = 600 ]
	[ "$(sqlite3 "$T/backup.db" 'PRAGMA integrity_check; SELECT ref FROM image_refs' | paste -sd' ')" = "ok tiny" ]
	cocoon image rm tiny
	run -0 --separate-stderr cocoon meta backup "$T/backup.db" -o json
	[ "$(jq -r .backup <<<"$output")" = "$T/backup.db" ]
	[ "$(sqlite3 "$T/backup.db" 'SELECT count(*) FROM image_refs')" -eq 0 ]
	run -1 cocoon meta backup "$T/none/backup.db"
	run -1 cocoon meta backup "$T/"
	[ -z "$(find "$T" -name '.tmp-*')" ]
	# A root without a store has nothing to save, and gets none.
	COCOON_ROOT_DIR=$T/empty run -1 cocoon meta backup "$T/backup.db"
	[ ! -e "$T/empty" ]
	[ "$(sqlite3 "$T/backup.db" 'PRAGMA integrity_check')" = ok ]
}
