#!/usr/bin/env bats
# shellcheck disable=SC2016 # snippets are for the inner shell
# guest/initramfs/lib on a made-up sysfs, /proc and root, under every shell it must run in: dash
# (initramfs-tools), busybox ash (tiny), klibc's dash where installed, and bash as a strict third
# opinion. No VM, no root except where a test says so.

bats_require_minimum_version 1.5.0

LIB=$BATS_TEST_DIRNAME/../../guest/initramfs/lib

setup()
{
	T=$BATS_TEST_TMPDIR
	SHELLS=()
	for shell in dash 'busybox ash' /usr/lib/klibc/bin/sh 'bash --posix'; do
		! command -v "${shell%% *}" >/dev/null || SHELLS+=("$shell")
	done
	[ ${#SHELLS[@]} -ge 2 ]
}

# tree WORDS...: a fresh guest with three NICs and this kernel command line.
tree()
{
	rm -rf "${T:?}"/{sys,proc,run,root,dev}
	mkdir -p "$T"/sys/class/net/{lo,eth0,eth1,eth2} "$T"/{sys/block,proc,run,dev} \
		"$T/root/etc/systemd/network"
	echo 00:00:00:00:00:00 >"$T/sys/class/net/lo/address"
	for i in 0 1 2; do
		echo "52:54:00:00:00:0$i" >"$T/sys/class/net/eth$i/address"
	done
	echo "$*" >"$T/proc/cmdline"
	echo "12.34 5.6" >"$T/proc/uptime"
}

# in_shell SHELL SNIPPET
in_shell()
{
	# shellcheck disable=SC2086
	COCOON_SYS=$T/sys COCOON_PROC=$T/proc COCOON_RUN=$T/run COCOON_DEV=$T/dev \
		COCOON_KMSG=$T/none R=$T/root L=$LIB \
		$1 -euc ". \$L/common.sh; . \$L/disk.sh; . \$L/net.sh; cocoon_parse_cmdline; $2"
}

# units: all units of the tree in one text.
units()
{
	(cd "$T/root/etc/systemd/network" && for file in *; do
		echo "== $file"
		cat "$file"
	done)
}

@test "addresses, masks, MACs and ids: what is accepted" {
	tree
	for shell in "${SHELLS[@]}"; do
		run in_shell "$shell" '
			for x in 1.2.3.4 0.0.0.0 255.255.255.255 1.2.3 1.2.3.4.5 1.2.3.256 1.2.3.08 1..2.3 .1.2.3.4 \
				1.2.3.4. 1.2.3.x -1.2.3.4 "" dhcp; do
				! cocoon_ipv4 "$x" || printf "%s=%s " "$x" "$COCOON_IPV4"
			done; echo
			for x in 255.255.255.0 255.255.255.255 0.0.0.0 255.0.255.0 24 32 33 024 0 "" 128.0.0.0; do
				! cocoon_prefix "$x" || printf "%s=%s " "$x" "$COCOON_PREFIX"
			done; echo
			for x in 52:54:00:AB:cD:ef 52:54:00:ab:cd 52:54:00:ab:cd:eg 525400abcdef 52:54:00:ab:cd:ef:01; do
				! cocoon_mac "$x" || printf "%s=%s=%s " "$x" "$COCOON_MAC" "$COCOON_MAC_FILE"
			done; echo
			for x in cocoon-layer0 /dev/vda "" a:b a,b .. a/../b /.. a\\b ./a; do
				! cocoon_good_id "$x" || printf "%s " "$x"
			done; echo'
		[ "$status" -eq 0 ]
		[ "${lines[0]}" = "1.2.3.4=16909060 0.0.0.0=0 255.255.255.255=4294967295 " ]
		[ "${lines[1]}" = "255.255.255.0=24 255.255.255.255=32 0.0.0.0=0 24=24 32=32 0=0 128.0.0.0=1 " ]
		[ "${lines[2]}" = "52:54:00:AB:cD:ef=52:54:00:ab:cd:ef=525400abcdef " ]
		[ "${lines[3]}" = "cocoon-layer0 /dev/vda " ]
	done
}

@test "cocoon.net, ip= and DHCP make one unit per NIC" {
	for shell in "${SHELLS[@]}"; do
		tree "console=ttyS0 cocoon.hostname=web1 cocoon.later=1 cocoon.net=1,52:54:00:00:00:01,10.1.0.5/32,169.254.1.1" \
			"ip=10.1.0.6::10.1.0.1:255.255.255.0:web1:eth1:off:8.8.8.8:1.1.1.1" \
			"ip=10.0.0.7::10.0.0.1:255.255.255.0:web1:eth0:off:8.8.8.8:1.1.1.1 rw -- cocoon.hostname=no"
		in_shell "$shell" 'cocoon_network "$R"'
		[ "$(cat "$T/root/etc/hostname")" = web1 ]
		run units
		[ "$output" = "== 10-525400000000.network
[Match]
MACAddress=52:54:00:00:00:00

[Network]
Address=10.0.0.7/24
Gateway=10.0.0.1
DNS=8.8.8.8
DNS=1.1.1.1
== 10-525400000001.network
[Match]
MACAddress=52:54:00:00:00:01

[Network]
Address=10.1.0.5/32
DNS=8.8.8.8
DNS=1.1.1.1

[Route]
Gateway=169.254.1.1
GatewayOnLink=yes
Metric=101
== 10-525400000002.network
[Match]
MACAddress=52:54:00:00:00:02

[Network]
DHCP=ipv4

[DHCPv4]
ClientIdentifier=mac
RouteMetric=1026" ]
		[ "$(cat "$T/root/etc/resolv.conf")" = "nameserver 8.8.8.8
nameserver 1.1.1.1" ]
	done
}

@test "no gateway, no DNS, a MAC in capitals, an address dhcp" {
	for shell in "${SHELLS[@]}"; do
		tree "cocoon.net=0,52:54:00:00:00:00,10.0.0.7/24,- cocoon.net=7,52:54:00:AA:00:00,dhcp,- cocoon.net=7,52:54:00:aa:00:00,10.0.0.9/24,-"
		rm -r "$T"/sys/class/net/eth?
		in_shell "$shell" 'cocoon_network "$R"'
		run units
		[ "$output" = "== 10-525400000000.network
[Match]
MACAddress=52:54:00:00:00:00

[Network]
Address=10.0.0.7/24
DNS=8.8.8.8
DNS=8.8.4.4
== 10-525400aa0000.network
[Match]
MACAddress=52:54:00:aa:00:00

[Network]
DHCP=ipv4

[DHCPv4]
ClientIdentifier=mac
RouteMetric=1031" ]
	done
}

@test "damaged words are named and ignored, the NIC falls back to DHCP" {
	for shell in "${SHELLS[@]}"; do
		tree "cocoon.net=0,52:54:00:00:00:00,10.0.0.256/24,- cocoon.net=x,52:54:00:00:00:01,dhcp cocoon.net=1 cocoon.net=" \
			"cocoon.net=2,52:54:00:00:00:02,10.0.0.1,- cocoon.net=* ip=10.0.0.1::10.0.0.2:255.0.255.0:h:eth1:off" \
			"ip=10.0.0.1::10.0.0.2:255.255.255.0:h:eth9:off ip=dhcp ip=:::::eth0:dhcp ip=off cocoon.timeout=abc"
		run in_shell "$shell" 'cocoon_network "$R"; echo "timeout $COCOON_TIMEOUT"'
		[ "$status" -eq 0 ]
		[[ $output = *"cocoon.net=0,52:54:00:00:00:00,10.0.0.256/24,-: ignored: bad address"* ]]
		[[ $output = *"cocoon.net=x,52:54:00:00:00:01,dhcp: ignored: bad index or MAC"* ]]
		[[ $output = *"cocoon.net=2,52:54:00:00:00:02,10.0.0.1,-: ignored: bad address"* ]]
		[[ $output = *"ignored: bad netmask"*"ignored: no NIC eth9"*"timeout 10" ]]
		[ "$(units | grep -c DHCP=ipv4)" -eq 3 ]
		[ "$(units | grep -c Address=1 || :)" -eq 0 ]
	done
}

@test "stale units go, the user's stay, equal files are not rewritten" {
	for shell in "${SHELLS[@]}"; do
		tree "cocoon.net=0,52:54:00:00:00:00,10.0.0.7/24,10.0.0.1"
		rm -r "$T"/sys/class/net/eth[12]
		cd "$T/root/etc/systemd/network"
		echo old | tee 10-525400999999.network 10-custom.network 10-customcustom.network >20-wired.network
		in_shell "$shell" 'cocoon_network "$R"'
		run ls
		[ "$output" = "10-525400000000.network
10-custom.network
10-customcustom.network
20-wired.network" ]
		before=$(stat -c %i,%Y ./* ../../hostname ../../resolv.conf 2>/dev/null || :)
		in_shell "$shell" 'cocoon_network "$R"'
		[ "$(stat -c %i,%Y ./* ../../hostname ../../resolv.conf 2>/dev/null || :)" = "$before" ]
	done
}

@test "a guest resolves its own name, unless the image knows better" {
	for shell in "${SHELLS[@]}"; do
		tree "cocoon.hostname=one"
		: >"$T/root/etc/hosts"
		in_shell "$shell" 'cocoon_network "$R"'
		grep -q '^127.0.1.1 one$' "$T/root/etc/hosts"
		echo cocoon.hostname=two >"$T/proc/cmdline"
		in_shell "$shell" 'cocoon_network "$R"'
		[ "$(grep -c '^127.0.1.1 two$' "$T/root/etc/hosts")" = 1 ]
		run ! grep -q one "$T/root/etc/hosts"
		echo '127.0.0.1 mine' >"$T/root/etc/hosts"
		in_shell "$shell" 'cocoon_network "$R"'
		[ "$(cat "$T/root/etc/hosts")" = '127.0.0.1 mine' ]
		rm "$T/root/etc/hosts"
		ln -s /elsewhere "$T/root/etc/hosts"
		in_shell "$shell" 'cocoon_network "$R"'
		[ "$(readlink "$T/root/etc/hosts")" = /elsewhere ]
	done
}

@test "resolv.conf: resolved's stub is filled, any other link replaced and not followed" {
	for shell in "${SHELLS[@]}"; do
		tree "ip=10.0.0.7::10.0.0.1:255.255.255.0:h:eth0:off:9.9.9.9"
		ln -s ../run/systemd/resolve/stub-resolv.conf "$T/root/etc/resolv.conf"
		in_shell "$shell" 'cocoon_network "$R"'
		[ -L "$T/root/etc/resolv.conf" ]
		[ "$(cat "$T/run/systemd/resolve/stub-resolv.conf")" = "nameserver 9.9.9.9" ]

		echo precious >"$T/victim"
		ln -sf "$T/victim" "$T/root/etc/resolv.conf"
		in_shell "$shell" 'cocoon_network "$R"'
		[ ! -L "$T/root/etc/resolv.conf" ]
		[ "$(cat "$T/root/etc/resolv.conf")" = "nameserver 9.9.9.9" ]
		[ "$(cat "$T/victim")" = precious ]
	done
}

@test "links inside the root never lead a write out of it" {
	for shell in "${SHELLS[@]}"; do
		tree "cocoon.net=0,52:54:00:00:00:00,10.0.0.7/24,-"
		rm -rf "$T/root/etc/systemd" "$T/out"
		mkdir "$T/out"
		ln -s "$T/out" "$T/root/etc/systemd"
		run in_shell "$shell" 'cocoon_network "$R"; cocoon_inside "$R" ../x || echo dotdot;
			cocoon_inside "$R" a/../x || echo dotdot; cocoon_inside "$R" etc/a/b && echo fine'
		[ "$status" -eq 0 ]
		[[ $output = *"is not a directory of this root"* ]]
		[ "${lines[-1]} ${lines[-2]} ${lines[-3]}" = "fine dotdot dotdot" ]
		[ -z "$(ls -A "$T/out")" ]
	done
}

@test "the machine id is emptied once per instance, or at every boot when none is named" {
	for shell in "${SHELLS[@]}"; do
		tree cocoon.instance=AAAA
		mkdir -p "$T/root/.cocoon/cow"
		reset() { in_shell "$shell" 'cocoon_reset_identity "$R"'; }
		echo first >"$T/root/etc/machine-id"
		reset
		[ -f "$T/root/etc/machine-id" ] && [ ! -s "$T/root/etc/machine-id" ]
		echo second >"$T/root/etc/machine-id"
		reset
		[ "$(cat "$T/root/etc/machine-id")" = second ]
		echo cocoon.instance=BBBB >"$T/proc/cmdline"
		reset
		[ ! -s "$T/root/etc/machine-id" ]
		[ "$(cat "$T/root/.cocoon/cow/instance")" = BBBB ]

		echo rw >"$T/proc/cmdline"
		for _ in 1 2; do
			echo third >"$T/root/etc/machine-id"
			reset
			[ ! -s "$T/root/etc/machine-id" ]
		done
		echo precious >"$T/victim"
		ln -sf "$T/victim" "$T/root/etc/machine-id"
		reset
		[ "$(cat "$T/victim")" = precious ]
	done
}

@test "disks by serial (blanks trimmed, no newline) and by name" {
	[ "$(id -u)" = 0 ] || skip "device nodes need root"
	for shell in "${SHELLS[@]}"; do
		tree
		mkdir -p "$T"/sys/block/{vda,vdb/device,vdc,sda}
		printf 'cocoon-layer1' >"$T/sys/block/vda/serial"
		printf 'cocoon-layer10  \n' >"$T/sys/block/vdb/device/serial"
		printf '' >"$T/sys/block/vdc/serial"
		printf 'cocoon-cow' >"$T/sys/block/sda/serial"
		for node in vda vdb vdc; do
			mknod "$T/dev/$node" b 1 0
		done
		run in_shell "$shell" 'cocoon_scan_disks; echo "$COCOON_DISKS"
			for id in cocoon-layer1 cocoon-layer10 /dev/vdc; do cocoon_wait_disk "$id" 0; echo "${COCOON_BLOCK##*/}"; done
			for id in cocoon-layer cocoon-cow layer1 /dev/vdz; do ! cocoon_wait_disk "$id" 0 || echo "found $id"; done'
		[ "$status" -eq 0 ]
		[ "$output" = " cocoon-layer1=vda cocoon-layer10=vdb
vda
vdb
vdc" ]
	done
}
