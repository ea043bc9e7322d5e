#!/usr/bin/env bats
# CNI networks with Debian's own plugins, in network and mount namespaces of the test's own; fake
# plugins only where a real one cannot be made to fail. What plugins leave is counted: namespaces,
# devices, iptables rules and chains, leases, index rows, cached attachments.

# 100 cycles under the sanitizers take their time.
export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-600}

load lib

PLUGINS=/usr/lib/cni

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4 ip tc nsenter unshare jq busybox iptables-save nft
	[ -x $PLUGINS/bridge ] || skip "needs containernetworking-plugins"
	with_net
	with_tiny tiny
	mkdir -p "$T/cni" "$T/fake"
	export FAKE=$T/fake
	export COCOON_CNI_BIN_DIR=$T/fake:$PLUGINS
}

teardown()
{
	cocoon_teardown
}

# network FILE NAME SUBNET [MORE-PLUGINS]: a list of the real plugins, on the bridge br-NAME, with leases in
# the test's directory. SUBNET is the first three numbers of a /24.
network()
{
	cat >"$T/cni/$1.conflist" <<-JSON
		{ "cniVersion": "1.1.0", "name": "$2", "plugins": [
		  { "type": "bridge", "bridge": "br-$2", "isGateway": true, "ipMasq": true, "hairpinMode": true,
		    "dns": { "nameservers": ["$3.1"] },
		    "ipam": { "type": "host-local", "dataDir": "$T/leases", "ranges": [[{ "subnet": "$3.0/24" }]],
		              "routes": [{ "dst": "0.0.0.0/0" }] } },
		  { "type": "portmap", "capabilities": { "portMappings": true } },
		  { "type": "firewall" }${4:+, $4} ] }
	JSON
}

# fake NAME COMMAND SCRIPT: what the fake plugin NAME does; it passes the result on unless told otherwise.
fake()
{
	printf '#!/bin/sh\ncat >"$0.in"\n[ ! -f "$0.$CNI_COMMAND" ] || . "$0.$CNI_COMMAND"\n%s\n' \
		'[ "$CNI_COMMAND" != ADD ] || jq -c .prevResult <"$0.in"' >"$FAKE/$1"
	chmod +x "$FAKE/$1"
	[ $# -lt 2 ] || echo "$3" >"$FAKE/$1.$2"
}

leases()
{
	[ ! -d "$T/leases" ] || find "$T/leases" -type f ! -name 'last_reserved*' ! -name lock | sort
}

# Everything that a VM may leave on the host and in the store.
traces()
{
	in_net sh -c 'ls /run/netns; ip -o link | sed "s/^[0-9]*: \([^:@]*\).*/\1/" | sort
		iptables-save | grep -v "^#" | sed "s/\[.*//"'
	leases
	find "$T/root/cni/cache" -type f 2>/dev/null || true
	sqlite3 "$T/root/meta/meta.db" 'SELECT * FROM networks; SELECT id FROM vms; SELECT * FROM tombstones'
}

# Bridges and base chains belong to the plugins and outlive their first VM: they are there before we count.
warm_up()
{
	cocoon vm create --name warm --memory 512M "$@" tiny
	cocoon vm rm warm
	BEFORE=$(traces)
}

assert_no_traces()
{
	[ "$(traces)" = "$BEFORE" ] || {
		diff <(echo "$BEFORE") <(traces)
		return 1
	}
}

netns_of()
{
	echo "/run/netns/cocoon-$(field "$1" .id)"
}

# The VMM of a VM lives in that VM's namespace.
assert_inside()
{
	[ "$(stat -Lc %i "/proc/$(field "$1" .pid)/ns/net")" = "$(in_net stat -Lc %i "$(netns_of "$1")")" ]
}

# in_vm_net VM CMD...
in_vm_net()
{
	local vm=$1

	shift
	in_net nsenter --net="$(netns_of "$vm")" "$@"
}

@test "real plugins: address, gateway, a second guest, names, ports and the redirect; nothing is left" {
	local a b dev

	network 10-pod pod 10.77.0
	warm_up --publish 8080:80
	cocoon vm run --name a --cpu 2 --memory 512M --publish 8080:80 tiny
	cocoon vm run --name b --cpu 1 --memory 512M tiny
	a=$(field a '.network_configs[0].network.ip')
	b=$(field b '.network_configs[0].network.ip')
	[[ $a == 10.77.0.* && $b == 10.77.0.* && $a != "$b" ]]
	[ "$(field a '.network_configs[0].network | "\(.gateway)/\(.prefix)"')" = 10.77.0.1/24 ]
	[ "$(field a '.net_backend + " " + .config.network')" = "cni pod" ]
	[ "$(leases | wc -l)" = 2 ]
	assert_inside a
	assert_inside b
	wait_console a "cocoon-tiny ready: hostname=a disks=[0-9]+ net=$a"
	wait_console b "cocoon-tiny ready: hostname=b disks=[0-9]+ net=$b"

	CONSOLE_SECONDS=10 run -0 console a \
		"ping -c 2 10.77.0.1; ping -c 2 $b; ping -c 1 \$(hostname); cat /etc/resolv.conf"
	echo "$output"
	[[ $output == *"2 packets received"*"2 packets received"*"PING a (127.0.1.1)"*"1 packets received"* ]]
	[[ $output == *"nameserver 10.77.0.1"* ]]
	run -0 wait_for 20 in_net curl -fsS --max-time 5 http://10.77.0.1:8080/
	run -0 in_net curl -fsS --max-time 5 http://10.77.0.1:8080/
	[[ $output == *"<p>a</p>"* ]]

	# What came in by the veth left by the TAP and the other way, past the namespace's own stack.
	for dev in eth0 "$(field a '.network_configs[0].tap')"; do
		run -0 in_vm_net a tc -s -j filter show dev "$dev" ingress
		[ "$(jq '[.. | .packets? // empty] | add' <<<"$output")" -gt 5 ]
		run -0 in_vm_net a ip -s -j link show dev "$dev"
		[ "$(jq '.[0].stats64 | [.rx.packets, .tx.packets] | min' <<<"$output")" -gt 5 ]
	done
	run -0 in_vm_net a cat /proc/net/snmp
	[[ $(grep '^Icmp: [0-9]' <<<"$output") == "Icmp: 0 "* ]]

	cocoon vm rm --force a b
	assert_no_traces
}

@test "two NICs on two conflists, and a second start" {
	local one two

	network 10-pod pod 10.77.0
	network 20-lan lan 10.78.0
	warm_up --network pod,lan --nics 2
	cocoon vm run --name a --cpu 1 --memory 512M --nics 2 --network lan,pod tiny
	one=$(field a '.network_configs[0].network.ip') two=$(field a '.network_configs[1].network.ip')
	[[ $one == 10.78.0.* && $two == 10.77.0.* ]]
	wait_console a "cocoon-tiny ready: hostname=a disks=[0-9]+ net=$one,$two"
	in_net busybox ping -c 1 "$one"
	in_net busybox ping -c 1 "$two"
	CONSOLE_SECONDS=8 run -0 console a 'ping -c 1 10.77.0.1; ping -c 1 10.78.0.1; ip route show default'
	[[ $output == *"1 packets received"*"1 packets received"*"default via 10.78.0.1 dev eth0"* ]]
	cocoon vm stop --force a
	# Stopped, the veths are down: broadcasts end there.
	run -0 in_vm_net a ip -o link show dev eth1
	[[ $output != *,UP* && $output != *"<UP"* ]]
	cocoon vm start a
	wait_console a "cocoon-tiny ready: hostname=a disks=[0-9]+ net=$one,$two"
	in_net busybox ping -c 1 "$two"
	cocoon vm rm --force a
	assert_no_traces
}

@test "without NICs: the namespace, the hypervisor in it, no device" {
	network 10-pod pod 10.77.0
	warm_up
	cocoon vm run --name z --cpu 1 --memory 512M --nics 0 tiny
	run -0 in_net ip netns
	[[ $output == cocoon-"$(field z .id)"* ]]
	[ "$(field z '.net_backend + " " + .config.network')" = "cni pod" ]
	assert_inside z
	run -0 in_vm_net z ip -o link
	[ "${#lines[@]}" = 1 ]
	[ "$(field z '.network_configs | length')" = 0 ]
	cocoon vm stop --force z
	cocoon vm start z
	assert_inside z
	cocoon vm rm --force z
	assert_no_traces
}

@test "a network that is not there is refused by name, also without NICs, and nothing is reserved" {
	network 10-pod pod 10.77.0
	network 20-lan lan 10.78.0
	echo '{ "name": "half"' >"$T/cni/30-half.conflist"
	warm_up
	for nics in 0 1; do
		run -1 cocoon vm create --name v --memory 512M --nics $nics --network lam tiny
		[[ $output == *'conflist "lam" not found (available: cocoon-builtin, lan, pod, user); left out: '* ]]
		[[ $output == *30-half.conflist* && $output == *'did you mean "lan"?'* ]]
		run -1 cocoon vm create --name v --memory 512M --nics $nics --network pod,lam tiny
		[[ $output == *'conflist "lam" not found'* ]]
		assert_no_traces
		# Failing later: what was reserved is gone as well.
		COCOON_FAILPOINT=net.netns:error run -1 cocoon vm create --name v --memory 512M --nics $nics tiny
		[[ $output == *"network list left out: "*30-half* ]]
		[[ $output == *"injected failure at net.netns"* ]]
		assert_no_traces
	done
	# The file that is broken hinders only itself; a single plugin's file counts after the lists.
	echo '{ "name": "aaa", "type": "loopback" }' >"$T/cni/00-aaa.conf"
	cocoon vm create --name v --memory 512M --nics 0 tiny
	[ "$(field v .config.network)" = pod ]
	cocoon vm rm v
	run -0 cocoon __complete vm create --network ''
	[[ $output == *aaa*cocoon-builtin*lan*pod*user* ]]
}

@test "failing or killed after each step of add: the host is as before" {
	local label

	network 10-pod pod 10.77.0
	warm_up --nics 2
	for label in net.netns net.intent net.add net.wire net.rows create.C3 create.C4; do
		COCOON_FAILPOINT=$label:error run -1 cocoon vm create --name v --memory 512M --nics 2 tiny
		[[ $output == *"injected failure at $label"* ]]
		assert_no_traces
		COCOON_FAILPOINT=$label run -137 cocoon vm create --name v --memory 512M --nics 2 tiny
		cocoon vm rm --force v
		assert_no_traces
	done
	cocoon vm create --name v --memory 512M tiny
	COCOON_FAILPOINT=rm.D3 run -137 cocoon vm rm v
	cocoon vm rm --force "$(sqlite3 "$T/root/meta/meta.db" 'SELECT id FROM vms')"
	assert_no_traces
}

# bad_create TEXT: a create of three NICs that must fail with TEXT, naming plugin and VM, and leave nothing.
bad_create()
{
	run -1 cocoon vm create --name v --memory 512M --nics 3 tiny
	echo "$output"
	[[ $output == *"$1"* ]]
	[[ $output =~ cni\ add\ [A-Z2-7]{26}/eth[0-2]: ]]
	[ -z "$(cocoon vm list --format json | jq -r '.[]')" ]
	assert_no_traces
}

@test "plugins that fail, hang, print garbage or are missing: named, and the host is as before" {
	network 10-pod pod 10.77.0 '{ "type": "last" }'
	fake last
	warm_up

	fake last ADD 'echo "{\"code\":999,\"msg\":\"no more\",\"details\":\"at all\"}"; exit 1'
	bad_create 'plugin type="last" failed (add): no more; at all'
	# Only for the second of three.
	fake last ADD '[ $CNI_IFNAME != eth1 ] || { echo sorry >&2; exit 1; }'
	bad_create '/eth1: plugin type="last" failed (add): sorry'
	fake last ADD 'sleep 100'
	COCOON_CNI_TIMEOUT_SECONDS=15 bad_create '/last did not finish within 15000 ms'
	fake last ADD 'echo "<html>"; exit 0'
	bad_create 'plugin type="last" failed (add): it printed no valid result: <html>'
	fake last ADD 'echo "{\"ips\":[{\"address\":\"here\"}]}"; exit 0'
	bad_create 'invalid address'
	rm "$FAKE/last.ADD"
	mv "$FAKE/last" "$FAKE/lost"
	bad_create 'plugin type="last": no such plugin in '
}

@test "a plugin that fails only on DEL: said, remembered, and made good" {
	local id

	network 10-pod pod 10.77.0 '{ "type": "last" }'
	fake last
	warm_up
	fake last DEL 'echo "{\"code\":999,\"msg\":\"not yet\"}"; exit 1'

	# In a rollback: the reservation stays for vm rm to try again.
	COCOON_FAILPOINT=net.wire:error run -1 cocoon vm create --name v --memory 512M tiny
	[[ $output == *"injected failure at net.wire"*'/eth0: plugin type="last" failed (del): not yet'* ]]
	[ "$(leases | wc -l)" = 1 ]
	rm "$FAKE/last.DEL"
	cocoon vm rm --force v
	assert_no_traces

	# In a removal: the VM goes, the error says what could not, and the row stays for gc.
	cocoon vm create --name v --memory 512M tiny
	id=$(field v .id)
	fake last DEL 'echo "{\"code\":999,\"msg\":\"not yet\"}"; exit 1'
	run -1 cocoon vm rm v
	[[ $output == *"vm(s) deleted but network cleanup failed: cni del $id/eth0: "* ]]
	[[ $output == *'plugin type="last" failed (del): not yet'* ]]
	[ "$(sqlite3 "$T/root/meta/meta.db" 'SELECT vm_id FROM networks')" = "$id" ]
	[ "$(leases | wc -l)" = 1 ]
	in_net test -e "/run/netns/cocoon-$id"
	[ "$(cocoon vm list --format json)" = "[]" ]
}

@test "the conflist is removed, the namespace too: vm rm still releases lease and rules" {
	network 10-pod pod 10.77.0
	network 20-lan lan 10.78.0
	warm_up --network lan
	cocoon vm create --name v --memory 512M --network lan tiny
	cocoon vm create --name w --memory 512M --network lan tiny
	cocoon vm create --name x --memory 512M --network lan tiny
	# A plain file is what a reboot leaves where /var/run is on disk.
	in_net sh -c "umount -l $(netns_of w); umount -l $(netns_of x) && rm $(netns_of x)"
	rm "$T/cni/20-lan.conflist"
	# Start needs the list, and says so.
	run -1 cocoon vm start w
	[[ $output == *'conflist "lan" not found (available: cocoon-builtin, pod)'* ]]
	cocoon vm rm v w x
	assert_no_traces
}

@test "after a reboot the same addresses and MACs; another address is refused" {
	local ip mac

	network 10-pod pod 10.77.0
	warm_up --nics 2
	cocoon vm create --name a --cpu 1 --memory 512M --nics 2 tiny
	ip=$(field a '.network_configs[0].network.ip') mac=$(field a '.network_configs[0].mac')
	# Namespaces, devices and rules are gone, leases are not.
	in_net sh -c 'umount -l /run/netns/cocoon-*; ip link del br-pod; nft flush ruleset'
	run -0 cocoon vm start a
	[[ $output == *"network missing for VM"*", recovering"* ]]
	[ "$(field a '.network_configs[0] | .network.ip + " " + .mac')" = "$ip $mac" ]
	wait_console a "cocoon-tiny ready: hostname=a disks=[0-9]+ net=$ip"
	in_net busybox ping -c 1 "$ip"
	[ "$(leases | wc -l)" = 2 ]
	cocoon vm stop --force a

	# Only a TAP lost.
	in_vm_net a ip link del "$(field a '.network_configs[1].tap')"
	cocoon vm start a
	cocoon vm stop --force a

	# The address is somebody else's by now.
	in_net umount -l "$(netns_of a)"
	echo -n "somebody" >"$T/leases/pod/$ip"
	run -1 cocoon vm start a
	[[ $output == *"$(field a .id)/eth0: plugin type=\"bridge\" failed (add): "*"$ip"* ]]
	[ "$(field a .state)" = stopped ]
	rm "$T/leases/pod/$ip"
	cocoon vm start a
	[ "$(field a '.network_configs[0].network.ip')" = "$ip" ]
	cocoon vm rm --force a
	assert_no_traces
}

@test "after a reboot vm rm releases the leases, although no rule is left to remove" {
	network 10-pod pod 10.77.0
	warm_up
	cocoon vm create --name a --memory 512M --nics 2 tiny
	in_net sh -c 'umount -l /run/netns/cocoon-*; rm /run/netns/*; ip link del br-pod; nft flush ruleset'
	cocoon vm rm a
	[ -z "$(leases)" ]
	[ -z "$(in_net ls /run/netns)" ]
	[ -z "$(sqlite3 "$T/root/meta/meta.db" 'SELECT * FROM networks')" ]
	[ -z "$(find "$T/root/cni/cache" -type f)" ]
	# The same with interfaces that are still there.
	cocoon vm create --name a --memory 512M --nics 2 tiny
	in_net nft flush ruleset
	cocoon vm rm a
	[ -z "$(leases)" ]
	[ -z "$(in_net ls /run/netns)" ]
}

@test "the namespace loses its name under a running VM and gets it back" {
	local inode

	network 10-pod pod 10.77.0
	warm_up
	cocoon vm run --name a --cpu 1 --memory 512M tiny
	inode=$(in_net stat -Lc %i "$(netns_of a)")
	in_net sh -c "umount -l $(netns_of a); rm $(netns_of a)"
	run -0 cocoon vm start a
	[[ $output == *"was removed under the running VM, naming it again"* ]]
	[ "$(in_net stat -Lc %i "$(netns_of a)")" = "$inode" ]
	assert_inside a
	cocoon vm rm --force a
	assert_no_traces
}

@test "a clone gets an address of its own on its source's network, or on the one that is named" {
	network 10-pod pod 10.77.0
	network 20-lan lan 10.78.0
	warm_up --network pod,lan --nics 2
	cocoon vm run --name a --cpu 1 --memory 512M --network lan tiny
	wait_console a 'cocoon-tiny ready: hostname=a'
	cocoon snapshot save --name s a
	cocoon vm clone --name b s
	[ "$(field b .config.network)" = lan ]
	[[ $(field b '.network_configs[0].network.ip') == 10.78.0.* ]]
	[ "$(field b '.network_configs[0].network.ip')" != "$(field a '.network_configs[0].network.ip')" ]
	assert_inside b
	cocoon vm clone --name c --network pod s
	[[ $(field c '.network_configs[0].network.ip') == 10.77.0.* ]]
	rm "$T/cni/20-lan.conflist"
	run -1 cocoon vm clone --name d s
	[[ $output == *'conflist "lan" not found (available: cocoon-builtin, pod, user)'* ]]
	cocoon vm rm --force a b c
	assert_no_traces
}

@test "NICs plugged and unplugged on one network with address translation: 1, 3, 0, 2" {
	network 10-pod pod 10.77.0
	warm_up --nics 2
	cocoon vm run --name a --cpu 1 --memory 512M tiny
	wait_console a 'cocoon-tiny ready: hostname=a'
	for nics in 3 0 2; do
		cocoon vm net --nics $nics a
		[ "$(leases | wc -l)" = $nics ]
		[ "$(sqlite3 "$T/root/meta/meta.db" 'SELECT count(*) FROM networks')" = $nics ]
		[ "$(in_net iptables-save -t nat | grep -c '^:CNI-')" = $nics ]
	done
	cocoon vm rm --force a
	assert_no_traces
}

@test "a record that names its network only per NIC: start and rm use it" {
	local set

	network 10-pod pod 10.77.0
	warm_up
	cocoon vm create --name a --cpu 1 --memory 512M tiny
	for set in "json_remove(data, '\$.net_backend', '\$.netns_path')" \
		"json_remove(data, '\$.net_backend', '\$.netns_path', '\$.network_configs[0].backend')"; do
		sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET data = $set"
		cocoon vm start a
		assert_inside a
		cocoon vm stop --force a
	done
	sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET data = $set"
	cocoon vm rm a
	assert_no_traces

	# The same for a bridge.
	in_net sh -c 'ip link add br0 type bridge; ip link set br0 up'
	BEFORE=$(traces)
	cocoon vm create --name a --cpu 1 --memory 512M --bridge br0 tiny
	sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET data = json_remove(data, '\$.net_backend', '\$.net_bridge_dev')"
	in_net ip link del "$(field a '.network_configs[0].tap')"
	cocoon vm start a
	run -0 in_net ip -o link show master br0
	[[ $output == *"$(field a '.network_configs[0].tap')"* ]]
	cocoon vm rm --force a
	assert_no_traces
}

@test "vm rm removes what the record does not know of" {
	network 10-pod pod 10.77.0
	warm_up
	cocoon vm create --name a --cpu 1 --memory 512M tiny
	in_net ip tuntap add "bt$(field a '.id[0:8]')-7" mode tap
	sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET data = json_set(json_remove(data, '\$.network_configs', \
		'\$.netns_path'), '\$.net_backend', 'user')"
	cocoon vm rm a
	assert_no_traces
}

@test "no address from the plugin: the guest asks by DHCP; a gateway outside the prefix" {
	local server

	cat >"$T/cni/10-l2.conflist" <<-JSON
		{ "cniVersion": "1.0.0", "name": "l2", "plugins": [
		  { "type": "bridge", "bridge": "br-l2", "ipam": {} } ] }
	JSON
	cat >"$T/cni/20-far.conflist" <<-JSON
		{ "cniVersion": "1.0.0", "name": "far", "plugins": [
		  { "type": "bridge", "bridge": "br-far", "ipam": { "type": "static", "addresses": [
		    { "address": "192.0.2.9/32", "gateway": "169.254.1.1" } ] } } ] }
	JSON
	warm_up --nics 2 --network l2,far
	in_net sh -c 'ip addr add 10.79.0.1/24 dev br-l2
		ip addr add 169.254.1.1/32 dev br-far; ip link set br-far up; ip route add 192.0.2.9/32 dev br-far'
	printf 'start 10.79.0.50\nend 10.79.0.60\ninterface br-l2\nlease_file %s\npidfile %s\n' \
		"$T/udhcpd.leases" "$T/udhcpd.pid" >"$T/udhcpd.conf"
	touch "$T/udhcpd.leases"
	cocoon vm run --name a --cpu 1 --memory 512M --nics 2 --network far,l2 tiny
	nsenter -t "$HOLDER" -n -m busybox udhcpd -f "$T/udhcpd.conf" >/dev/null 2>&1 3>&- &
	server=$!
	wait_console a 'cocoon-tiny ready: hostname=a disks=[0-9]+ net=192\.0\.2\.9(,10\.79\.0\.5[0-9])?'
	[ "$(field a '.network_configs[1].network')" = null ]
	CONSOLE_SECONDS=12 run -0 console a 'ping -c 1 169.254.1.1; ip addr show dev eth1; ip route show default'
	[[ $output == *"1 packets received"*"inet 10.79.0.5"*"default via 169.254.1.1 dev eth0"* ]]
	kill "$server"
	wait "$server" || true
	cocoon vm rm --force a
	[ "$(in_net ls /run/netns)" = "" ]
}

@test "100 cycles of create and rm, and 20 parallel creates, leak nothing" {
	local pids=() i ids

	network 10-pod pod 10.77.0
	warm_up
	for i in $(seq 100); do
		cocoon vm create --name c --memory 512M tiny >"$T/out" 2>&1 || { cat "$T/out" && false; }
		cocoon vm rm c >"$T/out" 2>&1 || { cat "$T/out" && false; }
	done
	assert_no_traces
	for i in $(seq 20); do
		cocoon vm create --name "p$i" --memory 512M tiny >"$T/out.$i" 2>&1 3>&- &
		pids+=($!)
	done
	for i in "${!pids[@]}"; do
		wait "${pids[i]}" || { cat "$T/out.$((i + 1))" && false; }
	done
	[ "$(cocoon vm list --format json | jq -r '.[].network_configs[0].network.ip' | sort -u | wc -l)" = 20 ]
	[ "$(leases | wc -l)" = 20 ]
	ids=$(cocoon vm list --format json | jq -r '.[].id')
	pids=()
	for i in $ids; do
		cocoon vm rm "$i" >/dev/null 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i"
	done
	assert_no_traces
}
