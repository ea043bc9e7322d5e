#!/usr/bin/env bats
# VM verbs against real guests under emulation: what records, files, processes and the guest itself show.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4 sqlite3
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

vm()
{
	cocoon vm inspect "$1" | jq -r "$2"
}

@test "create makes what the record says, and nothing runs" {
	cocoon vm create --name box --memory 512M --network user --label tier=web \
		--data-disk size=64M --data-disk size=32M,name=raw,fstype=none,directio=off tiny
	[ "$(vm box .state)" = created ]
	[ "$(vm box .pid)" = 0 ]
	[ "$(vm box '[.storage_configs[].role] | unique | join(",")')" = cow,data,layer ]
	[ "$(vm box '.storage_configs[-2:] | map(.serial + ":" + (.mount_point // "-")) | join(" ")')" = \
		"data1:/mnt/data1 raw:-" ]
	[ "$(vm box '.storage_configs[-1].direct_io')" = false ]
	[ "$(vm box .config.labels.tier)" = web ]
	[ "$(vm box .net_backend)" = user ]
	[ "$(vm box '.network_configs | length')" = 1 ]
	dir=$T/run/qemu/$(vm box .id)
	[ "$(stat -c %a "$dir"/cow.raw "$dir"/data-data1.raw | sort -u)" = 600 ]
	[ "$(stat -c %s "$dir/cow.raw")" = $((10 << 30)) ]
	[ "$(blkid -o value -s TYPE "$dir/data-data1.raw")" = ext4 ]
	[ -z "$(cocoon_leftovers)" ]
	[ ! -e "$dir/console.sock" ]
}

@test "a default name is made unique, a given one is not" {
	cocoon vm create --memory 512M --nics 0 --network user tiny
	cocoon vm create --memory 512M --nics 0 --network user tiny
	names=$(cocoon vm list --format json | jq -r '.[].config.name' | sort)
	[ "$(head -1 <<<"$names")" = cocoon-tiny ]
	[[ "$(tail -1 <<<"$names")" =~ ^cocoon-tiny-[a-z2-7]{4}$ ]]
	run -1 cocoon vm create --name cocoon-tiny --memory 512M --nics 0 --network user tiny
	[[ $output =~ 'vm name "cocoon-tiny" already exists (id: '[A-Z2-7]{26}')' ]]
}

@test "refused requests leave nothing" {
	while IFS='|' read -r flags text; do
		# shellcheck disable=SC2086 # several flags in one string
		run -1 cocoon vm create $flags tiny
		[[ $output == *"$text"* ]] || {
			echo "$flags: $output (wanted $text)"
			return 1
		}
	done <<-EOF
		--cpu 0|cpu must be at least 1
		--cpu 4096|requested 4096 vCPUs exceeds host cores
		--memory 100M|--memory 100MiB below 512MiB minimum
		--storage 1G|--storage 1GiB below 10GiB minimum
		--nics -1|nics must be
		--name -x|invalid
		--bridge a --network b|--bridge and --network are mutually exclusive
		--windows|--windows requires cloudimg (UEFI boot), got OCI direct boot image
		--pci|--pci is Firecracker only
		--mergeable|not supported
		--data-disk size=8M|below 16MiB minimum
		--publish 0:1|--publish
		--network nosuch|nosuch
	EOF
	# Nothing was chosen for a request that no driver could fulfil.
	run -1 cocoon vm create --cpu 0 tiny
	[ "${#lines[@]}" = 1 ]
	run -1 cocoon vm create nosuch:image
	[[ $output == *'image "nosuch:image"'* ]]
	[ "$(sqlite3 "$T/root/meta/meta.db" 'SELECT count(*) FROM vms')" = 0 ]
	[ -z "$(find "$T/run" "$T/log" -mindepth 2 -print -quit)" ]
}

@test "a mount point that the guest cannot be told is said so" {
	run -0 cocoon vm create --name m --memory 512M --nics 0 --network user --data-disk 'size=16M,mount=/a b init=/x' tiny
	[[ $output == *WRN*'data disk data1: '*'"/a b init=/x"'* ]]
	run -0 sqlite3 "$T/root/meta/meta.db" 'SELECT data FROM vms'
	[[ $output != *cocoon.data=* ]]
}

@test "a run directory too long for sockets is refused before anything is made" {
	long=$T/$(printf 'd%.0s' $(seq 70))
	run -1 cocoon --run-dir "$long" vm create --name x --memory 512M --nics 0 --network user tiny
	[[ $output == *"too long"* ]]
	[ -z "$(find "$long" -mindepth 2 -print -quit)" ]
}

@test "the guest sees its disks, name and instance; stop is graceful; data stays" {
	cocoon vm run --name web --memory 512M --network user --data-disk size=64M tiny
	wait_console web 'cocoon-tiny ready: hostname=web'
	run -0 console web 'cat /proc/cmdline; mount'
	[[ $output == *"cocoon.instance=$(vm web .id)"* ]]
	[[ $output == *cocoon.data=data1:/mnt/data1* ]]
	[[ $output == *"/mnt/data1 type ext4"* ]]
	console web 'echo kept >/mnt/data1/f; sync'
	start=$SECONDS
	cocoon vm stop web
	[ $((SECONDS - start)) -lt 20 ]
	[ "$(vm web .state)" = stopped ]
	[ "$(vm web .last_transition_reason)" = stop-user ]
	[ "$(vm web .pid)" = 0 ]
	# Stopping again and starting twice are successes.
	cocoon vm stop web
	cocoon vm start web
	cocoon vm start web
	wait_console web 'cocoon-tiny ready: hostname=web'
	run -0 console web 'cat /mnt/data1/f'
	[[ $output == *kept* ]]
	# The guest itself powers off.
	console web 'poweroff' || true
	wait_for 30 eval '[ "$(cocoon vm inspect web | jq -r .state)" = "stopped (stale)" ]'
	cocoon vm rm web
}

@test "batches: all references first, then best effort" {
	cocoon vm create --name a --memory 512M --nics 0 --network user tiny
	cocoon vm create --name b --memory 512M --nics 0 --network user tiny
	run -1 cocoon vm start a nobody b
	[[ $output == *"vm nobody: vm not found"* ]]
	[ "$(vm a .state)" = created ]
	cocoon vm start a
	run -1 cocoon vm rm a b
	[[ $output == *"item $(vm a .id): running (force required)"* ]]
	[ "$(cocoon vm list --format json | jq length)" = 1 ]
	run -0 cocoon vm rm --force a
}

@test "modes do not depend on the caller's umask, and nobody else may read" {
	(umask 0; cocoon vm run --name w --memory 512M --nics 0 --network user tiny)
	dir=$T/run/qemu/$(vm w .id)
	log=$T/log/qemu/$(vm w .id)
	[ "$(stat -c %a "$dir" "$log" | sort -u)" = 750 ]
	[ "$(stat -c %a "$dir"/*.sock "$dir"/cow.raw "$dir"/qemu.pid "$dir"/cmdline | sort -u)" = 600 ]
	[ "$(stat -c %a "$log"/qemu.log "$log"/console.log | sort -u)" = 640 ]
}

@test "nothing of ours is inherited by VMM and relay" {
	exec 9>"$T/marker"
	SECRET=of-the-caller timeout 60 "$COCOON" vm run --name w --memory 512M --nics 0 --network user tiny
	[ "$(vm w .state)" = running ]
	for pid in $(cocoon_leftovers | cut -d' ' -f1); do
		links=$(ls -l "/proc/$pid/fd")
		[[ $links != *"$T/marker"* ]]
		[[ $links != *pipe:* ]] || [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == *qemu* ]]
		[[ $links != */locks/vm/"$(vm w .id)".lock* ]]
		[[ $links != *meta.db* ]]
		[[ $(tr '\0' ' ' <"/proc/$pid/environ") != *of-the-caller* ]]
	done
	exec 9>&-
}

@test "the relay serves several clients, and a killed one is replaced" {
	mkfifo "$T/typed"
	cocoon vm run --name w --memory 512M --nics 0 --network user tiny
	wait_console w 'cocoon-tiny ready'
	relay=$(cocoon_leftovers | grep -- __console-relay | cut -d' ' -f1)
	[ "$(wc -w <<<"$relay")" = 1 ]
	# A client that is stopped, and so reads nothing, for the rest of the test.
	script -qec "'$COCOON' vm console w" /dev/null <"$T/typed" >/dev/null 3>&- &
	stuck=$!
	exec 8>"$T/typed"
	wait_for 10 pgrep -P $stuck
	kill -STOP $stuck
	# shellcheck disable=SC2016 # the guest's dollar
	run -0 console w 'i=0; while [ $i -lt 3000 ]; do echo line-$i-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done; echo end-$i'
	[[ $output == *end-3000* ]] || wait_console w 'end-3000'
	kill -9 "$relay"
	run -0 console w 'echo again-$((1+1))'
	[[ $output == *again-2* ]]
	kill -KILL $stuck
	exec 8>&-
}

@test "a console in the background dies of the first signal" {
	cocoon vm run --name w --memory 512M --nics 0 tiny
	# timeout(1) moves its child out of the terminal's foreground: setting raw mode stops it.
	run -0 --separate-stderr timeout -k 1 20 script -qec \
		"timeout -s TERM 1 '$COCOON' vm console w; echo done=\$?" /dev/null </dev/null
	[[ $output == *done=124* ]]
}

@test "debug prints the launch and makes nothing" {
	before=$(find "$T" | sort)
	run -0 cocoon vm debug --memory 512M --network user tiny
	[[ $output == *qemu-system-x86_64* ]]
	[[ $output == *cocoon.cow=cocoon-cow* ]]
	[ "$(sqlite3 "$T/root/meta/meta.db" 'SELECT count(*) FROM vms')" = 0 ]
	[ -z "$(find "$T/run" -name '*.sock' -print -quit)" ]
	[ -n "$before" ]
}

@test "what debug prints boots when a shell runs it" {
	mkdir "$T/by hand" && cd "$T/by hand"
	cocoon vm debug --name hand --memory 512M --network user --data-disk size=16M,name=d \
		--cow "my, cow.raw" tiny >"$T/launch.sh"
	[ -z "$(ls -A)" ]
	{ sleep 60 || true; } | timeout 60 sh "$T/launch.sh" >"$T/console" 2>&1 3>&- &
	wait_for 50 grep -E 'cocoon-tiny ready: hostname=hand disks=[0-9]+ net=10\.' "$T/console"
	pid=$(pgrep -f "[g]uest=hand,.*my, cow.raw")
	kill "$pid"
	[ -f "my, cow.raw" ]
	[ "$(blkid -o value -s TYPE debug-hand/data-d.raw)" = ext4 ]
	cocoon vm debug -o json --cow c tiny | jq -e 'index("-kernel") and .[0][-18:] == "qemu-system-x86_64"'
}
