#!/usr/bin/env bats
# cocoon doctor (state.md §11): what it finds, what --fix puts right, and that it changes nothing else.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need jq sqlite3
	PROGRAM=$COCOON
	with_net
	# What would change the machine itself goes to a log.
	mkdir -p "$T/bin"
	printf '#!/bin/sh\necho "$0 $*" >>"%s"\n' "$T/commands" >"$T/bin/modprobe"
	chmod +x "$T/bin/modprobe"
	PATH=$T/bin:$PATH
}

teardown()
{
	cocoon_teardown
}

# lines CHECK STATUS: the messages of the last report ($output, JSON).
lines()
{
	jq -r --arg c "$1" --arg s "$2" '.checks[] | select(.check == $c and .status == $s) | .message' <<<"$output"
}

doctor()
{
	run --separate-stderr cocoon doctor -o json "$@"
	jq -e .summary <<<"$output" >/dev/null
}

# Everything but what drivers remember about their binaries.
tree()
{
	find "$T" ! -name '*-install.json' ! -name kvm-probe ! -path "$T/commands" -printf '%p %m %s\n' | sort
}

@test "a fresh host: every check speaks, nothing is made, warnings are no failure" {
	local before

	before=$(tree)
	run -0 --separate-stderr cocoon doctor
	[ "$(tree)" = "$before" ]
	[[ $output == *"PASS  modules      image, net, snap"* ]]
	[[ $output == *"PASS  drivers      qemu "* ]]
	[[ $output == *"no store in $T/root/meta yet"* ]]
	[[ ${lines[-1]} == *" passed, "*" warnings, 0 failed" ]]
	doctor
	[ $status -eq 0 ]
	[ "$(jq -r '[.checks[].check] | unique | join(" ")' <<<"$output")" = \
		"cgroup cni-conf cni-plugins consistency dirs drivers firmware forward kvm modules reflink space store sysctl tools tun vsock" ]
	[ "$(jq '[.checks[].status] | group_by(.) | map({(.[0]): length}) | add' -c <<<"$output")" = \
		"$(jq '.summary | with_entries(select(.value > 0)) | to_entries | sort_by(.key) | from_entries' -c <<<"$output")" ]
}

@test "--fix puts right what it can, once" {
	local first

	in_net sysctl -qw net.ipv4.ip_forward=0
	doctor --fix --subnet 172.30.0.0/16
	[ $status -eq 0 ]
	[[ $(lines dirs pass) == *"directories below $T/root"* ]]
	[ "$(jq '[.checks[] | select(.fixed) | .check] | unique | index("dirs") != null' <<<"$output")" = true ]
	[ "$(stat -c %a "$T/root/meta")" = 700 ]
	[ "$(in_net cat /proc/sys/net/ipv4/ip_forward)" = 1 ]
	if [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ]; then
		[ "$(jq -r '.plugins[0] | .bridge, .ipam.ranges[0][0].subnet, .ipam.ranges[0][0].gateway' \
			"$T/cni/10-cocoon.conflist" | paste -sd' ')" = "cni0 172.30.0.0/16 172.30.0.1" ]
		[ "$(in_net iptables -S FORWARD | grep -c cni0)" -eq 2 ]
	fi
	first=$(tree)
	doctor --fix
	[ "$(jq '[.checks[] | select(.fixed)] | length' <<<"$output")" -eq 0 ]
	[ "$(tree)" = "$first" ]
	[ ! -e "$T/cni/10-cocoon.conflist" ] || [ "$(in_net iptables -S FORWARD | grep -c cni0)" -eq 2 ]
}

@test "killed after any of its fixes, the next --fix completes" {
	local check

	for check in dirs cni-conf sysctl forward; do
		in_net sysctl -qw net.ipv4.ip_forward=0
		in_net iptables -F FORWARD
		rm -rf "$T/root" "$T/cni"
		run env COCOON_FAILPOINT="doctor.$check" "$COCOON" doctor --fix
		[ $status -eq 137 ] || [ -z "$(command -v /usr/lib/cni/bridge)" ]
		[ -z "$(find "$T" -name '.tmp-*')" ]
		doctor --fix
		[ $status -eq 0 ]
		[ -d "$T/root/locks/vm" ]
		[ "$(in_net cat /proc/sys/net/ipv4/ip_forward)" = 1 ]
	done
}

@test "directories open to others fail, and are closed" {
	doctor --fix
	chmod 755 "$T/root/meta"
	chmod 777 "$T/run"
	doctor
	[ $status -eq 1 ]
	[[ $(lines dirs fail) == *"$T/root/meta is open to others (mode 0755)"* ]]
	[[ $(lines dirs fail) == *"$T/run is open to others (mode 0777)"* ]]
	# shellcheck disable=SC2154 # set by run
	[[ $stderr == *"checks failed"* ]]
	doctor --fix
	[ $status -eq 0 ]
	[ "$(stat -c %a "$T/root/meta" "$T/run" | paste -sd' ')" = "700 755" ]
}

@test "missing tools are installed by the package manager" {
	need zstd mkfs.ext4
	# A file that cannot be executed is as good as none.
	: >"$T/nothing"
	in_net mount --bind "$T/nothing" "$(realpath "$(command -v zstd)")"
	cat >"$T/bin/apt-get" <<-EOF
		#!/bin/sh
		echo "apt-get \$*" >>"$T/commands"
		case \$* in *install*) ln -s /bin/true "$T/bin/zstd" ;; esac
	EOF
	chmod +x "$T/bin/apt-get"
	doctor
	[ $status -eq 0 ]
	[ "$(lines tools warn)" = "zstd is not installed" ]
	[ ! -e "$T/commands" ]
	doctor --fix
	[[ $(lines tools pass) == *"$T/bin/zstd"* ]]
	[ "$(grep ^apt-get "$T/commands" | paste -sd';')" = "apt-get update;apt-get install -y zstd" ]
	printf '#!/bin/sh\necho "no such package" >&2\nexit 100\n' >"$T/bin/apt-get"
	in_net mount --bind "$T/nothing" "$(realpath "$(command -v mkfs.ext4)")"
	doctor --fix
	[ $status -eq 1 ]
	[ "$(lines tools fail)" = "mkfs.ext4 is not installed" ]
	[ "$(lines tools warn)" = "not fixed: apt-get failed with status 100: no such package" ]
}

@test "network lists: broken ones and missing plugins fail, and are the user's to repair" {
	mkdir -p "$T/cni"
	echo '{ "cniVersion": "1.0.0"' >"$T/cni/20-broken.conflist"
	echo '{"cniVersion":"1.0.0","name":"odd","plugins":[{"type":"no-such-plugin","ipam":{"type":"neither"}}]}' \
		>"$T/cni/30-odd.conflist"
	doctor --fix
	[ $status -eq 1 ]
	[[ $(lines cni-conf fail) == *"20-broken.conflist"* ]]
	[[ $(lines cni-conf fail) == *'network "odd": no such plugin: no-such-plugin, neither'* ]]
	[ ! -e "$T/cni/10-cocoon.conflist" ]
}

@test "drivers: an old Firecracker is named with what it lacks, one that is broken too" {
	printf '#!/bin/sh\necho "Firecracker v1.15.0"\n' >"$T/bin/fc"
	printf '#!/bin/sh\necho "nonsense"\nexit 3\n' >"$T/bin/ch"
	chmod +x "$T/bin/fc" "$T/bin/ch"
	export COCOON_FC_BINARY=$T/bin/fc COCOON_CH_BINARY=$T/bin/ch
	doctor
	[ $status -eq 0 ]
	[[ $(lines drivers warn) == *"firecracker 1.15.0"* ]]
	[[ $(lines drivers warn) == *"ch failed with status 3: nonsense"* ]]
	export COCOON_QEMU_BINARY=$T/bin/none COCOON_FC_BINARY=$T/bin/none
	doctor
	[ $status -eq 1 ]
	[ "$(lines drivers fail)" = "no hypervisor can run VMs here" ]
}

@test "store: columns, names and pins that differ from the records are found" {
	with_tiny tiny
	cocoon vm create --name v --memory 512M --nics 0 --network user tiny
	doctor
	[ $status -eq 0 ]
	[ "$(lines store pass)" = "whole; rows, names and pins agree" ]
	[ "$(lines consistency pass)" = "1 VMs and 0 snapshots are as recorded" ]
	sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET name = 'w'"
	doctor
	[ $status -eq 1 ]
	[[ $(lines store fail) == "columns of VM row "*" differ from its record" ]]
	sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET name = 'v'; DELETE FROM vm_blobs"
	doctor
	[ $status -eq 1 ]
	[[ $(lines store fail) == "blob pins of VM row "*" differ from its record" ]]
}

@test "store: a damaged file is a finding, not a crash" {
	with_tiny tiny
	sqlite3 "$T/root/meta/meta.db" "PRAGMA wal_checkpoint(TRUNCATE)" >/dev/null
	dd if=/dev/urandom of="$T/root/meta/meta.db" bs=1024 seek=4 count=8 conv=notrunc status=none
	doctor
	[ $status -eq 1 ]
	[ -n "$(lines store fail)" ]
}

@test "consistency: what killed commands left, missing disks, snapshots without directory" {
	local id

	with_tiny tiny
	cocoon vm create --name v --memory 512M --nics 0 --network user tiny
	run ! env COCOON_FAILPOINT=create.C4 "$COCOON" vm create --name half --memory 512M --nics 0 --network user tiny
	id=$(field v .id)
	rm "$T/run/qemu/$id/cow.raw"
	sqlite3 "$T/root/meta/meta.db" "INSERT INTO snapshots(id, name, pending, created_at, data) VALUES(
		'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 's', 0, 1,
		'{\"id\":\"ABCDEFGHIJKLMNOPQRSTUVWXYZ\",\"name\":\"s\",\"created_at\":\"2025-01-01T00:00:00Z\",\"data_dir\":\"$T/root/snapshot/localfile/ABCDEFGHIJKLMNOPQRSTUVWXYZ\"}')"
	doctor
	[ $status -eq 1 ]
	[[ $(lines consistency fail) == *"VM v: its disk $T/run/qemu/$id/cow.raw is missing"* ]]
	[[ $(lines consistency fail) == *"snapshot s: its directory "*" is missing"* ]]
	[[ $(lines consistency warn) == *"stale-creating: qemu of "* ]]
	# Looking changed nothing.
	[ "$(sqlite3 "$T/root/meta/meta.db" 'SELECT count(*) FROM vms')" -eq 2 ]
}

@test "an invalid subnet is refused before anything is looked at" {
	run -1 cocoon doctor --fix --subnet 10.88.0.1/16
	[[ $output == *"bits are set behind the prefix"* ]]
	[ ! -e "$T/root" ]
}

# The driver's double; with_net has replaced the program beside which it lies.
with_double()
{
	COCOON=$PROGRAM with_driver
}

examine()
{
	run --separate-stderr cocoon doctor vm "$@" -o json
	jq -e .summary <<<"$output" >/dev/null
}

@test "doctor vm: a VM that is well, running and stopped, on the built-in network" {
	export COCOON_TEST_DRIVER=cloud-hypervisor
	with_tiny tiny
	with_double
	cocoon vm run --name v --memory 512M --cpu 2 --nics 2 tiny
	examine v
	[ "$(jq -c .summary <<<"$output" | jq .fail)" -eq 0 ]
	[ "$(lines record pass)" = "v ($(field v .id)), cloud-hypervisor, running" ]
	[ "$(lines process pass)" = "$(field v .pid) is its VMM" ]
	[ "$(lines socket pass)" = "the VMM answers, the guest is running" ]
	[ "$(lines console pass)" = "its relay answers" ]
	[ "$(lines nics pass)" = "the machine has the 2 recorded" ]
	[[ $(lines network pass) == *"NIC 1: eth1 has the recorded MAC"* ]]
	[[ $(lines network pass) == *"NIC 0: eth0 is passed on to tap"* ]]
	[ "$(lines network pass | grep -c 'is passed on to')" -eq 4 ]
	cocoon vm stop --force v
	examine v
	[ "$status" -eq 0 ]
	[ "$(lines process pass)" = "none, as recorded" ]
	run -1 cocoon doctor vm nobody
	[[ $output == *"vm nobody: vm not found"* ]]
	run -1 cocoon doctor vm v --fix
	run -1 cocoon doctor nonsense
}

@test "doctor vm: each thing that is broken is named" {
	local ns id tap

	export COCOON_TEST_DRIVER=cloud-hypervisor
	with_tiny tiny
	with_double
	cocoon vm run --name v --memory 512M --cpu 2 --nics 2 tiny
	id=$(field v .id)
	ns=cocoon-$id
	tap=tap${id:0:8}
	in_net ip -n "$ns" link set eth0 down
	in_net ip -n "$ns" link set eth0 address 02:00:00:00:00:99
	in_net ip -n "$ns" addr add 10.9.9.9/24 dev eth0
	in_net ip -n "$ns" link set "$tap-0" mtu 1400
	in_net tc -n "$ns" qdisc del dev eth0 ingress
	in_net ip -n "$ns" link del "$tap-1"
	rm "$T/run/cloudhypervisor/$id/cow.raw"
	examine v
	[ "$status" -eq 1 ]
	[[ $(lines network fail) == *"NIC 0: eth0 has the MAC 02:00:00:00:00:99, recorded is "* ]]
	[[ $(lines network fail) == *"NIC 0: eth0 holds an IP address in the namespace"* ]]
	[[ $(lines network fail) == *"eth0 has MTU 1500, $tap-0 has 1400"* ]]
	[[ $(lines network fail) == *"NIC 0: eth0 is down"* ]]
	[[ $(lines network fail) == *"NIC 0: nothing that arrives on eth0 is passed on to $tap-0"* ]]
	[[ $(lines network fail) == *"network device $tap-1 does not exist"* ]]
	[[ $(lines disks fail) == *"cow.raw (cow) is missing or empty"* ]]
	kill -9 "$(field v .pid)"
	wait_for 10 process_gone
	sqlite3 "$T/root/meta/meta.db" "UPDATE vms SET data = json_set(data, '$.restore_pending', json('{\"phase\":\"swapping\"}'))"
	examine v
	[ "$status" -eq 1 ]
	[ "$(lines process fail)" = "recorded as running, but its process is gone" ]
	[[ $(lines record warn) == *"a restore was interrupted (swapping)"* ]]
}

process_gone()
{
	[ "$(field v .state)" = "stopped (stale)" ]
}
