#!/usr/bin/env bats
# What clone and restore promise beyond a guest that goes on, the same for every driver: machine and record
# are the snapshot's, the VM beside it is untouched by what is refused, clones have names, networks and
# hints of their own, ten at once, and one that is killed harms nobody. COCOON_TEST_DRIVER names the driver,
# as for scenario.bats; where there are emulated or nested machines, COCOON_TEST_CLONES says how many at once.

load lib

export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-400}

setup()
{
	cocoon_setup
	need mkfs.ext4 jq script sqlite3 busybox
	with_driver
	with_net
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

db()
{
	sqlite3 "$T/root/meta/meta.db" "$1"
}

# boot NAME FLAGS...
boot()
{
	cocoon vm run --name "$1" --memory 512M "${@:2}" tiny
	wait_console "$1" "cocoon-tiny ready: hostname=$1"
}

# The guest's machine is what the record says.
machine_is()
{
	local want=$2 size

	[ "$(field "$1" '[.config.cpu, .config.memory, .config.storage] | join(" ")')" = "$want" ] || {
		field "$1" '[.config.cpu, .config.memory, .config.storage]'
		return 1
	}
	[ "$(ask "$1" nproc)" = "${want%% *}" ]
	[ "$(stat -c %s "$(field "$1" '.storage_configs[] | select(.role == "cow").path')")" = "${want##* }" ]
	read -ra size <<<"$want"
	! real || guest_has "$1" "${size[@]}"
}

# guest_has VM CPUS MEMORY STORAGE: the kernel keeps up to a tenth of the memory; the last disk is the writable one.
guest_has()
{
	local kib

	kib=$(ask "$1" "sed -n 's/MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo")
	[ $((kib * 1024)) -le "$3" ]
	[ $((kib * 1024)) -ge $(($3 * 85 / 100)) ]
	[ "$(ask "$1" 'cat /sys/class/block/vd?/size' | tail -1)" = $(($4 / 512)) ]
}

# apart VM: the VMM lives in the namespace of its VM.
apart()
{
	[ "$(stat -Lc %i "/proc/$(field "$1" .pid)/ns/net")" = "$(in_net stat -Lc %i "/run/netns/cocoon-$(field "$1" .id)")" ]
}

# In a guest that was cloned: what the hints say about its first NIC, with the means of the tiny image.
readdress()
{
	local ip mac

	ip=$(field "$1" '.network_configs[0].network | "\(.ip)/\(.prefix)"')
	mac=$(field "$1" '.network_configs[0].mac')
	ask "$1" "ip link set eth0 down; ip link set eth0 address $mac; ip addr flush dev eth0;
		ip addr add $ip dev eth0; ip link set eth0 up" >/dev/null
}

reachable()
{
	wait_for 30 in_net busybox ping -c 1 -W 2 "$(field "$1" '.network_configs[0].network.ip')"
}

@test "hibernation: ends in the moment that is saved, and goes on there" {
	local pid

	boot a --nics 1
	ask a 'echo in-memory >/tmp/m; echo on-disk >/root/d; sync'
	pid=$(field a .pid)
	cocoon vm hibernate --name asleep a
	[ "$(field a '[.state, .last_transition_reason, .pid] | join(" ")')" = 'stopped stop-user 0' ]
	run ! grep -q '^State:[^Z]*$' "/proc/$pid/status"
	[ "$(cocoon snapshot list --vm a -q)" = "$(cocoon snapshot inspect asleep | jq -r .id)" ]
	cocoon vm restore a asleep
	[ "$(field a .state)" = running ]
	[ "$(ask a 'cat /tmp/m /root/d')" = $'in-memory\non-disk' ]
	apart a
	! real || reachable a
	cocoon vm rm --force a
}

@test "machine and record are the snapshot's, after restore and after clone; the name is given or made" {
	local id

	cocoon vm run --name a --cpu 2 --memory 640M --storage 11G --nics 1 tiny
	wait_console a 'cocoon-tiny ready: hostname=a'
	cocoon snapshot save --name one a
	# A record with wrong values is put right; name and network stay.
	db "UPDATE vms SET data = json_set(data, '$.config.cpu', 1, '$.config.memory', 1073741824,
		'$.config.storage', 21474836480, '$.config.name', 'renamed'), name = 'renamed'"
	before=$(field renamed '[.net_backend, .netns_path, .network_configs, .config.network]')
	cocoon vm restore renamed one
	[ "$(field renamed '[.net_backend, .netns_path, .network_configs, .config.network]')" = "$before" ]
	machine_is renamed '2 671088640 11811160064'
	# A clone has them from the start, and its name.
	run -0 --separate-stderr cocoon vm clone -o json one
	id=$(jq -r .id <<<"$output")
	[ "$(jq -r .config.name <<<"$output")" = "cocoon-clone-${id:0:8}" ]
	machine_is "$id" '2 671088640 11811160064'
	cocoon snapshot export one --to-dir "$T/dir"
	run -0 --separate-stderr cocoon vm clone -o json --from-dir "$T/dir"
	id=$(jq -r .id <<<"$output")
	[ "$(jq -r .config.name <<<"$output")" = "cocoon-clone-${id:0:8}" ]
	machine_is "cocoon-clone-${id:0:8}" '2 671088640 11811160064'
	run -1 cocoon vm clone --name "cocoon-clone-${id:0:8}" one
	[[ $output == *"vm name \"cocoon-clone-${id:0:8}\" already exists (id: $id)"* ]]
}

@test "born without NICs: the clone and the restored have a namespace and grow there; on a bridge there is none" {
	local bridge

	in_net sh -c 'ip link add br0 type bridge; ip link set br0 up'
	boot a --nics 0
	cocoon snapshot save --name one a
	cocoon vm clone --name b one
	cocoon vm restore a one
	for vm in a b; do
		[ "$(field $vm '[.net_backend, .netns_path, (.network_configs // [] | length)] | map(tostring) | join(" ")')" = \
			"cni /var/run/netns/cocoon-$(field $vm .id) 0" ]
		apart $vm
	done
	cocoon vm clone --name c --bridge br0 one
	[ "$(field c '[.net_backend, .net_bridge_dev, .netns_path] | map(tostring) | join(" ")')" = 'bridge br0 null' ]
	[ "$(stat -Lc %i "/proc/$(field c .pid)/ns/net")" = "$(in_net stat -Lc %i /proc/self/ns/net)" ]
	[ ! -e "/var/run/netns/cocoon-$(field c .id)" ]
	# A snapshot of that one knows where it was.
	cocoon snapshot save --name bridged c
	cocoon vm clone --name d bridged
	[ "$(field d '[.net_backend, .net_bridge_dev, .netns_path] | map(tostring) | join(" ")')" = 'bridge br0 null' ]
	cocoon vm restore c bridged
	[ "$(field c '[.net_backend, .net_bridge_dev, .netns_path] | map(tostring) | join(" ")')" = 'bridge br0 null' ]
	if [ "$COCOON_HYPERVISOR" = firecracker ]; then
		run -1 cocoon vm net b --nics 1
		[[ $output == *'backend firecracker'*'net resize'* ]]
		return
	fi
	for vm in a b; do
		cocoon vm net $vm --nics 1
		in_net ip netns exec "cocoon-$(field $vm .id)" ip link show dev "$(field $vm '.network_configs[0].tap')"
	done
	for vm in c d; do
		cocoon vm net $vm --nics 1
		bridge=$(in_net readlink "/sys/class/net/bt$(field $vm '.id[0:8]')-0/master" || true)
		[ -z "$bridge" ] || [ "${bridge##*/}" = br0 ]
		in_net ip -o link show master br0 | grep -q "bt$(field $vm '.id[0:8]')-0"
	done
	real || return 0
	for vm in a b c d; do
		[ "$(ask $vm 'cat /sys/class/net/eth0/address')" = "$(field $vm '.network_configs[0].mac')" ]
	done
	readdress a
	readdress b
	reachable a
	reachable b
}

@test "hints: a guest that kept its MACs is told the new ones first, NIC by NIC" {
	local i mac want=()

	boot a --nics 2
	cocoon snapshot save --name one a
	run -0 --separate-stderr cocoon vm clone --no-guest-setup --name b one
	for i in 0 1; do
		mac=$(field b ".network_configs[$i].mac")
		[ "$mac" != "$(field a ".network_configs[$i].mac")" ]
		[ "$COCOON_HYPERVISOR" != firecracker ] ||
			want+=("ip link set dev eth$i down" "ip link set dev eth$i address $mac" "ip link set dev eth$i up")
	done
	want+=('rm -f /etc/systemd/network/10-*.network' 'hostnamectl set-hostname b')
	for i in 0 1; do
		mac=$(field b ".network_configs[$i].mac")
		want+=("MACAddress=$mac" "Address=$(field b ".network_configs[$i].network | \"\(.ip)/\(.prefix)\"")")
	done
	want+=('systemctl restart systemd-networkd')
	[ "$(grep -E '^(ip link|rm -f|hostnamectl|MACAddress|Address|systemctl)' <<<"$output")" = \
		"$(printf '%s\n' "${want[@]}")" ] || {
		echo "$output"
		return 1
	}
	# The same lines as data.
	run -0 --separate-stderr cocoon vm clone --no-guest-setup --name c -o json one
	[ "$(jq -r '.hints[]' <<<"$output" | grep -c '^ip link')" = "$([ "$COCOON_HYPERVISOR" = firecracker ] && echo 6 || echo 0)" ]
}

@test "ten at once, of a source that runs, is stopped, is gone: each with its own MAC, address, name and disk" {
	local n=${COCOON_TEST_CLONES:-10} i state pids status list

	boot a --nics 1
	ask a 'echo in-memory >/tmp/m; echo on-disk >/root/d; sync'
	cocoon snapshot save --name one a
	for state in running stopped gone; do
		[ $state != stopped ] || cocoon vm stop --force a
		[ $state != gone ] || cocoon vm rm a
		pids=()
		for ((i = 1; i <= n; i++)); do
			cocoon vm clone --name "c$i" one >/dev/null 2>"$T/err.$i" 3>&- &
			pids+=($!)
		done
		status=0
		for ((i = 1; i <= n; i++)); do
			wait "${pids[$((i - 1))]}" || {
				cat "$T/err.$i"
				status=1
			}
		done
		[ $status = 0 ]
		list=$(cocoon vm list --format json | jq '[.[] | select(.config.name | startswith("c"))]')
		for what in .id .config.name '.network_configs[0].mac' '.network_configs[0].network.ip' .netns_path \
			'.network_configs[0].netns_path' '.storage_configs[] | select(.role == "cow").path'; do
			[ "$(jq "[.[] | select(.state == \"running\") | $what] | unique | length" <<<"$list")" = "$n" ] || {
				echo "$what: $list"
				return 1
			}
		done
		[ "$(db 'SELECT count(DISTINCT id) FROM networks')" = $((n + ($(cocoon vm list -q | wc -l) > n))) ]
		for i in 1 "$n"; do
			apart "c$i"
		done
		[ "$(ask "c$n" 'cat /tmp/m /root/d')" = $'in-memory\non-disk' ]
		if real && [ $state = gone ]; then
			for i in 1 "$n"; do
				readdress "c$i"
				reachable "c$i"
			done
		fi
		# shellcheck disable=SC2046 # names
		cocoon vm rm --force $(jq -r '.[].id' <<<"$list") >/dev/null
	done
	# Nothing of thirty networks is left.
	[ "$(db 'SELECT count(*) FROM networks')" = 0 ]
	[ -z "$(in_net ls /run/netns)" ]
}

@test "a clone killed at any step, of a source that runs or is gone: collected, with its network; nobody else is touched" {
	local step pids

	boot a --nics 1
	ask a 'echo in-memory >/tmp/m'
	cocoon snapshot save --name one a
	cocoon vm clone --name b one
	pids=$(field a .pid; field b .pid)
	for step in K1 K2 K3 K4 K5 K6 K7; do
		COCOON_FAILPOINT=clone.$step run -137 cocoon vm clone --name k one
		cocoon gc
		[ "$(cocoon vm list -q | wc -l)" = 2 ]
		[ "$(db 'SELECT count(DISTINCT vm_id) FROM networks')" = 2 ]
		[ "$(in_net ls /run/netns | wc -l)" = 2 ]
		[ "$(find "$T/run" -mindepth 2 -maxdepth 2 -type d | wc -l)" = 2 ]
		[ "$(field a .pid; field b .pid)" = "$pids" ]
	done
	[ "$(ask a 'cat /tmp/m')" = in-memory ]
	[ "$(ask b 'cat /tmp/m')" = in-memory ]
	cocoon vm rm --force a
	for step in K4 K5 K6; do
		COCOON_FAILPOINT=clone.$step run -137 cocoon vm clone --name k one
		cocoon gc
		[ "$(field b .pid)" = "${pids##*$'\n'}" ]
		[ "$(find "$T/run" -mindepth 2 -maxdepth 2 -type d | wc -l)" = 1 ]
	done
	[ "$(ask b 'cat /tmp/m')" = in-memory ]
	cocoon vm clone --name c one
	[ "$(ask c 'cat /tmp/m')" = in-memory ]
}

# An image that shares nothing with tiny but the number of its layers.
other_image()
{
	local layers layer n=0

	mkdir "$T/image"
	tar -C "$T/image" -xf "$(tiny)"
	layers=$(jq -r '.manifests[0].digest' "$T/image/index.json")
	layers=$(jq -r '.layers[].digest' "$T/image/blobs/${layers/://}")
	echo other >"$T/image/other"
	for layer in $layers; do
		n=$((n + 1))
		gzip -dc "$T/image/blobs/${layer/://}" >"$T/image/$n.tar"
		tar -C "$T/image" --owner=0 --group=0 -rf "$T/image/$n.tar" other
	done
	cocoon image import other "$T/image"/?.tar
}

# j FILE FILTER: edit a JSON file in place.
j()
{
	jq "$2" "$1" >"$1.new" && mv "$1.new" "$1"
}

# tampered_with VM: no edit of a snapshot's files gets past the gates. What QEMU adds is snapshot.bats's.
tampered_with()
{
	local id pid row name edit

	id=$(field "$1" .id)
	pid=$(field "$1" .pid)
	row=$(db "SELECT data FROM vms WHERE id = '$id'")
	while IFS='|' read -r name edit; do
		rm -rf "$T/bad"
		cp -a --reflink=auto --sparse=always "$T/good" "$T/bad"
		(cd "$T/bad" && eval "$edit" && j snapshot.json 'del(.files)')
		run -1 cocoon vm restore "$1" --force --from-dir "$T/bad"
		[[ $output == *Error:* ]]
		[ "$(field "$1" .pid)" = "$pid" ]
		[ "$row" = "$(db "SELECT data FROM vms WHERE id = '$id'")" ] || {
			echo "$name: the record changed"
			return 1
		}
	done <<-'TABLE'
		no processors|j snapshot.json '.config.cpu = 0'
		too many processors|j snapshot.json '.config.cpu = 4096'
		processors|j snapshot.json '.config.cpu = 1'
		little memory|j snapshot.json '.config.memory = 4096'
		memory|j snapshot.json '.config.memory = 536870912'
		storage|j snapshot.json '.config.storage = 10737418240'
		NICs|j snapshot.json '.config.nics = 2'
		a path outside|j cocoon.json '.storage_configs[0].path = "/etc/passwd"'
		a path that climbs|j cocoon.json '.storage_configs[-1].path += "/../../../etc/passwd"'
		a writable layer|j cocoon.json '.storage_configs[0].ro = false'
		a pin that is none|j snapshot.json '.config.image_blob_ids = {"../../x": {}}'
		another backend|j snapshot.json '.config.hypervisor = "nonesuch"'
	TABLE
}

@test "another VM's snapshot, forced: every row of the record is the snapshot's; a tampered one touches nothing" {
	local flags=() id pid row

	[ "$COCOON_HYPERVISOR" = firecracker ] || flags=(--queue-size 256 --disk-queue-size 128 --no-direct-io --shared-memory)
	other_image
	cocoon vm run --name a --cpu 2 --memory 640M --storage 11G --nics 1 "${flags[@]}" other
	wait_console a 'cocoon-tiny ready: hostname=a'
	ask a 'echo of-a >/root/d; sync'
	cocoon snapshot save --name one a
	cocoon snapshot export one --to-dir "$T/good"
	boot b --cpu 1 --nics 1
	id=$(field b .id)
	pid=$(field b .pid)
	row=$(db "SELECT data FROM vms WHERE id = '$id'")
	# With emulated guests snapshot.bats has the longer list.
	[ "$COCOON_HYPERVISOR" = qemu ] || tampered_with b
	run -1 cocoon vm restore b --from-dir "$T/good"
	[[ $output == *'does not belong to VM b'* ]]
	if [ "$COCOON_HYPERVISOR" = firecracker ]; then
		# Its saved state opens the writable disks where they were: firecracker.md.
		run -1 cocoon vm restore b --force --from-dir "$T/good"
		[[ $output == *'of the snapshot was at'* ]]
		[ "$(field b .pid)" = "$pid" ]
		[ "$row" = "$(db "SELECT data FROM vms WHERE id = '$id'")" ]
		return
	fi
	kept='[.id, .config.name, .config.network, .net_backend, .netns_path, .run_dir, .log_dir, .snapshot_ids,
		[.network_configs[] | del(.mac, .num_queues, .queue_size)]]'
	taken='[.config | del(.name, .network)], .boot_config.kernel_path, .boot_config.initrd_path, .image_blob_ids,
		[.storage_configs[] | select(.role == "layer")]'
	before=$(db "SELECT data FROM vms WHERE id = '$id'" | jq -S "$kept")
	cocoon vm restore b --force --from-dir "$T/good"
	row=$(db "SELECT data FROM vms WHERE id = '$id'")
	[ "$(jq -S "$kept" <<<"$row")" = "$before" ] || {
		diff <(echo "$before") <(jq -S "$kept" <<<"$row")
		return 1
	}
	# The guest keeps the NICs that it was saved with.
	nics='[.network_configs[] | [.mac, .num_queues, .queue_size]]'
	[ "$(field b "$nics")" = "$(field a "$nics")" ]
	diff <(db "SELECT data FROM vms WHERE name = 'a'" | jq -S "$taken") <(jq -S "$taken" <<<"$row")
	diff <(db "SELECT hex FROM vm_blobs JOIN vms ON id = vm_id WHERE name = 'a' ORDER BY hex") \
		<(db "SELECT hex FROM vm_blobs WHERE vm_id = '$id' ORDER BY hex")
	machine_is b '2 671088640 11811160064'
	[ "$(ask b 'cat /root/d')" = of-a ]
	# At its next boot it is that machine under its own name.
	cocoon vm stop --force b
	cocoon vm start b
	wait_console b 'cocoon-tiny ready: hostname=b'
	[ "$(ask b 'cat /root/d')" = of-a ]
}
