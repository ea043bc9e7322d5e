#!/usr/bin/env bats
# The archives os-image builds, judged as files: valid OCI, deterministic, boot files where the
# labels say. Whether they boot is tests/e2e/guest-contract.bats' business.

BUILD=$BATS_TEST_DIRNAME/../tiny/build

setup_file()
{
	export COCOON_PACKAGE_CACHE=${COCOON_PACKAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cocoon/packages}
	export ARCHIVE=$BATS_FILE_TMPDIR/tiny.tar
	"$BUILD" --with-whiteouts "$ARCHIVE" 2>"$BATS_FILE_TMPDIR/log" || {
		cat "$BATS_FILE_TMPDIR/log" >&2
		skip "cannot build the tiny image (no package source?)"
	}
	mkdir "$BATS_FILE_TMPDIR/oci"
	tar -xf "$ARCHIVE" -C "$BATS_FILE_TMPDIR/oci"
}

setup()
{
	cd "$BATS_FILE_TMPDIR/oci" || return
}

manifest()
{
	command -v jq >/dev/null || skip "jq is not installed"
	jq -r "$1" "blobs/sha256/$(jq -r '.manifests[0].digest[7:]' index.json)"
}

@test "every digest, size and diff id is right" {
	local digest size i=0 config
	for file in blobs/sha256/*; do
		[ "$(sha256sum <"$file")" = "${file##*/}  -" ]
	done
	config=blobs/sha256/$(manifest '.config.digest[7:]')
	while read -r digest size; do
		[ "$(stat -c %s "blobs/sha256/${digest#sha256:}")" = "$size" ]
		[ "sha256:$(gzip -dc "blobs/sha256/${digest#sha256:}" | sha256sum | cut -d ' ' -f 1)" = \
			"$(jq -r ".rootfs.diff_ids[$i]" "$config")" ]
		i=$((i + 1))
	done < <(manifest '.layers[] | "\(.digest) \(.size)"')
	[ $i -eq 4 ]
	[ "$(jq '.history | length' "$config")" -eq 4 ]
}

@test "kernel and initramfs are where the labels say, and the initramfs is gzip" {
	local config top kernel initrd
	config=blobs/sha256/$(manifest '.config.digest[7:]')
	top=blobs/sha256/$(manifest '.layers[1].digest[7:]')
	kernel=$(jq -r '.config.Labels["cocoon.kernel"]' "$config")
	initrd=$(jq -r '.config.Labels["cocoon.initrd"]' "$config")
	[[ ${kernel#/boot/vmlinuz-} = "${initrd#/boot/initrd.img-}" ]]
	[ "$(tar -xzOf "$top" ".$kernel" | dd bs=1 skip=514 count=4 status=none)" = HdrS ]
	[ "$(tar -xzOf "$top" ".$initrd" | od -An -N 2 -tx1)" = " 1f 8b" ]
}

@test "the whiteout layer holds one explicit and one opaque marker" {
	run tar -tzf "blobs/sha256/$(manifest '.layers[3].digest[7:]')"
	[ "$(grep -c '/\.wh\.' <<<"$output")" -eq 2 ]
	[[ $output = *usr/share/cocoon-test/.wh.deleted* ]]
	[[ $output = *usr/share/cocoon-test/opaque/.wh..wh..opq* ]]
}

@test "skopeo and umoci accept it" {
	command -v skopeo >/dev/null || skip "skopeo is not installed"
	skopeo inspect "oci-archive:$ARCHIVE" >/dev/null
	command -v umoci >/dev/null || skip "umoci is not installed"
	umoci unpack --rootless --image "$PWD:tiny" "$BATS_TEST_TMPDIR/bundle"
	run ls "$BATS_TEST_TMPDIR/bundle/rootfs/usr/share/cocoon-test"
	[ "$output" = "kept
opaque
replaced" ]
}

@test "the same bytes again, from another user, directory, umask and time zone" {
	local again=$BATS_TEST_TMPDIR/again run=()
	if [ "$(id -u)" = 0 ]; then
		run=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	fi
	mkdir -m 1777 "$again"
	chmod a+rx "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR/.."
	mkdir -m 777 "$again/cache"
	# The checkout may be where nobody else can read it, below /root.
	cp -R "$BATS_TEST_DIRNAME/../../os-image" "$BATS_TEST_DIRNAME/../../guest" "$again/"
	chmod -R a+rX "$again/os-image" "$again/guest"
	cp "$COCOON_PACKAGE_CACHE"/*.deb "$again/cache/"
	(umask 077 && cd / && TMPDIR=$again TZ=Asia/Tokyo HOME=/ COCOON_PACKAGE_CACHE=$again/cache \
		"${run[@]}" "$again/os-image/tiny/build" --with-whiteouts "$again/tiny.tar")
	cmp "$ARCHIVE" "$again/tiny.tar"
}

@test "bad arguments are one line and leave nothing" {
	for arguments in --no-such-option '--agent /nonexistent x.tar' 'a.tar b.tar'; do
		# shellcheck disable=SC2086
		run "$BUILD" $arguments
		[ "$status" -eq 1 ]
		[ ${#lines[@]} -eq 1 ]
	done
	run "$BUILD"
	[ "$status" -eq 1 ]
	run "$BUILD" --help
	[ "$status" -eq 0 ]
}

@test "JSON strings that would need escaping are refused" {
	run sh -c '. "$1"; json_string "$2"' sh "$BATS_TEST_DIRNAME/../lib.sh" 'a"b'
	[ "$status" -eq 1 ]
	run sh -c '. "$1"; json_string "$2"' sh "$BATS_TEST_DIRNAME/../lib.sh" 'plain text'
	[ "$output" = '"plain text"' ]
}
