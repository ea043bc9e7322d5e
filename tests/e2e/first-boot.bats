#!/usr/bin/env bats
# The main job: an image from a registry becomes a VM that answers on its console.

load lib

setup()
{
	cocoon_setup
}

teardown()
{
	cocoon_teardown
}

@test "pull, run, console, stop, start, rm" {
	need qemu-system-x86_64 mkfs.ext4 curl
	with_registry
	registry_push "$(tiny)" demo/tiny:1
	cocoon image pull "$REGISTRY/demo/tiny:1"
	run -0 cocoon image list --format json
	[ "$(jq length <<<"$output")" = 1 ]

	port=$(free_port)
	cocoon vm run --name one --memory 512M --network user --publish "$port:80" \
		--data-disk size=64M,fstype=none,mount= "$REGISTRY/demo/tiny:1"
	wait_console one 'cocoon-tiny ready: hostname=one disks=[0-9]+ net=10\.'
	[ "$(cocoon vm inspect one | jq -r .state)" = running ]

	# shellcheck disable=SC2016 # the guest's dollar
	run -0 console one 'echo answer-$((40 + 2))'
	[[ $output == *answer-42* ]]
	wait_for 20 curl -fsS --max-time 5 "http://127.0.0.1:$port/"
	run -0 curl -fsS --max-time 5 "http://127.0.0.1:$port/"
	[[ $output == *one* ]]

	# What was written stays over stop and start; the guest went down by itself.
	console one 'echo kept >/root/kept; sync'
	cocoon vm stop one
	[ "$(cocoon vm inspect one | jq -r .state)" = stopped ]
	cocoon vm start one
	wait_console one 'cocoon-tiny ready: hostname=one'
	run -0 console one 'cat /root/kept'
	[[ $output == *kept* ]]

	run -1 cocoon vm rm one
	[[ $output == *"force required"* ]]
	cocoon vm rm --force one
	run -0 cocoon vm list --format json
	[ "$(jq length <<<"$output")" = 0 ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
}

@test "a caller that reads our pipes to the end returns while the VM runs" {
	need qemu-system-x86_64 mkfs.ext4
	with_tiny tiny
	out=$(timeout 60 "$COCOON" vm run --name pipe --memory 512M --network user tiny 2>&1)
	[[ $out == *pipe* ]]
	[ "$(cocoon vm inspect pipe | jq -r .state)" = running ]
}
