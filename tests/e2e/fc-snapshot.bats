#!/usr/bin/env bats
# Snapshots of Firecracker VMs, whose saved state names disks by path: clones beside, behind and without
# their source, siblings at once, clones of clones, restore and hibernation; kills in the middle. On the
# double, or on COCOON_FC where no fault is needed.

load lib

setup()
{
	cocoon_setup
	need mkfs.ext4 jq script curl
	export COCOON_TEST_DRIVER=firecracker
	with_driver
	with_net
	with_tiny tiny
	double=
	[ -n "${COCOON_FC-}" ] || {
		double=1
		echo "COCOON_DOUBLE_JOURNAL=$T/journal" >"$T/bin/double.env"
	}
}

teardown()
{
	cocoon_teardown
}

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

# Ended; whether its parent has taken note is not our business.
gone()
{
	! grep -q '^State:[^Z]*$' "/proc/$1/status" 2>/dev/null
}

# say VM COMMAND: typed into its console, with what it shows.
say()
{
	CONSOLE_SECONDS=${SAY_SECONDS:-0.5} console "$1" "$2"
}

# knows VM WORDS: the guest's file /root/who holds them.
knows()
{
	local out

	out=$(say "$1" 'cat /root/who')
	[[ $out == *"$2"* ]] || {
		echo "$1: wanted \"$2\":"
		echo "$out"
		return 1
	}
}

source_vm()
{
	cocoon vm run --name src --cpu 1 --memory 512M --nics 0 --data-disk size=32M tiny
	wait_console src 'cocoon-tiny ready: hostname=src'
	say src 'echo written by the source >/root/who; sync' >/dev/null
	cocoon snapshot save src --name base
}

# The double found nothing wrong, and nobody's directory is left but those of VMs.
clean()
{
	local dir

	for dir in "$T"/run/firecracker/*/; do
		[ -d "$dir" ] || continue
		cocoon vm list --format json | jq -e --arg id "$(basename "$dir")" 'any(.[]; .id == $id)' >/dev/null || {
			echo "left: $dir"
			return 1
		}
	done
	[ -n "$double" ] || return 0
	run -0 jq -c 'select(.event == "violation" or .event == "retry-violation")' "$T/journal"
	[ -z "$output" ] || {
		echo "$output"
		return 1
	}
}

@test "a clone beside its source, behind a stopped one, and without it" {
	source_vm
	cocoon vm clone base --name c1
	knows c1 'written by the source'
	say c1 'echo written by c1 >/root/who; sync' >/dev/null
	knows src 'written by the source'
	cocoon vm stop --force src
	cocoon vm clone base --name c2
	knows c2 'written by the source'
	cocoon vm rm src
	cocoon vm clone base --name c3
	knows c3 'written by the source'
	knows c1 'written by c1'
	# At its next boot a clone is itself.
	cocoon vm stop --force c1
	cocoon vm start c1
	wait_console c1 'cocoon-tiny ready: hostname=c1 disks=4'
	knows c1 'written by c1'
	clean
}

@test "a snapshot of a clone is the clone's: cloned and restored after the source is gone" {
	source_vm
	cocoon vm clone base --name c1
	say c1 'echo written by c1 >/root/who; sync' >/dev/null
	cocoon snapshot save c1 --name second
	[ "$(jq -r '.storage_configs[] | select(.role == "cow").path' "$T"/root/snapshot/*/"$(cocoon snapshot inspect second |
		jq -r .id)"/cocoon.json)" = "$(vm c1 '.run_dir // empty')/cow.raw" ] ||
		grep -q "$(vm c1 .id)/cow.raw" "$T"/root/snapshot/*/"$(cocoon snapshot inspect second | jq -r .id)"/cocoon.json
	cocoon vm rm --force src
	cocoon vm clone second --name g1
	knows g1 'written by c1'
	say c1 'echo spoilt >/root/who; sync' >/dev/null
	cocoon vm restore c1 second
	knows c1 'written by c1'
	cocoon vm rm --force c1
	cocoon snapshot rm base
	cocoon vm clone second --name g2
	knows g2 'written by c1'
	clean
}

@test "hibernated and brought back; restored while it runs, when it is stopped" {
	local pid

	source_vm
	pid=$(vm src .pid)
	cocoon vm hibernate src --name asleep
	[ "$(vm src .state)" = stopped ]
	gone "$pid"
	cocoon vm restore src asleep
	knows src 'written by the source'
	say src 'echo spoilt >/root/who; sync' >/dev/null
	cocoon vm restore src base
	knows src 'written by the source'
	cocoon vm stop --force src
	cocoon vm restore src base
	knows src 'written by the source'
	cocoon vm stop --force src
	cocoon vm start src
	wait_console src 'cocoon-tiny ready: hostname=src'
	clean
}

@test "eight siblings at once, the source removed under them" {
	local i pids=()

	source_vm
	for i in 1 2 3 4 5 6 7 8; do
		cocoon vm clone base --name "c$i" >/dev/null 2>"$T/err.$i" &
		pids+=($!)
	done
	# It waits for those that hold it, and comes before the rest.
	cocoon vm rm --force src
	for i in 1 2 3 4 5 6 7 8; do
		wait "${pids[$((i - 1))]}" || {
			cat "$T/err.$i"
			false
		}
	done
	[ "$(cocoon vm list --format json | jq '[.[] | select(.state == "running")] | length')" = 8 ]
	for i in 1 5 8; do
		say "c$i" "echo written by c$i >/root/who; sync" >/dev/null
	done
	for i in 1 5 8; do knows "c$i" "written by c$i"; done
	knows c2 'written by the source'
	# One file of memory for all of them.
	[ "$(stat -c %i "$T"/run/firecracker/*/mem | sort -u | wc -l)" = 1 ]
	clean
}

@test "a clone killed at any step is collected; source and siblings are left alone" {
	local step

	source_vm
	cocoon vm clone base --name other
	for step in K1 K2 K3 K4 K5 K6 K7; do
		COCOON_FAILPOINT=clone.$step run cocoon vm clone base --name "k$step"
		[ "$status" = 137 ]
		if [ "$step" != K1 ]; then
			run -0 cocoon vm reconcile-stale-create "k$step"
			[[ $output == *collected* ]]
		fi
		COCOON_FAILPOINT=clone.$step:error run -1 cocoon vm clone base --name "k$step"
	done
	[ "$(cocoon vm list --format json | jq length)" = 2 ]
	knows src 'written by the source'
	knows other 'written by the source'
	# The source is gone, and a load is killed: what stood in for it goes with the next clone.
	cocoon vm rm --force src
	COCOON_FAILPOINT=clone.K5 run cocoon vm clone base --name k
	[ "$status" = 137 ]
	cocoon vm reconcile-stale-create k
	cocoon vm clone base --name last
	knows last 'written by the source'
	clean
}

@test "NICs: as many as the snapshot has, on TAPs of the clone's own" {
	cocoon vm run --name src --cpu 1 --memory 512M tiny
	wait_console src 'cocoon-tiny ready: hostname=src'
	cocoon snapshot save src --name base
	cocoon vm clone base --name c1
	[ "$(vm c1 '.network_configs | length')" = 1 ]
	[ "$(vm c1 '.network_configs[0].mac')" != "$(vm src '.network_configs[0].mac')" ]
	[ "$(stat -Lc %i "/proc/$(vm c1 .pid)/ns/net")" = "$(in_net stat -Lc %i "/run/netns/cocoon-$(vm c1 .id)")" ]
	[ -z "$double" ] ||
		[ "$(jq -r 'select(.endpoint == "PUT /snapshot/load" and .event == "request").body.network_overrides[0].host_dev_name' \
			"$T/journal")" = "$(vm c1 '.network_configs[0].tap')" ]
	run -1 cocoon vm clone base --name c2 --nics 2
	[[ $output == *"--nics: backend firecracker cannot change the number of NICs"* ]]
	[ "$(cocoon vm list --format json | jq length)" = 2 ]
	clean
}

@test "a lost reply, a refusal, a death: the source runs on, no clone is left" {
	local fault

	[ -n "$double" ] || skip "needs the double"
	source_vm
	echo "COCOON_DOUBLE_FAULTS=$T/faults" >>"$T/bin/double.env"
	for fault in '"endpoint":"PUT /snapshot/load","do":"crash"' '"endpoint":"PUT /snapshot/load","do":"drop-before"' \
		'"endpoint":"PATCH /drives","do":"reply","status":400,"body":{"fault_message":"no"}' \
		'"endpoint":"PATCH /vm/Resumed","do":"crash"'; do
		echo "{$fault}" >"$T/faults"
		run -1 cocoon vm clone base --name c
		[[ $output == *firecracker* ]]
		[ "$(cocoon vm list --format json | jq length)" = 1 ]
	done
	# Answers that are lost after the deed are no failures.
	printf '%s\n' '{"endpoint":"PUT /snapshot/load","do":"drop-after"}' '{"endpoint":"PATCH /vm/Resumed","do":"drop-after"}' \
		>"$T/faults"
	cocoon vm clone base --name c
	: >"$T/faults"
	knows c 'written by the source'
	knows src 'written by the source'
	clean
}
