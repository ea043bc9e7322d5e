# shellcheck shell=dash
# Shared by the builders of disk images, beside lib.sh: partitions, file systems and qcow2 without
# mounts, loop devices or a VM.
#
# Not the same bytes every time: mke2fs keeps the time at which a file came into the tree.

disk_need()
{
	need mformat mmd mcopy sfdisk mke2fs qemu-img
}

# disk_ext4 DIR OUT LABEL: an ext4 file system holding DIR with a third of room to spare; owners and
# modes as they are for whoever runs this.
disk_ext4()
{
	local kib inodes
	kib=$(du -sk --apparent-size "$1" | cut -f 1)
	inodes=$(find "$1" -xdev | wc -l)
	rm -f "$2"
	truncate -s $((kib + kib / 3 + 32768))K "$2"
	# A fixed identity, and nothing of the hour.
	E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -d "$1" -L "$3" -m 0 -N $((inodes * 2 + 2048)) \
		-U 6f636f6f-6e00-4000-8000-000000000001 \
		-E hash_seed=6f636f6f-6e00-4000-8000-000000000002,root_owner=0:0 \
		"$2"
}

# disk_esp DIR OUT MIB: a FAT32 file system of that size holding what is in DIR.
disk_esp()
{
	local file
	rm -f "$2"
	truncate -s "$3M" "$2"
	mformat -i "$2" -F -v ESP -N 0c0c0001 ::
	(cd "$1" && find . -mindepth 1 -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +)
	# In name order: the directory says in which order files came.
	(cd "$1" && find . -mindepth 1 | sort) | while read -r file; do
		if [ -d "$1/$file" ]; then
			mmd -i "$2" "::/${file#./}"
		else
			mcopy -m -i "$2" "$1/$file" "::/${file#./}"
		fi
	done
}

# disk_assemble OUT.qcow2 ESP ROOT: GPT with the two, root last so that it can grow.
disk_assemble()
{
	local raw esp root
	raw=$WORK/disk.raw
	esp=$(($(stat -c %s "$2") / 1048576))
	root=$((($(stat -c %s "$3") + 1048575) / 1048576))
	rm -f "$raw"
	truncate -s $((esp + root + 2))M "$raw"
	sfdisk --quiet --no-reread --no-tell-kernel "$raw" <<TEXT
label: gpt
label-id: 6F636F6F-6E00-4000-8000-000000000003
start=1MiB, size=${esp}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=ESP, uuid=6F636F6F-6E00-4000-8000-000000000004
start=$((esp + 1))MiB, size=${root}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root, uuid=6F636F6F-6E00-4000-8000-000000000005
TEXT
	dd if="$2" of="$raw" bs=1M seek=1 conv=notrunc,sparse status=none
	dd if="$3" of="$raw" bs=1M seek=$((esp + 1)) conv=notrunc,sparse status=none
	rm -f "$2" "$3"
	qemu-img convert -q -f raw -O qcow2 -c -o compat=1.1 "$raw" "$1.partial" || {
		rm -f "$1.partial"
		die "cannot write $1"
	}
	rm -f "$raw"
	mv -f "$1.partial" "$1"
	note "$1: $(($(stat -c %s "$1") / 1024)) KiB"
}
