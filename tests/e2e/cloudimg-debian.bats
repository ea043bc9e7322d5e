#!/usr/bin/env bats
# Debian as clouds hand it out, with the real cloud-init: one long test, because it boots twice.

load lib
load lib/terminal

export BATS_TEST_TIMEOUT=800

setup()
{
	cocoon_setup
	need qemu-system-x86_64 qemu-img jq
}

teardown()
{
	local status=0

	terminal_close
	cocoon_teardown || status=1
	return $status
}

disk()
{
	[ -f "$COCOON_TEST_CACHE/$1.qcow2" ] ||
		skip "needs os-image/$1, which tests/e2e/prepare could not build or was told not to"
	echo "$COCOON_TEST_CACHE/$1.qcow2"
}

field()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

vmm_words()
{
	tr '\0' '\n' <"/proc/$(field "$1" .pid)/cmdline"
}

@test "Debian: cloud-init sets name, user, address and a mounted disk; the second start has no seed" {
	local image ip password='it is #1 % @: x'

	need mkfs.ext4 ip nft nsenter unshare script
	image=$(disk debian-12-cloud)
	with_net
	cocoon image import debian "$image"
	cocoon vm run --name web --memory 1G --user alice --password "$password" --storage 12G \
		--data-disk size=64M,name=data1 debian
	vmm_words web | grep -q cidata.img
	ip=$(field web '.network_configs[0].network.ip')
	[[ $ip == 10.88.* ]]
	wait_console web 'Cloud-init .* finished at .*DataSourceNoCloud' 400

	terminal_open web
	terminal_login alice "$password"
	terminal_run 'hostname; id -un; sudo -n id -un; ip -4 -o addr show scope global'
	[[ $TERMINAL_OUTPUT == *web*alice*root*"inet $ip/"* ]]
	terminal_run 'findmnt -no SOURCE,FSTYPE /mnt/data1; df --output=size -BG / | tail -n 1; ip route'
	[[ $TERMINAL_OUTPUT == *"/dev/vdb ext4"*1[12]G*"default via 10.88.0.1"* ]]
	# It finds nothing wrong with what we wrote, apart from age.
	terminal_run 'sudo cloud-init schema --system' 120 || true
	[[ $TERMINAL_OUTPUT != *"schema errors"* ]]
	terminal_run 'ls /dev/disk/by-label; echo kept | sudo tee /mnt/data1/kept; sync'
	[[ $TERMINAL_OUTPUT == *CIDATA* ]]
	terminal_close

	cocoon vm stop --timeout 120 web
	[ "$(field web .state)" = stopped ]
	cocoon vm start web
	[ "$(vmm_words web | grep -c cidata.img)" = 0 ]
	wait_console web 'web login: ' 300
	terminal_open web
	terminal_login alice "$password"
	terminal_run 'hostname; cat /mnt/data1/kept; ls /dev/disk/by-label; ip -4 -o addr show scope global'
	[[ $TERMINAL_OUTPUT == *web*kept*"inet $ip/"* && $TERMINAL_OUTPUT != *CIDATA* ]]
	terminal_close
	cocoon vm rm --force web
}
