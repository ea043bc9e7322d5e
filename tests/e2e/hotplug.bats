#!/usr/bin/env bats
# What is plugged into a running VM and pulled out again: NICs (the record follows), disks and shared
# folders (never recorded). Real guests: on QEMU, or with COCOON_TEST_DRIVER=cloud-hypervisor and COCOON_CH on
# a host whose KVM runs them (docs/testing.md).

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 ip nft nsenter unshare jq busybox script
	[ "${COCOON_TEST_DRIVER:-qemu}" = qemu ] || [ -n "${COCOON_CH-}" ] || skip "a double has no guest to look into"
	with_driver
	with_net
	with_tiny tiny
	HELPER=
}

teardown()
{
	[ -z "$HELPER" ] || kill "$HELPER" 2>/dev/null || true
	cocoon_teardown
}

up()
{
	cocoon vm run --cpu 1 --memory 512M "$@" tiny
	wait_console "${1#--name=}" 'cocoon-tiny ready'
}

# The devices of a VM's namespace, without loopback.
devices()
{
	in_net ip netns exec "cocoon-$1" ip -o link | cut -d: -f2 | tr -d ' ' | cut -d@ -f1 | grep -v '^lo$' | sort | tr '\n' ' '
}

# Give the guest's NIC i the address that the record has, and ping the gateway from it.
ping_from()
{
	local vm=$1 i=$2 ip mac

	ip=$(field "$vm" ".network_configs[$i].network.ip")
	mac=$(field "$vm" ".network_configs[$i].mac")
	# The guest asks for a lease on a NIC that appears, which takes addresses away once: until all answers come.
	in_guest "$vm" "d=\$(grep -l $mac /sys/class/net/*/address | cut -d/ -f5); for o in /sys/class/net/e*; do ip link set \${o##*/} down; done; for n in 1 2 3 4 5 6 7 8 9 10; do ip addr flush dev \$d; ip addr add $ip/16 dev \$d; ip link set \$d up; ping -c 2 -W 1 10.88.0.1 >/tmp/ping 2>&1; grep -q '2 packets rec' /tmp/ping && break; done; cat /tmp/ping"
}

@test "NICs 1, 3, 0, 2 with traffic on each; born without any; nothing is left" {
	local id i

	up --name=a
	id=$(field a .id)
	run -0 --separate-stderr cocoon vm net a --nics 3 -o json
	[ "$(jq -c '[.before, .after, (.added | map(.index)), .removed, .warnings]' <<<"$output")" = '[1,3,[1,2],null,null]' ]
	[ "$(jq -r '.added[1].mac' <<<"$output")" = "$(field a '.network_configs[2].mac')" ]
	[ "$(field a '.network_configs | length')" -eq 3 ]
	[ "$(devices "$id")" = "eth0 eth1 eth2 tap${id:0:8}-0 tap${id:0:8}-1 tap${id:0:8}-2 " ]
	for i in 2 1; do
		run -0 ping_from a $i
		[[ $output == *"2 packets received"* ]]
	done
	run -0 cocoon vm net a --nics 3
	[[ $output == *"before=3 after=3 added=0 removed=0"* ]]

	run -0 cocoon vm net a --nics 0
	[[ $output == *"before=3 after=0 added=0 removed=3"* ]]
	[ "$(field a '.network_configs')" = null ]
	[ -z "$(devices "$id" | tr -d ' ')" ]
	[ "$(field a .netns_path)" = "/var/run/netns/cocoon-$id" ]
	run -0 in_guest a 'ls /sys/class/net | wc -w'
	[ "$output" = 1 ]

	cocoon vm net a --nics 2
	run -0 ping_from a 1
	[[ $output == *"2 packets received"* ]]
	cocoon vm rm --force a

	up --name=b --nics 0
	cocoon vm net b --nics 1
	run -0 ping_from b 0
	[[ $output == *"2 packets received"* ]]
	# A restart finds the NIC where the record says.
	cocoon vm stop --force b
	cocoon vm start b
	wait_console b "cocoon-tiny ready: hostname=b disks=[0-9]+ net=$(field b '.network_configs[0].network.ip')"
	cocoon vm net b --nics 0
	cocoon vm rm --force b
	[ -z "$(in_net ls /run/netns)" ]
	[ "$(in_net ip -o link | wc -l)" -eq 1 ]
	[ -z "$(in_net nft list ruleset)" ]
}

@test "refusals: not running, too many, unknown flags" {
	cocoon vm create --name a --memory 512M tiny
	run -1 cocoon vm net a --nics 2
	[[ $output == "Error: vm is not running: vm $(field a .id) is created: vm not running" ]]
	run -1 cocoon vm net a
	[[ $output == *'required flag(s) "nics" not set'* ]]
	run -1 cocoon vm net a --nics=-1
	[[ $output == *"--nics must be at least 0"* ]]
	run -1 cocoon vm net a --nics 99
	[[ $output =~ at\ most\ [0-9]+\ NICs ]]
	run -1 cocoon vm net a --nics 1 --keep-host-on-remove
	[[ $output == *"unknown flag: --keep-host-on-remove"* ]]
	run -1 cocoon vm net resize a --nics 1
	run -1 cocoon vm disk attach a --path "$T/none" --name d
	[[ $output == *"disk attach: path $T/none: No such file or directory"* ]]
	run -1 cocoon vm device attach a --pci 0000:ff:1f.7
	[[ $output == *"vm is not running"* ]]
}

@test "killed or failed at every step: the next resize repairs, nothing leaks" {
	local id step

	up --name=a
	id=$(field a .id)
	for step in N1 N2; do
		COCOON_FAILPOINT=net_add.$step:error run -1 cocoon vm net a --nics 2
		[[ $output == *"injected failure at net_add.$step"* ]]
		[ "$(field a '.network_configs | length')" -eq 1 ]
		[ "$(devices "$id")" = "eth0 tap${id:0:8}-0 " ]
	done
	for step in N1 N2 N3; do
		COCOON_FAILPOINT=net_add.$step run -137 cocoon vm net a --nics 2
		run -0 cocoon vm net a --nics 2
		[ "$(field a '.network_configs | length')" -eq 2 ]
		[ "$(devices "$id")" = "eth0 eth1 tap${id:0:8}-0 tap${id:0:8}-1 " ]
		run -0 ping_from a 1
		[[ $output == *"2 packets received"* ]]
		cocoon vm net a --nics 1
	done
	for step in N1 N2 N3; do
		cocoon vm net a --nics 2
		COCOON_FAILPOINT=net_remove.$step run -137 cocoon vm net a --nics 1
		cocoon vm net a --nics 1
		[ "$(field a '.network_configs | length')" -eq 1 ]
		[ "$(devices "$id")" = "eth0 tap${id:0:8}-0 " ]
	done
	run -0 ping_from a 0
	[[ $output == *"2 packets received"* ]]
	cocoon vm rm --force a
	[ -z "$(in_net ls /run/netns)" ]
}

# reset_guest ID: asked of the VMM itself.
reset_guest()
{
	if [ "$COCOON_HYPERVISOR" = cloud-hypervisor ]; then
		curl -fsS --unix-socket "$T/run/cloudhypervisor/$1/api.sock" -X PUT http://localhost/api/v1/vm.reboot
		return
	fi
	python3 -c 'import socket,sys
s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(4096)
for c in (b"qmp_capabilities", b"system_reset"):
    s.send(b"{\"execute\":\"" + c + b"\"}\n"); s.recv(4096)' "$T/run/qemu/$1/events.sock"
}

@test "a guest that does not answer keeps its NIC; after its reboot the removal succeeds" {
	local id

	up --name=a
	id=$(field a .id)
	cocoon vm net a --nics 2
	console a 'echo c >/proc/sysrq-trigger' || true
	run -1 cocoon vm net a --nics 1
	[[ $output == *"the guest did not release "*" within 30 s"* ]]
	[ "$(field a '.network_configs | length')" -eq 2 ]
	[ "$(devices "$id")" = "eth0 eth1 tap${id:0:8}-0 tap${id:0:8}-1 " ]
	reset_guest "$id"
	sleep 12
	run -0 wait_for 60 cocoon vm net a --nics 1
	[ "$(field a '.network_configs | length')" -eq 1 ]
	[ "$(devices "$id")" = "eth0 tap${id:0:8}-0 " ]
}

@test "a disk keeps its data from one VM to another; attached it prevents a snapshot, by name" {
	truncate -s 64M "$T/disk.img"
	mkfs.ext4 -Fq "$T/disk.img"
	up --name=a --nics 0
	run -0 --separate-stderr cocoon vm disk attach a --path "$T/disk.img" --name db -o json
	[ "$(jq -c . <<<"$output")" = '{"id":"cocoon-disk-db","name":"db","vm":"a"}' ]
	[ "$(field a '.attached_devices | tojson')" = '{"disks":[{"id":"cocoon-disk-db","name":"db","path":"'"$T"'/disk.img"}]}' ]
	run -1 cocoon vm disk attach a --path "$T/disk.img" --name other
	[[ $output == *"disk attach: already attached: cocoon-disk-db"* ]]
	run -0 in_guest a 'd=$(grep -l db /sys/block/*/serial | cut -d/ -f4); mount /dev/$d /mnt && echo kept >/mnt/f; umount /mnt; sync; echo done-$?'
	[[ $output == *"done-0"* ]]
	run -1 cocoon snapshot save a --name s
	[[ $output == *"vm $(field a .id) has attached devices (cocoon-disk-db): detach first"* ]]
	[ "$(cocoon snapshot list -o json)" = '[]' ]
	cocoon vm disk detach a --name db
	[ "$(field a .attached_devices)" = null ]
	run -1 cocoon vm disk detach a --name db
	[[ $output == *"disk detach: nothing is attached as db"* ]]
	cocoon snapshot save a --name s

	up --name=b --nics 0
	cocoon vm disk attach b --path "$T/disk.img" --name db --readonly
	[ "$(field b '.attached_devices.disks[0].readonly')" = true ]
	run -0 in_guest b 'd=$(grep -l db /sys/block/*/serial | cut -d/ -f4); mount -o ro /dev/$d /mnt && cat /mnt/f'
	[ "$output" = kept ]
	# Runtime only: a restart does not know it.
	cocoon vm stop --force b
	cocoon vm start b
	[ "$(field b .attached_devices)" = null ]
}

@test "a shared folder: seen on both sides, collisions and private memory refused" {
	local daemon=

	for daemon in /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd; do
		[ ! -x $daemon ] || break
	done
	[ -x "$daemon" ] || skip "needs virtiofsd"
	mkdir "$T/share"
	echo hello >"$T/share/from-host"
	up --name=a --nics 0 --shared-memory
	"$daemon" --socket-path="$T/fs.sock" -o source="$T/share" -o sandbox=chroot >"$T/virtiofsd.log" 2>&1 3>&- &
	HELPER=$!
	wait_for 10 test -S "$T/fs.sock"
	run -1 cocoon vm fs attach a --socket relative --tag src
	[[ $output == *"fs attach: socket must be absolute"* ]]
	run -1 cocoon vm fs attach a --socket /x --tag 'bad tag'
	[[ $output == *"fs attach: invalid tag"* ]]
	run -0 --separate-stderr cocoon vm fs attach a --socket "$T/fs.sock" --tag src -o json
	[ "$(jq -c . <<<"$output")" = '{"id":"cocoon-fs-src","tag":"src","vm":"a"}' ]
	[ "$(field a '.attached_devices.fs[0].socket')" = "$T/fs.sock" ]
	run -1 cocoon vm fs attach a --socket "$T/other.sock" --tag src
	[[ $output == *"already attached: cocoon-fs-src"* ]]
	run -0 in_guest a 'modprobe virtiofs 2>/dev/null; mount -t virtiofs src /mnt && cat /mnt/from-host; echo from-guest >/mnt/back; umount /mnt; echo done'
	[[ $output == *"hello"* ]]
	[ "$(cat "$T/share/back")" = from-guest ]
	cocoon vm fs detach a --tag src
	[ "$(field a .attached_devices)" = null ]
}

@test "PCI addresses: forms, and what is none" {
	local bad

	up --name=a --nics 0
	for bad in /dev/null /sys/bus/pci/devices/01:00.0 /sys/bus/pci/devices/garbage \
		/sys/bus/pci/devices/../../../dev/null 0000:01:00.8 1:2.3 ''; do
		run -1 cocoon vm device attach a --pci "$bad"
		[[ $output == *"device attach: invalid PCI address"* ]] || { echo "$bad: $output" && false; }
	done
	for bad in FF:1F.7 0000:ff:1f.7 /sys/bus/pci/devices/0000:FF:1f.7 /sys/bus//pci/./devices/0000:ff:1f.7; do
		run -1 cocoon vm device attach a --pci "$bad"
		[[ $output == *"no PCI device at /sys/bus/pci/devices/0000:ff:1f.7"* ]] || { echo "$bad: $output" && false; }
	done
	run -1 cocoon vm device attach a --pci 01:00.0 --id cocoon-x
	[[ $output == *"invalid id"* ]]
	run -1 cocoon vm device detach a --id nothing
	[[ $output == *"nothing is attached as nothing"* ]]
}
