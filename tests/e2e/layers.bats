#!/usr/bin/env bats
# Layers become images that the judges (fsck.erofs, the kernel, GNU tar, umoci) agree with, and the same
# image whatever way they came.

load lib

setup()
{
	cocoon_setup
	BIN=$(dirname "$COCOON")/tests
	[ -x "$BIN/layer2erofs" ] || skip "needs $BIN/layer2erofs"
	need fsck.erofs tar
}

teardown()
{
	local m

	for m in "$T"/mnt "$T"/rt/mnt; do
		! mountpoint -q "$m" 2>/dev/null || umount "$m"
	done
	cocoon_teardown
}

# Loop mounts of EROFS need root and a kernel with both.
need_mount()
{
	[ "$(id -u)" -eq 0 ] || skip "needs root to mount"
	mkdir -p "$T/probe" "$T/mnt"
	tar -C "$T/probe" -cf "$T/probe.tar" .
	"$BIN/layer2erofs" "$T/probe.img" <"$T/probe.tar"
	mount -o loop,ro -t erofs "$T/probe.img" "$T/mnt" 2>"$T/why" || skip "cannot mount: $(tail -n 1 "$T/why")"
	umount "$T/mnt"
}

# equal TAR DIR: the layer, converted and mounted, is the tree.
equal()
{
	rm -f "$T/img"
	"$BIN/layer2erofs" "$T/img" <"$1"
	fsck.erofs "$T/img"
	mount -o loop,ro -t erofs "$T/img" "$T/mnt"
	"$BIN/treecmp" "$2" "$T/mnt"
	umount "$T/mnt"
}

@test "random trees: as GNU tar unpacks them (COCOON_TREES, COCOON_TREE_SEED)" {
	need_mount
	"$TOP/tests/tools/compare-trees" "$BIN" "$T/rt" "${COCOON_TREE_SEED:-1}" "${COCOON_TREES:-25}"
}

@test "a real tree: as GNU tar unpacks it" {
	local dir

	need_mount
	mkdir "$T/out"
	for dir in "${COCOON_TREE:-}" /usr/share/doc /usr/include; do
		[ ! -d "$dir" ] || break
	done
	tar --format=pax --xattrs -C "$dir" -cf "$T/tar" .
	tar --xattrs --xattrs-include='*' -C "$T/out" -xpf "$T/tar"
	equal "$T/tar" "$T/out"
}

@test "memory stays bounded whatever the layer: a million entries, long texts, many attributes" {
	local bin=$BIN kind

	# A sanitizer's own memory would be what is measured.
	! grep -q __asan_init "$bin/layer2erofs" || bin=$TOP/build/tests
	if [ ! -x "$bin/layer2erofs" ] || grep -q __asan_init "$bin/layer2erofs"; then
		skip "needs a build without sanitizers in build/"
	fi
	for kind in "dir 100000" "tree 1000000" "xattr 4000" "link 10000" "deep 200"; do
		# shellcheck disable=SC2086 # two words
		"$bin/hugelayer" $kind | TMPDIR=$T LAYER2EROFS_PEAK=1 "$bin/layer2erofs" "$T/img" >"$T/peak"
		echo "$kind: $(<"$T/peak") KiB"
		[ "$(<"$T/peak")" -le $((64 * 1024)) ]
		# It recurses: 1,990 directories are too deep for the usual stack.
		(ulimit -s unlimited && fsck.erofs "$T/img")
	done
}

# A Debian root, a kernel package, 75,000 files: minutes, some GB in COCOON_LAYERS_DIR (default: here), and
# a package mirror.
@test "real layers: as GNU tar unpacks them (COCOON_REAL_LAYERS=1)" {
	[ -n "${COCOON_REAL_LAYERS-}" ] || skip "takes minutes and a package mirror: set COCOON_REAL_LAYERS=1"
	need_mount
	"$TOP/tests/tools/compare-layers" "$BIN" "${COCOON_LAYERS_DIR:-$T/layers}"
}

@test "deletions: the stack of layers is what umoci unpacks" {
	need umoci jq
	need_mount
	umoci init --layout "$T/oci"
	umoci new --image "$T/oci:v1"
	umoci unpack --image "$T/oci:v1" "$T/b"
	mkdir -p "$T/b/rootfs/keep/sub" "$T/b/rootfs/drop/sub" "$T/b/rootfs/opaque"
	echo 1 >"$T/b/rootfs/keep/a" && echo 2 >"$T/b/rootfs/keep/gone" && echo 3 >"$T/b/rootfs/drop/sub/x"
	echo 4 >"$T/b/rootfs/opaque/old" && ln "$T/b/rootfs/keep/a" "$T/b/rootfs/keep/sub/hard"
	umoci repack --image "$T/oci:v1" "$T/b"
	rm -rf "$T/b" && umoci unpack --image "$T/oci:v1" "$T/b"
	rm -r "$T/b/rootfs/keep/gone" "$T/b/rootfs/drop"
	echo new >"$T/b/rootfs/keep/new"
	umoci repack --image "$T/oci:v1" "$T/b"
	mkdir -p "$T/l/opaque" && touch "$T/l/opaque/.wh..wh..opq" && echo 5 >"$T/l/opaque/only"
	tar -C "$T/l" -cf "$T/opq.tar" opaque
	umoci raw add-layer --image "$T/oci:v1" "$T/opq.tar"
	rm -rf "$T/b" && umoci unpack --image "$T/oci:v1" "$T/b"

	local manifest layer lower='' i=0
	manifest=$(jq -r '.manifests[0].digest' "$T/oci/index.json")
	for layer in $(jq -r '.layers[].digest' "$T/oci/blobs/sha256/${manifest#*:}"); do
		gzip -dc "$T/oci/blobs/sha256/${layer#*:}" >"$T/tar"
		"$BIN/layer2erofs" "$T/$i.img" <"$T/tar"
		fsck.erofs "$T/$i.img"
		mkdir "$T/m$i"
		mount -o loop,ro -t erofs "$T/$i.img" "$T/m$i"
		lower=$T/m$i${lower:+:$lower}
		i=$((i + 1))
	done
	mount -t overlay -o "lowerdir=$lower" overlay "$T/mnt" || skip "cannot mount overlayfs"
	run diff -r --no-dereference "$T/b/rootfs" "$T/mnt"
	ls -la "$T/mnt/keep" "$T/mnt/opaque"
	stat -c '%a %h %n' "$T/mnt/keep/a" >"$T/stat"
	umount "$T/mnt"
	while [ $i -gt 0 ]; do
		i=$((i - 1))
		umount "$T/m$i"
	done
	[ "$status" -eq 0 ]
	[ "$(cut -d' ' -f2 "$T/stat")" -eq 2 ]
}

@test "the same bytes from gzip, zstd and plain, with 1 and 8 at a time, on any file system" {
	local form pool

	need skopeo gzip zstd
	mkdir -p "$T/l0/boot" "$T/l0/etc" "$T/l1/usr"
	echo kernel >"$T/l0/boot/vmlinuz-1" && echo initrd >"$T/l0/boot/initrd.img-1"
	cp -a "$TOP/src" "$T/l1/usr"
	tar -C "$T/l0" -cf "$T/0.tar" . && tar -C "$T/l1" -cf "$T/1.tar" .
	gzip -k "$T/0.tar" "$T/1.tar" && zstd -q "$T/0.tar" "$T/1.tar"
	"$BIN/layer2erofs" "$T/0.img" "$(sha256sum "$T/0.tar" | cut -d' ' -f1)" <"$T/0.tar"
	"$BIN/layer2erofs" "$T/1.img" "$(sha256sum "$T/1.tar" | cut -d' ' -f1)" <"$T/1.tar"

	with_registry
	for form in uncompressed gzip zstd; do
		for pool in 1 8; do
			layers_to_registry "$form"
			rm -rf "$T/root"
			COCOON_POOL_SIZE=$pool cocoon image pull "$REGISTRY/same:$form"
			(cd "$T/root/oci/blobs" && sha256sum ./*.erofs | cut -d' ' -f1 | sort) >"$T/$form.$pool"
			sha256sum "$T/0.img" "$T/1.img" | cut -d' ' -f1 | sort | diff - "$T/$form.$pool"
		done
	done
	if [ -d /dev/shm ] && [ -w /dev/shm ]; then
		"$BIN/layer2erofs" "/dev/shm/${T##*/}.img" "$(sha256sum "$T/1.tar" | cut -d' ' -f1)" <"$T/1.tar"
		cmp "/dev/shm/${T##*/}.img" "$T/1.img" && rm "/dev/shm/${T##*/}.img"
	fi
}

# An OCI layout of 0.tar and 1.tar, compressed as named, written by hand so that nothing is repacked.
layers_to_registry()
{
	local form=$1 ext type dir=$T/layout-$1 i hex list='' ids=''

	case $form in
	uncompressed) ext='' type=application/vnd.oci.image.layer.v1.tar ;;
	gzip) ext=.gz type=application/vnd.oci.image.layer.v1.tar+gzip ;;
	zstd) ext=.zst type=application/vnd.oci.image.layer.v1.tar+zstd ;;
	esac
	rm -rf "$dir" && mkdir -p "$dir/blobs/sha256"
	blob()
	{
		hex=$(sha256sum "$1" | cut -d' ' -f1)
		cp "$1" "$dir/blobs/sha256/$hex"
		printf '"digest":"sha256:%s","size":%s' "$hex" "$(stat -c %s "$1")"
	}
	for i in 0 1; do
		list+="${list:+,}{\"mediaType\":\"$type\",$(blob "$T/$i.tar$ext")}"
		ids+="${ids:+,}\"sha256:$(sha256sum "$T/$i.tar" | cut -d' ' -f1)\""
	done
	printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
		"$(dpkg --print-architecture)" "$ids" >"$T/config"
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[%s]}' \
		"$(blob "$T/config")" "$list" >"$T/manifest"
	printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"annotations":{"org.opencontainers.image.ref.name":"same"}}]}' \
		"$(blob "$T/manifest")" >"$dir/index.json"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
	skopeo copy -q --preserve-digests --dest-tls-verify=false "oci:$dir:same" "docker://$REGISTRY/same:$form"
}
