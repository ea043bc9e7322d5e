# shellcheck shell=bash
# Namespaces of the test's own, so that neither the host nor another test sees its network.
#
# with_net          from here on $COCOON runs in them; skips without root or /dev/net/tun
# in_net CMD...     runs a command there
# net_teardown      ends them; after cocoon_teardown

with_net()
{
	[ "$(id -u)" = 0 ] && [ -w /dev/net/tun ] || skip "needs root and /dev/net/tun"
	mkdir -p /run/netns
	unshare --net --mount --propagation private sleep "${BATS_TEST_TIMEOUT:-600}" 3>&- &
	HOLDER=$!
	wait_for 10 test "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/$HOLDER/ns/net")"
	wait_for 10 in_net mount -t tmpfs tmpfs /run/netns
	in_net ip link set lo up
	printf '#!/bin/sh\nexec nsenter -t %s -n -m "%s" "$@"\n' "$HOLDER" "$COCOON" >"$T/cocoon"
	chmod +x "$T/cocoon"
	COCOON=$T/cocoon
}

in_net()
{
	nsenter -t "$HOLDER" -n -m "$@"
}

net_teardown()
{
	[ -z "${HOLDER-}" ] || kill "$HOLDER" 2>/dev/null || true
}
