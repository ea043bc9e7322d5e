#!/usr/bin/env bats
# README.md's tour: every line is run as it stands, in order. Only the port and the terminal are ours.

load lib

setup()
{
	cocoon_setup
}

teardown()
{
	cocoon_teardown
}

@test "every line of the README's tour works" {
	need qemu-system-x86_64 mkfs.ext4 curl jq script
	mkdir "$T/out" "$T/bin"
	cp "$(tiny)" "$T/out/tiny.tar"
	[ -f "$COCOON_TEST_CACHE/tiny-cloud.qcow2" ] || skip "needs os-image/tiny-cloud"
	cp "$COCOON_TEST_CACHE/tiny-cloud.qcow2" "$T/out/"
	ln -s "$COCOON" "$T/bin/cocoon"
	PATH=$T/bin:$PATH
	port=$(free_port)
	awk '/^<!-- tour:/ { tour = 1 } tour && /^```$/ { exit } tour && inside { print } tour && /^```sh$/ { inside = 1 }' \
		"$TOP/README.md" >"$T/tour"
	[ "$(wc -l <"$T/tour")" -ge 10 ]
	cd "$T"
	while IFS= read -r line; do
		line=${line//8080/$port}
		echo "$ $line"
		case $line in
		*'vm console web'*)
			wait_console web 'cocoon-tiny ready: hostname=web'
			;;
		curl*)
			wait_for 20 bash -c "$line"
			;;
		*)
			bash -o pipefail -c "$line" 3>&-
			;;
		esac
	done <"$T/tour"
	[ "$(cocoon vm list --format json | jq length)" = 0 ]
	[ "$(cocoon image list --format json | jq length)" = 0 ]
}
