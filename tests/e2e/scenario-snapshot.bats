#!/usr/bin/env bats
# A VM's life in snapshots, the same for every driver that has them: guest memory and disk go on where they
# were, what came later is gone, a clone is a VM of its own. COCOON_TEST_DRIVER names the driver (with_driver
# in lib.bash); tests/run goes through this file once for each.

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

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

# A guest with a file in memory and one on its disk.
boot()
{
	cocoon vm run --name "$1" --cpu 2 --memory 512M --nics 1 tiny
	wait_console "$1" "cocoon-tiny ready: hostname=$1"
	console "$1" 'echo in-memory >/tmp/m; echo on-disk >/root/d; sync'
}

# save NAME VM, unless the driver says that it has no snapshots.
save()
{
	run cocoon snapshot save --name "$1" "$2"
	if [ "$status" -ne 0 ] && [[ $output == *"does not support"* ]]; then
		cocoon vm rm --force "$2"
		skip "$output"
	fi
	[ "$status" -eq 0 ] || {
		echo "$output"
		return 1
	}
}

@test "save and restore: memory and disk go on, what came later is gone" {
	boot a
	save one a
	[ "$(vm a .state)" = running ]
	ask a 'echo later >/root/later; rm /tmp/m; sync'
	cocoon vm restore a one
	[ "$(vm a .state)" = running ]
	[ "$(ask a 'cat /tmp/m /root/d')" = $'in-memory\non-disk' ]
	[[ "$(ask a 'cat /root/later')" == *"can't open"* ]]
	# It still stops when asked, and boots with the disk of the snapshot.
	cocoon vm stop a
	cocoon vm start a
	wait_console a 'cocoon-tiny ready: hostname=a'
	[ "$(ask a 'cat /root/d')" = on-disk ]
	cocoon vm rm --force a
}

@test "clone: another VM with the same past, its own network and its own future" {
	boot a
	save one a
	cocoon vm clone --name b one
	[ "$(vm b .state)" = running ]
	[ "$(ask b 'cat /tmp/m /root/d')" = $'in-memory\non-disk' ]
	[ "$(vm a '.network_configs[0].mac')" != "$(vm b '.network_configs[0].mac')" ]
	[ "$(vm a '.network_configs[0].network.ip')" != "$(vm b '.network_configs[0].network.ip')" ]
	ask b 'echo of-b >/root/b; sync'
	[[ "$(ask a 'cat /root/b')" == *"can't open"* ]]
	cocoon vm rm --force a
	# The source is gone; the clone boots under its own name.
	cocoon vm stop b
	cocoon vm start b
	wait_console b "cocoon-tiny ready: hostname=b .*net=$(vm b '.network_configs[0].network.ip')"
	[ "$(ask b 'cat /root/d /root/b')" = $'on-disk\nof-b' ]
	cocoon vm rm --force b
}
