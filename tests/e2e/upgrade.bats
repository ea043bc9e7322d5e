#!/usr/bin/env bats
# cocoon doctor --upgrade against a mirror on loopback: what is pinned is installed, what is not pinned, is
# another file or does not run never is.

bats_require_minimum_version 1.5.0
load lib

CH=cloud-hypervisor/cloud-hypervisor/releases/download/v53.0
FC=firecracker-microvm/firecracker/releases/download/v1.16.1
FW=cloud-hypervisor/rust-hypervisor-firmware/releases/download/0.5.0
CNI=containernetworking/plugins/releases/download/v1.6.2

setup()
{
	cocoon_setup
	need busybox jq sha256sum tar
	busybox httpd --help 2>&1 | grep -q HOME || skip "needs busybox with httpd"
	with_net
	mkdir -p "$T/bin" "$T/fake" "$T/plugins"
	for tool in modprobe setcap; do
		printf '#!/bin/sh\necho "%s $*" >>"%s"\n' $tool "$T/commands" >"$T/fake/$tool"
	done
	chmod +x "$T"/fake/*
	PATH=$T/fake:$PATH
	export COCOON_CNI_BIN_DIR=$T/plugins
	mirror
}

teardown()
{
	[ -z "${HTTPD-}" ] || kill "$HTTPD" 2>/dev/null || true
	cocoon_teardown
}

# Programs that tell their version, an archive each of Firecracker and the plugins, all of them pinned.
mirror()
{
	local plugin

	M=$T/mirror
	mkdir -p "$M/$CH" "$M/$FC" "$M/$FW" "$M/$CNI" "$T/tar/release-v1.16.1-x86_64" "$T/tar/cni"
	printf '#!/bin/sh\necho cloud-hypervisor v53.0.0\n' >"$M/$CH/cloud-hypervisor-static"
	printf '#!/bin/sh\necho v53.0.0\n' >"$M/$CH/ch-remote-static"
	printf '#!/bin/sh\necho Firecracker v1.16.1\n' >"$T/tar/release-v1.16.1-x86_64/firecracker-v1.16.1-x86_64"
	tar -C "$T/tar" -czf "$M/$FC/firecracker-v1.16.1-x86_64.tgz" release-v1.16.1-x86_64
	echo firmware >"$M/$FW/hypervisor-fw"
	for plugin in bridge host-local loopback portmap firewall; do
		printf '#!/bin/sh\necho %s\n' $plugin >"$T/tar/cni/$plugin"
	done
	tar -C "$T/tar/cni" -czf "$M/$CNI/cni-plugins-linux-amd64-v1.6.2.tgz" .
	pin
	PORT=8099
	nsenter -t "$HOLDER" -n busybox httpd -f -p 127.0.0.1:$PORT -h "$M" 3>&- &
	HTTPD=$!
	wait_for 10 in_net busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/$FW/hypervisor-fw"
}

pin()
{
	(cd "$M" && find . -type f -printf '%P\n' | xargs sha256sum) >"$T/pins"
}

upgrade()
{
	run --separate-stderr cocoon doctor --upgrade --mirror "http://127.0.0.1:$PORT" --pins "$T/pins" \
		--bin-dir "$T/bin" -o json
	jq -e .summary <<<"$output" >/dev/null
	[ -z "$(find "$T/bin" "$T/plugins" "$T/root" -name '.tmp-*')" ]
}

messages()
{
	jq -r --arg s "$1" '.checks[] | select(.check == "upgrade" and .status == $s) | .message' <<<"$output"
}

@test "everything pinned is installed, and up to date the next time" {
	upgrade
	[ "$status" -eq 0 ]
	[ "$(messages pass | wc -l)" -eq 9 ]
	[ "$("$T/bin/cloud-hypervisor")" = "cloud-hypervisor v53.0.0" ]
	[ "$("$T/bin/firecracker")" = "Firecracker v1.16.1" ]
	[ "$("$T/plugins/bridge")" = bridge ]
	[ "$(cat "$T/root/firmware/CLOUDHV.fd")" = firmware ]
	[ "$(stat -c %a "$T/bin/ch-remote" "$T/root/firmware/CLOUDHV.fd" | paste -sd' ')" = "755 644" ]
	[ "$(grep -c '^setcap cap_net_admin+ep ' "$T/commands")" -eq 2 ]
	[ -e "$T/cni/10-cocoon.conflist" ]
	upgrade
	[[ $(messages pass) == *"$T/bin/cloud-hypervisor is up to date"* ]]
}

@test "another file than pinned, none pinned, none there: nothing of it is installed" {
	echo old >"$T/bin/cloud-hypervisor"
	echo "# changed" >>"$M/$CH/cloud-hypervisor-static"
	sed -i '/ch-remote/d; /hypervisor-fw/d' "$T/pins"
	rm "$M/$FC/firecracker-v1.16.1-x86_64.tgz"
	upgrade
	[ "$status" -eq 1 ]
	[[ $(messages fail) == *"cloud-hypervisor: fetch "*"its SHA-256 is "*", expected was "* ]]
	[[ $(messages fail) == *"firecracker: fetch "*"the server answered 404"* ]]
	[[ $(messages warn) == *"ch-remote: no SHA-256 of $CH/ch-remote-static is pinned"* ]]
	[ "$(cat "$T/bin/cloud-hypervisor")" = old ]
	[ ! -e "$T/bin/ch-remote" ] && [ ! -e "$T/bin/firecracker" ] && [ ! -e "$T/root/firmware/CLOUDHV.fd" ]
}

@test "a program that does not run replaces none, an archive without the file or that is none is refused" {
	echo old >"$T/bin/cloud-hypervisor"
	printf '#!/bin/sh\necho broken >&2\nexit 1\n' >"$M/$CH/cloud-hypervisor-static"
	tar -C "$T/tar" -czf "$M/$FC/firecracker-v1.16.1-x86_64.tgz" cni
	head -c 5000 /dev/urandom >"$M/$CNI/cni-plugins-linux-amd64-v1.6.2.tgz"
	pin
	upgrade
	[ "$status" -eq 1 ]
	[[ $(messages fail) == *"cloud-hypervisor: the new cloud-hypervisor does not run: "*"broken"* ]]
	[[ $(messages warn) == *"has no file firecracker-v1.16.1-x86_64"* ]]
	[[ $(messages fail) == *"bridge: "* ]]
	[ "$(cat "$T/bin/cloud-hypervisor")" = old ]
	[ -z "$(ls "$T/plugins")" ]
}

@test "other versions come from the environment, and cannot lead elsewhere" {
	mkdir -p "$M/${FW%/*}/0.6.0"
	echo newer >"$M/${FW%/*}/0.6.0/hypervisor-fw"
	pin
	FW_VERSION=0.6.0 upgrade
	[ "$(cat "$T/root/firmware/CLOUDHV.fd")" = newer ]
	FW_VERSION=../../x upgrade
	[ "$status" -eq 1 ]
	[[ $(messages fail) == *"FW_VERSION is no version"* ]]
}

@test "flags: from where and with which pins must be said" {
	run -1 cocoon doctor --upgrade
	[[ $output == *"--upgrade requires --mirror and --pins"* ]]
	run -1 cocoon doctor --mirror http://127.0.0.1:1
	[[ $output == *"require --upgrade"* ]]
	run -1 cocoon doctor --upgrade --pins "$T/pins" --mirror file:///etc
	[[ $output == *"must be an http or https address"* ]]
	run --separate-stderr cocoon doctor --upgrade --mirror "http://127.0.0.1:$PORT" --pins "$T/none" --bin-dir "$T/bin" -o json
	[ "$status" -eq 1 ]
	[ -z "$(ls "$T/bin")" ]
}
