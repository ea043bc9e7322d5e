# shellcheck shell=dash disable=SC2015,SC2034,SC2153
# Disk hook: finds the layer and COW disks named on the kernel command line and mounts the overlay
# root. The mounts live on one tmpfs, /.cocoon, which moves below the new root as a whole:
#
#   /.cocoon/layers/<id>   one read-only EROFS per cocoon.layers= word
#   /.cocoon/cow           the ext4 COW disk: upper/ and work/ belong to overlayfs,
#                          instance holds the cocoon.instance= this root last booted as
#
# An id is a virtio-blk serial or a /dev/vdX path. Needs common.sh. Devices are polled through
# sysfs and devtmpfs, which are complete before any udev rule has run.

COCOON_MOUNTS=${COCOON_MOUNTS-/.cocoon}

# cocoon_scan_disks: sets COCOON_DISKS to " serial=vdX" words for every virtio disk with a usable
# serial, and COCOON_DISK_COUNT to the number of virtio disks. One read of each disk's serial per
# scan: it is a request to the device.
cocoon_scan_disks()
{
	local dir serial
	COCOON_DISKS='' COCOON_DISK_COUNT=0
	for dir in "$COCOON_SYS"/block/vd*; do
		[ -d "$dir" ] || continue
		COCOON_DISK_COUNT=$((COCOON_DISK_COUNT + 1))
		serial=''
		if [ -r "$dir/serial" ]; then
			read -r serial <"$dir/serial" || :
		elif [ -r "$dir/device/serial" ]; then
			read -r serial <"$dir/device/serial" || :
		fi
		case $serial in
		'' | *' '*) continue ;;
		esac
		COCOON_DISKS="$COCOON_DISKS $serial=${dir##*/}"
	done
}

# cocoon_find_disk ID: sets COCOON_BLOCK to the device node of ID, as of the last scan.
cocoon_find_disk()
{
	local rest
	case $1 in
	/dev/*)
		COCOON_BLOCK=$COCOON_DEV${1#/dev}
		;;
	*)
		case "$COCOON_DISKS " in
		*" $1="*) ;;
		*) return 1 ;;
		esac
		rest=${COCOON_DISKS#*" $1="}
		COCOON_BLOCK=$COCOON_DEV/${rest%% *}
		;;
	esac
	[ -b "$COCOON_BLOCK" ]
}

# cocoon_wait_disk ID SECONDS: cocoon_find_disk with fresh scans until it succeeds or SECONDS have
# passed. COCOON_SETTLE, if set, is a command of the front end to run once before waiting.
cocoon_wait_disk()
{
	local deadline
	! cocoon_find_disk "$1" || return 0
	cocoon_uptime
	deadline=$((COCOON_UPTIME + $2))
	${COCOON_SETTLE-}
	while :; do
		cocoon_scan_disks
		! cocoon_find_disk "$1" || return 0
		cocoon_uptime
		[ "$COCOON_UPTIME" -lt "$deadline" ] || return 1
		cocoon_pause
	done
}

# cocoon_good_id ID: an id becomes a directory name and a part of overlayfs' option string.
cocoon_good_id()
{
	case /$1/ in
	// | *[,:\\]* | */../* | */./*) return 1 ;;
	esac
}

# cocoon_set_scheduler DEVICE NAME: best effort, and no write (a queue freeze) when it is set.
cocoon_set_scheduler()
{
	local file current
	file=$COCOON_SYS/block/${1##*/}/queue/scheduler
	[ -w "$file" ] || return 0
	read -r current <"$file" || return 0
	case $current in
	*"[$2]"*) ;;
	*"$2"*) echo "$2" >"$file" 2>/dev/null || : ;;
	esac
}

# cocoon_mount_layers: mounts every layer, top first as listed; sets COCOON_LOWER.
cocoon_mount_layers()
{
	local ids id dir
	COCOON_LOWER=''
	ids=$COCOON_LAYERS,
	while [ -n "$ids" ]; do
		id=${ids%%,*} ids=${ids#*,}
		cocoon_good_id "$id" || {
			cocoon_fail "bad layer id '$id' in cocoon.layers="
			return 1
		}
		cocoon_wait_disk "$id" "$COCOON_TIMEOUT" || {
			cocoon_fail "layer $id: no such disk after $COCOON_TIMEOUT s"
			return 1
		}
		dir=$COCOON_MOUNTS/layers/${id#/}
		mkdir -p "$dir"
		mount -t erofs -o ro "$COCOON_BLOCK" "$dir" || {
			cocoon_fail "layer $id: cannot mount $COCOON_BLOCK as erofs"
			return 1
		}
		cocoon_set_scheduler "$COCOON_BLOCK" none
		COCOON_LOWER=$COCOON_LOWER${COCOON_LOWER:+:}$dir
	done
}

cocoon_mount_cow()
{
	cocoon_good_id "$COCOON_COW" || {
		cocoon_fail "bad disk id '$COCOON_COW' in cocoon.cow="
		return 1
	}
	cocoon_wait_disk "$COCOON_COW" "$COCOON_TIMEOUT" || {
		cocoon_fail "cow $COCOON_COW: no such disk after $COCOON_TIMEOUT s"
		return 1
	}
	mkdir -p "$COCOON_MOUNTS/cow"
	mount -t ext4 -o noatime "$COCOON_BLOCK" "$COCOON_MOUNTS/cow" || {
		cocoon_fail "cow $COCOON_COW: cannot mount $COCOON_BLOCK as ext4"
		return 1
	}
	cocoon_mkdir "$COCOON_MOUNTS/cow/upper"
	cocoon_mkdir "$COCOON_MOUNTS/cow/work"
	cocoon_set_scheduler "$COCOON_BLOCK" mq-deadline
}

# cocoon_mount_root ROOT: mounts the guest's root on the directory ROOT. The front end has loaded
# drivers and filesystems. On failure COCOON_ERROR says why and what was mounted stays for whoever
# looks at it in the rescue shell.
cocoon_mount_root()
{
	local dir
	[ -n "$COCOON_LAYERS" ] || {
		cocoon_fail "no cocoon.layers= on the kernel command line"
		return 1
	}
	[ -n "$COCOON_COW" ] || {
		cocoon_fail "no cocoon.cow= on the kernel command line"
		return 1
	}
	cocoon_mkdir "$COCOON_MOUNTS"
	mount -t tmpfs -o mode=0755 cocoon "$COCOON_MOUNTS" || {
		cocoon_fail "cannot mount a tmpfs on $COCOON_MOUNTS"
		return 1
	}
	cocoon_scan_disks
	cocoon_mount_layers && cocoon_mount_cow || return 1

	# index, redirect_dir, metacopy and xino are part of the COW's format: never change them.
	mount -t overlay -o "lowerdir=$COCOON_LOWER,upperdir=$COCOON_MOUNTS/cow/upper,workdir=$COCOON_MOUNTS/cow/work,index=on,redirect_dir=on,metacopy=on,xino=on" overlay "$1" || {
		cocoon_fail "cannot mount the overlay root (was this COW made for other layers?)"
		return 1
	}
	for dir in dev proc sys run .cocoon; do
		[ -d "$1/$dir" ] || mkdir "$1/$dir" || {
			cocoon_fail "cannot make /$dir on the overlay root"
			return 1
		}
	done
	mount -o move "$COCOON_MOUNTS" "$1/.cocoon" || {
		cocoon_fail "cannot move $COCOON_MOUNTS below the root"
		return 1
	}
	cocoon_reset_identity "$1"
	cocoon_mount_data "$1"
}

# cocoon_reset_identity ROOT: empties /etc/machine-id when this disk boots as another VM than the
# last time. A host that does not say who we are gets the older behaviour: a new id at every boot.
cocoon_reset_identity()
{
	local seen stored
	stored=$1/.cocoon/cow/instance
	seen=''
	if [ -n "$COCOON_INSTANCE" ]; then
		[ ! -f "$stored" ] || read -r seen <"$stored" || :
		[ "$seen" != "$COCOON_INSTANCE" ] || return 0
	fi
	if [ -d "$1/etc" ] && cocoon_inside "$1" etc; then
		if [ -L "$1/etc/machine-id" ]; then
			rm -f "$1/etc/machine-id"
		fi
		if [ ! -e "$1/etc/machine-id" ] || [ -s "$1/etc/machine-id" ]; then
			printf '' >"$1/etc/machine-id" || return 0
		fi
	fi
	[ -z "$COCOON_INSTANCE" ] || echo "$COCOON_INSTANCE" >"$stored"
}

# cocoon_mount_data ROOT: mounts the data disks of cocoon.data=<name>:<mount>. The disks were there
# before the kernel started, so two seconds are plenty, and a bad one never stops the boot.
cocoon_mount_data()
{
	local word name dir
	for word in $COCOON_DATA_WORDS; do
		name=${word%%:*} dir=${word#*:}
		case $dir/ in
		/ | //* | [!/]* | */./* | /dev/* | /proc/* | /sys/* | /run/* | /.cocoon/*)
			cocoon_warn "cocoon.data=$word: bad mount point"
			continue
			;;
		esac
		if ! cocoon_good_id "$name" || ! cocoon_wait_disk "$name" 2; then
			cocoon_warn "cocoon.data=$word: no such disk"
		elif ! cocoon_inside "$1" "${dir#/}" || ! mkdir -p "$1$dir"; then
			cocoon_warn "cocoon.data=$word: cannot make the mount point"
		elif ! mount -t ext4 -o noatime "$COCOON_BLOCK" "$1$dir"; then
			cocoon_warn "cocoon.data=$word: cannot mount $COCOON_BLOCK as ext4"
		fi
	done
}
