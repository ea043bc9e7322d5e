#!/usr/bin/env bats
# shellcheck disable=SC2016 # commands are for the guest's shell
# The guest contract (kernel command line in, configured guest out), judged without cocoon: the tiny
# image boots on QEMU emulation with the qemu driver's machine. COCOON_TINY_IMAGE names an archive
# made by "os-image/tiny/build --with-whiteouts"; without it one is built. COCOON_DEBIAN_IMAGE names
# an archive made by os-image/debian-12/build; without it that test is skipped.

load lib/guest

READY='^cocoon-tiny ready: hostname=%s disks=%s net=%s uptime=[0-9.]+$'

setup_file()
{
	local missing
	missing=$(guest_missing_tools | tr '\n' ' ')
	[ -z "$missing" ] || skip "not installed: $missing"
	[ "$(id -u)" = 0 ] || skip "making whiteouts by hand needs root"
	if [ -z "${COCOON_TINY_IMAGE:-}" ]; then
		COCOON_TINY_IMAGE=$BATS_FILE_TMPDIR/tiny.tar
		"$BATS_TEST_DIRNAME/../../os-image/tiny/build" --with-whiteouts "$COCOON_TINY_IMAGE" \
			2>"$BATS_FILE_TMPDIR/build.log" || {
			cat "$BATS_FILE_TMPDIR/build.log" >&2
			skip "cannot build the tiny image (no package source?)"
		}
	fi
	export TINY=$BATS_FILE_TMPDIR/tiny
	guest_convert "$COCOON_TINY_IMAGE" "$TINY"
}

setup()
{
	COW=$BATS_TEST_TMPDIR/cow.raw
	guest_ext4 "$COW"
}

teardown()
{
	guest_kill
}

# boot OPTION...: the tiny image on this test's COW.
boot()
{
	guest_boot --image "$TINY" --cow "$COW" "$@"
}

# ready HOSTNAME DISKS NET: waits for exactly this banner.
ready()
{
	# shellcheck disable=SC2059
	guest_wait "$(printf "$READY" "$1" "$2" "$3")"
}

power_off()
{
	guest_qmp system_powerdown
	guest_exited
}

@test "the agent answers on its serial port, and again after it was killed" {
	local first
	boot --agent --append "cocoon.hostname=talker"
	ready talker 5 none

	guest_agent '{"type":"ping"}'
	[[ $GUEST_FRAMES = '{"type":"pong","uptime_ms":'* ]]
	guest_agent_sh 'cat /etc/hostname; exit 7'
	[ "$GUEST_OUTPUT" = talker ]
	[[ $GUEST_FRAMES = *'{"type":"exit","exit_code":7}'* ]]
	guest_agent_sh 'echo $PATH; cat; ls /dev/virtio-ports 2>/dev/null'
	[ "$GUEST_OUTPUT" = /sbin:/usr/sbin:/bin:/usr/bin ]

	guest_agent_sh 'cat /etc/machine-id'
	first=$GUEST_OUTPUT
	guest_agent '{"type":"reseed","data":"c29tZXRoaW5n","regen_machine_id":true}'
	[ "$GUEST_FRAMES" = '{"type":"exit"}'$'\n' ]
	guest_agent_sh 'cat /etc/machine-id'
	[[ $GUEST_OUTPUT =~ ^[0-9a-f]{32}$ ]]
	[ "$GUEST_OUTPUT" != "$first" ]

	guest_agent_sh 'kill -9 $(pidof cocoon-agent); sleep 100'
	[[ $GUEST_FRAMES = *'{"type":"error","message":"the agent has just been started"}'* ]]
	guest_agent_sh 'pidof sleep || echo none'
	[ "$GUEST_OUTPUT" = none ]
	power_off
}

@test "DHCP on one NIC, hostname, whiteouts, HTTP, power button" {
	local port=$((20000 + RANDOM % 20000))
	boot --nic "hostfwd=tcp:127.0.0.1:$port-:80" --append "cocoon.hostname=web1 cocoon.later=x"
	ready web1 5 '10\.0\.2\.15'

	guest_run 'cd /usr/share/cocoon-test; ls -1a . opaque; cat replaced kept opaque/new'
	[ "$GUEST_OUTPUT" = ".:
.
..
kept
opaque
replaced

opaque:
.
..
new
high
low
high" ]
	guest_run 'ip route show default; cat /etc/resolv.conf /etc/hostname'
	[[ $GUEST_OUTPUT = "default via 10.0.2.2 dev eth0 "* ]]
	[[ $GUEST_OUTPUT = *"nameserver 10.0.2.3"*web1 ]]
	[[ $(curl -s --max-time 5 "http://127.0.0.1:$port/") = *"<p>web1</p>"* ]]

	power_off
	# The journal of a cleanly ended guest needs no recovery.
	[[ $(dumpe2fs -h "$COW" 2>/dev/null) != *needs_recovery* ]]
}

@test "cocoon.net wins over ip=, brings on-link gateways and fall-back routes" {
	boot --nic '' --nic 'net=10.0.9.0/24' --append "cocoon.hostname=web2 \
cocoon.net=0,$(guest_mac 0),10.0.2.20/24,10.0.2.2 \
cocoon.net=1,$(guest_mac 1),192.0.2.9/32,169.254.1.1 \
ip=10.0.2.98::10.0.2.2:255.255.255.0:web2:eth1:off:10.0.2.3:1.1.1.1 \
ip=10.0.2.99::10.0.2.2:255.255.255.0:web2:eth0:off:10.0.2.3:1.1.1.1"
	ready web2 5 '10\.0\.2\.20,192\.0\.2\.9'
	guest_run 'ip route show default; cat /etc/resolv.conf; ping -c 1 -W 2 10.0.2.2 >/dev/null'
	[[ $GUEST_OUTPUT = *"default via 10.0.2.2 dev eth0"* ]]
	[[ $GUEST_OUTPUT = *"default via 169.254.1.1 dev eth1"*"metric 101"* ]]
	[[ $GUEST_OUTPUT = *"nameserver 10.0.2.3"*"nameserver 1.1.1.1" ]]
}

@test "several ip= words by interface name, DHCP for the NIC without one" {
	boot --nic '' --nic '' --nic '' --append "cocoon.hostname=web3 \
ip=10.0.2.31::10.0.2.2:255.255.255.0:web3:eth1:off:10.0.2.3 \
ip=10.0.2.30::10.0.2.2:255.255.255.0:web3:eth0:off:10.0.2.3"
	ready web3 5 '10\.0\.2\.30,10\.0\.2\.31,10\.0\.2\.15'
}

@test "a DHCP guest keeps no static unit after a reboot into another configuration" {
	boot --nic '' --append "cocoon.hostname=a cocoon.net=0,$(guest_mac 0),10.0.2.40/24,10.0.2.2"
	ready a 5 '10\.0\.2\.40'
	power_off
	boot --nic '' --append "cocoon.hostname=b cocoon.net=0,$(guest_mac 0),dhcp"
	ready b 5 '10\.0\.2\.15'
	guest_run 'cat /etc/systemd/network/10-*.network'
	[[ $GUEST_OUTPUT = *DHCP=ipv4* && $GUEST_OUTPUT != *Address=10* ]]
}

@test "without NICs nothing waits" {
	boot --append 'cocoon.hostname=alone'
	ready alone 5 none
	guest_run '! pidof udhcpc'
}

@test "data, machine id and name survive a reboot; another instance gets a new machine id" {
	local id
	boot --append 'cocoon.hostname=one cocoon.instance=AAAA'
	ready one 5 none
	guest_run 'echo kept >/root/file; cat /etc/machine-id'
	id=$GUEST_OUTPUT
	[[ $id =~ ^[0-9a-f]{32}$ ]]
	guest_type reboot
	ready one 5 none
	guest_run 'cat /root/file /etc/machine-id'
	[ "$GUEST_OUTPUT" = "kept
$id" ]
	power_off

	boot --append 'cocoon.hostname=two cocoon.instance=BBBB'
	ready two 5 none
	guest_run 'cat /etc/machine-id'
	[[ $GUEST_OUTPUT =~ ^[0-9a-f]{32}$ ]]
	[ "$GUEST_OUTPUT" != "$id" ]
}

@test "data disks by serial; a bad one does not stop the boot" {
	guest_ext4 "$BATS_TEST_TMPDIR/data.raw" 32M
	boot --data "$BATS_TEST_TMPDIR/data.raw:data1" --append "cocoon.hostname=disk \
cocoon.data=data1:/srv/data cocoon.data=nope:/srv/nope cocoon.data=data1:/../x"
	ready disk 6 none
	guest_run 'grep -c " /srv/data ext4 rw,noatime" /proc/mounts; readlink -f /dev/disk/by-id/*'
	[ "$GUEST_OUTPUT" = "1
/dev/vdf" ]
	guest_run 'dmesg | grep -c "cocoon: cocoon.data="'
	[ "$GUEST_OUTPUT" = 2 ]
}

@test "virtio-mmio and /dev/vdX names" {
	boot --microvm --nic '' --append 'cocoon.hostname=mmio'
	ready mmio 5 '10\.0\.2\.15'
	guest_run 'ls -1 /usr/share/cocoon-test; ls -d /.cocoon/layers/dev/vdd'
	[ "$GUEST_OUTPUT" = "kept
opaque
replaced
/.cocoon/layers/dev/vdd" ]
}

@test "console=hvc0 alone, one CPU" {
	boot --console hvc0 --cpus 1 --append 'cocoon.hostname=hvc'
	ready hvc 5 none
	guest_run tty
	[ "$GUEST_OUTPUT" = /dev/hvc0 ]
}

@test "a missing layer is named after cocoon.timeout, and panic= ends the guest" {
	boot --no-reboot --break-layers cocoon-layer0,cocoon-layer7 \
		--append 'cocoon.timeout=1 panic=1'
	guest_wait '^cocoon: layer cocoon-layer7: no such disk after 1 s$'
	guest_exited
}

@test "a NIC and a disk plugged in later" {
	truncate -s 16M "$BATS_TEST_TMPDIR/hot.raw"
	boot --append 'cocoon.hostname=hot net.ifnames=0'
	ready hot 5 none
	guest_qmp netdev_add '{"type":"user","id":"net0","ipv6":false}'
	guest_qmp device_add '{"driver":"virtio-net-pci","id":"nic0","netdev":"net0","bus":"rp0","addr":"0","mac":"'"$(guest_mac 0)"'","romfile":""}'
	guest_qmp blockdev-add '{"driver":"raw","node-name":"hot","file":{"driver":"file","filename":"'"$BATS_TEST_TMPDIR/hot.raw"'"}}'
	guest_qmp device_add '{"driver":"virtio-blk-pci","id":"hot","drive":"hot","serial":"extra","bus":"rp8","addr":"0"}'
	guest_run 'n=0; until ip addr show eth0 2>/dev/null | grep -q 10.0.2.15 && [ -e /dev/disk/by-id/virtio-extra ] || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.1; done; [ $n -lt 50 ]'
}

@test "Debian: static and DHCP units, machine id, no failed unit, clean power-off" {
	[ -n "${COCOON_DEBIAN_IMAGE:-}" ] || skip "COCOON_DEBIAN_IMAGE is not set"
	local image=$BATS_TEST_TMPDIR/debian
	export GUEST_TIMEOUT=300
	guest_convert "$COCOON_DEBIAN_IMAGE" "$image"
	guest_ext4 "$COW" 2G
	guest_boot --image "$image" --cow "$COW" --memory 512 --nic '' --nic '' --append "\
cocoon.hostname=deb cocoon.instance=AAAA cocoon.net=0,$(guest_mac 0),dhcp \
cocoon.net=1,$(guest_mac 1),10.9.0.5/24,10.8.0.1 \
ip=10.9.0.5::10.8.0.1:255.255.255.0:deb:eth1:off:9.9.9.9"
	# The prompt has no newline, so wait for the line before it.
	guest_wait '^Debian GNU/Linux 12 deb ttyS0' 120
	guest_login root cocoon
	guest_run 'systemctl is-system-running --wait' 60
	[ "$GUEST_OUTPUT" = running ]
	guest_run 'ip -4 -o addr show scope global | while read -r _ i _ a _; do echo $i $a; done' 30
	[[ $GUEST_OUTPUT = *"eth0 10.0.2.15/24"*"eth1 10.9.0.5/24"* ]]
	guest_run 'ip route show default; grep nameserver /etc/resolv.conf; cat /.cocoon/cow/instance' 30
	[[ $GUEST_OUTPUT = *"default via 10.8.0.1 dev eth1 proto static metric 101 onlink"* ]]
	[[ $GUEST_OUTPUT = *"nameserver 127.0.0.53"* ]]
	[[ $GUEST_OUTPUT = *AAAA* ]]
	guest_run 'ss -ltn | grep -q :22' 30
	guest_qmp system_powerdown
	guest_exited 60
	[[ $(dumpe2fs -h "$COW" 2>/dev/null) != *needs_recovery* ]]
}
