# shellcheck shell=dash disable=SC2015,SC2034,SC2153
# Kernel command line, messages and small helpers shared by the disk hook (disk.sh) and the network
# hook (net.sh). Nothing in here mounts or configures anything.
#
# Runs under busybox ash and under klibc's dash, whose initramfs has no rm, tr, cut or grep unless
# somebody copied them in: only builtins, cat, mkdir, modprobe, mount, mv, rm and sleep are used, and
# the initramfs-tools hook brings rm. Callers have globbing on and the default IFS.
#
# The variables COCOON_SYS, COCOON_PROC, COCOON_DEV, COCOON_RUN and COCOON_KMSG exist so that the
# hooks can be tested on a made-up tree; a guest never sets them.

COCOON_SYS=${COCOON_SYS-/sys}
COCOON_PROC=${COCOON_PROC-/proc}
COCOON_DEV=${COCOON_DEV-/dev}
COCOON_RUN=${COCOON_RUN-/run}
COCOON_KMSG=${COCOON_KMSG-/dev/kmsg}

# cocoon_warn TEXT: to the console, and to the kernel log where a running guest can still read it.
cocoon_warn()
{
	echo "cocoon: $*" >&2
	[ ! -w "$COCOON_KMSG" ] || echo "<4>cocoon: $*" >"$COCOON_KMSG"
}

# cocoon_fail TEXT: sets COCOON_ERROR, which the front end shows in its own way. Always false.
cocoon_fail()
{
	COCOON_ERROR="cocoon: $*"
	return 1
}

# cocoon_parse_cmdline: reads the contract's words off the kernel command line. Of a scalar the last
# one counts; cocoon.net=, cocoon.data= and ip= are lists. Unknown cocoon.* words belong to newer
# hosts and mean nothing here; words with wildcards are never valid and would be expanded later.
# Words after "--" are for init.
cocoon_parse_cmdline()
{
	local word line
	COCOON_LAYERS='' COCOON_COW='' COCOON_TIMEOUT=10 COCOON_HOSTNAME='' COCOON_INSTANCE=''
	COCOON_NET_WORDS='' COCOON_IP_WORDS='' COCOON_DATA_WORDS=''
	line=''
	read -r line <"$COCOON_PROC/cmdline" || :
	set -f
	for word in $line; do
		case $word in
		--) break ;;
		cocoon.*[*?[]* | ip=*[*?[]*) ;;
		cocoon.layers=*) COCOON_LAYERS=${word#*=} ;;
		cocoon.cow=*) COCOON_COW=${word#*=} ;;
		cocoon.timeout=*) COCOON_TIMEOUT=${word#*=} ;;
		cocoon.hostname=*) COCOON_HOSTNAME=${word#*=} ;;
		cocoon.instance=*) COCOON_INSTANCE=${word#*=} ;;
		cocoon.net=*) COCOON_NET_WORDS="$COCOON_NET_WORDS ${word#*=}" ;;
		cocoon.data=*) COCOON_DATA_WORDS="$COCOON_DATA_WORDS ${word#*=}" ;;
		ip=*) COCOON_IP_WORDS="$COCOON_IP_WORDS ${word#*=}" ;;
		esac
	done
	set +f
	case $COCOON_TIMEOUT in
	'' | *[!0-9]* | ??????*) COCOON_TIMEOUT=10 ;;
	esac
}

# cocoon_uptime: sets COCOON_UPTIME to whole seconds since boot.
cocoon_uptime()
{
	read -r COCOON_UPTIME _ <"$COCOON_PROC/uptime"
	COCOON_UPTIME=${COCOON_UPTIME%%.*}
}

# cocoon_pause: one polling step. A sleep that refuses fractions costs a whole second instead.
cocoon_pause()
{
	sleep 0.05 2>/dev/null || sleep 1
}

# cocoon_inside ROOT PATH: true when no component of PATH is ".." or, so far as it exists below
# ROOT, a symbolic link. The guest's absolute links point elsewhere while we still run outside it.
cocoon_inside()
{
	local path part IFS
	case /$2/ in
	*/../*) return 1 ;;
	esac
	path=$1
	IFS=/
	set -f
	# shellcheck disable=SC2086
	set -- $2
	set +f
	for part; do
		path=$path/$part
		[ ! -L "$path" ] || return 1
	done
}

# cocoon_same FILE TEXT: true when FILE holds exactly the lines of TEXT.
cocoon_same()
{
	local line text
	[ -f "$1" ] && [ ! -L "$1" ] || return 1
	text=''
	while IFS='' read -r line; do
		text="$text${text:+
}$line"
	done <"$1"
	[ "$text" = "$2" ]
}

# cocoon_mkdir DIR: mkdir -p that costs no process when there is nothing to do.
cocoon_mkdir()
{
	[ -d "$1" ] || mkdir -p "$1"
}

# cocoon_put ROOT FILE TEXT: makes ROOT/FILE hold TEXT and a newline. Replaces a symbolic link
# instead of following it, appears whole or not at all, and leaves an equal file untouched so that
# a boot that changes nothing writes nothing to the COW disk.
cocoon_put()
{
	local dir=${2%/*} file=$1/$2
	! cocoon_same "$file" "$3" || return 0
	if ! cocoon_inside "$1" "$dir" || ! cocoon_mkdir "$1/$dir"; then
		cocoon_warn "$2: not written: $dir is not a directory of this root"
		return 1
	fi
	[ ! -e "$file.cocoon" ] && [ ! -L "$file.cocoon" ] || rm -f "$file.cocoon"
	if ! printf '%s\n' "$3" >"$file.cocoon" || ! mv -f "$file.cocoon" "$file"; then
		cocoon_warn "$2: cannot write"
		return 1
	fi
}
