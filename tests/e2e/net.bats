#!/usr/bin/env bats
# Networks that change the host: the built-in one and bridges. The program runs in network and mount
# namespaces of the test's own, so neither the host nor another test sees any of it.

load lib

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4 ip nft nsenter unshare jq busybox
	with_net
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

# What the network of the test consists of: namespaces, devices, rules, leases.
traces()
{
	in_net sh -c 'ls /run/netns; ip -o link | cut -d: -f2; nft list ruleset'
	[ ! -f "$T/root/meta/meta.db" ] || sqlite3 "$T/root/meta/meta.db" 'SELECT * FROM networks'
}

assert_no_traces()
{
	[ "$(traces)" = " lo" ] || {
		traces
		return 1
	}
}

@test "with no flags two guests get addresses, reach each other and the gateway; nothing is left" {
	local a b pid

	cocoon vm run --name a --cpu 1 --memory 512M --publish 8080:80 tiny
	cocoon vm run --name b --cpu 2 --memory 512M tiny
	a=$(field a '.network_configs[0].network.ip')
	b=$(field b '.network_configs[0].network.ip')
	[[ $a == 10.88.* && $b == 10.88.* && $a != "$b" ]]
	[ "$(field a .net_backend)" = cni ]
	[ "$(field a .config.network)" = cocoon-builtin ]
	wait_console a "cocoon-tiny ready: hostname=a disks=[0-9]+ net=$a"
	wait_console b "cocoon-tiny ready: hostname=b disks=[0-9]+ net=$b"

	CONSOLE_SECONDS=8 run -0 console a "ping -c 2 10.88.0.1; ping -c 2 $b; hostname"
	[[ $output == *"2 packets received"*"2 packets received"* ]]
	in_net busybox ping -c 1 "$a"
	# Published, from this host by each of its addresses.
	run -0 wait_for 20 in_net curl -fsS --max-time 5 http://127.0.0.1:8080/
	run -0 in_net curl -fsS --max-time 5 http://127.0.0.1:8080/
	[[ $output == *"<p>a</p>"* ]]
	run -0 in_net curl -fsS --max-time 5 http://10.88.0.1:8080/
	[[ $output == *"<p>a</p>"* ]]

	# The traffic took the redirect: both filters of b's namespace counted packets.
	for dev in eth0 "$(field b '.network_configs[0].tap')"; do
		run -0 in_net ip netns exec "cocoon-$(field b .id)" tc -s -j filter show dev "$dev" ingress
		[ "$(jq '[.. | .packets? // empty] | add' <<<"$output")" -gt 0 ]
	done
	# The hypervisor runs in that namespace.
	pid=$(field b .pid)
	[ "$(stat -Lc %i "/proc/$pid/ns/net")" = "$(in_net stat -Lc %i "/run/netns/cocoon-$(field b .id)")" ]

	# A stopped VM gives its port back; a second start finds its address again.
	cocoon vm stop --force a
	run ! in_net curl -fsS --max-time 2 http://127.0.0.1:8080/
	cocoon vm start a
	wait_console a "cocoon-tiny ready: hostname=a disks=[0-9]+ net=$a"
	cocoon vm rm --force a b
	assert_no_traces
}

@test "after a reboot the network comes back with the same addresses" {
	local ip mac

	cocoon vm create --name a --cpu 1 --memory 512M --nics 2 tiny
	ip=$(field a '.network_configs[1].network.ip') mac=$(field a '.network_configs[1].mac')
	# What a reboot leaves: nothing, or plain files where the namespaces were.
	in_net sh -c 'umount -l /run/netns/cocoon-*; ip link del cocoon0; nft flush ruleset'
	run cocoon vm start a
	echo "$output"
	[ "$status" = 0 ]
	[[ $output == *"network missing for VM"*", recovering"* ]]
	wait_console a 'cocoon-tiny ready: hostname=a'
	[ "$(field a '.network_configs[1].network.ip')" = "$ip" ]
	run -0 console a 'ip addr'
	[[ $output == *"$mac"* && $output == *"$ip"* ]]
	in_net busybox ping -c 1 "$(field a '.network_configs[0].network.ip')"
	cocoon vm rm --force a
	assert_no_traces
}

@test "without NICs there is a namespace, the hypervisor runs in it, and nothing else is made" {
	local pid

	cocoon vm run --name z --cpu 1 --memory 512M --nics 0 tiny
	run -0 in_net ip netns
	[[ $output == cocoon-"$(field z .id)"* ]]
	[ "$(field z .netns_path)" = "/var/run/netns/cocoon-$(field z .id)" ]
	pid=$(field z .pid)
	[ "$(stat -Lc %i "/proc/$pid/ns/net")" = "$(in_net stat -Lc %i "/run/netns/cocoon-$(field z .id)")" ]
	run -0 in_net ip -o link
	[ "${#lines[@]}" = 1 ]
	cocoon vm rm --force z
	assert_no_traces
}

@test "a bridge that is there: ports while the VM exists, traffic, refusals" {
	local tap

	in_net sh -c 'ip link add br0 type bridge && ip addr add 192.0.2.1/24 dev br0 && ip link set br0 up'
	cocoon vm run --name a --cpu 2 --memory 512M --bridge br0 tiny
	tap=$(field a '.network_configs[0].tap')
	[ "$tap" = "bt$(field a '.id[0:8]')-0" ]
	[ "$(field a .net_bridge_dev)" = br0 ]
	[ "$(in_net cat "/proc/net/dev" | grep -c "$tap")" = 1 ]
	wait_console a 'cocoon-tiny ready: hostname=a'
	# No DHCP server here: the guest's first NIC is what the test makes of it.
	console a 'ip link set eth0 up; ip addr add 192.0.2.9/24 dev eth0'
	in_net busybox ping -c 1 192.0.2.9
	cocoon vm rm --force a
	run -0 in_net ip -o link
	[ "${#lines[@]}" = 2 ]

	run -1 cocoon vm create --name b --memory 512M --bridge br9 tiny
	[[ $output == *"network device br9 does not exist"* ]]
	run -1 cocoon vm create --name b --memory 512M --bridge lo tiny
	[[ $output == *"lo is not a bridge (type: device)"* ]]
	run -1 cocoon vm create --name b --memory 512M --bridge br0 --publish 80:80 tiny
	[[ $output == *"--publish"* ]]
	in_net ip link del br0
	assert_no_traces
}

@test "killed or failing at every step of the network: vm rm leaves nothing" {
	local label

	for label in net.netns net.lease net.veth net.wire create.C3; do
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

@test "20 parallel creates and removals: distinct addresses, nothing left" {
	local pids=() i ids

	for i in $(seq 20); do
		cocoon vm create --name "p$i" --memory 512M tiny >"$T/out.$i" 2>&1 3>&- &
		pids+=($!)
	done
	for i in "${!pids[@]}"; do
		wait "${pids[i]}" || { cat "$T/out.$((i + 1))" && false; }
	done
	[ "$(cocoon vm list --format json | jq length)" = 20 ]
	[ "$(sqlite3 "$T/root/meta/meta.db" 'SELECT count(DISTINCT id) FROM networks')" = 20 ]
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
