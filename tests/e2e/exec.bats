# shellcheck shell=bash disable=SC2154,SC2016 # output and stderr are set by run; the guest expands
# Commands in guests, by their agent: exec, cp, reseed, wait --for agent, run -- CMD. Real guests on QEMU,
# over virtio-serial; for hybrid vsock the doubles of the other drivers with a real agent behind them, which
# runs on this host: there nothing is asked of it that changes a machine.

load lib

setup()
{
	cocoon_setup
}

teardown()
{
	[ -z "${AGENT_PID-}" ] || kill "$AGENT_PID" 2>/dev/null || true
	cocoon_teardown
}

# boot NAME [FLAG...]: a QEMU guest whose agent answers.
boot()
{
	local name=$1

	shift
	need qemu-system-x86_64
	cocoon vm run --network user --name "$name" "$@" tiny
	cocoon vm wait --for agent --timeout 200s "$name"
}

# code WANT ARG...: exec in guest a ends with that status.
code()
{
	local want=$1 got=0

	shift
	cocoon vm exec "$@" >"$T/out" 2>"$T/err" || got=$?
	[ "$got" = "$want" ] || {
		echo "exec $*: $got, wanted $want"
		cat "$T/out" "$T/err"
		return 1
	}
}

gone()
{
	! cocoon vm exec a -- kill -0 "$1" 2>/dev/null
}

@test "run IMAGE -- CMD --rm: the command's streams and exit code, and nothing is left" {
	with_tiny tiny
	need qemu-system-x86_64
	run -7 --separate-stderr cocoon vm run --rm --network user --name one tiny -e A=b -- sh -c 'echo "$A"; exit 7'
	[ "$output" = b ]
	[[ $stderr != *Error* ]]
	[ "$(cocoon vm list --format json)" = '[]' ]
}

@test "exec: codes, signals, streams, environment, failures, many at once, and a host that dies" {
	local i n p pids status

	with_tiny tiny
	boot a
	for i in 0 1 125 127 128 254 255; do
		code "$i" a -- sh -c "exit $i"
	done
	code 137 a -- sh -c 'kill -KILL $$'
	code 143 a -- sh -c 'kill -TERM $$'
	code 125 a -- /no/such/program
	grep -qF 'Error: exec: agent: exec: start /no/such/program: ' "$T/err"
	code 124 --timeout 500ms a -- sleep 100
	grep -qxF 'Error: exec: timed out' "$T/err"
	# Usage and references are not the agent's.
	code 1 a
	grep -qxF 'Error: exec: no command given' "$T/err"
	code 1 -e =x a -- true
	code 1 nobody -- true
	code 0 -e 'A=b c' -e E= --workdir /etc a -- sh -c 'echo "$A|$E|$PWD"; echo oops >&2'
	[ "$(cat "$T/out")" = 'b c||/etc' ]
	[ "$(cat "$T/err")" = oops ]
	code 0 --user 65534:65534 a -- id -u
	[ "$(cat "$T/out")" = 65534 ]

	# Bytes of every value, both ways at once; without -i there is no input.
	n=${COCOON_TEST_EXEC_MIB:-2}
	head -c "${n}M" /dev/urandom >"$T/big"
	cocoon vm exec -i a -- cat <"$T/big" >"$T/back"
	cmp "$T/big" "$T/back"
	[ "$(cocoon vm exec a -- wc -c <"$T/big")" = 0 ]
	# The command does not read: it ends all the same. Our reader is gone: so are we.
	code 3 -i a -- sh -c 'exec <&-; exit 3' <"$T/big"
	status=0
	{ cocoon vm exec a -- cat /dev/zero || echo $? >"$T/status"; } | head -c 1 >/dev/null
	[ "$(cat "$T/status")" = 141 ]

	# More sessions than ports.
	pids=()
	for i in $(seq "${COCOON_TEST_EXEC_SESSIONS:-10}"); do
		"$COCOON" vm exec a -- sh -c "echo $i; exit $i" >"$T/s$i" 2>&1 3>&- &
		pids+=($!)
	done
	for i in $(seq "${#pids[@]}"); do
		status=0
		wait "${pids[$((i - 1))]}" || status=$?
		[ "$status" = "$i" ]
		[ "$(cat "$T/s$i")" = "$i" ]
	done

	# The host's side is killed: the guest's process ends, and the port serves the next session.
	"$COCOON" vm exec a -- sh -c 'echo $$; exec sleep 1000' >"$T/pid" 2>/dev/null 3>&- &
	p=$!
	wait_for 30 grep -q . "$T/pid"
	kill -KILL "$p"
	wait_for 30 gone "$(cat "$T/pid")"
	# Interrupted: the code says by what.
	: >"$T/pid"
	"$COCOON" vm exec a -- sh -c 'echo $$; exec sleep 1000' >"$T/pid" 2>/dev/null 3>&- &
	p=$!
	wait_for 30 grep -q . "$T/pid"
	kill -TERM "$p"
	status=0
	wait "$p" || status=$?
	[ "$status" = 143 ]
	wait_for 30 gone "$(cat "$T/pid")"
	# The agent is killed in a session: that ends with 125, and the next finds a new agent.
	code 125 a -- sh -c 'kill -KILL $PPID; sleep 100'
	grep -qxF 'Error: exec: agent: the agent has just been started' "$T/err"
	cocoon vm wait --for agent --timeout 60s a
	code 0 --connect-timeout 60s a -- true
	cocoon vm stop --force a
	code 125 a -- true
	grep -q 'vm not running' "$T/err"
}

@test "cp and reseed: files and trees in and out, a stream, and another machine-id" {
	local before

	with_tiny tiny
	boot a
	mkdir -p "$T/tree/sub" "$T/out"
	head -c 300000 /dev/urandom >"$T/tree/sub/data"
	echo '#!/bin/sh' >"$T/tree/script"
	chmod 751 "$T/tree/script"
	ln -s sub/data "$T/tree/link"
	cocoon vm cp "$T/tree" a:/root
	[ "$(cocoon vm exec a -- stat -c %a /root/tree/script)" = 751 ]
	cocoon vm cp a:/root/tree "$T/out"
	diff -r "$T/tree" "$T/out/tree"
	[ "$(readlink "$T/out/tree/link")" = sub/data ]
	# To a name, over what is there, and into a directory that is not.
	cocoon vm cp "$T/tree/script" a:/root/renamed
	cocoon vm cp "$T/tree/sub/data" a:/root/renamed
	cocoon vm cp a:/root/renamed "$T/out/file"
	cmp "$T/tree/sub/data" "$T/out/file"
	run -1 cocoon vm cp "$T/tree/script" a:/no/such/
	[[ $output == *'/no/such/: no such directory'* ]]
	run -1 cocoon vm cp a:/no/such/file "$T/out"
	run -1 cocoon vm cp "$T/none" a:/root
	run -1 cocoon vm cp a:/x a:/y
	[[ $output == *'exactly one of source and target must be in a VM'* ]]
	[ "$(cocoon vm cp a:/root/tree - | tar -t | sort | head -1)" = ./tree/ ]
	tar -C "$T" -c tree | cocoon vm cp - a:/tmp
	[ "$(cocoon vm exec a -- ls /tmp/tree | sort | tr '\n' ' ')" = 'link script sub ' ]
	# What is neither file, directory nor link does not come out of a guest.
	cocoon vm exec a -- mknod /root/tree/dev c 1 3
	run -1 cocoon vm cp a:/root/tree "$T/out/other"
	[[ $output == *'neither file, directory nor link'* ]]
	[ -z "$(find "$T/out" -name '.cocoon-cp-*' -o -name other)" ]

	before=$(cocoon vm exec a -- cat /etc/machine-id)
	cocoon vm reseed a
	[ "$(cocoon vm exec a -- cat /etc/machine-id)" = "$before" ]
	[ "$(cocoon vm reseed -o json --machine-id a | jq .machine_id)" = true ]
	[[ $(cocoon vm exec a -- cat /etc/machine-id) =~ ^[0-9a-f]{32}$ ]]
	[ "$(cocoon vm exec a -- cat /etc/machine-id)" != "$before" ]
}

@test "a clone takes over its identity by itself, also of a snapshot that was taken during a session" {
	local p

	with_tiny tiny
	boot a
	"$COCOON" vm exec a -- sh -c 'echo $$; exec sleep 1000' >"$T/pid" 2>/dev/null 3>&- &
	p=$!
	wait_for 30 grep -q . "$T/pid"
	cocoon snapshot save --name s a
	# The session goes on.
	run ! gone "$(cat "$T/pid")"
	kill -TERM "$p"
	wait "$p" || true
	run -0 --separate-stderr cocoon vm clone --name b s
	echo "$stderr"
	[ -z "$output" ]
	cocoon vm wait --for agent --timeout 100s b
	[ "$(cocoon vm exec b -- hostname)" = b ]
	[ "$(cocoon vm exec b -- cat /etc/hostname)" = b ]
	[ "$(cocoon vm exec a -- hostname)" = a ]
	[ "$(cocoon vm exec b -- cat /etc/machine-id)" != "$(cocoon vm exec a -- cat /etc/machine-id)" ]
	[ "$(cocoon vm exec b -- cat /sys/class/net/eth0/address)" = "$(field b '.network_configs[0].mac')" ]
	wait_for 30 sh -c '"$COCOON" vm exec b -- ip -4 -o addr show dev eth0 | grep -q "inet 10.0.2."'
	cocoon vm rm --force b
	run -0 --separate-stderr cocoon vm clone --no-guest-setup --name c s
	[[ $output == *'hostnamectl set-hostname c'* ]]
	cocoon vm wait --for agent --timeout 100s c
	[ "$(cocoon vm exec c -- hostname)" = a ]
}

@test "hybrid vsock: sessions through the handshake, no listener, no device" {
	local agent driver

	[ "$(id -u)" = 0 ] || skip "needs root"
	agent=$(dirname "$COCOON")/guest/agent/cocoon-agent
	[ -x "$agent" ] || skip "needs the agent of this build"
	with_tiny tiny
	"$agent" serve --unix "$T/agent.sock" >"$T/agent.log" 2>&1 3>&- &
	AGENT_PID=$!
	wait_for 10 test -S "$T/agent.sock"
	unset COCOON_CH COCOON_FC
	for driver in cloud-hypervisor firecracker; do
		COCOON_TEST_DRIVER=$driver with_driver
		printf 'AGENT=%s\n' "$T/agent.sock" | sed 's/^/COCOON_DOUBLE_/' >"$T/bin/double.env"
		cocoon vm run --nics 0 --name "v$driver" tiny
		[ "$(field "v$driver" .vsock_socket)" = "$(dirname "$(field "v$driver" .socket_path)")/vsock.uds" ]
		code 7 "v$driver" -- sh -c 'exit 7'
		head -c 3000000 /dev/urandom >"$T/big"
		cocoon vm exec -i "v$driver" -- cat <"$T/big" | cmp - "$T/big"
		cocoon vm exec "v$driver" -- cat "$T/big" | cmp - "$T/big"
		cocoon vm wait --for agent --timeout 10s "v$driver"
		# Nobody listens in this guest: clones of it are not kept waiting.
		rm "$T/bin/double.env"
		cocoon vm run --nics 0 --name "w$driver" tiny
		code 125 --connect-timeout 500ms "w$driver" -- true
		# EOF, unless the machine is so busy that even that takes longer.
		grep -qE 'exec: dial agent: read CONNECT reply: (EOF|no answer) \(cocoon-agent may still be starting; retry shortly\)' "$T/err"
		cocoon snapshot save --name "s$driver" "w$driver"
		run -0 --separate-stderr cocoon vm clone --name "c$driver" "s$driver"
		[[ $output == *'hostnamectl set-hostname'* ]]
		[[ $stderr != *reseed* ]]
		# As a machine that an older version made.
		rm "$(field "w$driver" .vsock_socket)"
		code 125 "w$driver" -- true
		grep -qxF 'Error: exec: vsock not configured for this VM (recreate the VM to enable agent exec)' "$T/err"
		[ "$(field "w$driver" .vsock_socket)" = null ]
	done
}
