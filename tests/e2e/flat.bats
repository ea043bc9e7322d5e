#!/usr/bin/env bats
# Flat mode: the layers of an image merged into one disk. The kernel's overlayfs over the layers is the
# judge of the merge, fsck.erofs of the result, a booted guest of both.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
}

teardown()
{
	cocoon_teardown
}

setup_file()
{
	TINY=${COCOON_TINY_IMAGE:-}
	if [ -z "$TINY" ]; then
		TINY=$BATS_FILE_TMPDIR/tiny.tar
		"$BATS_TEST_DIRNAME/../../os-image/tiny/build" --with-whiteouts "$TINY" \
			2>"$BATS_FILE_TMPDIR/build.log" || {
			cat "$BATS_FILE_TMPDIR/build.log" >&2
			skip "cannot build the tiny image (no package source?)"
		}
	fi
	export TINY
}

# blobs IMAGE: paths of the layers, top first, from the store's record.
blobs()
{
	sqlite3 "$T/root/meta/"*.db "SELECT data FROM image_refs WHERE ref = '$1'" |
		jq -r --arg dir "$T/root/oci/blobs" '.layers | reverse[] | "\($dir)/\(.digest[7:]).erofs"'
}

flat_of()
{
	sqlite3 "$T/root/meta/"*.db "SELECT data FROM image_refs WHERE ref = '$1'" | jq -r '.flat // empty'
}

# The name that images.md §10.1 prescribes.
flat_name()
{
	sqlite3 "$T/root/meta/"*.db "SELECT data FROM image_refs WHERE ref = '$1'" |
		jq -j '"flat1\n" + ([.layers[].digest] | join("\n"))' | sha256sum | cut -c1-64
}

need_mounts()
{
	need fsck.erofs unshare sqlite3
	[ "$(id -u)" = 0 ] || skip "mounting needs root"
	if ! grep -qw erofs /proc/filesystems || ! grep -qw overlay /proc/filesystems; then
		skip "the kernel cannot mount erofs or overlay"
	fi
}

# same_as_overlay IMAGE: the flat blob against overlayfs over the layers: names, types, modes, owners, times,
# link texts, sizes, contents. In a mount namespace of its own, which takes the mounts with it.
same_as_overlay()
{
	local flat
	flat=$T/root/oci/blobs/$(flat_of "$1").erofs
	fsck.erofs "$flat"
	unshare -m mount -o loop,ro -t erofs "$flat" /mnt 2>"$T/why" ||
		skip "cannot mount: $(tail -n 1 "$T/why")"
	blobs "$1" >"$T/layers"
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare -m bash -euc '
		manifest()
		{
			cd "$1"
			find . -printf "%P\t%y\t%m\t%U:%G\t%T@\t%l\n" | LC_ALL=C sort
			find . -type f -printf "%P\0" | LC_ALL=C sort -z | xargs -0r sha256sum
		}
		cd "$1"
		lower=
		i=0
		while read -r blob; do
			mkdir -p "m/$i"
			mount -t erofs -o ro,loop "$blob" "m/$i"
			lower=$lower${lower:+:}m/$i
			i=$((i + 1))
		done <layers
		mkdir -p m/overlay m/flat m/empty
		[ "$i" -gt 1 ] || lower=$lower:m/empty
		mount -t overlay -o ro,lowerdir="$lower" overlay m/overlay
		mount -t erofs -o ro,loop "$2" m/flat
		(manifest m/overlay) >overlay.txt
		(manifest m/flat) >flat.txt
	' - "$T" "$flat"
	diff -u "$T/overlay.txt" "$T/flat.txt"
	[ "$(wc -l <"$T/flat.txt")" -gt 3 ]
	# No marker is left.
	! grep -P '\tc\t' "$T/flat.txt" || grep -q 'dev/' "$T/flat.txt"
}

@test "a guest boots from the merged layers, on the same COW again and again" {
	need qemu-system-x86_64 mkfs.ext4 sqlite3
	cocoon image import tw "$TINY"
	cocoon vm run --name one --flat --memory 512M --nics 0 --network user tw
	wait_console one 'cocoon-tiny ready: hostname=one disks=2 '
	# shellcheck disable=SC2016 # the guest's
	run -0 console one 'cd /usr/share/cocoon-test; echo $(find . -type f | sort); cat replaced; echo t >/root/kept; sync'
	[[ $output == *"./kept ./opaque/new ./replaced"* ]]
	[[ $output == *high* ]]

	run -0 cocoon vm inspect one
	vm=$output
	[ "$(jq -r .config.flat <<<"$vm")" = true ]
	name=$(flat_name tw)
	[ "$(flat_of tw)" = "$name" ]
	[ "$(jq -r '[.storage_configs[] | select(.role == "layer") | .path] | join(" ")' <<<"$vm")" = \
		"$T/root/oci/blobs/$name.erofs" ]
	[ "$(stat -c %a "$T/root/oci/blobs/$name.erofs")" = 444 ]
	run -0 console one 'cat /proc/cmdline'
	[[ $output == *"cocoon.layers=cocoon-layer0 "* ]]

	# A VM that has layers keeps them, one that is flat stays so.
	cocoon vm create --name two --memory 512M --nics 0 --network user tw
	[ "$(cocoon vm inspect two | jq '[.storage_configs[] | select(.role == "layer")] | length')" = 4 ]
	cocoon vm stop one
	cocoon vm start one
	wait_console one 'cocoon-tiny ready: hostname=one disks=2 '
	run -0 console one 'cat /root/kept'
	[[ $output == *t* ]]

	# The image pins the blob, and so does the VM that uses it, but no other.
	[ "$(sqlite3 "$T/root/meta/"*.db "SELECT count(*) FROM image_blobs WHERE hex = '$name'")" = 1 ]
	run -0 sqlite3 "$T/root/meta/"*.db "SELECT vm_id FROM vm_blobs WHERE hex = '$name'"
	[ "$output" = "$(jq -r .id <<<"$vm")" ]
	[ -z "$(ls "$T/root/oci/temp")" ]
}

@test "the merged tree of the whiteout image is what overlayfs shows" {
	need_mounts
	cocoon image import tw "$TINY"
	cocoon vm create --name one --flat --nics 0 --network user tw
	same_as_overlay tw
}

# layer DIR SEED: a layer of few names, so that layers meet; everything that can replace everything.
layer()
{
	local i a b c path names=(a b c d.e .f)

	mkdir -p "$1"
	RANDOM=$2
	for ((i = 0; i < 14; i++)); do
		a=${names[RANDOM % 5]} b=${names[RANDOM % 5]} c=${names[RANDOM % 5]}
		case $((RANDOM % 3)) in
		0) path=$a ;;
		1) path=$a/$b ;;
		*) path=$a/$b/$c ;;
		esac
		mkdir -p "$1/$(dirname "$path")" 2>/dev/null || continue
		case $((RANDOM % 8)) in
		0 | 1) [ -d "$1/$path" ] || echo "$2-$i" >"$1/$path" ;;
		2) [ -e "$1/$path" ] || ln -sfn "to-$i" "$1/$path" ;;
		3 | 4)
			if [ -e "$1/$path" ] || [ -L "$1/$path" ] || mkdir "$1/$path"; then
				[ ! -d "$1/$path" ] || [ -L "$1/$path" ] || chmod $((RANDOM % 2 ? 700 : 1777)) "$1/$path"
			fi
			;;
		5 | 6)
			# A name that is there would win over its whiteout.
			[ -e "$1/$path" ] || [ -L "$1/$path" ] || : >"$1/$(dirname "$path")/.wh.$(basename "$path")"
			;;
		7) : >"$1/$(dirname "$path")/.wh..wh..opq" ;;
		esac
	done
}

@test "merged random trees are what overlayfs shows" {
	need_mounts
	mkdir -p "$T/boot/boot" "$T/boot/z"
	echo kernel >"$T/boot/boot/vmlinuz-1"
	echo initrd >"$T/boot/boot/initrd.img-1"
	for round in $(seq 6); do
		tars=()
		for i in 1 2 3 4; do
			layer "$T/r$round/$i" $((round * 100 + i))
			# What the layer has no entry of stays the runtime's default.
			tar -C "$T/r$round/$i" --sort=name -cf "$T/r$round/$i.tar" .
			tars+=("$T/r$round/$i.tar")
		done
		tar -C "$T/boot" -cf "$T/r$round/boot.tar" .
		cocoon image import "random$round" "${tars[@]}" "$T/r$round/boot.tar"
		cocoon vm create --name "vm$round" --flat --nics 0 --network user "random$round"
		echo "round $round"
		same_as_overlay "random$round"
	done
}

@test "two at once make one blob; a failure or a crash leaves nothing" {
	need mkfs.ext4 sqlite3
	cocoon image import tw "$TINY"
	before=$(ls "$T/root/oci/blobs")
	COCOON_FAILPOINT=image.flat:error run -1 cocoon vm create --name no --flat --nics 0 --network user tw
	[ "$(ls "$T/root/oci/blobs")" = "$before" ]
	[ -z "$(ls "$T/root/oci/temp")" ]
	[ -z "$(flat_of tw)" ]
	run cocoon vm inspect no
	[ "$status" -ne 0 ]
	COCOON_FAILPOINT=image.flat run -137 cocoon vm create --name no --flat --nics 0 --network user tw
	[ "$(ls "$T/root/oci/blobs")" = "$before" ]
	[ -z "$(flat_of tw)" ]

	cocoon vm create --name one --flat --nics 0 --network user tw &
	first=$!
	cocoon vm create --name two --flat --nics 0 --network user tw &
	wait $first
	wait $!
	[ "$(ls "$T/root/oci/blobs" | wc -w)" = $(($(wc -w <<<"$before") + 1)) ]
	[ -z "$(ls "$T/root/oci/temp")" ]

	# Again: same bytes, though the blob was lost.
	blob=$T/root/oci/blobs/$(flat_of tw).erofs
	sum=$(sha256sum <"$blob")
	rm "$blob"
	cocoon vm create --name three --flat --nics 0 --network user tw
	[ "$(sha256sum <"$blob")" = "$sum" ]
}

@test "more layers than the driver attaches are merged by themselves" {
	need mkfs.ext4 sqlite3
	mkdir -p "$T/l/boot"
	echo kernel >"$T/l/boot/vmlinuz-1"
	echo initrd >"$T/l/boot/initrd.img-1"
	tars=()
	for i in $(seq 97); do
		echo "$i" >"$T/l/file$i"
		tar -C "$T/l" -cf "$T/l$i.tar" .
		rm "$T/l/file$i"
		tars+=("$T/l$i.tar")
	done
	cocoon image import many "${tars[@]}"
	cocoon image import fits "${tars[@]:1}"
	cocoon vm create --name many --nics 0 --network user many
	[ "$(cocoon vm inspect many | jq -c '[.config.flat, (.storage_configs | length)]')" = '[true,2]' ]
	cocoon vm create --name fits --nics 0 --network user fits
	[ "$(cocoon vm inspect fits | jq -c '[.config.flat // false, (.storage_configs | length)]')" = '[false,97]' ]
	disks=()
	for _ in $(seq 40); do
		disks+=(--data-disk "size=16M,fstype=none,mount=")
	done
	cocoon vm create --name disks --nics 0 --network user "${disks[@]}" fits
	[ "$(cocoon vm inspect disks | jq -c '[.config.flat, (.storage_configs | length)]')" = '[true,42]' ]
}
