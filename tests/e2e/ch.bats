#!/usr/bin/env bats
# What is particular to Cloud Hypervisor, seen through the program: a VMM whose API or life fails, what it was
# asked, and what is left behind. Against the double, whose knobs make it fail (tests/double).

load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 jq script
	export COCOON_TEST_DRIVER=cloud-hypervisor
	unset COCOON_CH
	with_driver
	with_net
	with_tiny tiny
	printf 'COCOON_DOUBLE_%s\n' "JOURNAL=$T/journal" "FAULTS=$T/faults" >"$T/bin/double.env"
}

teardown()
{
	cocoon_teardown
}

small=(--cpu 1 --memory 512M --nics 0)

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

# Requests to an endpoint, over all processes of the double.
asked()
{
	jq -s --arg e "$1" '[.[] | select(.event == "request" and .endpoint == $e)] | length' "$T/journal"
}

no_retries()
{
	! grep -q retry-violation "$T/journal"
}

nothing_runs()
{
	! grep -qalF -- "$T/run/cloudhypervisor" /proc/[0-9]*/cmdline 2>/dev/null
}

boots_shown()
{
	[ "$(console "$1" | grep -c 'cocoon-tiny ready')" -ge "$2" ]
}

@test "a start that fails leaves the VM in state error and nothing running; the next one works" {
	export COCOON_SOCKET_WAIT_TIMEOUT_SECONDS=1
	cocoon vm create --name v "${small[@]}" tiny
	while IFS='|' read -r fault text; do
		echo "$fault" >"$T/faults"
		run -1 cocoon vm start v
		[[ $output == *"launch cloud-hypervisor: "*"$text"* ]] || {
			echo "$fault: $output (wanted $text)"
			return 1
		}
		[ "$(vm v .state)" = error ]
		nothing_runs
		[ -z "$(find "$T"/run/cloudhypervisor/* -name '*.sock' -o -name 'ch.pid' -o -name cmdline)" ]
	done <<-EOT
		{"endpoint":"vm.info","do":"crash"}|
		{"endpoint":"vm.info","do":"hang"}|no answer within
		{"endpoint":"vm.info","do":"raw","body":"what?"}|the answer is not HTTP
		{"endpoint":"vm.info","do":"cut","bytes":30}|connection ended before the answer
		{"endpoint":"vm.info","do":"reply","status":500,"body":["Error from API","no"]}|Error from API: no
	EOT
	: >"$T/faults"
	cocoon vm start v
	wait_console v 'cocoon-tiny ready: hostname=v'
	[ "$(vm v .state)" = running ]
}

@test "a run whose VMM dies keeps the VM, in state error, with the VMM's own words" {
	# The disk is not what its flags say.
	cocoon vm create --name v "${small[@]}" tiny
	cow=$(vm v '.storage_configs[] | select(.role == "cow").path')
	printf 'QFI\373\0\0\0\003' | dd of="$cow" conv=notrunc status=none
	run -1 cocoon vm start v
	[[ $output == *"launch cloud-hypervisor: Error booting VM: "*"type"* ]]
	[ "$(vm v .state)" = error ]
	nothing_runs
	run -0 cocoon vm logs v
	[[ $output == *"chain of errors"* ]]
	cocoon vm rm v
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
}

@test "calls whose reply is lost are not repeated" {
	cocoon vm run --name v "${small[@]}" tiny
	wait_console v 'cocoon-tiny ready: hostname=v'
	echo '{"endpoint":"vm.power-button","do":"drop-after"}' >"$T/faults"
	cocoon vm stop v
	[ "$(vm v .state)" = stopped ]
	[ "$(asked vm.power-button)" = 1 ]
	[ "$(asked vm.shutdown)" = 0 ]
	: >"$T/faults"
	cocoon vm start v
	echo '{"endpoint":"vm.shutdown","do":"drop-after"}' >"$T/faults"
	cocoon vm stop --force v
	[ "$(vm v .state)" = stopped ]
	[ "$(asked vm.power-button)" = 1 ]
	[ "$(asked vm.shutdown)" = 1 ]
	no_retries
}

@test "a guest that does not listen is stopped when its time is up" {
	echo 'COCOON_DOUBLE_POWER_BUTTON=ignore' >>"$T/bin/double.env"
	cocoon vm run --name v "${small[@]}" tiny
	start=$SECONDS
	cocoon vm stop --timeout 2 v
	[ $((SECONDS - start)) -ge 2 ]
	[ $((SECONDS - start)) -lt 20 ]
	[ "$(asked vm.power-button)" = 1 ]
	[ "$(asked vm.shutdown)" = 1 ]
	nothing_runs
}

@test "a VMM that does not let itself be terminated is killed" {
	export COCOON_TERMINATE_GRACE_PERIOD_SECONDS=1
	echo 'COCOON_DOUBLE_SIGTERM=ignore' >>"$T/bin/double.env"
	cocoon vm run --name v "${small[@]}" tiny
	cocoon vm stop --force v
	nothing_runs
	[ "$(vm v .state)" = stopped ]
}

@test "a recycled pid is not the VM" {
	local dir pid

	cocoon vm run --name v "${small[@]}" tiny
	dir=$T/run/cloudhypervisor/$(vm v .id)
	pid=$(vm v .pid)
	sleep 300 3>&- &
	other=$!
	# The VMM lives behind a wrong pid file: it is found, and it alone is ended.
	echo "$other" >"$dir/ch.pid"
	[ "$(vm v .pid)" = "$pid" ]
	cocoon vm stop --force v
	nothing_runs
	kill -0 "$other"
	# It is dead and its pid file names somebody else: stale, and nobody is ended.
	cocoon vm start v
	kill -KILL "$(vm v .pid)"
	echo "$other" >"$dir/ch.pid"
	wait_for 10 nothing_but_relay
	[ "$(cocoon vm list --format json | jq -r '.[0].state')" = "stopped (stale)" ]
	cocoon vm rm v
	kill -0 "$other"
	kill "$other"
}

nothing_but_relay()
{
	[ "$(cocoon vm list --format json | jq -r '.[0].state')" != running ]
}

@test "a guest that reboots keeps its console" {
	cocoon vm run --name v "${small[@]}" tiny
	wait_console v 'cocoon-tiny ready: hostname=v'
	pid=$(vm v .pid)
	console v reboot
	# Another PTY, the same VMM, the same relay: what came before is replayed.
	wait_for 30 boots_shown v 2
	[ "$(vm v .pid)" = "$pid" ]
	run -0 console v 'echo answer-4"2"'
	[[ $output == *answer-42* ]]
}

@test "flags become the machine" {
	cocoon vm run --name v --cpu 2 --memory 512M --nics 0 --shared-memory --no-watchdog --no-balloon \
		--disk-queue-size 128 --no-direct-io tiny
	run -0 jq -r 'select(.event == "start" and (.argv | length) > 4).argv | join("\n")' "$T/journal"
	[[ $output == *"--memory"$'\n'"size=536870912,shared=on"* ]]
	[[ $output == *"boot=2,max="* ]]
	[[ $output == *"num_queues=2,queue_size=128"* ]]
	[[ $output != *watchdog* && $output != *balloon* && $output != *direct=on* ]]
	[[ $output == *"serial=cocoon-cow"* ]]
	run -1 cocoon vm create "${small[@]}" --mergeable --shared-memory tiny
	[[ $output == *"--mergeable"*"--shared-memory"* ]]
	run -1 cocoon vm create "${small[@]}" --pci tiny
	[[ $output == *"--pci is Firecracker only"* ]]
}

@test "what cannot work is refused before anything is made" {
	local many=()

	run -1 env COCOON_CH_BINARY=/nonexistent/vmm "$COCOON" vm create "${small[@]}" tiny
	[[ $output == *"/nonexistent/vmm not found"* ]]
	for _ in $(seq 30); do
		many+=(--data-disk 'size=16M,fstype=none,mount=')
	done
	run -1 cocoon vm create "${small[@]}" "${many[@]}" tiny
	[[ $output == *"cloud-hypervisor"* ]]
	run -1 cocoon --run-dir "$T/$(printf 'd%.0s' $(seq 70))" vm create "${small[@]}" tiny
	[[ $output == *"too long"* ]]
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
	[ -z "$(in_net ls /run/netns)" ]
}
