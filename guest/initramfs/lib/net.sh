# shellcheck shell=dash disable=SC2015,SC2034,SC2153
# Network hook: turns the kernel command line into files below the guest's /etc, which networkd (or
# the tiny image's own script) applies. Nothing is configured here, so a missing NIC costs no time.
#
#   cocoon.hostname=<name>                             -> /etc/hostname, and /etc/hosts if the
#                                                         image has none
#   cocoon.net=<i>,<mac>,<ip>/<prefix>,<gateway|->     -> /etc/systemd/network/10-<mac>.network
#   cocoon.net=<i>,<mac>,dhcp
#   ip=<ip>::<gateway>:<netmask>:<name>:eth<i>:off[:<dns0>[:<dns1>]]   (every such word)
#
# cocoon.net= wins over ip= for its NIC, but has no DNS field: servers always come from ip=. A NIC
# that no word speaks of gets DHCP. Units of NICs that are gone are removed. IPv4 only, as the
# contract is. Needs common.sh.

COCOON_UNITS=etc/systemd/network
COCOON_STUB=../run/systemd/resolve/stub-resolv.conf

# cocoon_ipv4 TEXT: true for a dotted quad; sets COCOON_IPV4 to its number. Octets with leading
# zeros are refused: shell arithmetic would read them as octal, or abort.
cocoon_ipv4()
{
	local octet IFS
	case $1 in
	*[!0-9.]* | *. | *..*) return 1 ;;
	esac
	IFS=.
	# shellcheck disable=SC2086
	set -- $1
	[ $# -eq 4 ] || return 1
	COCOON_IPV4=0
	for octet; do
		case $octet in
		'' | 0?* | ????*) return 1 ;;
		esac
		[ "$octet" -le 255 ] || return 1
		COCOON_IPV4=$((COCOON_IPV4 << 8 | octet))
	done
}

# cocoon_prefix NETMASK: sets COCOON_PREFIX for a contiguous dotted netmask or a bare prefix length.
cocoon_prefix()
{
	local mask
	case $1 in
	'' | *[!0-9.]*) return 1 ;;
	*.*)
		cocoon_ipv4 "$1" || return 1
		mask=$COCOON_IPV4 COCOON_PREFIX=32
		while [ $COCOON_PREFIX -gt 0 ] && [ $((mask & 1)) -eq 0 ]; do
			mask=$((mask >> 1)) COCOON_PREFIX=$((COCOON_PREFIX - 1))
		done
		[ "$mask" -eq $(((1 << COCOON_PREFIX) - 1)) ]
		;;
	0?* | ???*) return 1 ;;
	*)
		COCOON_PREFIX=$1
		[ "$1" -le 32 ]
		;;
	esac
}

# cocoon_mac TEXT: true for a MAC address; sets COCOON_MAC to it in lower case and COCOON_MAC_FILE
# to the same without colons.
cocoon_mac()
{
	local rest lower
	case $1 in
	??:??:??:??:??:??) ;;
	*) return 1 ;;
	esac
	rest=$1 lower=''
	while [ -n "$rest" ]; do
		case $rest in
		[0-9a-f:]*) lower=$lower${rest%"${rest#?}"} ;;
		A*) lower=${lower}a ;;
		B*) lower=${lower}b ;;
		C*) lower=${lower}c ;;
		D*) lower=${lower}d ;;
		E*) lower=${lower}e ;;
		F*) lower=${lower}f ;;
		*) return 1 ;;
		esac
		rest=${rest#?}
	done
	COCOON_MAC=$lower COCOON_MAC_FILE=''
	rest=$lower:
	while [ -n "$rest" ]; do
		COCOON_MAC_FILE=$COCOON_MAC_FILE${rest%%:*} rest=${rest#*:}
	done
	[ ${#COCOON_MAC_FILE} -eq 12 ]
}

# cocoon_scan_nics: sets COCOON_NICS to " <name>=<mac>" words for every Ethernet NIC.
cocoon_scan_nics()
{
	local dir mac
	COCOON_NICS=''
	for dir in "$COCOON_SYS"/class/net/*; do
		[ -r "$dir/address" ] && read -r mac <"$dir/address" || continue
		[ "${dir##*/}" != lo ] && cocoon_mac "$mac" || continue
		[ "$COCOON_MAC" != 00:00:00:00:00:00 ] || continue
		COCOON_NICS="$COCOON_NICS ${dir##*/}=$COCOON_MAC"
	done
}

# cocoon_split_ip WORD: takes the fields of one ip= word into COCOON_IP_ADDR, _GATEWAY, _MASK, _DEV
# and _DNS (a list). An address we would not accept counts as absent.
cocoon_split_ip()
{
	local IFS
	COCOON_IP_ADDR='' COCOON_IP_GATEWAY='' COCOON_IP_MASK='' COCOON_IP_DEV='' COCOON_IP_DNS=''
	case $1 in
	*:*) ;;
	*) return 1 ;;
	esac
	IFS=:
	# shellcheck disable=SC2086
	set -- $1
	! cocoon_ipv4 "$1" || COCOON_IP_ADDR=$1
	COCOON_IP_GATEWAY=${3-} COCOON_IP_MASK=${4-} COCOON_IP_DEV=${6:-eth0}
	! cocoon_ipv4 "${8-}" || COCOON_IP_DNS=$8
	! cocoon_ipv4 "${9-}" || COCOON_IP_DNS="$COCOON_IP_DNS${COCOON_IP_DNS:+ }$9"
	[ -n "$COCOON_IP_ADDR" ]
}

# cocoon_collect_dns: sets COCOON_DNS to the servers of all ip= words without repetition, or to the
# contract's fallback.
cocoon_collect_dns()
{
	local word server
	COCOON_DNS=''
	for word in $COCOON_IP_WORDS; do
		cocoon_split_ip "$word" || continue
		for server in $COCOON_IP_DNS; do
			case " $COCOON_DNS " in
			*" $server "*) ;;
			*) COCOON_DNS="$COCOON_DNS${COCOON_DNS:+ }$server" ;;
			esac
		done
	done
	COCOON_DNS=${COCOON_DNS:-8.8.8.8 8.8.4.4}
}

# cocoon_write_unit ROOT MAC TEXT: the unit of one NIC; a later word for the same MAC is void.
cocoon_write_unit()
{
	cocoon_mac "$2"
	case "$COCOON_WRITTEN " in
	*" $COCOON_MAC_FILE "*) return 0 ;;
	esac
	COCOON_WRITTEN="$COCOON_WRITTEN $COCOON_MAC_FILE"
	cocoon_put "$1" "$COCOON_UNITS/10-$COCOON_MAC_FILE.network" "[Match]
MACAddress=$COCOON_MAC

$3" || :
}

# cocoon_static_unit ROOT INDEX MAC IP PREFIX GATEWAY
# NIC 0 owns the default route; the others' are its fall-backs, or networkd would replace one with
# the other. A gateway outside the NIC's own prefix must be declared on-link.
cocoon_static_unit()
{
	local text server ip host route
	text="[Network]
Address=$4/$5"
	route=''
	if cocoon_ipv4 "$6" && [ "$COCOON_IPV4" -ne 0 ]; then
		host=$((32 - $5)) ip=$COCOON_IPV4
		cocoon_ipv4 "$4"
		if [ $((ip >> host)) -ne $((COCOON_IPV4 >> host)) ]; then
			route="
GatewayOnLink=yes"
		fi
		if [ "$2" -gt 0 ]; then
			route="$route
Metric=$((100 + $2))"
		fi
		if [ -n "$route" ]; then
			route="

[Route]
Gateway=$6$route"
		else
			text="$text
Gateway=$6"
		fi
	fi
	for server in $COCOON_DNS; do
		text="$text
DNS=$server"
	done
	cocoon_write_unit "$1" "$3" "$text$route"
}

# cocoon_dhcp_unit ROOT INDEX MAC. The client id is the MAC because clones share the machine id that
# networkd's default is derived from.
cocoon_dhcp_unit()
{
	cocoon_write_unit "$1" "$3" "[Network]
DHCP=ipv4

[DHCPv4]
ClientIdentifier=mac
RouteMetric=$((1024 + $2))"
}

# cocoon_index TEXT: true for a NIC index as the contract writes it.
cocoon_index()
{
	case $1 in
	'' | *[!0-9]* | 0?* | ????*) return 1 ;;
	esac
}

cocoon_net_units()
{
	local root word index mac addr gateway rest
	root=$1
	for word in $COCOON_NET_WORDS; do
		rest=$word,
		index=${rest%%,*} rest=${rest#*,}
		mac=${rest%%,*} rest=${rest#*,}
		addr=${rest%%,*} rest=${rest#*,}
		gateway=${rest%%,*}
		if ! cocoon_index "$index" || ! cocoon_mac "$mac"; then
			cocoon_warn "cocoon.net=$word: ignored: bad index or MAC"
		elif [ "$addr" = dhcp ]; then
			cocoon_dhcp_unit "$root" "$index" "$mac"
		elif cocoon_ipv4 "${addr%/*}" && [ "${addr%/*}" != "$addr" ] &&
			cocoon_prefix "${addr##*/}"; then
			cocoon_static_unit "$root" "$index" "$mac" "${addr%/*}" "$COCOON_PREFIX" "$gateway"
		else
			cocoon_warn "cocoon.net=$word: ignored: bad address"
		fi
	done
}

cocoon_ip_units()
{
	local root word index mac
	root=$1
	for word in $COCOON_IP_WORDS; do
		cocoon_split_ip "$word" || continue
		if ! cocoon_prefix "$COCOON_IP_MASK"; then
			cocoon_warn "ip=$word: ignored: bad netmask"
			continue
		fi
		mac=${COCOON_NICS#*" $COCOON_IP_DEV="}
		if [ "$mac" = "$COCOON_NICS" ]; then
			cocoon_warn "ip=$word: ignored: no NIC $COCOON_IP_DEV"
			continue
		fi
		index=${COCOON_IP_DEV#eth}
		cocoon_index "$index" || index=0
		cocoon_static_unit "$root" "$index" "${mac%% *}" "$COCOON_IP_ADDR" "$COCOON_PREFIX" \
			"$COCOON_IP_GATEWAY"
	done
}

cocoon_other_units()
{
	local nic index
	for nic in $COCOON_NICS; do
		index=${nic%%=*} index=${index#eth}
		cocoon_index "$index" || index=0
		cocoon_dhcp_unit "$1" "$index" "${nic#*=}"
	done
}

# cocoon_drop_stale_units ROOT: units of our own naming that this boot did not write. What the user
# added under any other name stays.
cocoon_drop_stale_units()
{
	local file mac
	cocoon_inside "$1" "$COCOON_UNITS" || return 0
	for file in "$1/$COCOON_UNITS"/10-????????????.network; do
		mac=${file##*/10-} mac=${mac%.network}
		case $mac in
		*[!0-9a-f]*) continue ;;
		esac
		case "$COCOON_WRITTEN " in
		*" $mac "*) ;;
		*) rm -f "$file" ;;
		esac
	done
}

# cocoon_resolv_conf ROOT: resolved's stub is a promise that /run holds the target, so until
# resolved runs we keep it; any other link is replaced, never followed.
cocoon_resolv_conf()
{
	local server text
	text=''
	for server in $COCOON_DNS; do
		text="$text${text:+
}nameserver $server"
	done
	if cocoon_stub_link "$1"; then
		cocoon_put "$COCOON_RUN" systemd/resolve/stub-resolv.conf "$text" || :
	else
		cocoon_put "$1" etc/resolv.conf "$text" || :
	fi
}

# cocoon_stub_link ROOT: true if /etc/resolv.conf is exactly resolved's link.
cocoon_stub_link()
{
	[ -L "$1/etc/resolv.conf" ] && [ "$(readlink "$1/etc/resolv.conf")" = "$COCOON_STUB" ]
}

COCOON_HOSTS_MARK='# Written by cocoon at every boot, as long as this line is here.'

# cocoon_hosts ROOT: a guest can resolve its own name. Images have no /etc/hosts, or an empty one,
# because container engines bring their own; one with content is the image's.
cocoon_hosts()
{
	local first
	first=''
	[ ! -L "$1/etc/hosts" ] || return 0
	if [ -s "$1/etc/hosts" ]; then
		read -r first <"$1/etc/hosts" || :
		[ "$first" = "$COCOON_HOSTS_MARK" ] || return 0
	fi
	cocoon_put "$1" etc/hosts "$COCOON_HOSTS_MARK
127.0.0.1 localhost
127.0.1.1 $COCOON_HOSTNAME
::1 localhost" || :
}

# cocoon_network ROOT: the whole hook. Never fails: a guest without a network is still a guest.
cocoon_network()
{
	[ -d "$1/etc" ] || return 0
	if [ -n "$COCOON_HOSTNAME" ]; then
		cocoon_put "$1" etc/hostname "$COCOON_HOSTNAME" || :
		cocoon_hosts "$1"
	fi
	COCOON_WRITTEN=''
	cocoon_scan_nics
	cocoon_collect_dns
	cocoon_net_units "$1"
	cocoon_ip_units "$1"
	cocoon_other_units "$1"
	cocoon_drop_stale_units "$1"
	cocoon_resolv_conf "$1"
}
