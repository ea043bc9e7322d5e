#!/usr/bin/env bats
# Guests boot from our layers: virtio-pci through the program, virtio-mmio on QEMU's microvm machine by a
# command line made here; and a copy-on-write disk, which is bound to its layers' bytes, outlives that the
# layers were deleted and fetched again. COCOON_TINY_IMAGE and COCOON_DEBIAN_IMAGE name archives of os-image;
# without the second its tests are skipped.

load lib
load lib/guest

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

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4 sqlite3 jq
}

teardown()
{
	guest_kill
	cocoon_teardown
}

# lay_out IMAGE: $T/guest as guest_boot wants it, of what the store has.
lay_out()
{
	local record i=0 digest kernel initrd

	record=$(sqlite3 "$T/root/meta/"*.db "SELECT data FROM image_refs WHERE ref = '$1'")
	rm -rf "$T/guest" && mkdir "$T/guest"
	for digest in $(jq -r '.layers[].digest[7:]' <<<"$record"); do
		ln -s "$T/root/oci/blobs/$digest.erofs" "$T/guest/layer$i.erofs"
		i=$((i + 1))
	done
	echo $i >"$T/guest/layers"
	kernel=$(jq -r '.kernel_layer[7:]' <<<"$record") initrd=$(jq -r '.initrd_layer[7:]' <<<"$record")
	ln -s "$T/root/oci/boot/$kernel/vmlinuz" "$T/root/oci/boot/$initrd/initrd.img" "$T/guest"
}

# forget IMAGE: the record and every blob and boot file of it are gone.
forget()
{
	cocoon image rm "$1"
	rm -rf "$T/root/oci/blobs" "$T/root/oci/boot"
}

sums()
{
	(cd "$T/root/oci" && sha256sum blobs/*.erofs boot/*/*)
}

power_off()
{
	guest_qmp system_powerdown
	guest_exited "${1-30}"
}

# The overlay was mounted with what the disk remembers of its layers, or it would have said so.
same_layers()
{
	guest_run 'dmesg | grep -ciE "overlayfs: .*(verify|origin|index)|erofs: .*(corrupt|error)" || :'
	[ "$GUEST_OUTPUT" = 0 ]
}

# The whiteouts of the tiny image's upper layers did their work.
whiteouts_obeyed()
{
	guest_run 'ls -1 /usr/share/cocoon-test'
	[ "$GUEST_OUTPUT" = "kept
opaque
replaced" ]
}

# microvm READY OPTION...: boots the machine until a line matches. Now and then its emulated timers leave
# the kernel spinning before it says a word (one CPU and a given TSC frequency make that rare): that is tried
# again; a guest that spoke is not.
microvm()
{
	local ready=$1 try

	shift
	for try in 1 2 3; do
		guest_boot --image "$T/guest" --cow "$T/cow" --microvm --cpus 1 "$@"
		! guest_wait "$ready" 60 || return 0
		! grep -aqvE 'Probing EDD|^[[:space:]]*$' "$GUEST_CONSOLE" || return 1
		echo "try $try: the kernel never spoke" >&2
		guest_kill
	done
	return 1
}

@test "virtio-mmio: boots by /dev/vdX; the disk works on layers that were imported again" {
	cocoon image import tiny "$TINY"
	sums >"$T/before"
	lay_out tiny
	guest_ext4 "$T/cow"
	microvm '^cocoon-tiny ready: hostname=first disks=5 ' --append cocoon.hostname=first
	whiteouts_obeyed
	# Copied up from a lower layer, and merged directories: what the index is about.
	guest_run 'echo kept >/root/kept; chmod 700 /etc; mv /usr/share/cocoon-test/kept /root/moved; sync'
	power_off

	forget tiny
	cocoon image import tiny "$TINY"
	sums | diff "$T/before" -
	microvm '^cocoon-tiny ready: hostname=again disks=5 ' --append cocoon.hostname=again
	same_layers
	guest_run 'cat /root/kept; ls /root/moved; stat -c %a /etc'
	[ "$GUEST_OUTPUT" = "kept
/root/moved
700" ]
}

@test "virtio-pci: a VM starts again after its image was deleted and pulled again" {
	with_registry
	registry_push "$TINY" demo/tiny:1
	cocoon image pull "$REGISTRY/demo/tiny:1"
	sums >"$T/before"
	cocoon vm run --name one --memory 512M --network user "$REGISTRY/demo/tiny:1"
	wait_console one 'cocoon-tiny ready: hostname=one'
	console one 'echo kept >/root/kept; chmod 700 /etc; sync'
	cocoon vm stop one

	forget "$REGISTRY/demo/tiny:1"
	cocoon image pull "$REGISTRY/demo/tiny:1"
	sums | diff "$T/before" -
	cocoon vm start one
	wait_console one 'cocoon-tiny ready: hostname=one'
	# shellcheck disable=SC2016 # the guest's dollars
	run -0 console one 'echo $(cat /root/kept) $(stat -c %a /etc) $(dmesg | grep -ciE "overlayfs: .*(verify|origin)")'
	[[ $output == *"kept 700 0"* ]]
}

debian()
{
	[ -f "${COCOON_DEBIAN_IMAGE-}" ] || skip "COCOON_DEBIAN_IMAGE names no archive (os-image/debian-12)"
	export GUEST_TIMEOUT=600
	cocoon image import debian "$COCOON_DEBIAN_IMAGE"
	lay_out debian
	guest_ext4 "$T/cow" 1G
}

# Twice on one disk, the second time on layers that were imported again.
debian_twice()
{
	guest_boot --image "$T/guest" --cow "$T/cow" --memory 1024 "$@" --append cocoon.hostname=deb
	guest_login root cocoon
	guest_run 'systemctl is-system-running --wait; systemctl --failed --no-legend | wc -l' 120
	[ "$GUEST_OUTPUT" = "running
0" ]
	guest_run 'dpkg --verify 2>/dev/null | grep -v "^..5...... c\|missing" | wc -l; echo kept >/root/kept; chmod 700 /opt; sync' 120
	[ "$GUEST_OUTPUT" = 0 ]
	power_off 120
	sums >"$T/before"
	forget debian
	cocoon image import debian "$COCOON_DEBIAN_IMAGE"
	sums | diff "$T/before" -
	guest_boot --image "$T/guest" --cow "$T/cow" --memory 1024 "$@" --append cocoon.hostname=deb
	guest_login root cocoon
	same_layers
	guest_run 'cat /root/kept; stat -c %a /opt'
	[ "$GUEST_OUTPUT" = "kept
700" ]
}

@test "Debian with systemd on q35 (COCOON_DEBIAN_IMAGE)" {
	debian
	debian_twice
}

@test "Debian with systemd on microvm (COCOON_DEBIAN_IMAGE)" {
	debian
	debian_twice --microvm
}
