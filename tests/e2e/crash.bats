#!/usr/bin/env bats
# kill -9 and failures at every labelled step of create, start, stop and rm (state.md §3), then the verb
# that repairs (state.md §8): nothing is left behind, nothing blocks, repairing again changes nothing.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4 sqlite3 flock
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

CREATE=(vm create --name v --memory 512M --nics 1 --network user
	--data-disk "size=16M,fstype=none,mount=" tiny)
RUN=(vm run "${CREATE[@]:2}")

state_of()
{
	cocoon vm inspect "$1" | jq -r .state
}

# What a store and its directories say, without times.
snapshot()
{
	db 'SELECT id, name, state, seq FROM vms ORDER BY id; SELECT kind, id FROM tombstones;
		SELECT vm_id, hex FROM vm_blobs; SELECT id FROM networks;'
	(cd "$T" && find run log root/locks -mindepth 1 | sort)
}

vmms()
{
	cocoon_leftovers | grep -c 'qemu-system' || true
}

# Invariants of state.md §8: a directory has its row, a VMM has its row, no tombstone is left, every lock
# can be taken, names and rows match.
invariants()
{
	local dir lock ids

	ids=$(db 'SELECT id FROM vms')
	for dir in "$T"/run/qemu/* "$T"/log/qemu/*; do
		[ -e "$dir" ] || continue
		grep -qxF "${dir##*/}" <<<"$ids" || {
			echo "no row for $dir"
			return 1
		}
	done
	[ "$(db 'SELECT count(*) FROM tombstones')" = 0 ] || {
		db 'SELECT * FROM tombstones'
		return 1
	}
	for lock in "$T"/root/locks/vm/*.lock; do
		case $lock in
		*'*'* | *.console.lock) continue ;;
		esac
		flock --nonblock --exclusive "$lock" true || {
			echo "$lock is held"
			return 1
		}
	done
	[ "$(db "SELECT count(*) FROM vms WHERE state = 'creating'")" = 0 ]
	[ "$(db 'PRAGMA integrity_check')" = ok ]
	[ "$(db 'PRAGMA foreign_key_check')" = '' ]
}

# repair ARGS...: the repairing verb works, leaves a sane root, and once more changes nothing.
repair()
{
	local before

	cocoon "$@" || {
		echo "repair failed: $*"
		return 1
	}
	invariants
	before=$(snapshot)
	cocoon "$@" >/dev/null 2>&1 || true
	[ "$before" = "$(snapshot)" ] || {
		echo "repairing again changed something:"
		diff <(echo "$before") <(snapshot)
		return 1
	}
}

# Nothing of a VM is left, and its name is free.
gone()
{
	invariants
	[ "$(db 'SELECT count(*) FROM vms')" = 0 ]
	[ "$(vmms)" = 0 ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
	cocoon "${CREATE[@]}" 2>/dev/null
	cocoon vm rm v 2>/dev/null
	[ "$(db 'SELECT count(*) FROM vms')" = 0 ]
}

@test "create killed at C2-C4: reconcile removes what is left" {
	for label in create.C2 create.C3 create.C4; do
		crash $label "${CREATE[@]}"
		[ "$(db 'SELECT state FROM vms')" = creating ]
		# Nobody else may take the half-made VM or its name.
		run ! cocoon vm start v
		run ! cocoon "${CREATE[@]}"
		[[ $output == *'already exists (id: '* ]]
		repair vm reconcile-stale-create v
		gone
	done
}

@test "create killed at C2-C4: rm removes what is left" {
	for label in create.C2 create.C3 create.C4; do
		crash $label "${CREATE[@]}"
		repair vm rm v
		gone
	done
}

@test "create killed at C5: a good VM" {
	crash create.C5 "${CREATE[@]}"
	[ "$(state_of v)" = created ]
	invariants
	cocoon vm start v
	[ "$(state_of v)" = running ]
	cocoon vm rm --force v
	gone
}

@test "create failing at C2-C5: rolled back" {
	for label in create.C2 create.C3 create.C4 create.C5; do
		inject $label "${CREATE[@]}"
		gone
	done
}

@test "start killed at T2-T5: start converges on one VMM" {
	for label in start.T2 start.T3 start.T4 start.T5; do
		cocoon "${CREATE[@]}"
		crash $label vm start v
		cocoon vm start v
		[ "$(state_of v)" = running ]
		[ "$(vmms)" = 1 ]
		invariants
		repair vm start v
		[ "$(vmms)" = 1 ]
		cocoon vm rm --force v
		gone
	done
}

@test "start killed at T3-T5: the VMM that was live is the one that is kept" {
	for label in start.T4 start.T5; do
		cocoon "${CREATE[@]}"
		crash $label vm start v
		pid=$(cat "$T"/run/qemu/*/qemu.pid)
		cocoon vm start v
		[ "$(cocoon vm inspect v | jq .pid)" = "$pid" ]
		# The relay was never started by the killed command; adoption does it.
		[ -S "$(echo "$T"/run/qemu/*/console.sock)" ]
		cocoon vm rm --force v
	done
}

@test "start killed at T2-T5: stop converges" {
	for label in start.T2 start.T3 start.T4 start.T5; do
		cocoon "${CREATE[@]}"
		crash $label vm start v
		repair vm stop --force v
		[ "$(state_of v)" = stopped ]
		[ "$(vmms)" = 0 ]
		cocoon vm rm v
		gone
	done
}

@test "start killed at T2-T5: rm --force removes all" {
	for label in start.T2 start.T3 start.T4 start.T5; do
		cocoon "${CREATE[@]}"
		crash $label vm start v
		repair vm rm --force v
		gone
	done
}

@test "start failing at T2-T5: no VMM, the VM can be started again" {
	for label in start.T2 start.T3 start.T4 start.T5; do
		cocoon "${CREATE[@]}"
		inject $label vm start v
		[ "$(vmms)" = 0 ]
		invariants
		case $label in
		start.T2) [ "$(state_of v)" = created ] ;;
		*) [ "$(state_of v)" = error ] ;;
		esac
		# Runtime files are gone, so that nothing looks alive.
		run ! ls "$T"/run/qemu/*/qemu.pid
		cocoon vm start v
		[ "$(state_of v)" = running ]
		cocoon vm rm --force v
		gone
	done
}

@test "run killed between create and start: a created VM" {
	crash start.T2 "${RUN[@]}"
	[ "$(state_of v)" = created ]
	repair vm start v
	[ "$(state_of v)" = running ]
	cocoon vm rm --force v
	gone
}

@test "stop killed at P2-P4: stop and start converge" {
	for label in stop.P2 stop.P3 stop.P4; do
		cocoon "${RUN[@]}"
		crash $label vm stop --force v
		case $label in
		stop.P4) [ "$(state_of v)" = stopped ] ;;
		*) [ "$(state_of v)" = 'stopped (stale)' ] ;;
		esac
		repair vm stop v
		[ "$(state_of v)" = stopped ]

		cocoon vm start v
		crash $label vm stop --force v
		repair vm start v
		[ "$(state_of v)" = running ]
		[ "$(vmms)" = 1 ]
		cocoon vm rm --force v
		gone
	done
}

@test "stop failing at P2: error, and stop repairs" {
	cocoon "${RUN[@]}"
	inject stop.P2 vm stop --force v
	[ "$(state_of v)" = error ]
	repair vm stop v
	[ "$(state_of v)" = stopped ]
	inject stop.P3 vm stop v
	[ "$(vmms)" = 0 ]
	repair vm stop v
}

@test "rm killed at D1-D5: rm finishes" {
	for label in rm.D1 rm.D2 rm.D3 rm.D4 rm.D5; do
		cocoon "${RUN[@]}"
		crash $label vm rm --force v
		[ "$(vmms)" = 0 ]
		# The name is free only after D5.
		if [ $label != rm.D5 ]; then
			run ! cocoon "${CREATE[@]}"
			[[ $output == *'already exists (id: '* ]]
			repair vm rm v
		fi
		gone
	done
}

@test "rm killed at D2-D4: start and stop finish it and say CONFLICT" {
	for label in rm.D2 rm.D3 rm.D4; do
		for verb in start stop; do
			cocoon "${CREATE[@]}"
			crash $label vm rm v
			run -1 cocoon vm $verb v
			[[ $output == *'was being removed; the removal is finished now'* ]]
			gone
		done
	done
}

@test "rm failing at D1-D5: rm again finishes" {
	for label in rm.D1 rm.D2 rm.D3 rm.D4 rm.D5; do
		cocoon "${CREATE[@]}"
		inject $label vm rm v
		cocoon vm rm v 2>/dev/null || true
		gone
	done
}

@test "a VMM killed behind our back: stale, then stop and start work" {
	cocoon "${RUN[@]}"
	kill -9 "$(cat "$T"/run/qemu/*/qemu.pid)"
	wait_for 5 eval '[ "$(state_of v)" = "stopped (stale)" ]'
	[ "$(cocoon vm inspect v | jq .pid)" = 0 ]
	repair vm start v
	[ "$(state_of v)" = running ]
	kill -9 "$(cat "$T"/run/qemu/*/qemu.pid)"
	repair vm stop v
	[ "$(cocoon vm inspect v | jq -r .last_transition_reason)" = unexpected-exit ]
	cocoon vm rm v
	gone
}

# interrupt_after SECONDS CMD...: Ctrl-C as a terminal sends it, SIGINT to the whole process group. Not by
# timeout(1): its SIGCONT undoes the SIGSTOP that LeakSanitizer's tracer waits for at exit, for ever.
interrupt_after()
{
	local delay=$1 pid

	shift
	(
		set -m
		"$@" 3>&- &
		pid=$!
		sleep "$delay"
		kill -INT -- "-$pid" 2>/dev/null || true
		wait "$pid"
	)
}

@test "Ctrl-C at any moment of create and run: rolled back, or a VM with a state" {
	for delay in 0.002 0.005 0.01 0.02 0.03 0.05 0.08 0.12 0.2; do
		status=0
		interrupt_after $delay "$COCOON" "${CREATE[@]}" >"$T/out" 2>&1 || status=$?
		invariants
		if [ "$(db 'SELECT count(*) FROM vms')" != 0 ]; then
			[ "$(state_of v)" = created ]
			cocoon vm rm v
		fi
		gone
		interrupt_after $delay "$COCOON" "${RUN[@]}" >"$T/out" 2>&1 || status=$?
		invariants
		if [ "$(db 'SELECT count(*) FROM vms')" != 0 ]; then
			[[ $(state_of v) =~ ^(created|running|error)$ ]]
			[ "$(state_of v)" = running ] || [ "$(vmms)" = 0 ]
			cocoon vm rm --force v
		fi
		gone
	done
}

@test "two starts and two removals at once: one VMM, one row, no wreck" {
	cocoon "${CREATE[@]}"
	cocoon vm start v & a=$!
	cocoon vm start v & b=$!
	wait $a
	wait $b
	[ "$(vmms)" = 1 ]
	cocoon vm rm --force v & a=$!
	cocoon vm rm --force v & b=$!
	wait $a || true
	wait $b || true
	gone
}

@test "64 creates at once: every one succeeds or fails with a mapped error" {
	pids=()
	for i in $(seq 64); do
		# Every fourth one asks for a name that another wants too.
		cocoon vm create --name "n$((i % 48))" --memory 512M --nics 0 --network user tiny \
			>"$T/create.$i" 2>&1 && echo ok >"$T/ok.$i" &
		pids+=($!)
	done
	# By number: bats has a background process of its own.
	wait "${pids[@]}" || true
	ok=$(find "$T" -maxdepth 1 -name 'ok.*' | wc -l)
	[ "$ok" = 48 ]
	[ "$(db 'SELECT count(*) FROM vms')" = "$ok" ]
	[ "$(find "$T/run/qemu" -mindepth 1 -maxdepth 1 | wc -l)" = "$ok" ]
	for i in $(seq 64); do
		[ -e "$T/ok.$i" ] || grep -q 'vm name "n[0-9]*" already exists (id: [A-Z2-7]*)' "$T/create.$i"
	done
	invariants
	# shellcheck disable=SC2046 # a list
	cocoon vm rm $(db 'SELECT id FROM vms') 2>/dev/null
	gone
}
