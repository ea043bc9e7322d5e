#!/usr/bin/env bats
# Cloud images: from a URL or a file into the store, and from there, with a cloud-init seed, by UEFI
# into a running guest. The guest is small and its cloud-init a script; cloudimg-debian.bats has the real
# ones.

load lib

# UEFI takes its time when it is emulated on a busy machine.
export BATS_TEST_TIMEOUT=600

setup()
{
	cocoon_setup
	need qemu-system-x86_64 qemu-img jq
}

teardown()
{
	local status=0

	[ -z "${HTTPD-}" ] || kill "$HTTPD" 2>/dev/null || true
	[ -z "${GUEST-}" ] || kill "$GUEST" 2>/dev/null || true
	cocoon_teardown || status=1
	return $status
}

disk()
{
	[ -f "$COCOON_TEST_CACHE/$1.qcow2" ] ||
		skip "needs os-image/$1, which tests/e2e/prepare could not build or was told not to"
	echo "$COCOON_TEST_CACHE/$1.qcow2"
}

# Serves $T/www; $WEB is its address.
with_web()
{
	need busybox
	mkdir -p "$T/www"
	WEB=127.0.0.1:$(free_port)
	busybox httpd -f -p "$WEB" -h "$T/www" 3>&- &
	HTTPD=$!
	wait_for 10 bash -c "exec 3<>/dev/tcp/${WEB%:*}/${WEB#*:}"
}

nothing_left()
{
	[ "$(cocoon image list)" = "No images found." ]
	[ -z "$(find "$T/root/cloudimg" "$T/root/oci" -type f)" ]
}

# $1: the words that the one error line has; the rest: the command.
refused()
{
	local words=$1

	shift
	run -1 "$@"
	[[ $output == *"$words"* ]] || {
		echo "not in the output: $words"
		echo "$output"
		return 1
	}
	[ "$(grep -c '^Error: ' <<<"$output")" -eq 1 ]
	[ "$(wc -l <<<"$output")" -le 2 ] # a hint may follow
}

field()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

# wait_boot VM REGEX: until the guest has printed it, at this boot or an earlier one. What QEMU copies to
# the log is cheaper to look at, on a busy machine, than a console to attach to.
wait_boot()
{
	wait_for 240 grep -aqE -- "$2" "$T/log/qemu/$(field "$1" .id)/console.log"
}

vmm_words()
{
	tr '\0' '\n' <"/proc/$(field "$1" .pid)/cmdline"
}

@test "a URL becomes an image once: pulled, listed, up to date without a server, removed" {
	local id image vm

	image=$(disk tiny-cloud)
	with_web
	ln -s "$image" "$T/www/tiny.qcow2"
	cocoon image pull "http://$WEB/tiny.qcow2"
	run -0 cocoon image list --format json
	[ "$(jq -r '.[0].type' <<<"$output")" = cloudimg ]
	[ "$(jq -r '.[0].name' <<<"$output")" = "http://$WEB/tiny.qcow2" ]
	[ "$(jq -r '.[0].id' <<<"$output")" = "sha256:$(sha256sum <"$image" | cut -d ' ' -f 1)" ]
	id=$(jq -r '.[0].id[7:19]' <<<"$output")
	[ "$(cocoon image inspect "$id" | jq -r .name)" = "http://$WEB/tiny.qcow2" ]
	[ "$(stat -c %a "$T"/root/cloudimg/blobs/*.qcow2)" = 444 ]
	# The same disk under another name is the same blob.
	cocoon image import tiny "$image"
	[ "$(ls "$T/root/cloudimg/blobs" | wc -l)" = 1 ]

	# A VM may name the URL at once.
	ln -s "$image" "$T/www/again.qcow2"
	vm=$(cocoon vm run -q --memory 512M --network user "http://$WEB/again.qcow2")
	[ "$(field "$vm" .config.name)" = "cocoon-http---${WEB/:/-}-again.qcow2" ]
	cocoon vm rm --force "$vm"
	cocoon image rm "http://$WEB/again.qcow2"

	kill "$HTTPD"
	run -0 cocoon image pull "http://$WEB/tiny.qcow2"
	[[ $output == *"up to date"* ]]
	run -1 cocoon image pull --force "http://$WEB/tiny.qcow2"
	[ "$(cocoon image list --format json | jq length)" = 2 ]
	cocoon image rm "$id"
	[ "$(cocoon image list)" = "No images found." ]
}

@test "a killed pull is taken up where it was" {
	with_web
	truncate -s 8M "$T/www/disk.raw"
	head -c 3M /dev/urandom | dd of="$T/www/disk.raw" bs=1M seek=2 conv=notrunc status=none
	run -137 env COCOON_FAILPOINT=url.part "$COCOON" image pull "http://$WEB/disk.raw"
	[ "$(cocoon image list)" = "No images found." ]
	cocoon image pull "http://$WEB/disk.raw"
	qemu-img compare -q "$T/www/disk.raw" "$T"/root/cloudimg/blobs/*.qcow2
	[ -z "$(ls -A "$T/root/cloudimg/temp")" ]
}

@test "pulls of one URL at the same time leave one good copy" {
	local pids=() pid

	with_web
	head -c 6M /dev/urandom >"$T/www/disk.raw"
	for _ in 1 2 3 4; do
		cocoon image pull "http://$WEB/disk.raw" 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	[ "$(ls "$T/root/cloudimg/blobs" | wc -l)" = 1 ]
	[ -z "$(ls -A "$T/root/cloudimg/temp")" ]
	qemu-img compare -q -f raw -F qcow2 "$T/www/disk.raw" "$T"/root/cloudimg/blobs/*.qcow2
}

@test "files, parts, streams and compressed files of a disk are one image" {
	local image

	need gzip xz zstd
	image=$(disk tiny-cloud)
	cocoon image import file "$image"
	split -b 5M "$image" "$T/part."
	cocoon image import parts "$T"/part.*
	cocoon image import stdin <"$image"
	gzip -1 <"$image" | cocoon image import gzip
	zstd -q "$image" -o "$T/disk.zst"
	cocoon image import zstd "$T/disk.zst"
	[ "$(cocoon image list --format json | jq '[.[].id] | unique | length')" = 1 ]
	[ "$(cocoon image list --format json | jq length)" = 5 ]
	[ "$(ls "$T/root/cloudimg/blobs" | wc -l)" = 1 ]
	run -1 cocoon image import many "$T/disk.zst" "$T/disk.zst"
	[[ $output == *"stream imports accept exactly one file, got 2"* ]]

	qemu-img convert -f qcow2 -O raw "$image" "$T/disk.raw"
	cocoon image import raw "$T/disk.raw"
	run -0 qemu-img compare -f raw -F qcow2 "$T/disk.raw" \
		"$T/root/cloudimg/blobs/$(cocoon image inspect raw | jq -r '.id[7:]').qcow2"
}

@test "hostile images end in one error and leave nothing" {
	with_web
	cd "$T/www"
	echo secret >"$T/secret"
	truncate -s 1M "$T/secret"
	qemu-img create -q -f qcow2 -F raw -b "$T/secret" backed.qcow2
	qemu-img create -q -f qcow2 -o data_file="$T/data",data_file_raw=on outside.qcow2 1M
	qemu-img create -q -f vmdk disk.vmdk 1M
	head -c 2M /dev/urandom >"$T/noise"
	qemu-img convert -q -f raw -O qcow2 "$T/noise" good.qcow2
	cp good.qcow2 locked.qcow2
	printf '\0\0\0\1' | dd of=locked.qcow2 bs=1 seek=32 conv=notrunc status=none
	head -c 1M good.qcow2 >cut.qcow2
	head -c 50 good.qcow2 >header.qcow2
	echo '<html>Please log in</html>' >page
	truncate -s 64M zero.raw
	gzip -1 <zero.raw >bomb.gz
	gzip -1 <good.qcow2 | head -c 1M >cut.gz

	url=http://$WEB
	refused "it has a backing file" cocoon image pull "$url/backed.qcow2"
	refused "it has a backing file" cocoon image import x backed.qcow2
	refused "its data is in an external file" cocoon image pull "$url/outside.qcow2"
	refused "its data is in an external file" cocoon image import x <outside.qcow2
	refused "it is encrypted" cocoon image import x locked.qcow2
	refused "a VMDK disk" cocoon image pull "$url/disk.vmdk"
	refused "damaged or incomplete" cocoon image pull "$url/cut.qcow2"
	refused "damaged or incomplete" cocoon image import x cut.qcow2
	refused "header is cut short" cocoon image pull "$url/header.qcow2"
	refused "an HTML or XML page" cocoon image pull "$url/page"
	refused "HTTP status 404" cocoon image pull "$url/nothing"
	refused "the download: " cocoon image pull "$url/cut.gz"
	refused "cannot detect file type" cocoon image import x "$T/noise"
	export COCOON_CLOUDIMG_MAX_SIZE=1M
	refused "the file is larger than 1MiB" cocoon image pull "$url/good.qcow2"
	refused "the disk image has more than 1MiB" cocoon image import x good.qcow2
	refused "the disk image has more than 1MiB" cocoon image pull "$url/bomb.gz"
	unset COCOON_CLOUDIMG_MAX_SIZE
	nothing_left
}

@test "the seed is applied at the first boot and gone at the second" {
	local image ip

	need mkfs.ext4 ip nft nsenter unshare
	image=$(disk tiny-cloud)
	with_net
	cocoon image import tiny "$image"
	cocoon vm run --name one --memory 512M --nics 2 --user alice --password geheim --storage 11G \
		--data-disk size=64M,mount=/srv/data --data-disk size=16M,fstype=none,mount= tiny
	[ "$(stat -c '%a %s' "$(field one '.storage_configs[-1].path')")" = "600 1048576" ]
	[ "$(field one '[.storage_configs[].role] | join(" ")')" = "cow data data cidata" ]
	vmm_words one | grep -q cidata.img
	# The password is there, and nowhere else.
	[ "$(grep -rlaF geheim "$T/run" "$T/log" "$T/root/meta")" = "$(field one '.storage_configs[-1].path')" ]
	ip=$(field one '[.network_configs[].network.ip] | join(",")')
	wait_boot one "cocoon-tiny seed: instance=$(field one .id) user=alice mounts=1 network=2"
	wait_boot one "cocoon-tiny ready: hostname=one disks=4 net=$ip"
	run -0 console one 'echo kept >/srv/data/kept; sync; ip route | head -n 2'
	[[ $output == *"default via"* ]]

	# What a VM is made of stays while the image goes.
	cocoon image rm tiny
	cocoon vm stop one
	[ -z "$(grep -rlaF geheim "$T/run" "$T/log" "$T/root/meta")" ]
	[ "$(stat -c '%a %s' "$(field one '.storage_configs[-1].path')")" = "600 1048576" ]
	qemu-img info --output=json "$(field one '.storage_configs[0].path')" >"$T/info"
	[ "$(jq '."virtual-size"' "$T/info")" = $((11 << 30)) ]
	[[ $(jq -r '."backing-filename"' "$T/info") == "$T/root/cloudimg/blobs/"*.qcow2 ]]
	[ "$(jq -r '."backing-filename-format"' "$T/info")" = qcow2 ]

	cocoon vm start one
	[ "$(vmm_words one | grep -c cidata.img)" = 0 ]
	wait_boot one 'cocoon-tiny seed: none'
	wait_boot one "cocoon-tiny ready: hostname=one disks=3 net=$ip"
	run -0 console one 'cat /srv/data/kept'
	[[ $output == *kept* ]]
	cocoon vm rm --force one
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
}

@test "a failed first start keeps the seed for the next" {
	cocoon image import tiny "$(disk tiny-cloud)"
	cocoon vm create --name late --memory 512M --network user tiny
	[ "$(field late .first_booted)" != true ]
	run -1 env COCOON_FAILPOINT=start.T4:error "$COCOON" vm start late
	[ "$(field late .state)" = error ]
	cocoon vm start late
	vmm_words late | grep -q cidata.img
	wait_boot late 'cocoon-tiny seed: instance='
	[ "$(field late .first_booted)" = true ]
}

@test "a clone gets a seed of its own, without credentials" {
	local seed

	need mtype
	cocoon image import tiny "$(disk tiny-cloud)"
	cocoon vm run --name source --memory 512M --network user --password geheim tiny
	wait_boot source 'cocoon-tiny ready: hostname=source'
	cocoon snapshot save --name saved source
	cocoon vm clone --name copy saved
	seed=$(field copy '.storage_configs[-1].path')
	[ "$seed" = "$T/run/qemu/$(field copy .id)/cidata.img" ]
	run -0 mtype -i "$seed" ::/meta-data
	[ "$output" = "instance-id: '$(field copy .id)'
local-hostname: 'copy'" ]
	run -0 mtype -i "$seed" ::/network-config
	[[ $output == *"macaddress: '$(field copy '.network_configs[0].mac')'"* ]]
	[ "$(grep -caF geheim "$seed")" = 0 ]
	# The device of the restored guest shows it.
	run -0 console copy 'dd if=/dev/vdb bs=512 skip=21 count=1 2>/dev/null'
	[[ $output == *"$(field copy .id)"* ]]
	# It counts as booted.
	cocoon vm stop copy
	cocoon vm start copy
	[ "$(vmm_words copy | grep -c cidata.img)" = 0 ]
}

@test "what a cloud image cannot be given is refused before anything is made" {
	cocoon image import tiny "$(disk tiny-cloud)"
	refused "control character" cocoon vm create --data-disk $'size=16M,mount=/a\vb' tiny
	refused "random" cocoon vm create --password RANDOM tiny
	refused "invalid user" cocoon vm create --user 'a: b' tiny
	refused "not allowed" cocoon vm create --password 'a`b' tiny
	COCOON_QEMU_FIRMWARE=$T/none.fd refused "qemu_firmware" cocoon vm create --network user tiny
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	[ -z "$(find "$T/run" -mindepth 2 -print -quit)" ]
	# A mount point that fstab cannot hold is left to the user.
	run -0 cocoon vm create --network user --name spaces --data-disk 'size=16M,mount=/a b' tiny
	[[ $output == *'cloud-init cannot carry the mount point "/a b"'* ]]
}

@test "--windows gets firmware but neither seed nor balloon, and wants a cloud image" {
	cocoon image import tiny "$(disk tiny-cloud)"
	COCOON_QEMU_BALLOON=true cocoon vm create --name win --windows --memory 512M --network user tiny
	[ "$(field win '[.storage_configs[].role] | join(" ")')" = cow ]
	[ ! -e "$T/run/qemu/$(field win .id)/cidata.img" ]
	[ -s "$T/run/qemu/$(field win .id)/efivars.fd" ]
	COCOON_QEMU_BALLOON=true cocoon vm start win
	[ "$(vmm_words win | grep -c virtio-balloon)" = 0 ]
	wait_boot win 'cocoon-tiny ready: '
	with_tiny_oci
	refused "--windows requires cloudimg (UEFI boot), got OCI direct boot image" \
		cocoon vm create --windows --network user oci
}

with_tiny_oci()
{
	cocoon image import oci "$(tiny)"
}

# A driver that is not QEMU: its double says what it was given.
@test "Cloud Hypervisor gets firmware, overlay, data disk and, the first time only, the seed" {
	local vm

	need mkfs.ext4
	with_binary cloud-hypervisor COCOON_CH_BINARY '' ch/cloud-hypervisor
	export COCOON_HYPERVISOR=cloud-hypervisor
	cocoon image import tiny "$(disk tiny-cloud)"
	refused "firmware $T/root/firmware/CLOUDHV.fd is missing" cocoon vm create --nics 0 tiny
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	mkdir -p "$T/root/firmware"
	head -c 4096 /dev/zero >"$T/root/firmware/CLOUDHV.fd"
	vm=$(cocoon vm run -q --nics 0 --data-disk size=16M tiny)
	[ "$(vmm_disks "$vm")" = "overlay.qcow2 data-data1.raw cidata.img" ]
	vmm_words "$vm" | grep -qx "$T/root/firmware/CLOUDHV.fd"
	vmm_words "$vm" | grep -q '/overlay.qcow2,image_type=qcow2,backing_files=on'
	cocoon vm stop --force "$vm"
	cocoon vm start "$vm"
	[ "$(vmm_disks "$vm")" = "overlay.qcow2 data-data1.raw" ]
	cocoon vm rm --force "$vm"
}

vmm_disks()
{
	vmm_words "$1" | sed -n 's|^path=\([^,]*/\)\?\([^,/]*\),.*|\2|p' | paste -sd ' '
}

@test "vm debug boots the same VM from a shell and tells no password" {
	cocoon image import tiny "$(disk tiny-cloud)"
	cd "$T"
	cocoon vm debug --name dbg --memory 512M --network user --password geheim --storage 12G tiny >debug.sh
	[ "$(grep -c geheim debug.sh)" = 0 ]
	grep -q '^# without the cloud-init disk' debug.sh
	bash debug.sh >"$T/out" 2>&1 <>/dev/zero 3>&- &
	GUEST=$!
	wait_for 240 grep -q 'cocoon-tiny ready: hostname=' "$T/out"
	[ "$(qemu-img info -U --output=json "$T/cow-dbg.qcow2" | jq '."virtual-size"')" = $((12 << 30)) ]
	pkill -P "$GUEST" || true
	wait "$GUEST" || true
	GUEST=
}
