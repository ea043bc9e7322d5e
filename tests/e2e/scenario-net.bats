#!/usr/bin/env bats
# A VM's network, the same for every driver: {plugins, built-in, bridge} x {1, 2} CPUs x {1, 2} NICs.
# COCOON_TEST_DRIVER names the driver, as for scenario.bats.

export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-400}

load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 jq ip
	with_driver
	with_net
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

# Devices, namespaces and index rows; the plugins' bridge outlives its first VM.
traces()
{
	in_net sh -c 'ls /run/netns; ip -o link | sed "s/^[0-9]*: \([^:@]*\).*/\1/" | sort'
	[ ! -d "$T/leases" ] || find "$T/leases" -type f ! -name 'last_reserved*' ! -name lock
	sqlite3 "$T/root/meta/meta.db" 'SELECT * FROM networks; SELECT id FROM vms; SELECT * FROM tombstones'
}

# inside CMD...: in the VM's namespace.
inside()
{
	in_net nsenter --net="/run/netns/cocoon-$(field m .id)" "$@"
}

# one CPUS NICS QUEUES FLAGS...: a VM's whole life; a queue pair for each processor, for Firecracker one.
one()
{
	local cpu=$1 nics=$2 queues=$3 before tap where=inside

	shift 3
	before=$(traces)
	cocoon vm run --name m --cpu "$cpu" --memory 512M --nics "$nics" "$@" tiny
	[ "$(field m '.network_configs | length')" = "$nics" ]
	[ "$(field m '.network_configs[0].num_queues')" = "$queues" ]
	tap=$(field m ".network_configs[$((nics - 1))].tap")
	if [ "$1" = --bridge ]; then
		where=in_net
	else
		[ "$(stat -Lc %i "/proc/$(field m .pid)/ns/net")" = "$(in_net stat -Lc %i "/run/netns/cocoon-$(field m .id)")" ]
	fi
	run -0 $where ip -d -j link show dev "$tap"
	[ "$(jq '.[0].linkinfo.info_data.multi_queue' <<<"$output")" = "$([ "$queues" -gt 2 ] && echo true || echo false)" ]
	cocoon vm stop --force m
	cocoon vm start m
	[ "$(field m .state)" = running ]
	cocoon vm rm --force m
	[ "$(traces)" = "$before" ] || {
		diff <(echo "$before") <(traces)
		return 1
	}
}

@test "plugins, built-in and bridge, with 1 and 2 processors, 1 and 2 NICs: queues, namespace, nothing left" {
	local net cpu nics queues flags nets=('--network cocoon-builtin' '--bridge br0')

	in_net sh -c 'ip link add br0 type bridge; ip link set br0 up'
	if [ -x /usr/lib/cni/bridge ] && command -v iptables-save >/dev/null; then
		mkdir -p "$T/cni"
		cat >"$T/cni/10-pod.conflist" <<-JSON
			{ "cniVersion": "1.0.0", "name": "pod", "plugins": [
			  { "type": "bridge", "bridge": "br-pod", "isGateway": true, "ipam": { "type": "host-local",
			    "dataDir": "$T/leases", "ranges": [[{ "subnet": "10.77.0.0/24" }]] } } ] }
		JSON
		export COCOON_CNI_BIN_DIR=/usr/lib/cni
		cocoon vm create --name warm --memory 512M tiny
		cocoon vm rm warm
		nets+=('--network pod')
	fi
	for net in "${nets[@]}"; do
		for cpu in 1 2; do
			for nics in 1 2; do
				read -ra flags <<<"$net"
				queues=$((2 * cpu))
				[ "$COCOON_HYPERVISOR" != firecracker ] || queues=2
				echo "$net, $cpu processors, $nics NICs"
				one $cpu $nics $queues "${flags[@]}"
			done
		done
	done
}
