#!/usr/bin/env bats
# Snapshots with real guests under emulation: a process counting in guest memory goes on after restore,
# clone, hibernation and a trip through an archive into another root; what was written later is gone;
# clones are VMs of their own; nothing tampered with reaches a VM.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4 sqlite3 jq
	with_tiny tiny
}

teardown()
{
	if [ -d "$T/root2" ]; then
		other vm rm --force "$(other vm list -q)" >/dev/null 2>&1 || true
	fi
	cocoon_teardown
}

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

snap()
{
	cocoon snapshot inspect "$1" | jq -r "$2"
}

other()
{
	COCOON_ROOT_DIR=$T/root2 COCOON_RUN_DIR=$T/run2 COCOON_LOG_DIR=$T/log2 "$COCOON" "$@"
}

boot()
{
	cocoon vm run --name "$1" --memory 512M --network user "${@:2}" tiny
	wait_console "$1" 'cocoon-tiny ready'
}

count()
{
	ask "$1" '(n=0; while :; do n=$((n+1)); echo $n >/tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.1; done) & true' \
		>/dev/null
	[ "$(ask "$1" 'sleep 0.5; cat /tmp/n')" -gt 0 ]
}

counted()
{
	ask "$1" 'cat /tmp/n' | tail -1
}

# The guest goes on from N: it is there, a little further, and still counts.
goes_on()
{
	local now later

	now=$(counted "$1")
	[ "$now" -ge "$2" ]
	later=$(counted "$1")
	[ "$later" -gt "$now" ]
}

@test "save and restore: memory goes on, later files are gone, the record follows" {
	boot a
	count a
	before=$(counted a)
	cocoon snapshot save --name one --description 'a test' a
	[ "$(vm a .state)" = running ]
	goes_on a "$before"
	ask a 'echo later >/later; sync'
	saved=$(counted a)

	[ "$(snap one '[.name, .description, .hypervisor, .cpu, .memory, .nics, .image] | join("|")')" = \
		"one|a test|qemu|2|536870912|1|tiny" ]
	[ "$(snap one '.image_blob_ids | length')" -ge 1 ]
	[ "$(snap one '.pending, .data_dir' | sort -u)" = null ]
	[ "$(vm a '.snapshot_ids | keys[0]')" = "$(snap one .id)" ]
	dir=$T/root/snapshot/localfile/$(snap one .id)
	[ "$(stat -c %a "$dir"/* | sort -u)" = 640 ]
	[ "$(ls "$dir" | tr '\n' ' ')" = 'cocoon.json cow.raw memory.bin qemu.json state.bin ' ]
	run -0 cocoon snapshot list
	[[ ${lines[0]} =~ ^ID\ +NAME\ +CPU\ +MEMORY\ +DESCRIPTION\ +CREATED$ ]]
	[[ ${lines[1]} == *'one'*'512MiB'*'a test'* ]]
	[ "$(cocoon snapshot list --vm a -q)" = "$(snap one .id)" ]

	# A record with wrong values is put right by the restore; name and network stay.
	db "UPDATE vms SET data = json_set(data, '$.config.cpu', 1, '$.config.memory', 1073741824,
		'$.config.storage', 21474836480, '$.config.name', 'renamed'), name = 'renamed'"
	mac=$(vm renamed '.network_configs[0].mac')
	run -0 --separate-stderr cocoon vm restore renamed one -o json
	[ "$(jq -r '[.state, .config.cpu, .config.memory, .config.storage, .config.name] | join(" ")' \
		<<<"$output")" = 'running 2 536870912 10737418240 renamed' ]
	[ "$(jq -r '.last_transition_reason' <<<"$output")" = restore ]
	[ "$(vm renamed '.network_configs[0].mac')" = "$mac" ]
	[ "$(vm renamed .config.network)" = user ]
	now=$(counted renamed)
	[ "$now" -ge "$before" ]
	[ "$now" -lt "$saved" ]
	[ "$(ask renamed 'test -e /later || echo gone')" = gone ]
	[ "$(ask renamed 'nproc')" = 2 ]
	goes_on renamed "$now"
	[ ! -e "$T/run/qemu/$(vm renamed .id).restore-staging" ]
	[ "$(db 'SELECT accessed_at IS NOT NULL FROM snapshots')" = 1 ]
	# The guest still stops when asked, and boots again.
	cocoon vm stop renamed
	cocoon vm start renamed
	wait_console renamed 'cocoon-tiny ready'
}

@test "hibernate and restore: ends in the same moment, goes on there; also after a removal of the source" {
	boot a
	count a
	before=$(counted a)
	cocoon vm hibernate --name asleep a
	[ "$(vm a '[.state, .last_transition_reason, .pid] | join(" ")')" = 'stopped stop-user 0' ]
	[ -z "$(cocoon_leftovers | grep qemu-system)" ]
	cocoon vm restore a asleep
	[ "$(vm a .state)" = running ]
	goes_on a "$before"
	[ "$(counted a)" -lt $((before + 400)) ]

	# The source runs, is stopped, is gone: its snapshot is the same.
	cocoon vm clone --name c1 asleep >/dev/null
	cocoon vm stop --force a
	cocoon vm clone --name c2 asleep >/dev/null
	cocoon vm rm a
	cocoon vm clone --name c3 asleep >/dev/null
	for c in c1 c2 c3; do
		goes_on $c "$before"
	done
	# A clone can be saved and cloned itself, and does not need what it came from.
	ask c3 'echo of-c3 >/mark; sync'
	cocoon snapshot save --name grand c3
	cocoon vm rm --force c3
	cocoon snapshot rm asleep
	cocoon vm clone --name c4 grand >/dev/null
	[ "$(ask c4 'cat /mark')" = of-c3 ]
	goes_on c4 "$before"
	cocoon vm clone --name c5 --restore-mode copy grand >/dev/null
	goes_on c5 "$before"
	# And what its source never had: another number of NICs.
	cocoon vm clone --name c6 --nics 2 grand >/dev/null
	[ "$(ask c6 'ls -d /sys/class/net/eth* | wc -l')" = 2 ]
	[ "$(ask c6 'cat /sys/class/net/eth0/address /sys/class/net/eth1/address')" = \
		"$(vm c6 '.network_configs[].mac')" ]
	cocoon snapshot save --name two c6
	cocoon vm clone --name c7 --nics 0 two >/dev/null
	[ "$(ask c7 'ls -d /sys/class/net/eth* 2>/dev/null | wc -l')" = 0 ]
	goes_on c7 "$before"
}

@test "ten clones at once: each with its own name, MAC, disk and instance, sharing memory" {
	boot a
	count a
	before=$(counted a)
	ask a 'echo shared >/f; sync'
	cocoon snapshot save --name base a
	sum=$(sha256sum "$T/root/snapshot/localfile/$(snap base .id)/memory.bin")
	pids=()
	for i in $(seq 10); do
		cocoon vm clone --no-guest-setup --name "c$i" base >"$T/hints.$i" 2>"$T/err.$i" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	[ "$(cocoon vm list --format json | jq '[.[] | select(.state == "running")] | length')" = 11 ]
	[ "$(cocoon vm list --format json | jq '[.[].network_configs[0].mac] | unique | length')" = 11 ]
	[ "$(cocoon vm list --format json | jq '[.[].storage_configs[-1].path] | unique | length')" = 11 ]
	[ "$(stat -c %i "$T"/run/qemu/*/memory.bin | sort -u | wc -l)" = 1 ]
	# Eleven emulated guests would only fight for the processors from here on.
	cocoon vm rm --force c2 c3 c4 c5 c6 c8 c9 2>/dev/null
	for i in 1 10; do
		goes_on "c$i" "$before"
		[ "$(ask "c$i" 'cat /sys/class/net/eth0/address')" = "$(vm "c$i" '.network_configs[0].mac')" ]
		ask "c$i" "cat /f; echo c$i >/f; sync" >/dev/null
	done
	for i in 1 10; do
		[ "$(ask "c$i" 'cat /f')" = "c$i" ]
	done
	[ "$(ask a 'cat /f')" = shared ]
	# A reboot of the guest takes the clone's command line: name, NIC, instance.
	console c7 'reboot -f' >/dev/null || true
	wait_console c7 'cocoon-tiny ready: hostname=c7 '
	[[ $(ask c7 'cat /proc/cmdline') == *"cocoon.instance=$(vm c7 .id)"* ]]
	grep -q '^hostnamectl set-hostname c1$' "$T/hints.1"
	grep -q "^MACAddress=$(vm c1 '.network_configs[0].mac')\$" "$T/hints.1"
	[ "$sum" = "$(sha256sum "$T/root/snapshot/localfile/$(snap base .id)/memory.bin")" ]
	# Without a name.
	run -0 --separate-stderr cocoon vm clone --no-guest-setup -o json base
	[ "$(jq -r .config.name <<<"$output")" = "cocoon-clone-$(jq -r '.id[0:8]' <<<"$output")" ]
	[ "$(jq '.hints | length' <<<"$output")" -gt 3 ]
}

@test "export, import into another root, clone there: goes on; pipes, gzip and directories say the same" {
	cp -a --reflink=auto "$T/root" "$T/root2"
	boot a
	count a
	before=$(counted a)
	cocoon snapshot save --name lib/base:1 a
	cd "$T"
	cocoon snapshot export lib/base:1
	[ -f lib-base-1.tar ]
	[ ! -e lib-base-1.tar.partial ]
	cocoon snapshot export lib/base:1 --gzip -o b.tgz
	run -1 cocoon snapshot export lib/base:1 --gzip --to-dir d
	cocoon snapshot export lib/base:1 --to-dir d
	run -1 cocoon snapshot export lib/base:1 --to-dir d
	[[ $output == *'is not empty'* ]]
	[ "$(tar tf lib-base-1.tar 2>/dev/null | head -1)" = snapshot.json ]
	[ "$(tar xOf lib-base-1.tar snapshot.json 2>/dev/null | jq -c '[.version, .config.name, .config.hypervisor,
		.config.created_at, (.files | length)]')" = '[1,"lib/base:1","qemu",null,5]' ]
	# Holes stay holes: a disk of 10 GiB fits a file of megabytes.
	[ "$(stat -c %s lib-base-1.tar)" -lt 400000000 ]
	other snapshot import lib-base-1.tar
	run -1 other snapshot import lib-base-1.tar
	[[ $output =~ 'snapshot name "lib/base:1" already in use by '[A-Z2-7]{26} ]]
	other snapshot import --name zipped --description packed <b.tgz
	cocoon snapshot export lib/base:1 -o - | other snapshot import --name piped -q
	[ "$(other snapshot inspect zipped | jq -r .description)" = packed ]
	[ "$(other snapshot list -q | wc -l)" = 3 ]
	for s in "$T"/root2/snapshot/localfile/*; do
		[ "$(stat -c %b "$s/cow.raw")" -lt 200000 ]
		cmp "$s/state.bin" d/state.bin
		cmp "$s/memory.bin" d/memory.bin
	done
	cocoon vm rm --force a
	other vm clone --name c1 zipped >/dev/null
	other vm clone --name c2 --from-dir "$T/d" >/dev/null
	for c in c1 c2; do
		COCOON_ROOT_DIR=$T/root2 COCOON_RUN_DIR=$T/run2 COCOON_LOG_DIR=$T/log2 goes_on $c "$before"
	done
	other vm rm --force c1 c2
}

@test "a directory as a source of restore: ownership, --force, and nothing tampered gets through" {
	boot a
	boot b
	cocoon snapshot save --name one a
	cocoon snapshot export one --to-dir "$T/good"
	cocoon vm restore a --from-dir "$T/good"
	run -1 cocoon vm restore b --from-dir "$T/good"
	[[ $output == *'does not belong to VM b'* ]]
	run -1 cocoon vm restore b one
	[[ $output == *'snapshot one does not belong to VM b'* ]]
	run -1 cocoon vm restore a one --force
	[[ $output == *'--force only applies with --from-dir'* ]]

	id=$(vm b .id)
	pid=$(vm b .pid)
	row=$(db "SELECT data FROM vms WHERE id = '$id'")
	sums=$(cd "$T/run/qemu/$id" && stat -c '%i %s' cow.raw qemu.json)
	while IFS='|' read -r name edit text; do
		rm -rf "$T/bad"
		cp -a --reflink=auto --sparse=always "$T/good" "$T/bad"
		(cd "$T/bad" && eval "$edit")
		run -1 timeout 60 "$COCOON" vm restore b --force --from-dir "$T/bad"
		[[ $output == *"$text"* ]] || {
			echo "$name: restore said: $output (wanted $text)"
			return 1
		}
		run -1 timeout 60 "$COCOON" vm clone --name evil --from-dir "$T/bad"
		[[ $output == *"$text"* ]] || {
			echo "$name: clone said: $output (wanted $text)"
			return 1
		}
		[ "$(vm b .pid)" = "$pid" ]
		[ "$row" = "$(db "SELECT data FROM vms WHERE id = '$id'")" ] || {
			echo "$name: the record changed"
			return 1
		}
	done <<-'TABLE'
		cpu 0|j snapshot.json '.config.cpu = 0'|cpu must be at least 1
		cpu 4096|j snapshot.json '.config.cpu = 4096'|exceeds host cores
		cpu|j snapshot.json '.config.cpu = 1'|its record says 1 vCPUs
		memory|j snapshot.json '.config.memory = 1073741824'|its record says 1073741824 bytes of memory
		little memory|j snapshot.json '.config.memory = 4096'|below the 512MiB minimum
		negative memory|j snapshot.json '.config.memory = -1'|below the 512MiB minimum
		storage|j snapshot.json '.config.storage = 21474836480'|cow.raw has
		nics|j snapshot.json '.config.nics = 1 + 1'|has 1
		nics as text|j snapshot.json '.config.nics = "1"'|nics
		null disk|j cocoon.json '.storage_configs[0] = null'|storage_configs[0]
		layer elsewhere|j cocoon.json '.storage_configs[0].path = "/etc/passwd"'|outside of cocoon
		layer of another image|j cocoon.json ".storage_configs[0].path = \"$T/root/oci/blobs/$(printf 'a%.0s' {1..64}).erofs\""|is not 
		climbing path|j cocoon.json ".storage_configs[0].path = \"$T/root/../../etc/passwd\""|not absolute and clean
		relative path|j cocoon.json '.storage_configs[-1].path = "cow.raw"'|not absolute and clean
		cow elsewhere|j cocoon.json '.storage_configs[-1].path = "/tmp/cow.raw"'|outside of cocoon
		writable layer|j cocoon.json '.storage_configs[0].ro = false'|must be read-only
		other role|j cocoon.json '.storage_configs[-1].role = "root"'|unknown role
		disk missing in sidecar|j cocoon.json 'del(.storage_configs[0])'|disks
		kernel elsewhere|j cocoon.json '.boot_config.kernel_path = "/boot/vmlinuz"'|outside of cocoon
		no cow|rm cow.raw|cow.raw is missing
		short cow|truncate -s 1M cow.raw|cow.raw has
		cow is a link|ln -sf /etc/passwd cow.raw|not a regular file
		cow is a fifo|rm cow.raw; mkfifo cow.raw|not a regular file
		no memory|rm memory.bin|memory.bin is missing
		short memory|truncate -s 1M memory.bin|memory.bin has
		no state|rm state.bin|state.bin is missing
		state is garbage|j snapshot.json 'del(.files)'; echo garbage >state.bin|not a device state
		recipe cpu|j qemu.json '.vcpus = 1'|its machine has 1
		recipe machine|j qemu.json '.machine = "pc-q35-99.0"'|no machine pc-q35-99.0
		recipe injects|j qemu.json '.cpu = "max -device evil"'|bad qemu
		newer qemu|j qemu.json '.qemu = "99.1.0"'|older
		other version|j snapshot.json '.version = 2'|unsupported snapshot archive version 2
		no id|j snapshot.json 'del(.config.id)'; j snapshot.json '.config.cpu = 0'|cpu must be at least 1
		no envelope|rm snapshot.json|not a complete snapshot
		other backend|j snapshot.json '.config.hypervisor = "nonesuch"'|nonesuch
		deep|python3 -c 'print("[" * 100000)' >snapshot.json|snapshot.json
		not json|echo x >cocoon.json; j snapshot.json 'del(.files)'|cocoon.json
	TABLE
	[ "$sums" = "$(cd "$T/run/qemu/$id" && stat -c '%i %s' cow.raw qemu.json)" ]
	[ ! -e "$T/run/qemu/$id.restore-staging" ]
	[ "$(cocoon vm list -q | wc -l)" = 2 ]
	[[ $(ask b 'echo alive') == alive ]]
	# Another VM's snapshot, forced: everything guest-visible is its, name and network stay.
	cocoon vm restore b --force --from-dir "$T/good"
	[ "$(vm b '[.config.name, .state] | join(" ")')" = 'b running' ]
	[ "$(ask b 'cat /sys/class/net/eth0/address')" = "$(vm b '.network_configs[0].mac')" ]
}

# j FILE FILTER: edit a JSON file in place.
j()
{
	jq "$2" "$1" >"$1.new" && mv "$1.new" "$1"
	# Sizes are listed: what is tested is the content.
	if [ "$1" != snapshot.json ] && jq -e .files snapshot.json >/dev/null 2>&1; then
		jq --arg n "$1" --argjson s "$(stat -c %s "$1")" '(.files[] | select(.name == $n)).size = $s' \
			snapshot.json >snapshot.json.new && mv snapshot.json.new snapshot.json
	fi
}

@test "a missing base image: said, and fetched by its digest with --pull, whatever its tag names by now" {
	need docker-registry skopeo
	with_registry
	registry_push "$(tiny)" vm/tiny:1
	cocoon image pull "$REGISTRY/vm/tiny:1"
	cocoon vm run --name a --memory 512M --network user "$REGISTRY/vm/tiny:1"
	wait_console a 'cocoon-tiny ready'
	ask a 'echo of-a >/root/d; sync'
	cocoon snapshot save --name one a
	cocoon snapshot export one -o "$T/one.tar"
	cocoon vm rm --force a
	skopeo copy -q --dest-tls-verify=false --format v2s2 "oci-archive:$(tiny)" "docker://$REGISTRY/vm/tiny:1"
	digest=$(snap one .image_digest)
	[ "$(skopeo inspect --tls-verify=false "docker://$REGISTRY/vm/tiny:1" | jq -r .Digest)" != "$digest" ]

	other snapshot import "$T/one.tar"
	run -1 other vm clone --name c one
	[[ $output == *"of image $REGISTRY/vm/tiny:1 is missing"*'--pull'* ]]
	[ -z "$(other vm list -q)" ]
	[ -z "$(ls "$T/run2/qemu" 2>/dev/null)" ]
	other vm clone --name c --pull one >/dev/null
	[ "$(other image list -o json | jq -r '.[].id')" = "$digest" ]
	COCOON_ROOT_DIR=$T/root2 COCOON_RUN_DIR=$T/run2 COCOON_LOG_DIR=$T/log2 run -0 ask c 'cat /root/d'
	[ "$output" = of-a ]
	# What cannot be fetched is a warning, and the clone fails as before.
	other vm rm --force c
	rm -rf "$T/root2"
	registry_stop
	other snapshot import "$T/one.tar"
	run -1 other vm clone --pull --name c one
	[[ $output == *'pull base image:'*'is missing'* ]]
	[ -z "$(other vm list -q)" ]
}

@test "refusals: flags that do not exist, wrong states, names, references, use" {
	for flag in --cpu --memory --storage; do
		run -1 cocoon vm clone $flag 1 x
		[[ $output == *"unknown flag: $flag"* ]]
		run -1 cocoon vm restore $flag 1 a x
		[[ $output == *"unknown flag: $flag"* ]]
	done
	run -1 cocoon vm restore --nics 1 a x
	[[ $output == *'unknown flag: --nics'* ]]
	run -0 cocoon vm run --help
	for flag in --cpu --memory --storage --nics; do
		[[ $output == *"$flag"* ]]
	done
	run -1 cocoon vm clone
	[[ $output == *'snapshot is required (or use --from-dir)'* ]]
	run -1 cocoon vm clone --from-dir /x y
	[[ $output == *'--from-dir and positional SNAPSHOT are mutually exclusive'* ]]
	run -1 cocoon vm clone nosuch
	[[ $output == *'inspect snapshot nosuch: snapshot not found'* ]]
	run -1 cocoon snapshot inspect nosuch
	[[ $output == *'inspect: snapshot not found'* ]]
	run -1 cocoon snapshot rm nosuch
	[[ $output == *'rm: resolve "nosuch": snapshot not found'* ]]
	run -0 cocoon snapshot list
	[ "$output" = 'No snapshots found.' ]
	cocoon vm create --name a --memory 512M --network user tiny
	run -0 cocoon snapshot list --vm a
	[ "$output" = 'No snapshots found for VM.' ]
	for verb in 'snapshot save' 'vm hibernate'; do
		# shellcheck disable=SC2086 # two words
		run -1 cocoon $verb a
		[[ $output == *'vm not running'* ]]
	done
	cocoon vm start a
	cocoon snapshot save --name one a
	run -1 cocoon snapshot save --name one a
	[[ $output == *'snapshot name "one" already exists'* ]]
	run -1 cocoon snapshot save --name '../x' a
	[[ $output == *'invalid snapshot name'* ]]
	run -1 cocoon snapshot save --description "$(printf 'x%.0s' {1..5000})" a
	[[ $output == *'longer than 4096'* ]]
	[ "$(cocoon snapshot list -q | wc -l)" = 1 ]
	# Two hands on one snapshot.
	exec 9>"$T/root/locks/snap/$(snap one .id).lock"
	flock -s 9
	run -1 cocoon snapshot rm one
	[[ $output == *"rm: snapshot $(snap one .id) is in use by an active clone/restore/export"* ]]
	exec 9>&-
	run -1 cocoon vm clone --name a one
	[[ $output == *'vm name "a" already exists (id: '* ]]
	run -1 cocoon vm clone --nics 9 one
	[[ $output == *'at most 8 NICs'* ]]
	run -1 cocoon vm clone --disk-queue-size 64 one
	[[ $output == *'disk queue size is fixed by the snapshot'* ]]
	[ "$(cocoon vm list -q | wc -l)" = 1 ]
	[ "$(find "$T/run/qemu" -mindepth 1 -maxdepth 1 | wc -l)" = 1 ]
	cocoon snapshot rm one
	[ "$(vm a '.snapshot_ids // {} | length')" = 0 ]
	[ -z "$(ls "$T/root/snapshot/localfile")" ]
	[ "$(db 'SELECT count(*) FROM snapshots, snapshot_blobs')" = 0 ]
}
