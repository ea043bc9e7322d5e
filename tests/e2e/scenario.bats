#!/usr/bin/env bats
# One VM's life, the same for every driver. COCOON_TEST_DRIVER names it (with_driver in lib.bash); nothing
# else here knows it. tests/run goes through this file once for each.

load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 jq script
	with_driver
	with_net
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

small=(--cpu 1 --memory 512M)

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

state_in_list()
{
	cocoon vm list --format json | jq -r --arg n "$1" '.[] | select(.config.name == $n).state'
}

# Ended; whether its parent has taken note is not our business.
gone()
{
	! grep -q '^State:[^Z]*$' "/proc/$1/status" 2>/dev/null
}

@test "create, start, list, inspect, console, stop, start again, rm" {
	local disks pid

	cocoon vm create --name one "${small[@]}" --nics 0 tiny
	[ "$(vm one .state)" = created ]
	[ "$(vm one .hypervisor)" = "$COCOON_HYPERVISOR" ]
	[ -z "$(cocoon_leftovers | grep -v "$HOLDER")" ]
	disks=$(vm one '.storage_configs | length')

	cocoon vm start one
	wait_console one "cocoon-tiny ready: hostname=one disks=$disks net=none"
	[ "$(state_in_list one)" = running ]
	pid=$(vm one .pid)
	kill -0 "$pid"
	[ -S "$(vm one .socket_path)" ]
	run -0 console one 'echo answer-4"2"'
	[[ $output == *answer-42* ]]
	# Starting what runs is success, and starts nothing.
	cocoon vm start one
	[ "$(vm one .pid)" = "$pid" ]

	# A graceful stop lets the guest write back what it holds in memory.
	console one 'echo kept >/root/kept'
	cocoon vm stop one
	gone "$pid"
	[ "$(vm one .state)" = stopped ]
	[ "$(vm one .pid)" = 0 ]
	cocoon vm stop one
	cocoon vm start one
	wait_console one 'cocoon-tiny ready: hostname=one'
	[ "$(vm one .pid)" != "$pid" ]
	run -0 console one 'cat /root/kept'
	[[ $output == *kept* ]]

	run -1 cocoon vm rm one
	[[ $output == *"force required"* ]]
	[ "$(vm one .state)" = running ]
	cocoon vm rm --force one
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
	[ -z "$(in_net ls /run/netns)" ]
}

@test "run with data disks: the guest has them, what is written stays" {
	local disks

	cocoon vm run --name disks "${small[@]}" --nics 0 --data-disk size=64M --data-disk size=32M,name=raw,fstype=none,mount= \
		tiny
	disks=$(vm disks '.storage_configs | length')
	[ "$(vm disks '[.storage_configs[] | select(.role == "data")] | length')" = 2 ]
	wait_console disks "cocoon-tiny ready: hostname=disks disks=$disks net=none"
	console disks 'echo kept >/mnt/data1/f; sync'
	cocoon vm stop --force disks
	cocoon vm start disks
	wait_console disks 'cocoon-tiny ready: hostname=disks'
	run -0 console disks 'cat /mnt/data1/f'
	[[ $output == *kept* ]]
}

@test "stop --force does not ask the guest; a VMM that does not answer is busy, then killed" {
	local pid start

	export COCOON_TERMINATE_GRACE_PERIOD_SECONDS=1
	cocoon vm run --name busy "${small[@]}" --nics 0 tiny
	wait_console busy 'cocoon-tiny ready: hostname=busy'
	pid=$(vm busy .pid)
	start=$SECONDS
	cocoon vm stop --force busy
	gone "$pid"
	[ $((SECONDS - start)) -lt 10 ]
	[ "$(vm busy .state)" = stopped ]

	cocoon vm start busy
	wait_console busy 'cocoon-tiny ready: hostname=busy'
	pid=$(vm busy .pid)
	kill -STOP "$pid"
	[ "$(state_in_list busy)" = running ]
	# It may come back any moment: starting it again is refused, not tried.
	run -1 timeout 60 "$COCOON" vm start busy
	[[ $output == *"does not answer"* ]]
	[ "$(vm busy .pid)" = "$pid" ]
	start=$SECONDS
	cocoon vm stop --timeout 1 busy
	gone "$pid"
	[ $((SECONDS - start)) -lt 30 ]
	[ "$(vm busy .state)" = stopped ]
}

@test "a NIC on the built-in network, the VMM in the VM's own namespace" {
	local ip pid

	cocoon vm run --name net "${small[@]}" tiny
	ip=$(vm net '.network_configs[0].network.ip')
	wait_console net "cocoon-tiny ready: hostname=net disks=[0-9]+ net=$ip"
	pid=$(vm net .pid)
	[ "$(stat -Lc %i "/proc/$pid/ns/net")" = "$(in_net stat -Lc %i "/run/netns/cocoon-$(vm net .id)")" ]
	cocoon vm stop net
	cocoon vm start net
	wait_console net "cocoon-tiny ready: hostname=net disks=[0-9]+ net=$ip"
	cocoon vm rm --force net
	[ -z "$(in_net ls /run/netns)" ]
}

@test "a VMM that crashed is shown, started again, removed without force" {
	local pid

	cocoon vm run --name crash "${small[@]}" --nics 0 tiny
	wait_console crash 'cocoon-tiny ready: hostname=crash'
	pid=$(vm crash .pid)
	kill -KILL "$pid"
	wait_for 10 gone "$pid"
	[ "$(state_in_list crash)" = "stopped (stale)" ]
	cocoon vm start crash
	wait_console crash 'cocoon-tiny ready: hostname=crash'
	pid=$(vm crash .pid)
	kill -KILL "$pid"
	wait_for 10 gone "$pid"
	cocoon vm rm crash
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
}

@test "what debug prints, pasted into a shell, starts the same VM" {
	local disks terminal

	cocoon vm create --name twin "${small[@]}" --nics 0 tiny
	disks=$(vm twin '.storage_configs | length')
	cocoon vm rm twin
	# In the directory where it will run: what its file system can do is part of the command.
	(cd "$T" && cocoon vm debug --name twin "${small[@]}" --nics 0 tiny >"$T/paste.sh")
	mkdir "$T/here"
	mkfifo "$T/keys"
	# Open at both ends: a terminal at which nobody types, not one that was closed.
	(cd "$T/here" && exec setsid script -qfc "sh '$T/paste.sh'" "$T/terminal" <>"$T/keys" >/dev/null 2>&1 3>&-) &
	terminal=$!
	wait_for 60 grep -aE "cocoon-tiny ready: hostname=twin disks=$disks net=none" "$T/terminal" || {
		cat "$T/paste.sh" "$T/terminal"
		false
	}
	# It is no VM of ours: what ends it is its terminal.
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	kill "$terminal"
	wait_for 10 gone "$terminal"
}
