#!/usr/bin/env bats
# What is Firecracker's own: its flag, its refusals, its kernels and queues, the console that survives, the
# ways a guest ends. Runs on the double, or on COCOON_FC where a test needs no fault of it.

load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 jq script
	export COCOON_TEST_DRIVER=firecracker
	with_driver
	# The flag chooses, not the configuration.
	export COCOON_HYPERVISOR=qemu
	with_net
	with_tiny tiny
	double=
	[ -n "${COCOON_FC-}" ] || {
		double=1
		knob JOURNAL "$T/journal"
	}
}

teardown()
{
	cocoon_teardown
}

small=(--fc --cpu 1 --memory 512M --nics 0)

# knob KEY VALUE: for every Firecracker started from now on.
knob()
{
	echo "COCOON_DOUBLE_$1=$2" >>"$T/bin/double.env"
}

double_only()
{
	[ -n "$double" ] || skip "needs the double"
}

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

gone()
{
	! grep -q '^State:[^Z]*$' "/proc/$1/status" 2>/dev/null
}

# Nothing of any VM: no record, no directory, no process, no namespace.
nothing_made()
{
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit 2>/dev/null)" ]
	if cocoon_leftovers | grep -v "$HOLDER"; then
		return 1
	fi
	[ -z "$(in_net ls /run/netns)" ]
}

# Where the kernel of the only image is.
boot_dir()
{
	dirname "$T"/root/oci/boot/*/vmlinuz
}

# control COMMAND: to the double.
control()
{
	printf '%s\n' "$1" | timeout 5 curl -sN --unix-socket "$T/control" telnet://localhost | grep -x ok
}

journal()
{
	jq -r "$1" "$T/journal"
}

# refused TEXT ARGS...: create and run fail with it, before anything is made.
refused()
{
	local text=$1 verb

	shift
	for verb in create run; do
		run -1 cocoon vm "$verb" "$@"
		[[ $output == *"$text"* ]] || {
			echo "$output"
			return 1
		}
	done
	nothing_made
	[ ! -e "$T/journal" ] || ! journal 'select(.event == "request")' | grep -q .
}

@test "--fc is a flag of create, run and debug, and of nothing else" {
	local group seen=0 verb

	cocoon vm create "${small[@]}" --name one tiny
	[ "$(vm one .hypervisor)" = firecracker ]
	for group in vm image snapshot; do
		cocoon __complete '' | grep -q "^$group	" || continue
		for verb in $(cocoon __complete $group '' | sed -n 's/\t.*//p'); do
			case "$group $verb" in
			"vm create" | "vm run" | "vm debug")
				cocoon $group "$verb" --help | grep -q -- '--fc '
				seen=$((seen + 1))
				continue
				;;
			esac
			run cocoon $group "$verb" --fc one
			[[ $status != 0 && $output == *"unknown flag: --fc"* ]] || {
				echo "$group $verb: $output"
				false
			}
			seen=$((seen + 1))
		done
	done
	[ "$seen" -ge 15 ]
	# They find the driver by themselves, also without the configuration that chose it.
	export COCOON_HYPERVISOR=cloud-hypervisor
	cocoon vm start one
	wait_console one 'cocoon-tiny ready: hostname=one'
	cocoon vm logs one
	cocoon vm stop one
	cocoon vm rm one
	nothing_made
}

@test "what Firecracker cannot do is refused before anything is made" {
	local flag many=()

	for flag in --windows --shared-memory --hugepages --mergeable --no-watchdog; do
		refused "--fc and $flag are mutually exclusive" --fc --nics 0 $flag tiny
		# The same by configuration, where no flag names the driver.
		COCOON_USE_FIRECRACKER=1 refused "$flag" --nics 0 $flag tiny
	done
	refused "--fc and --qemu are mutually exclusive" --fc --qemu --nics 0 tiny
	refused "vCPUs" --fc --cpu 1000 --nics 0 tiny
	for _ in $(seq 13); do many+=(--data-disk size=16M); done
	refused "merged into one layer still 15" --fc --nics 0 "${many[@]}" tiny
	refused "at most 11 disks (with 3 NICs)" --fc --nics 3 "${many[@]}" tiny
	COCOON_FC_BINARY=$T/nothing refused "firecracker: $T/nothing not found" --fc --nics 0 tiny
}

@test "cloud images are refused" {
	need qemu-img
	qemu-img create -q -f qcow2 "$T/disk.qcow2" 1G
	cocoon image import cloud "$T/disk.qcow2" || skip "cloud images cannot be imported"
	refused "requires OCI images (direct kernel boot)" --fc --nics 0 cloud
}

@test "an old Firecracker is refused with the version it takes" {
	double_only
	knob VERSION 1.13.5
	refused "is version 1.13.5, need >= 1.14" --fc --nics 0 tiny
	run cocoon vm run "${small[@]}" tiny
	[[ $output == *"install a newer firecracker or set fc_binary"* ]]
}

@test "the kernel is unpacked once, and again when it is old or damaged" {
	local dir before

	cocoon vm create "${small[@]}" --name one tiny
	dir=$(boot_dir)
	[ "$(head -c 4 "$dir/vmlinux" | tail -c 3)" = ELF ]
	before=$(sha256sum <"$dir/vmlinux")
	stamp() { stat -c '%i %Y' "$dir/vmlinux"; }

	first=$(stamp)
	cocoon vm create "${small[@]}" --name two tiny
	[ "$(stamp)" = "$first" ]
	# Older than its source.
	touch -d '2001-01-01' "$dir/vmlinux"
	cocoon vm start one
	[ "$(sha256sum <"$dir/vmlinux")" = "$before" ]
	[ "$(stat -c %Y "$dir/vmlinux")" -ge "$(stat -c %Y "$dir/vmlinuz")" ]
	cocoon vm stop --force one
	# Cut short, empty, of another kind, gone: at create and at start.
	for damage in 'truncate -s 1000' 'truncate -s 40000000' 'truncate -s 0' 'cp /bin/sh' rm; do
		case $damage in
		cp*) head -c 100000 /dev/urandom >"$dir/vmlinux" ;;
		*) $damage "$dir/vmlinux" ;;
		esac
		cocoon vm start one
		[ "$(sha256sum <"$dir/vmlinux")" = "$before" ]
		cocoon vm stop --force one
	done
	[ -z "$(find "$dir" -name '.tmp*')" ]
	# A source from the future is unpacked once, not at every start.
	touch -d '+1 day' "$dir/vmlinuz"
	cocoon vm start one
	first=$(stamp)
	cocoon vm stop --force one
	cocoon vm start one
	[ "$(stamp)" = "$first" ]
	cocoon vm stop --force one
}

@test "many creations at once unpack one kernel" {
	local i pids=()

	for i in 1 2 3 4; do
		cocoon vm create "${small[@]}" --name "n$i" tiny &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
	dir=$(boot_dir)
	[ -z "$(find "$dir" -name '.tmp*')" ]
	[ "$(find "$dir" -type f | wc -l)" = 3 ]
	cocoon vm start n1 n2 n3 n4
}

@test "a kernel of an unknown kind, and a full disk: a clear error, nothing left" {
	local dir

	cocoon vm create "${small[@]}" --name one tiny
	dir=$(boot_dir)
	cocoon vm rm one
	rm "$dir/vmlinux"
	cp "$dir/vmlinuz" "$T/vmlinuz"

	# No known compression where the header points.
	printf 'XXXXXXXX' | dd of="$dir/vmlinuz" bs=1 conv=notrunc status=none \
		seek=$((($(od -An -tu1 -j497 -N1 "$T/vmlinuz") + 1) * 512 + $(od -An -tu4 -j584 -N4 "$T/vmlinuz")))
	run -1 cocoon vm run "${small[@]}" tiny
	[[ $output == *"extract vmlinux from $dir/vmlinuz: the kernel's payload has an unknown compression"* ]]
	nothing_made
	echo 'no kernel' >"$dir/vmlinuz"
	run -1 cocoon vm create "${small[@]}" tiny
	[[ $output == *"neither a bzImage nor an ELF kernel"* ]]
	nothing_made
	[ "$(find "$dir" -type f | wc -l)" = 2 ]

	# The file system of the boot files is full.
	in_net mount -t tmpfs -o size=20m tmpfs "$dir"
	in_net cp "$T/vmlinuz" "$dir/vmlinuz"
	in_net cp "$T/vmlinuz" "$dir/initrd.img" 2>/dev/null || true
	run -1 cocoon vm run "${small[@]}" tiny
	[[ $output == *"No space left on device"* ]]
	[[ $output == *"extract vmlinux"* ]]
	nothing_made
	[ -z "$(in_net find "$dir" -name '*tmp*' -o -name vmlinux)" ]
	in_net umount "$dir"
}

@test "TAPs have a single queue, also when they are made again" {
	[ "$(nproc)" -ge 2 ] || skip "needs two processors"
	cocoon vm run --fc --cpu 2 --memory 512M --nics 2 --name net tiny
	queues()
	{
		in_net nsenter --net="/run/netns/cocoon-$(vm net .id)" ip -d -j link |
			jq -c '[.[] | select(.linkinfo.info_kind == "tun") | .linkinfo.info_data.multi_queue]'
	}
	[ "$(queues)" = '[false,false]' ]
	[ "$(vm net '[.network_configs[].num_queues] | unique | tojson')" = '[2]' ]
	wait_console net "cocoon-tiny ready: hostname=net disks=3 net=$(vm net '.network_configs[0].network.ip')"
	cocoon vm stop --force net
	# Everything outside is lost, as after a reboot of the host.
	in_net umount "/run/netns/cocoon-$(vm net .id)"
	in_net rm "/run/netns/cocoon-$(vm net .id)"
	cocoon vm start net
	[ "$(queues)" = '[false,false]' ]
	wait_console net "cocoon-tiny ready: hostname=net"
}

@test "data disks go by their place: the guest mounts /dev/vdX" {
	cocoon vm run "${small[@]}" --name d --data-disk size=64M --data-disk size=32M,name=raw,fstype=none,mount= \
		--data-disk size=32M,name=last,directio=on tiny 2>"$T/err"
	grep -q 'data disk last: backend firecracker ignores directio=' "$T/err"
	[ -z "$double" ] ||
		[[ $(journal 'select(.endpoint == "PUT /boot-source" and .event == "request").body.boot_args') == \
			*" cocoon.data=/dev/vdd:/mnt/data1 cocoon.data=/dev/vdf:/mnt/last" ]]
	wait_console d "cocoon-tiny ready: hostname=d disks=6"
}

@test "a relay that cannot start does not lose the boot, and is made up for" {
	local pid

	COCOON_FAILPOINT=start.relay:error cocoon vm run "${small[@]}" --name quiet tiny 2>"$T/err"
	grep -q 'console unavailable' "$T/err"
	[ "$(vm quiet .state)" = running ]
	[ ! -e "$(dirname "$(vm quiet .socket_path)")/console.sock" ]
	pid=$(vm quiet .pid)
	# The guest speaks while nobody listens; whoever asks for the console gets one.
	wait_console quiet 'cocoon-tiny ready: hostname=quiet'
	run -0 console quiet 'echo answer-4"2"'
	[[ $output == *answer-42* ]]
	[ "$(vm quiet .pid)" = "$pid" ]
}

@test "a relay that is killed is replaced; what comes after it is not lost" {
	local relay

	cocoon vm run "${small[@]}" --name hardy tiny
	wait_console hardy 'cocoon-tiny ready: hostname=hardy'
	relay=$(pgrep -f "__console-relay.*$(vm hardy .id)")
	kill -KILL "$relay"
	wait_for 10 gone "$relay"
	run -0 console hardy 'echo answer-4"2"'
	[[ $output == *answer-42* ]]
	# A start that finds it running brings a relay along, too.
	relay=$(pgrep -f "__console-relay.*$(vm hardy .id)")
	kill -KILL "$relay"
	wait_for 10 gone "$relay"
	cocoon vm start hardy
	pgrep -f "__console-relay.*$(vm hardy .id)"
}

@test "a start that is killed behind the boot leaves a VM with its console" {
	cocoon vm create "${small[@]}" --name cut tiny
	COCOON_FAILPOINT=start.T4 run cocoon vm start cut
	[ "$status" = 137 ]
	[ "$(vm cut .state)" = created ]
	cocoon vm start cut
	[ "$(vm cut .state)" = running ]
	[ -z "$double" ] || [ "$(journal 'select(.event == "guest" and .what == "boot").what' | wc -l)" = 1 ]
	wait_console cut 'cocoon-tiny ready: hostname=cut'
}

@test "output without a reader waits for the next client; a stopped relay does not stop the guest" {
	local pid relay

	double_only
	knob CONTROL "$T/control"
	cocoon vm run "${small[@]}" --name loud tiny
	wait_console loud 'cocoon-tiny ready: hostname=loud'
	pid=$(vm loud .pid)
	relay=$(pgrep -f "__console-relay.*$(vm loud .id)")
	control 'print said to nobody'
	CONSOLE_SECONDS=0.5 run -0 console loud
	[[ $output == *"said to nobody"* ]]
	# Far more than a replay holds: all of it is read, the newest is kept.
	control 'flood 1000000'
	control 'print the last word'
	CONSOLE_SECONDS=0.5 run -0 console loud
	[[ $output == *"the last word"* ]]
	[[ $output != *"said to nobody"* ]]
	# More than the terminal holds while nobody reads it: dropped, and the VMM answers as before.
	kill -STOP "$relay"
	control 'flood 1000000'
	[ "$(vm loud .state)" = running ]
	[ "$(curl -s --max-time 5 --unix-socket "$(vm loud .socket_path)" http://localhost/ | jq -r .state)" = Running ]
	kill -CONT "$relay"
	CONSOLE_SECONDS=1 run -0 console loud 'echo alive-4"2"'
	[[ $output == *alive-42* ]]
	[ "$(vm loud .pid)" = "$pid" ]
}

@test "a guest's reboot ends its VMM, a power-off does not" {
	local pid

	cocoon vm run "${small[@]}" --name end tiny
	wait_console end 'cocoon-tiny ready: hostname=end'
	pid=$(vm end .pid)
	CONSOLE_SECONDS=0.5 console end reboot
	wait_for 60 gone "$pid"
	[ "$(vm end .state)" = "stopped (stale)" ]
	cocoon vm start end
	wait_console end 'cocoon-tiny ready: hostname=end'
	cocoon vm stop end
	[ "$(vm end .state)" = stopped ]
}

@test "a guest that ignores Ctrl-Alt-Del is killed after --timeout, one that is paused wakes first" {
	local pid start

	double_only
	cocoon vm run "${small[@]}" --name paused tiny
	wait_console paused 'cocoon-tiny ready: hostname=paused'
	curl -sf --unix-socket "$(vm paused .socket_path)" -X PATCH -d '{"state":"Paused"}' http://localhost/vm
	start=$SECONDS
	cocoon vm stop --timeout 20 paused
	[ $((SECONDS - start)) -lt 15 ]
	[ "$(journal 'select(.endpoint == "PATCH /vm/Resumed" and .event == "request").n' | wc -l)" = 1 ]
	[ "$(journal 'select(.event == "signal").signal' | wc -l)" = 0 ]

	knob POWER_BUTTON ignore
	cocoon vm run "${small[@]}" --name deaf tiny
	pid=$(vm deaf .pid)
	start=$SECONDS
	cocoon vm stop --timeout 2 deaf
	[ $((SECONDS - start)) -ge 2 ]
	[ $((SECONDS - start)) -lt 15 ]
	gone "$pid"
	[ "$(vm deaf .state)" = stopped ]
	[ "$(journal 'select(.endpoint == "PUT /actions/SendCtrlAltDel" and .event == "request").n' | wc -l)" = 2 ]
}

@test "a VM's whole life breaks none of Firecracker's manners" {
	double_only
	cocoon vm run --fc --cpu 1 --memory 512M --name polite tiny
	wait_console polite 'cocoon-tiny ready: hostname=polite'
	cocoon vm stop polite
	cocoon vm start polite
	cocoon vm rm --force polite
	run -0 journal 'select(.event == "violation" or .event == "retry-violation")'
	[ -z "$output" ]
	nothing_made
}
