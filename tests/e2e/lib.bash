# shellcheck shell=bash
# What every end-to-end test needs: the real program in a root of its own, and proof that a test leaves
# nothing behind. tests/run sets COCOON (the program) and COCOON_TEST_CACHE (see prepare).
#
#	load lib
#	setup() { cocoon_setup; }
#	teardown() { cocoon_teardown; }
#
# cocoon ARGS...            runs the program; root, run and log directory come from the environment
# need TOOL...              skips the test, with the reason, when a tool is missing
# tiny                      prints the path of the tiny image's archive; skips when there is none
# with_tiny NAME            imports the tiny image as NAME, quickly: a copy of a root made once per file
# with_registry             starts a registry ($REGISTRY) that cocoon_teardown stops
# with_net                  from here on the program runs in network and mount namespaces of the test's own
# in_net CMD...             so does CMD
# with_driver               from here on VMs get the driver COCOON_TEST_DRIVER (qemu, cloud-hypervisor or
#                           firecracker): the real QEMU, and for the others the binary COCOON_CH or
#                           COCOON_FC, without which their doubles stand in; call it before with_net
# field VM FILTER           one value of vm inspect, by jq
# db SQL                    one query of the store
# crash LABEL ARGS...       runs the program, which must die of SIGKILL at the failpoint
# inject LABEL ARGS...      runs the program; the step must fail, be named, and end it with status 1
# free_port                 prints a loopback port nobody listens on
# wait_for SECONDS CMD...   until the command succeeds; fails with its last output
# console VM [TEXT]         what the console shows, after typing TEXT
# wait_console VM REGEX     until the console shows it
# in_guest VM COMMAND       what the guest's shell prints, and nothing of earlier commands
# ask VM COMMAND            what the guest's shell answers, without what was typed and what the relay replays
# real                      succeeds when the guest is a real one, not the play of a double

bats_require_minimum_version 1.5.0

TOP=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
# shellcheck source=tools/registry.bash
. "$TOP/tools/registry.bash"

: "${COCOON:=$TOP/build/cocoon}"
: "${COCOON_TEST_CACHE:=$TOP/build/test-cache}"
# A hung program is a failed test, not a hung suite. Emulated guests boot in 4-10 s.
export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-240}

cocoon()
{
	"$COCOON" "$@"
}

cocoon_setup()
{
	# Short: unix socket paths below it are limited to 107 bytes.
	T=$(mktemp -d /tmp/cc-XXXXXX)
	export T
	export COCOON_ROOT_DIR=$T/root COCOON_RUN_DIR=$T/run COCOON_LOG_DIR=$T/log
	export COCOON_CNI_CONF_DIR=$T/cni COCOON_HYPERVISOR=qemu
	unset COCOON_FAILPOINT
}

# Processes that still speak of this test's directory, as "pid command line".
cocoon_leftovers()
{
	local file pid

	# One grep for all of them (its own entry is younger than the list): this is called often.
	for file in $(grep -alF -- "$T" /proc/[0-9]*/cmdline 2>/dev/null); do
		pid=${file#/proc/}
		pid=${pid%/cmdline}
		echo "$pid $(tr '\0' ' ' <"$file" 2>/dev/null)"
	done
}

cocoon_teardown()
{
	local ids left status=0

	unset COCOON_FAILPOINT
	registry_stop
	ids=$(cocoon vm list --format json 2>/dev/null | jq -r '.[].id' 2>/dev/null || true)
	# shellcheck disable=SC2086 # a list
	[ -z "$ids" ] || cocoon vm rm --force $ids >/dev/null 2>&1 || true
	# A VMM or console relay that outlives its record is a bug, not litter to sweep quietly.
	for _ in $(seq 50); do
		left=$(cocoon_leftovers)
		[ -n "$left" ] || break
		sleep 0.1
	done
	if [ -n "$left" ]; then
		echo "left running:"
		echo "$left"
		status=1
		echo "$left" | while read -r pid _; do
			kill -9 "$pid" 2>/dev/null || true
		done
	fi
	[ -z "${HOLDER-}" ] || kill "$HOLDER" 2>/dev/null || true
	rm -rf "$T"
	return $status
}

# The program from here on is a script that enters the namespaces which a sleeping process holds. They
# end with the test.
with_net()
{
	[ "$(id -u)" = 0 ] && [ -w /dev/net/tun ] || skip "needs root and /dev/net/tun"
	need nsenter unshare ip nft
	mkdir -p /run/netns
	unshare --net --mount --propagation private sleep $((BATS_TEST_TIMEOUT + 60)) 3>&- &
	HOLDER=$!
	wait_for 10 holder_apart
	wait_for 10 in_net mount -t tmpfs tmpfs /run/netns
	in_net ip link set lo up
	printf '#!/bin/sh\nexec nsenter -t %s -n -m --wd="$PWD" "%s" "$@"\n' "$HOLDER" "$COCOON" >"$T/cocoon"
	chmod +x "$T/cocoon"
	COCOON=$T/cocoon
}

holder_apart()
{
	[ "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/$HOLDER/ns/net")" ] &&
		[ "$(readlink /proc/self/ns/mnt)" != "$(readlink "/proc/$HOLDER/ns/mnt")" ] &&
		[ "$(cat "/proc/$HOLDER/comm")" = sleep ]
}

in_net()
{
	nsenter -t "$HOLDER" -n -m "$@"
}

field()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

db()
{
	sqlite3 "$T/root/meta/meta.db" "$1"
}

crash()
{
	local label=$1 status=0

	shift
	COCOON_FAILPOINT=$label "$COCOON" "$@" >"$T/out" 2>&1 || status=$?
	[ $status -eq 137 ] || {
		echo "$* at $label: status $status, wanted 137"
		cat "$T/out"
		return 1
	}
}

inject()
{
	local label=$1 status=0

	shift
	COCOON_FAILPOINT=$label:error "$COCOON" "$@" >"$T/out" 2>&1 || status=$?
	[ $status -eq 1 ] && grep -qF "injected failure at $label" "$T/out" || {
		echo "$* at $label: status $status"
		cat "$T/out"
		return 1
	}
}

need()
{
	local tool

	for tool; do
		command -v "$tool" >/dev/null || skip "needs $tool"
	done
}

tiny()
{
	[ -f "$COCOON_TEST_CACHE/tiny.tar" ] || skip "needs the tiny image (os-image/tiny)"
	echo "$COCOON_TEST_CACHE/tiny.tar"
}

with_tiny()
{
	local archive

	archive=$(tiny)
	if [ ! -d "$BATS_FILE_TMPDIR/root" ]; then
		COCOON_ROOT_DIR=$BATS_FILE_TMPDIR/root.new cocoon image import "$1" "$archive"
		mv "$BATS_FILE_TMPDIR/root.new" "$BATS_FILE_TMPDIR/root"
	fi
	cp -a --reflink=auto "$BATS_FILE_TMPDIR/root" "$T/root"
}

with_registry()
{
	need docker-registry skopeo
	registry_start "$T/registry"
}

# with_binary NAME KEY GIVEN DOUBLE: a link in the test's own directory, because a double reads its knobs
# beside the name it is started under.
with_binary()
{
	local file=$3

	[ -n "$file" ] || file=$(dirname "$COCOON")/tests/double/$4
	[ -x "$file" ] || skip "needs $1 or its double"
	mkdir -p "$T/bin"
	ln -s "$(realpath "$file")" "$T/bin/$1"
	export "$2=$T/bin/$1"
}

with_driver()
{
	export COCOON_HYPERVISOR=${COCOON_TEST_DRIVER:-qemu}
	case $COCOON_HYPERVISOR in
	cloud-hypervisor) with_binary cloud-hypervisor COCOON_CH_BINARY "${COCOON_CH-}" ch/cloud-hypervisor ;;
	firecracker) with_binary firecracker COCOON_FC_BINARY "${COCOON_FC-}" fc/firecracker ;;
	*) need qemu-system-x86_64 ;;
	esac
}

# A port that was free a moment ago.
free_port()
{
	local port

	while :; do
		port=$((20000 + RANDOM % 20000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

wait_for()
{
	local end=$((SECONDS + $1)) out

	shift
	until out=$("$@" 2>&1); do
		if [ $SECONDS -ge $end ]; then
			echo "timed out waiting for: $*"
			echo "$out"
			return 1
		fi
		sleep 0.1
	done
}

console()
{
	local vm=$1 text=${2-}

	# script(1) gives the program the terminal it insists on. ^] and a dot end the session; what was
	# typed needs a moment to be answered.
	{
		[ -z "$text" ] || printf '%s\r' "$text"
		sleep "${CONSOLE_SECONDS:-2}"
		printf '\035.'
		sleep 0.3
	} | timeout 30 script -qec "'$COCOON' vm console '$vm'" /dev/null 3>&- | tr -d '\r'
}

console_shows()
{
	CONSOLE_SECONDS=0.5 console "$1" | grep -E -- "$2"
}

wait_console()
{
	wait_for "${3:-90}" console_shows "$1" "$2"
}

in_guest()
{
	local mark=$RANDOM$RANDOM

	: >"$T/console.out"
	# Typed it differs from what is printed.
	{
		printf 'echo beg-""%s; %s; echo end-""%s\r' $mark "$2" $mark
		wait_for 60 grep -q "^end-$mark" "$T/console.out" >&2 || true
		printf '\035.'
		sleep 0.3
	} | timeout 90 script -qec "'$COCOON' vm console '$1'" /dev/null 3>&- >"$T/console.out"
	tr -d '\r' <"$T/console.out" | sed -n "/^beg-$mark/,/^end-$mark/p" | sed '1d;$d'
}

# The markers are split so that the echo of the typing is not taken for the answer; the last one counts,
# because the relay replays what was said before.
ask()
{
	local out

	for _ in 1 2 3 4 5 6; do
		out=$(CONSOLE_SECONDS=${ASK_SECONDS:-1} console "$1" "echo BEG''IN; $2; echo EN''D")
		if [[ $out == *BEGIN*END* ]]; then
			out=${out##*$'BEGIN\n'}
			printf '%s\n' "${out%%$'END'*}" | sed '/^$/d'
			return
		fi
	done
	echo "no answer: $out" >&2
	return 1
}

real()
{
	case $COCOON_HYPERVISOR in
	cloud-hypervisor) [ -n "${COCOON_CH-}" ] ;;
	firecracker) [ -n "${COCOON_FC-}" ] ;;
	esac
}
