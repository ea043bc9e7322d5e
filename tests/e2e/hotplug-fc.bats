#!/usr/bin/env bats
# Drives and NICs of running Firecracker machines with a real guest, which is told nothing: the hints that are
# printed make it take note. Needs COCOON_FC and a KVM that runs guests; what is asked of the API is
# scenario-hotplug.bats' subject, on the double.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	[ -n "${COCOON_FC-}" ] || skip "a double has no guest to look into"
	need mkfs.ext4 jq ip nft script
	COCOON_TEST_DRIVER=firecracker with_driver
	with_net
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

hints()
{
	jq -r '.hints | join("; ")'
}

@test "the hints make a guest find what was plugged in, and forget what was pulled out" {
	local out ip disk

	truncate -s 32M "$T/disk.img"
	mkfs.ext4 -Fq "$T/disk.img"
	cocoon vm run --name a --cpu 1 --memory 512M --pci --nics 1 tiny
	wait_console a 'cocoon-tiny ready'

	out=$(cocoon vm net a --nics 3 -o json)
	in_guest a "$(hints <<<"$out")"
	for i in 2 1; do
		ip=$(field a ".network_configs[$i].network.ip")
		run -0 in_guest a "for o in 0 1 2; do ip link set eth\$o down; done; ip addr flush dev eth$i; ip addr add $ip/16 dev eth$i; ip link set eth$i up; sleep 1; cat /sys/class/net/eth$i/address; ping -c 2 10.88.0.1"
		[[ $output == *"$(field a ".network_configs[$i].mac")"*"2 packets received"* ]]
	done

	out=$(cocoon vm disk attach a --path "$T/disk.img" --name db -o json)
	[ "$(jq -r .id <<<"$out")" = cocoon_disk_db ]
	in_guest a "$(hints <<<"$out")"
	disk=$(in_guest a 'ls /sys/block | grep vd | tail -n1')
	run -0 in_guest a "mount /dev/$disk /mnt && echo kept >/mnt/f; umount /mnt; sync; echo 1 >/sys/block/$disk/device/../remove; ls /sys/block"
	[[ $output != *"$disk"* ]]
	cocoon vm disk detach a --name db
	[ "$(debugfs -R 'cat /f' "$T/disk.img" 2>/dev/null)" = kept ]

	# Attached once more, it has what was written.
	out=$(cocoon vm disk attach a --path "$T/disk.img" --name db --readonly -o json)
	in_guest a "$(hints <<<"$out")"
	run -0 in_guest a "mount -o ro /dev/$disk /mnt && cat /mnt/f; umount /mnt; echo 1 >/sys/block/$disk/device/../remove"
	[ "$output" = kept ]
	cocoon vm disk detach a --name db

	out=$(cocoon vm net a --nics 0 -o json)
	in_guest a "$(hints <<<"$out")"
	run -0 in_guest a 'ls /sys/class/net | wc -w'
	[ "$output" = 1 ]
	cocoon vm net a --nics 1
	cocoon snapshot save a --name s
	cocoon vm restore a s
	run -0 in_guest a 'echo alive'
	[ "$output" = alive ]
	# A clone's guest keeps the source's MAC: its NIC is known by its place.
	cocoon vm clone s --name c
	cocoon vm net c --nics 2
	cocoon vm net c --nics 0
	[ "$(field c .network_configs)" = null ]
}
