#!/usr/bin/env bats
# Output shapes of verbs that act on VMs and images: what is on which stream, JSON, batches, filters.
# Guests are not waited for: the state machine is vm.bats' subject.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
	need qemu-system-x86_64 mkfs.ext4
	with_tiny tiny
}

teardown()
{
	cocoon_teardown
}

create()
{
	cocoon vm create --memory 512M --network user --name "$@" tiny
}

@test "human mode: success on stderr, nothing on stdout" {
	run -0 --separate-stderr create one
	[ -z "$output" ]
	id=$(cocoon vm inspect one | jq -r .id)
	# shellcheck disable=SC2154 # set by run
	[[ $stderr == *"VM created: $id (name: one, state: created)"*"start with: cocoon vm start $id"* ]]
	run -0 --separate-stderr cocoon vm stop one
	[ -z "$output" ]
	[[ $stderr == *"stopped: $id"* ]]
	run -0 --separate-stderr cocoon --log-level warn vm rm one
	[ -z "$output$stderr" ]
}

@test "JSON mode: one record on stdout and no success lines" {
	run -0 --separate-stderr create one -o json
	[[ $stderr != *"VM created"* ]]
	[ "$(jq -r '.config.name, .state, .pid, .hypervisor' <<<"$output" | paste -sd' ')" = "one created 0 qemu" ]
	[ "${lines[1]:0:6}" = '  "id"' ]
	created=$output
	run -0 --separate-stderr cocoon vm inspect one
	[ "$output" = "$created" ]
	[ "$(cocoon vm list -o json | jq -c '.[0]')" = "$(jq -c . <<<"$created")" ]
	[ "$(cocoon vm list -o jsonl)" = "$(jq -c . <<<"$created")" ]
}

@test "quiet mode: just the ID" {
	id=$(create one -q 2>/dev/null)
	[ "$(cocoon vm inspect one | jq -r .id)" = "$id" ]
	[ "$(cocoon vm list -q)" = "$id" ]
	[ "$(cocoon vm rm -q "${id:0:3}")" = "$id" ]
	[ "$(cocoon image list -q)" = "$(cocoon image inspect tiny | jq -r .id)" ]
}

@test "references: ID, name, prefix; each VM once; one that is unknown stops all" {
	a=$(create one -q)
	b=$(create two -q)
	run -1 cocoon vm rm one nobody
	[[ $output == *"vm nobody: vm not found"* ]]
	[ "$(cocoon vm list -q | wc -l)" = 2 ]
	run -1 cocoon vm inspect "${a:0:2}"
	run -1 --separate-stderr cocoon vm inspect on
	# shellcheck disable=SC2154 # set by run
	[[ ${stderr_lines[1]} == *'did you mean "one"?'* ]]
	run -0 --separate-stderr cocoon vm rm one "$a" "${a:0:5}" two -o json
	[ "$(jq -c .succeeded <<<"$output")" = "[\"$a\",\"$b\"]" ]
	[ "$(jq -c 'keys' <<<"$output")" = '["succeeded"]' ]
}

@test "a batch reports each failure, in text and JSON" {
	a=$(create one -q)
	b=$(cocoon vm run -q --memory 512M --network user --name two tiny)
	c=$(cocoon vm run -q --memory 512M --network user --name three tiny)
	run -1 --separate-stderr cocoon vm rm two one three
	[ -z "$output" ]
	[[ $stderr == *"deleted VM: $a"* ]]
	grep -qxF "Error: rm: item $b: running (force required)" <<<"$stderr"
	grep -qxF "Error: rm: item $c: running (force required)" <<<"$stderr"
	a=$(create one -q)
	run -1 --separate-stderr cocoon vm rm two one -o json
	[ "$(jq -c .succeeded <<<"$output")" = "[\"$a\"]" ]
	[ "$(jq -r '.failed[0] | .id + " " + .error' <<<"$output")" = "$b running (force required)" ]
	[ "$stderr" = "Error: rm: item $b: running (force required)" ]
	run -1 --separate-stderr cocoon --error-format json vm rm two three -q
	[ "$(jq -r '.error.items | length' <<<"$stderr")" = 2 ]
	[ "$(jq -r .error.code <<<"$stderr")" = partial ]
	run -0 --separate-stderr cocoon vm start two three
	[[ $stderr == *"started: $b"*"started: $c"* ]]
}

@test "lists: columns, filters, fields, order" {
	create one --label tier=web --label env=test
	create two --label tier=db
	run -0 cocoon vm list
	[[ ${lines[0]} =~ ^ID\ +NAME\ +STATE\ +CPU\ +MEMORY\ +STORAGE\ +IP\ +IMAGE\ +CREATED$ ]]
	[[ ${lines[1]} =~ ^[A-Z2-7]{26}\ \ one\ +created\ +2\ +512MiB\ +10GiB\ +-\ +tiny\ +[0-9-]{10}\ [0-9:]{8}$ ]]
	[ "$(cocoon vm list -o name --filter label=tier=web)" = one ]
	[ "$(cocoon vm list -o name --filter label=tier --filter name='t*')" = two ]
	[ "$(cocoon vm list -o name --filter name=one --filter name=two --sort -name | paste -sd,)" = two,one ]
	[ "$(cocoon vm list -o name,memory,state --filter name=one)" = $'one\t536870912\tcreated' ]
	[ "$(cocoon ps)" = "No VMs found." ]
	[ "$(cocoon ps -a -o name | paste -sd,)" = one,two ]
	[ "$(cocoon vm status two -o name)" = two ]
	[ "$(cocoon vm status --format json nobody)" = "[]" ]
}

@test "dry runs of removals say what would go, and nothing goes" {
	create one
	create two
	run -0 --separate-stderr cocoon vm rm --dry-run one two
	[[ $output =~ ^'would delete VM '[A-Z2-7]{26}' (name: one): '[0-9.]+[KM]iB ]]
	[ ${#lines[@]} = 2 ]
	run -0 --separate-stderr cocoon vm rm --dry-run -o json one
	jq -e '.dry_run and .would_delete[0].name == "one" and .would_delete[0].bytes > 0' <<<"$output"
	[ "$(cocoon vm rm --dry-run -q two)" = "$(field two .id)" ]
	run -1 cocoon vm rm --dry-run one nobody
	[[ $output == *'vm not found'* ]]
	run -0 --separate-stderr cocoon image rm --dry-run tiny
	[[ $output =~ ^'would delete image tiny: '[0-9.]+[KM]iB$ ]]
	run -1 cocoon snapshot rm --dry-run s
	[[ $output == *'snapshot not found'* ]]
	[ "$(cocoon vm list -q | wc -l)" = 2 ]
	cocoon image inspect tiny >/dev/null
}

@test "completion offers VMs and images" {
	create one
	run -0 --separate-stderr cocoon __complete vm start o
	[ "${lines[0]}" = $'one\tcreated' ]
	[ "${lines[1]}" = ":4" ]
	run -0 cocoon __complete vm stop o
	[ "$output" = ":4" ]
	run -0 cocoon __complete vm run t
	[ "${lines[0]}" = $'tiny\toci' ]
	run -0 cocoon __complete --root-dir "$T/elsewhere" vm start o
	[ "$output" = ":4" ]
	[ ! -e "$T/elsewhere" ]
}

@test "debug prints a command that a shell can read back, dry run makes nothing" {
	run -0 --separate-stderr cocoon vm debug --qemu --memory 512M --network user --name "box" tiny
	[[ ${lines[0]} == "# "* ]]
	words=()
	eval "words=($(sed -n '/qemu-system-/,$p' <<<"$output" | sed 's/\\$//'))"
	[[ ${words[0]} == *qemu-system-* ]]
	run -0 --separate-stderr cocoon vm debug -o json --memory 512M --network user tiny
	[ "$(jq -r '.[0]' <<<"$output")" = "${words[0]}" ]
	run -0 --separate-stderr cocoon vm run --dry-run --network user --data-disk size=64M tiny
	[[ $output == *"would run tiny"*"1GiB memory"*"data1: 64MiB"* ]]
	[ "$(cocoon vm list -o json)" = "[]" ]
	[ -z "$(find "$T/run" -mindepth 2 -print -quit 2>/dev/null)" ]
}

@test "logs: tail, follow until the reader is gone or a signal comes" {
	create one
	run -1 cocoon vm logs one
	[[ $output == *"may not have been started"* ]]
	cocoon vm start one
	log=$(find "$T/log" -name qemu.log)
	printf 'a\nb\nc\n' >>"$log"
	[ "$(cocoon vm logs --tail 2 one)" = $'b\nc' ]
	# The reader leaves: success, and nobody hangs.
	# shellcheck disable=SC2016 # the inner shell expands it
	run -0 timeout 20 bash -c 'set -o pipefail; "$0" vm logs -f --tail 1 one | head -1' "$COCOON"
	[ "$output" = c ]
	# So is a signal, and what was printed before it has arrived.
	timeout --preserve-status -s INT 1 "$COCOON" vm logs -f one >/dev/null
	timeout --preserve-status -s TERM 1 "$COCOON" vm logs -f --tail 3 one >"$T/out"
	[ "$(cat "$T/out")" = $'a\nb\nc' ]
}

@test "progress: plain lines on request, bars only on a terminal, never with JSON" {
	archive=$(tiny)
	run -0 --separate-stderr cocoon --progress plain image import again "$archive"
	[ -z "$output" ]
	[[ $stderr == *"import again: done"*"imported: again"* ]]
	run -0 --separate-stderr cocoon image import again "$archive"
	[ "${#stderr_lines[@]}" = 1 ]
	run -0 --separate-stderr cocoon --progress plain image import again "$archive" -o json
	[ -z "$stderr" ]
	[ "$(jq -r '.name, .type' <<<"$output" | paste -sd' ')" = "again oci" ]
	need script
	out=$(TERM=xterm script -qec "$COCOON image import again $archive" /dev/null </dev/null)
	[[ $out == *$'\r\033[K'"import again: "* ]]
	out=$(TERM=xterm script -qec "$COCOON --progress none image import again $archive" /dev/null </dev/null)
	[[ $out != *$'\033[K'* ]]
}

@test "image rm: nothing is removed if one cannot be resolved" {
	run -1 cocoon image rm tiny nothing
	[[ $output == *'image "nothing": not found in any backend'* ]]
	digest=$(cocoon image inspect tiny | jq -r .id)
	run -0 --separate-stderr cocoon image rm "${digest:7:12}" -o json
	[ "$(jq -c . <<<"$output")" = '{"succeeded":["tiny"]}' ]
	[ "$(cocoon image list -o json)" = "[]" ]
}
