#!/usr/bin/env bats
# Images through the real program: a real registry on loopback, real archives, interrupted and
# concurrent pulls. How a misbehaving registry is survived: tests/unit/image/pull.c.

load lib

setup()
{
	cocoon_setup
	need skopeo jq
}

teardown()
{
	cocoon_teardown
}

# rootfs DIR: a tree that has what an image needs, no more.
rootfs()
{
	mkdir -p "$1/boot" "$1/etc"
	head -c 300000 /dev/urandom >"$1/boot/vmlinuz-6.1.0-2"
	echo initrd >"$1/boot/initrd.img-6.1.0-2"
	echo old >"$1/boot/vmlinuz-6.1.0-1"
	echo old >"$1/boot/initrd.img-6.1.0-1"
	echo hello >"$1/etc/hello"
	printf 'x' >"$1/etc/$(printf 'caf\351\377')"
}

# blob LAYOUT FILE: adds a file to a layout; prints its digest.
blob()
{
	local hex

	hex=$(sha256sum <"$2" | cut -d' ' -f1)
	cp "$2" "$1/blobs/sha256/$hex"
	echo "sha256:$hex"
}

# layout DIR TAR...: an OCI layout with one image, tag v1, of these uncompressed layers.
layout()
{
	local dir=$1 tar layers='[]' ids='[]' digest

	shift
	mkdir -p "$dir/blobs/sha256"
	for tar; do
		digest=$(blob "$dir" "$tar")
		ids=$(jq -c --arg d "$digest" '. + [$d]' <<<"$ids")
		layers=$(jq -c --arg d "$digest" --argjson s "$(stat -c %s "$tar")" \
			'. + [{mediaType:"application/vnd.oci.image.layer.v1.tar",digest:$d,size:$s}]' <<<"$layers")
	done
	jq -nc --argjson ids "$ids" \
		'{architecture:"amd64",os:"linux",config:{},rootfs:{type:"layers",diff_ids:$ids}}' >"$T/config.json"
	jq -nc --argjson l "$layers" --arg d "$(blob "$dir" "$T/config.json")" \
		--argjson s "$(stat -c %s "$T/config.json")" \
		'{schemaVersion:2,mediaType:"application/vnd.oci.image.manifest.v1+json",
		  config:{mediaType:"application/vnd.oci.image.config.v1+json",digest:$d,size:$s},layers:$l}' \
		>"$T/manifest.json"
	jq -nc --arg d "$(blob "$dir" "$T/manifest.json")" --argjson s "$(stat -c %s "$T/manifest.json")" \
		'{schemaVersion:2,manifests:[{mediaType:"application/vnd.oci.image.manifest.v1+json",digest:$d,
		  size:$s,annotations:{"org.opencontainers.image.ref.name":"v1"}}]}' >"$dir/index.json"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
}

# An image of two layers in $T/oci; its tars are $T/base.tar and $T/top.tar.
two_layers()
{
	rootfs "$T/rf"
	tar -C "$T/rf" --numeric-owner -cf "$T/base.tar" .
	mkdir -p "$T/top/etc"
	echo more >"$T/top/etc/more"
	: >"$T/top/etc/.wh.hello"
	tar -C "$T/top" --numeric-owner -cf "$T/top.tar" .
	layout "$T/oci" "$T/base.tar" "$T/top.tar"
}

push()
{
	skopeo --insecure-policy copy --quiet --dest-tls-verify=false "${@:2}" "oci:$T/oci:v1" \
		"docker://$REGISTRY/$1"
}

blobs()
{
	find "$COCOON_ROOT_DIR/oci/blobs" -type f 2>/dev/null | sort
}

no_temp()
{
	[ -z "$(ls -A "$COCOON_ROOT_DIR/oci/temp" 2>/dev/null)" ]
}

@test "a registry that cannot be reached is named with the reason, after retries" {
	COCOON_HTTP_RETRY_MS=10 run -1 cocoon image pull "127.0.0.1:$(free_port)/vm/none:v1"
	[[ $output == *"127.0.0.1:"*"refused"* || $output == *"127.0.0.1:"*"connect"* ]]
	# A host that does not exist fails before anything was read: another state of the client.
	COCOON_HTTP_RETRY_MS=10 run -1 cocoon image pull "registry.invalid/vm/none:v1"
	[[ $output == *"registry.invalid: "*"resolve"* ]]
}

@test "an image is pulled, listed, inspected and removed" {
	with_registry
	two_layers
	push vm/two:v1
	run --separate-stderr cocoon image pull "$REGISTRY/vm/two:v1"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	[ "$(blobs | wc -l)" -eq 2 ]
	no_temp
	run cocoon image list
	[[ "${lines[1]}" == oci*"$REGISTRY/vm/two:v1"*sha256:* ]]
	digest=$(cocoon image inspect "$REGISTRY/vm/two:v1" | jq -r .id)
	[ "$digest" = "$(skopeo inspect --tls-verify=false "docker://$REGISTRY/vm/two:v1" | jq -r .Digest)" ]
	cmp "$T/rf/boot/vmlinuz-6.1.0-2" "$COCOON_ROOT_DIR"/oci/boot/*/vmlinuz
	run -0 cocoon image rm "${digest:0:19}"
	run cocoon image list
	[ "$output" = "No images found." ]
	run -1 cocoon image inspect "$REGISTRY/vm/two:v1"
	[[ "$output" == *"not found in any backend"* ]]
}

@test "a second pull changes nothing, a missing blob is fetched again" {
	with_registry
	two_layers
	push vm/two:v1
	cocoon image pull "$REGISTRY/vm/two:v1"
	before=$(cocoon image list -o json)
	find "$COCOON_ROOT_DIR/oci" -type f -printf '%p %i %T@\n' | sort >"$T/before"
	run -0 cocoon image pull "$REGISTRY/vm/two:v1"
	find "$COCOON_ROOT_DIR/oci" -type f -printf '%p %i %T@\n' | sort >"$T/after"
	cmp "$T/before" "$T/after"
	[ "$before" = "$(cocoon image list -o json)" ]
	gone=$(blobs | tail -n 1)
	sum=$(sha256sum <"$gone")
	rm "$gone"
	cocoon image pull "$REGISTRY/vm/two:v1"
	[ "$sum" = "$(sha256sum <"$gone")" ]
}

@test "gzip, zstd and plain layers become the same disks" {
	with_registry
	two_layers
	push vm/plain:v1
	push vm/zstd:v1 --dest-compress-format zstd --dest-compress
	cocoon image pull "$REGISTRY/vm/plain:v1"
	blobs | xargs sha256sum | cut -d' ' -f1 | sort >"$T/plain"
	rm -rf "$COCOON_ROOT_DIR"
	cocoon image pull "$REGISTRY/vm/zstd:v1"
	blobs | xargs sha256sum | cut -d' ' -f1 | sort >"$T/zstd"
	cmp "$T/plain" "$T/zstd"
	rm -rf "$COCOON_ROOT_DIR"
	cocoon image import two "$T/base.tar" "$T/top.tar"
	blobs | xargs sha256sum | cut -d' ' -f1 | sort >"$T/import"
	cmp "$T/plain" "$T/import"
}

@test "layers are sound file systems with whiteouts as overlayfs wants them" {
	need fsck.erofs dump.erofs
	two_layers
	cocoon image import two "$T/base.tar" "$T/top.tar"
	for file in $(blobs); do
		fsck.erofs "$file"
	done
	top=$COCOON_ROOT_DIR/oci/blobs/$(sha256sum <"$T/top.tar" | cut -d' ' -f1).erofs
	run -0 dump.erofs --path=/etc/hello "$top"
	[[ "$output" == *"hello"* ]]
}

@test "pulls at once make one good copy" {
	with_registry
	two_layers
	push vm/two:v1
	pids=()
	for _ in 1 2 3 4 5 6; do
		cocoon image pull "$REGISTRY/vm/two:v1" 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	[ "$(blobs | wc -l)" -eq 2 ]
	no_temp
	cp -a "$COCOON_ROOT_DIR/oci/blobs" "$T/blobs"
	cocoon image pull --force "$REGISTRY/vm/two:v1"
	diff -r "$T/blobs" "$COCOON_ROOT_DIR/oci/blobs"
}

@test "a pull killed at any step is finished by the next" {
	with_registry
	two_layers
	push vm/two:v1
	for label in image.layer image.boot; do
		rm -rf "$COCOON_ROOT_DIR"
		run env COCOON_FAILPOINT=$label "$COCOON" image pull "$REGISTRY/vm/two:v1"
		[ "$status" -eq 137 ]
		run cocoon image list
		[ "$output" = "No images found." ]
		cocoon image pull "$REGISTRY/vm/two:v1"
		[ "$(blobs | wc -l)" -eq 2 ]
		no_temp
	done
}

@test "an injected failure leaves nothing" {
	with_registry
	two_layers
	push vm/two:v1
	for label in image.layer image.boot; do
		run env COCOON_FAILPOINT=$label:error "$COCOON" image pull "$REGISTRY/vm/two:v1"
		[ "$status" -eq 1 ]
		[ -z "$(blobs)" ]
		[ -z "$(ls -A "$COCOON_ROOT_DIR/oci/boot")" ]
		no_temp
	done
}

@test "SIGINT ends a pull at once" {
	# A stopped registry's kernel still accepts connections; nobody answers.
	with_registry
	kill -STOP "$REGISTRY_PID"
	"$COCOON" image pull "$REGISTRY/vm/x" 2>"$T/err" 3>&- &
	pid=$!
	sleep 0.5
	start=$(date +%s%N)
	kill -INT $pid
	status=0
	wait $pid || status=$?
	kill -CONT "$REGISTRY_PID"
	[ "$status" -eq 1 ]
	[ $(($(date +%s%N) - start)) -lt 1000000000 ]
	grep -q 'Error: .*canceled' "$T/err"
}

@test "tar layers, streams and archives are imported" {
	two_layers
	cocoon image import files "$T/base.tar" "$T/top.tar"
	cocoon image import stream <"$T/base.tar"
	gzip -k "$T/base.tar"
	cocoon image import gz "$T/base.tar.gz"
	cocoon image import gzstream <"$T/base.tar.gz"
	cocoon image import layout:v1 "$T/oci"
	tar -C "$T/oci" -cf "$T/oci.tar" .
	cocoon image import archive:v1 "$T/oci.tar"
	skopeo --insecure-policy copy --quiet "oci:$T/oci:v1" "docker-archive:$T/docker.tar:a:b"
	cocoon image import docker "$T/docker.tar"
	[ "$(cocoon image list -o json | jq length)" -eq 7 ]
	# What is the same bytes is one blob: base and top, plus what skopeo packed anew.
	[ "$(blobs | wc -l)" -le 4 ]
	run -1 cocoon image import two "$T/base.tar.gz" "$T/base.tar.gz"
	[[ "$output" == *"stream imports accept exactly one file, got 2"* ]]
}

@test "junk is refused in one clear sentence" {
	head -c 600 /dev/urandom >"$T/junk"
	run -1 cocoon image import junk "$T/junk"
	[[ "$output" == *"cannot detect file type for $T/junk (expected qcow2 or tar)"* ]]
	run cocoon image list
	[ "$output" = "No images found." ]
	no_temp
}

@test "hostile layers end in one error and leave nothing" {
	rootfs "$T/rf"
	(cd "$T/rf" && tar -cPf "$T/escape.tar" boot ../rf/../rf/etc)
	run -1 cocoon image import bad "$T/escape.tar"
	[ "$(grep -c '^Error: ' <<<"$output")" -eq 1 ]
	head -c 200000 "$T/escape.tar" >"$T/cut.tar"
	run -1 cocoon image import bad "$T/cut.tar"
	[ "$(grep -c '^Error: ' <<<"$output")" -eq 1 ]
	# 10 GiB of nothing, 10 MB on the wire.
	{ tar -C "$T/rf" -cf - boot | head -c -10240; truncate -s 10G "$T/zeros"; tar -C "$T" -cf - zeros; } |
		gzip -1 | head -c 12000000 >"$T/bomb.tar.gz" || true
	run -1 env COCOON_LAYER_MAX_SIZE=1073741824 "$COCOON" image import bad "$T/bomb.tar.gz"
	[ "$(grep -c '^Error: ' <<<"$output")" -eq 1 ]
	[ -z "$(blobs)" ]
	no_temp
}
