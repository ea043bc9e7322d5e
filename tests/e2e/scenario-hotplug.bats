#!/usr/bin/env bats
# What running VMs gain and lose, the same for every driver: NICs on every kind of network, and what is
# attached without being recorded. COCOON_TEST_DRIVER names the driver, as for scenario.bats; Firecracker's
# machines need --pci for it, and know disks and NICs only. What a guest sees is hotplug.bats' subject.

# shellcheck disable=SC2154 # stderr comes from run --separate-stderr
export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-400}

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 jq ip sqlite3
	with_driver
	with_net
	with_tiny tiny
	FLAGS=()
	[ "$COCOON_HYPERVISOR" != firecracker ] || FLAGS=(--pci)
	HELPERS=()
	truncate -s 16M "$T/disk.img" "$T/disk2.img"
}

teardown()
{
	[ ${#HELPERS[@]} = 0 ] || kill "${HELPERS[@]}" 2>/dev/null || true
	cocoon_teardown
}

# up NAME FLAGS...: a guest that answers an unplug.
up()
{
	cocoon vm run --name "$1" --cpu 1 --memory 512M "${FLAGS[@]}" "${@:2}" tiny
	wait_console "$1" 'cocoon-tiny ready'
}

# The record, without what every commit changes.
record()
{
	field "$1" 'del(.updated_at, .attached_devices)'
}

# Devices, namespaces, leases and index rows; the plugins' bridge outlives its first VM.
traces()
{
	in_net sh -c 'ls /run/netns; ip -o link | sed "s/^[0-9]*: \([^:@]*\).*/\1/" | sort; nft list tables'
	[ ! -d "$T/leases" ] || find "$T/leases" -type f ! -name 'last_reserved*' ! -name lock
	sqlite3 "$T/root/meta/meta.db" 'SELECT * FROM networks; SELECT id FROM vms; SELECT * FROM tombstones'
}

# conflist [MORE-PLUGINS]: the network "pod" of real plugins, where they are installed.
conflist()
{
	if [ ! -x /usr/lib/cni/bridge ] || ! command -v iptables-save >/dev/null; then
		return 1
	fi
	mkdir -p "$T/cni" "$T/fake"
	export COCOON_CNI_BIN_DIR=$T/fake:/usr/lib/cni
	cat >"$T/cni/10-pod.conflist" <<-JSON
		{ "cniVersion": "1.0.0", "name": "pod", "plugins": [
		  { "type": "bridge", "bridge": "br-pod", "isGateway": true, "ipam": { "type": "host-local",
		    "dataDir": "$T/leases", "ranges": [[{ "subnet": "10.77.0.0/24" }]] } }${1:+, $1} ] }
	JSON
	cocoon vm create --name warm --memory 512M "${FLAGS[@]}" tiny
	cocoon vm rm warm
}

# plumbing N: exactly the host's devices of N NICs of VM m are there, where its network has them.
plumbing()
{
	local id want='' i have

	id=$(field m .id)
	for ((i = 0; i < $1; i++)); do
		if [ "$(field m .net_backend)" = bridge ]; then
			want+="bt${id:0:8}-$i "
		else
			want+="eth$i tap${id:0:8}-$i "
		fi
	done
	if [ "$(field m .net_backend)" = bridge ]; then
		have=$(in_net ip -o link | sed -n "s/^[0-9]*: \(bt${id:0:8}-[0-9]*\).*/\1/p")
	else
		[ "$(stat -Lc %i "/proc/$(field m .pid)/ns/net")" = "$(in_net stat -Lc %i "/run/netns/cocoon-$id")" ]
		have=$(in_net ip netns exec "cocoon-$id" ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | grep -v '^lo$' || true)
	fi
	# shellcheck disable=SC2086 # a list
	[ "$(printf '%s\n' $want | sort)" = "$(sort <<<"$have")" ] || {
		echo "wanted: $want"
		echo "have: $have"
		return 1
	}
	[ "$(field m '.network_configs | length')" -eq "$1" ]
}

@test "NICs 0, 1, 3, 0, 2 on plugins, built-in and bridge: in the VM's namespace, and nothing is left" {
	local net before n nets=('--network cocoon-builtin' '--bridge br0')

	in_net sh -c 'ip link add br0 type bridge; ip link set br0 up'
	if conflist; then
		nets+=('--network pod')
	fi
	for net in "${nets[@]}"; do
		echo "$net"
		before=$(traces)
		# shellcheck disable=SC2086 # flags
		up m --nics 0 $net
		for n in 1 3 0 2; do
			cocoon vm net m --nics $n
			plumbing $n
		done
		if [ "$net" = "${nets[0]}" ]; then # the next start finds what the record says
			cocoon vm stop --force m
			cocoon vm start m
			plumbing 2
		fi
		cocoon vm rm --force m
		[ "$(traces)" = "$before" ] || {
			diff <(echo "$before") <(traces)
			return 1
		}
	done
}

@test "a plugin that fails at DEL: the removal is done, with a warning; the index can be used again" {
	local before

	mkdir -p "$T/fake"
	cat >"$T/fake/sulky" <<-'SH'
		#!/bin/sh
		config=$(cat)
		[ "$CNI_COMMAND" = ADD ] && { printf '%s' "$config" | jq -c .prevResult; exit; }
		[ "$CNI_COMMAND$CNI_IFNAME" != DELeth1 ] || [ ! -e "$0.sulks" ] && exit
		echo '{"cniVersion":"1.0.0","code":11,"msg":"not today"}'
		exit 1
	SH
	chmod +x "$T/fake/sulky"
	conflist '{ "type": "sulky" }' || skip "needs containernetworking-plugins and iptables"
	before=$(traces)
	up m --network pod
	cocoon vm net m --nics 2
	touch "$T/fake/sulky.sulks"
	run -0 --separate-stderr cocoon vm net m --nics 1 -o json
	[ "$(jq -c '[.before, .after, (.removed | map(.index))]' <<<"$output")" = '[2,1,[1]]' ]
	[[ $(jq -r '.warnings[0]' <<<"$output") == "nic 1 ("*") host plumbing leaked, cocoon vm rm or gc will reclaim: "*"not today"* ]]
	[[ $stderr == *"host plumbing leaked"* ]]
	[ "$(field m '.network_configs | length')" -eq 1 ]
	rm "$T/fake/sulky.sulks"
	cocoon vm net m --nics 2
	plumbing 2
	touch "$T/fake/sulky.sulks"
	run -0 --separate-stderr cocoon vm net m --nics 1
	[[ $stderr == *WRN*"nic 1 ("*"host plumbing leaked"* ]]
	rm "$T/fake/sulky.sulks"
	# The next start reclaims it, too.
	cocoon vm stop --force m
	cocoon vm start m
	plumbing 1
	cocoon vm rm --force m
	[ "$(traces)" = "$before" ]
}

@test "plumbing above the recorded NICs is reclaimed by the next start and the next resize" {
	local net before

	in_net sh -c 'ip link add br0 type bridge; ip link set br0 up'
	for net in '--network cocoon-builtin' '--bridge br0'; do
		echo "$net"
		before=$(traces)
		# shellcheck disable=SC2086 # flags
		up m --nics 0 $net
		# Killed with the plumbing made, the machine and the record without the NIC.
		COCOON_FAILPOINT=net_add.N1 run -137 cocoon vm net m --nics 1
		run ! plumbing 0
		cocoon vm net m --nics 0
		plumbing 0
		COCOON_FAILPOINT=net_add.N1 run -137 cocoon vm net m --nics 1
		cocoon vm stop --force m
		cocoon vm start m
		plumbing 0
		cocoon vm rm --force m
		[ "$(traces)" = "$before" ]
	done
}

@test "killed or failed at every step of a resize: the next one repairs; no TAP, lease or device is left" {
	local step before

	[ "$COCOON_HYPERVISOR" != qemu ] || skip "hotplug.bats does it with traffic"
	before=$(traces)
	up m --nics 1 --network cocoon-builtin
	for step in net.lease net.veth net.wire net_add.N1 net_add.N2; do
		echo "$step fails"
		COCOON_FAILPOINT=$step:error run -1 cocoon vm net m --nics 2
		[[ $output == *"injected failure at $step"* ]]
		plumbing 1
	done
	for step in net.lease net.veth net.wire net_add.N1 net_add.N2 net_add.N3; do
		echo "killed at $step"
		COCOON_FAILPOINT=$step run -137 cocoon vm net m --nics 2
		cocoon vm net m --nics 2
		plumbing 2
		cocoon vm net m --nics 1
		plumbing 1
	done
	for step in net_remove.N1 net_remove.N2 net_remove.N3; do
		echo "killed at $step"
		cocoon vm net m --nics 2
		COCOON_FAILPOINT=$step run -137 cocoon vm net m --nics 1
		cocoon vm net m --nics 1
		plumbing 1
	done
	[ "$(sqlite3 "$T/root/meta/meta.db" 'SELECT count(*) FROM networks')" = 1 ]
	cocoon vm rm --force m
	[ "$(traces)" = "$before" ]
}

@test "a null NIC in a record is an error of what needs it; list, inspect and rm work" {
	local id

	up m --nics 1 --network cocoon-builtin
	id=$(field m .id)
	sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET data = json_set(data, '\$.network_configs', json('[null]')) WHERE id = '$id'"
	for n in 0 1 2; do
		run -1 cocoon vm net m --nics $n
		[[ $output == *"network_configs[0] is null or has no MAC"* ]]
	done
	run -0 cocoon vm list
	[[ $output == *running* ]]
	run -0 cocoon vm inspect m
	run -0 cocoon vm rm --force m
	[ -z "$(in_net ls /run/netns)" ]
	run -1 cocoon vm net m --nics 1 --keep-host-on-remove
	[[ $output == *"unknown flag: --keep-host-on-remove"* ]]
	run -1 cocoon vm net resize m --nics 1
	[[ $output == *"accepts 1 arg(s), received 2"* ]]
}

# ---- attached and not recorded ----

# A socket that a vhost-user device can be connected to: a real daemon where a real machine talks to it.
share()
{
	local daemon=

	if [ "$COCOON_HYPERVISOR" = qemu ] || [ -n "${COCOON_CH-}" ]; then
		for daemon in /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd; do
			[ ! -x $daemon ] || break
		done
		[ -x "$daemon" ] || return 1
		mkdir -p "$T/share"
		"$daemon" --socket-path="$1" -o source="$T/share" -o sandbox=chroot >"$T/virtiofsd.log" 2>&1 3>&- &
	else
		command -v socat >/dev/null || return 1
		socat "UNIX-LISTEN:$1,fork" PIPE 3>&- &
	fi
	HELPERS+=($!)
	wait_for 10 test -S "$1"
}

# What can be attached here, as "kind id attach-arguments | detach-arguments"; the address of any PCI device
# will do for the double.
attachables()
{
	local bdf

	if [ "$COCOON_HYPERVISOR" = firecracker ]; then
		echo "disk cocoon_disk_db --path $T/disk.img --name db | --name db"
		return
	fi
	echo "disk cocoon-disk-db --path $T/disk.img --name db | --name db"
	! share "$T/fs.sock" >&2 || echo "fs cocoon-fs-src --socket $T/fs.sock --tag src | --tag src"
	bdf=$(find /sys/bus/pci/devices -mindepth 1 -printf '%f\n' -quit 2>/dev/null || true)
	[ "$COCOON_HYPERVISOR" != cloud-hypervisor ] || [ -n "${COCOON_CH-}" ] || [ -z "$bdf" ] ||
		echo "device gpu0 --pci $bdf --id gpu0 | --id gpu0"
}

shared()
{
	[ "$COCOON_HYPERVISOR" = firecracker ] || echo --shared-memory
}

@test "attached devices: listed, exclusive, in the way of snapshots, and gone with the machine" {
	local kind id args gone before line lines

	# shellcheck disable=SC2046 # a flag or none
	up m --nics 0 $(shared)
	cocoon snapshot save m --name s
	before=$(record m)
	attachables >"$T/kinds"
	mapfile -t lines <"$T/kinds"
	[ ${#lines[@]} -gt 0 ]
	for line in "${lines[@]}"; do
		read -r kind id args <<<"${line% | *}"
		gone=${line#* | }
		echo "$kind: $args"
		# shellcheck disable=SC2086 # arguments
		run -0 --separate-stderr cocoon vm $kind attach m $args -o json
		[ "$(jq -r .id <<<"$output")" = "$id" ]
		# shellcheck disable=SC2086
		run -1 cocoon vm $kind attach m $args
		[[ $output == *"$kind attach: already attached: $id"* ]]
		[[ $(field m '.attached_devices | tojson') == *"\"$id\""* ]]
		run -1 cocoon snapshot save m --name t
		[[ $output == *"has attached devices ($id): detach first"* ]]
		run -1 cocoon vm hibernate m
		[[ $output == *"has attached devices ($id): detach first"* ]]
		[ "$(cocoon snapshot list -o json | jq length)" = 1 ]
		[ "$(record m)" = "$before" ]
		# shellcheck disable=SC2086
		cocoon vm $kind detach m $gone
		[ "$(field m .attached_devices)" = null ]
		# shellcheck disable=SC2086
		run -1 cocoon vm $kind detach m $gone
		[[ $output == *"nothing is attached as"* ]]
	done
	[ "$(record m)" = "$before" ]

	# Nothing of it survives the machine; a clone has none, and shares memory as its source did.
	for line in "cocoon vm restore m s" "cocoon vm stop --force m; cocoon vm start m"; do
		cocoon vm disk attach m --path "$T/disk.img" --name db
		[ "$(field m '.attached_devices.disks | length')" -eq 1 ]
		eval "$line"
		[ "$(field m .attached_devices)" = null ]
		[ "$(field m '.storage_configs | tojson')" = "$(jq -c .storage_configs <<<"$before")" ]
	done
	cocoon vm disk attach m --path "$T/disk.img" --name db
	cocoon vm clone s --name c
	[ "$(field c .attached_devices)" = null ]
	[ "$(field c '.storage_configs | length')" = "$(jq '.storage_configs | length' <<<"$before")" ]
	if grep -q '^fs ' "$T/kinds"; then
		share "$T/clone.sock"
		cocoon vm fs attach c --socket "$T/clone.sock" --tag src
		[ "$(field c '.attached_devices.fs[0].tag')" = src ]
	fi
}

@test "two attaches of one name, path or address at once: exactly one succeeds" {
	local a b one two line lines kind id args status

	# shellcheck disable=SC2046
	up m --nics 0 $(shared)
	attachables >"$T/kinds"
	mapfile -t lines <"$T/kinds"
	# Of a disk both the name alone and the path alone are enough.
	lines+=("disk x --path $T/disk.img --name db | --path $T/disk2.img --name db"
		"disk x --path $T/disk.img --name db | --path $T/disk.img --name other")
	for line in "${lines[@]}"; do
		read -r kind id one <<<"${line% | *}"
		two=${line#* | }
		[ "$id" = x ] || two=$one
		echo "$kind: $one and $two"
		# shellcheck disable=SC2086
		cocoon vm $kind attach m $one >"$T/one.out" 2>&1 3>&- &
		a=$!
		# shellcheck disable=SC2086
		cocoon vm $kind attach m $two >"$T/two.out" 2>&1 3>&- &
		b=$!
		status=0
		wait $a || status=$((status + 1))
		wait $b || status=$((status + 1))
		cat "$T/one.out" "$T/two.out"
		[ $status = 1 ]
		[ "$(cat "$T/one.out" "$T/two.out" | grep -c 'already attached\|already has')" = 1 ]
		[ "$(field m '[.attached_devices[][]] | length')" = 1 ]
		case $kind in
		fs) cocoon vm fs detach m --tag src ;;
		device) cocoon vm device detach m --id gpu0 ;;
		disk) cocoon vm disk detach m --name "$(field m '.attached_devices.disks[0].name')" ;;
		esac
	done
}

@test "what a driver cannot do is refused in one way, and a stopped VM says so before anything else" {
	local fc_mmio='the VM boots on the MMIO transport (created without --pci)'

	cocoon vm create --name m --memory 512M --nics 0 "${FLAGS[@]}" tiny
	for what in 'disk attach m --path '"$T"'/disk.img --name db' 'disk detach m --name db' 'net m --nics 1'; do
		# shellcheck disable=SC2086
		run -1 cocoon vm $what
		[[ $output == "Error: vm is not running: vm $(field m .id) is created: vm not running" ]]
	done
	for what in 'device attach m --pci 0000:ff:1f.7' 'device detach m --id x' 'fs attach m --socket /x --tag t' 'fs detach m --tag t'; do
		# shellcheck disable=SC2086
		run -1 cocoon vm $what
		read -r kind verb _ <<<"$what"
		if [ "$COCOON_HYPERVISOR" = firecracker ]; then
			[ "$output" = "Error: $kind $verb: backend firecracker: backend does not support $kind $verb" ]
		else
			[[ $output == "Error: vm is not running: vm $(field m .id) is created: vm not running" ]]
		fi
	done
	[ "$COCOON_HYPERVISOR" = firecracker ] || return 0
	cocoon vm run --name n --cpu 1 --memory 512M --nics 0 tiny
	run -1 cocoon vm net n --nics 1
	[ "$output" = "Error: vm net: backend firecracker: backend does not support net resize: $fc_mmio" ]
	run -1 cocoon vm disk attach n --path "$T/disk.img" --name db
	[ "$output" = "Error: disk attach: backend firecracker: backend does not support disk attach: $fc_mmio" ]
	cocoon vm start m
	run -1 cocoon vm disk attach m --path "$T/disk.img" --name a-b
	[[ $output == *"firecracker allows no hyphen in it"* ]]
}
