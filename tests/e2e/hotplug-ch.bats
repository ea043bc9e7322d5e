#!/usr/bin/env bats
# NICs, disks and shares of running Cloud Hypervisor machines, on the double: what is asked of the VMM, how
# often and in which order (its journal), and what a guest that is slow to let go of a device costs.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 jq ip nft
	COCOON_TEST_DRIVER=cloud-hypervisor COCOON_CH='' with_driver
	knobs
	with_net
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

# knobs NAME=VALUE...: what the double shall do, for VMMs started from now on.
knobs()
{
	printf 'COCOON_DOUBLE_%s\n' "JOURNAL=$T/journal" "CONTROL=$T/control" "$@" >"$T/bin/double.env"
}

run_vm()
{
	cocoon vm run --name a --cpu 1 --memory 512M "$@" tiny
	ID=$(field a .id)
	: >"$T/journal"
}

devices()
{
	in_net ip netns exec "cocoon-$ID" ip -o link | cut -d: -f2 | tr -d ' ' | cut -d@ -f1 | grep -v '^lo$' | sort | tr '\n' ' '
}

# The state-changing calls since run_vm, in order.
calls()
{
	jq -r 'select(.event == "request" and .method == "PUT") | .endpoint' "$T/journal" | tr '\n' ' '
}

# Whether the TAP of each device still existed when the guest let go of it.
ejects()
{
	jq -r 'select(.event == "guest" and .what == "eject") | .tap' "$T/journal" | tr '\n' ' ' | sed 's/ $//'
}

# control COMMAND: told to the double itself.
control()
{
	python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.send(sys.argv[2].encode() + b"\n")
sys.exit(s.recv(100) != b"ok\n")' "$T/control" "$1"
}

@test "NICs 1, 3, 0, 2: one call each, the record follows" {
	knobs ACK=ms:100
	run_vm
	cocoon vm net a --nics 3
	[ "$(calls)" = "vm.add-net vm.add-net " ]
	[ "$(devices)" = "eth0 eth1 eth2 tap${ID:0:8}-0 tap${ID:0:8}-1 tap${ID:0:8}-2 " ]
	cocoon vm net a --nics 0
	[ "$(calls)" = "vm.add-net vm.add-net vm.remove-device vm.remove-device vm.remove-device " ]
	[ -z "$(devices)" ]
	[ "$(field a '.network_configs')" = null ]
	cocoon vm net a --nics 2
	[ "$(field a '.network_configs | length')" -eq 2 ]
	cocoon vm rm --force a
	[ -z "$(in_net ls /run/netns)" ]
}

@test "the store fails after the VMM took the NIC: removed once, released, then the TAP; the record is as before" {
	local before

	knobs ACK=ms:300
	run_vm
	before=$(field a 'del(.updated_at)')
	COCOON_FAILPOINT=net_add.N2:error run -1 cocoon vm net a --nics 2
	[[ $output == *"injected failure at net_add.N2"* ]]
	[ "$(calls)" = "vm.add-net vm.remove-device " ]
	# Its TAP was there until the guest had let go of it, and is not now.
	[ "$(ejects)" = true ]
	[ "$(devices)" = "eth0 tap${ID:0:8}-0 " ]
	[ "$(field a 'del(.updated_at)')" = "$before" ]
	cocoon vm net a --nics 2
	cocoon vm net a --nics 0
	[ "$(ejects)" = "true true true" ]
	[ -z "$(devices)" ]
}

@test "lost and refused calls: sent once; what became of them is told from the machine" {
	knobs ACK=ms:50 "FAULTS=$T/faults"
	run_vm
	# Executed, but the answer is lost.
	printf '%s\n' '{"endpoint":"vm.add-net","do":"drop-after"}' '{"endpoint":"vm.remove-device","do":"drop-after"}' \
		'{"endpoint":"vm.add-disk","do":"drop-after"}' >"$T/faults"
	cocoon vm net a --nics 2
	[ "$(devices)" = "eth0 eth1 tap${ID:0:8}-0 tap${ID:0:8}-1 " ]
	cocoon vm net a --nics 1
	truncate -s 16M "$T/disk.img"
	cocoon vm disk attach a --path "$T/disk.img" --name db
	[ "$(field a '.attached_devices.disks[0].id')" = cocoon-disk-db ]
	cocoon vm disk detach a --name db
	[ "$(calls)" = "vm.add-net vm.remove-device vm.add-disk vm.remove-device " ]
	[ "$(devices)" = "eth0 tap${ID:0:8}-0 " ]
	# Lost before anybody saw them.
	printf '%s\n' '{"endpoint":"vm.add-net","do":"drop-before"}' '{"endpoint":"vm.remove-device","do":"drop-before"}' >"$T/faults"
	run -1 cocoon vm net a --nics 2
	[ "$(devices)" = "eth0 tap${ID:0:8}-0 " ]
	[ "$(field a '.network_configs | length')" -eq 1 ]
	run -1 cocoon vm net a --nics 0
	[ "$(devices)" = "eth0 tap${ID:0:8}-0 " ]
	[ "$(field a '.network_configs | length')" -eq 1 ]
	# Refused.
	printf '%s\n' '{"endpoint":"vm.add-net","do":"reply","status":500,"body":["no more slots"]}' \
		'{"endpoint":"vm.remove-device","do":"reply","status":500,"body":["not today"]}' >"$T/faults"
	run -1 cocoon vm net a --nics 2
	[[ $output == *"no more slots"* ]]
	run -1 cocoon vm net a --nics 0
	[[ $output == *"nic 0 ("*"not today"* ]]
	[ "$(devices)" = "eth0 tap${ID:0:8}-0 " ]
	[ "$(field a '.network_configs | length')" -eq 1 ]
	: >"$T/faults"
	cocoon vm net a --nics 0
	[ -z "$(devices)" ]
	[ -z "$(jq -r 'select(.event == "retry-violation")' "$T/journal")" ]
}

@test "verbs on one VM wait for each other and say for what" {
	local first

	knobs ACK=ms:4000
	run_vm
	truncate -s 16M "$T/disk.img"
	cocoon vm net a --nics 0 >"$T/first.out" 2>&1 3>&- &
	first=$!
	wait_for 20 grep -q vm.remove-device "$T/journal"
	run -0 --separate-stderr cocoon vm disk attach a --path "$T/disk.img" --name db
	[[ $stderr == *"waiting for lock $ID.lock, held by: "*" vm.net "* ]]
	# It was its turn only when the other was done.
	grep -q 'resized a: before=1 after=0' "$T/first.out"
	wait $first
	[ "$(calls)" = "vm.remove-device vm.add-disk " ]
	# A read waits for nobody.
	cocoon vm disk detach a --name db >"$T/first.out" 2>&1 3>&- &
	first=$!
	wait_for 20 [ "$(calls | wc -w)" -ge 2 ]
	timeout 20 "$COCOON" vm inspect a >/dev/null
	wait $first
}

@test "a guest that does not let go: fails in time with all intact; the retry waits and never asks again" {
	local mac

	need python3
	knobs ACK=never
	run_vm --nics 2
	run -1 cocoon vm net a --nics 1
	[[ $output == *"the guest did not release cocoon-net-"*" within 30 s"* ]]
	[ "$(field a '.network_configs | length')" -eq 2 ]
	[ "$(devices)" = "eth0 eth1 tap${ID:0:8}-0 tap${ID:0:8}-1 " ]
	run -1 cocoon snapshot save a
	[[ $output == *"has not let go of removed device"* ]]
	mac=$(field a '.network_configs[1].mac')
	(sleep 2 && control "ack cocoon-net-${mac//:/}") 3>&- &
	run -0 timeout 25 "$COCOON" vm net a --nics 1
	[ "$(field a '.network_configs | length')" -eq 1 ]
	[ "$(devices)" = "eth0 tap${ID:0:8}-0 " ]
	[ "$(calls)" = "vm.remove-device " ]
}

@test "disks and shares: ids, collisions, --shared-memory, gone after a restart" {
	knobs ACK=ms:50
	truncate -s 16M "$T/disk.img"
	run_vm --nics 0
	run -1 cocoon vm fs attach a --socket "$T/fs.sock" --tag src
	[[ $output == *"fs attach: the guest's memory is not shared: create the VM with --shared-memory"* ]]
	cocoon vm disk attach a --path "$T/disk.img" --name db
	[ "$(field a '.attached_devices.disks[0].id')" = cocoon-disk-db ]
	run -1 cocoon vm disk attach a --path "$T/disk.img" --name two
	[[ $output == *"already attached: cocoon-disk-db"* ]]
	run -1 cocoon snapshot save a --name s
	[[ $output == *"has attached devices (cocoon-disk-db): detach first"* ]]
	cocoon vm disk detach a --name db
	[ "$(field a .attached_devices)" = null ]
	cocoon vm disk attach a --path "$T/disk.img" --name db
	cocoon vm stop --force a
	cocoon vm start a
	[ "$(field a .attached_devices)" = null ]
}
