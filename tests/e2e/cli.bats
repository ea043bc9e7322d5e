#!/usr/bin/env bats
# The tool's manners: streams, exit codes, error texts, output shapes. No guest is started here.

bats_require_minimum_version 1.5.0
load lib

setup()
{
	cocoon_setup
}

teardown()
{
	cocoon_teardown
}

# Every command that help shows, one a line, groups opened.
commands()
{
	local help word

	# shellcheck disable=SC2086 # words of a group
	help=$(cocoon $1 --help)
	if ! grep -q '^Commands:' <<<"$help"; then
		echo "$1"
		return
	fi
	for word in $(sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\)  .*/\1/p' <<<"$help"); do
		commands "${1:+$1 }$word"
	done
}

# fails MESSAGE ARGS...: exit 1, nothing on stdout, exactly this error line first on stderr.
fails()
{
	local message=$1

	shift
	run -1 --separate-stderr cocoon "$@"
	[ -z "$output" ]
	# shellcheck disable=SC2154 # set by run
	if [ "${stderr_lines[0]}" != "Error: $message" ]; then
		echo "want: Error: $message"
		echo "got:  ${stderr_lines[0]}"
		return 1
	fi
}

@test "help is on stdout, at most 80 columns wide, exit 0" {
	[ "$(commands "" | wc -l)" -ge 20 ]
	while read -r words; do
		# shellcheck disable=SC2086 # words of a command
		run -0 --separate-stderr cocoon $words --help
		[ -z "$stderr" ]
		[[ $output == *"Usage:"*"cocoon $words"* ]]
		[ "$(printf '%s\n' "$output" | awk 'length > 80' | wc -l)" = 0 ]
		help=$output
		# shellcheck disable=SC2086
		run -0 cocoon help $words
		[ "$output" = "$help" ]
	done < <(commands "")
}

@test "bare program and bare group print help, exit 0" {
	for words in "" vm image help; do
		# shellcheck disable=SC2086
		run -0 --separate-stderr cocoon $words
		[[ $output == *"Commands:"* ]]
		[ -z "$stderr" ]
	done
}

@test "usage errors: one line on stderr, nothing on stdout, exit 1" {
	fails 'unknown command "vmm" for "cocoon"' vmm
	[[ $stderr == *$'\n\nDid you mean this?\n\tvm\n'*"Run 'cocoon --help' for usage." ]]
	fails 'unknown command "strt" for "cocoon vm"' vm strt
	[[ $stderr == *$'\n\tstart\n'* ]]
	fails 'unknown flag: --cpus' vm run --cpus 2 x
	[[ $stderr == *"did you mean --cpu?"* ]]
	fails "unknown shorthand flag: 'x' in -x" vm list -x
	fails 'flag needs an argument: --name' vm run x --name
	fails 'invalid argument "abc" for "--cpu" flag: not an integer' vm run --cpu abc x
	fails 'accepts 1 arg(s), received 0' vm inspect
	fails 'accepts 1 arg(s), received 2' vm run a b
	fails 'accepts 0 arg(s), received 1' vm list a
	fails 'requires at least 1 arg(s), only received 0' vm start
	fails 'unsupported shell: tcsh' completion tcsh
	fails '--format "x" is invalid: want "table" or "json"' vm list -o x
	fails '--output "x" is invalid: want "json"' vm start -o x vm
	fails 'invalid --memory "x": invalid size: '"'x'" vm run --memory x img
	fails '--bridge and --network are mutually exclusive' vm run --bridge b --network n img
	fails '--data-disk: size= required' vm run --pull never --data-disk name=a img
	fails '--rm requires --attach or a command behind --' vm run --rm img
	fails '--event and --watch are mutually exclusive' vm status --event --watch
	fails '--watch draws a table; use --event --format json' vm status --watch --format json
	fails '--format "id" is invalid: want "table" or "json"' vm status --event --format id
}

@test "without standard streams nothing is written into another file" {
	# Descriptor 1 would be the first file opened; the output must not go there, nor look written.
	run -1 --separate-stderr bash -c '"$0" vm list >&-' "$COCOON"
	[[ $stderr == "Error: write standard output: "* ]]
	run -1 bash -c '"$0" vm inspect nobody <&- 2>&-' "$COCOON"
	[ "$(sqlite3 "$T/root/meta/meta.db" 'PRAGMA integrity_check')" = ok ]
	[ -z "$(find "$T/root/locks" -type f -exec grep -l 'No VMs' {} +)" ]
}

@test "checks come in order: syntax, count, configuration, exclusions" {
	fails 'unknown flag: --nope' --config /nonexistent.yaml vm inspect --nope
	fails 'accepts 1 arg(s), received 0' --config /nonexistent.yaml vm inspect
	run -1 cocoon --config /nonexistent.yaml vm run --bridge b --network n img
	[[ $output == "Error: read config: "* ]]
}

@test "flags of later versions are refused, not ignored" {
	for flag in --cpu-weight=0 --cpu-quota-us=1 --cpu-period-us=1 --cpu-burst-us=0 --cpuset-cpus=0; do
		fails "${flag%%=*} is not supported yet by this version" vm run "$flag" img
		fails "${flag%%=*} is not supported yet by this version" vm create "$flag" img
	done
}

@test "global flags are accepted anywhere and the last one wins" {
	run -0 --separate-stderr env -u COCOON_ROOT_DIR "$COCOON" --root-dir "$T/wrong" vm --log-level=error list \
		--root-dir "$T/root" -o json
	[ "$output" = "[]" ]
	[ -d "$T/root" ]
	[ ! -e "$T/wrong" ]
	fails 'config: root_dir must not be empty' vm list --root-dir ""
}

@test "a broken configuration does not break version, help and completion" {
	echo '{' >"$T/bad.json"
	cocoon --config "$T/bad.json" version
	cocoon --config "$T/bad.json" completion bash >/dev/null
	cocoon --config "$T/bad.json" help vm run >/dev/null
	run -1 cocoon --config "$T/bad.json" vm list
	[[ $output == "Error: read config: "* ]]
}

@test "version" {
	run -0 --separate-stderr cocoon version
	[ -z "$stderr" ]
	[[ ${lines[0]} =~ ^"Version:        "[0-9] ]]
	[[ ${lines[1]} =~ ^"Git hash:       "[^\ ] ]]
	[[ ${lines[2]} =~ ^"Built:          "[^\ ] ]]
	[[ ${lines[4]} =~ ^"OS/Arch:        linux/" ]]
	[ "$(cocoon --version)" = "$output" ]
	[ "$(cocoon version -o json | jq -r .version)" = "${lines[0]#Version:        }" ]
}

@test "an empty root: tables, JSON, IDs, fields" {
	[ "$(cocoon vm list)" = "No VMs found." ]
	[ "$(cocoon vm ls)" = "No VMs found." ]
	[ "$(cocoon ps)" = "No VMs found." ]
	[ "$(cocoon vm status nobody)" = "No VMs found." ]
	[ "$(cocoon image list)" = "No images found." ]
	for words in "vm list" "vm status" "ps -a" "image ls"; do
		# shellcheck disable=SC2086
		[ "$(cocoon $words -o json)" = "[]" ]
		# shellcheck disable=SC2086
		[ -z "$(cocoon $words -o jsonl)$(cocoon $words -q)$(cocoon $words -o name)" ]
		# shellcheck disable=SC2086
		[ -z "$(cocoon $words --no-header)" ]
	done
}

@test "what does not exist is named" {
	fails 'inspect: vm nobody: vm not found' vm inspect nobody
	fails 'console: vm nobody: vm not found' vm console nobody
	fails 'logs: vm nobody: vm not found' vm logs nobody
	for verb in start stop rm; do
		fails 'vm nobody: vm not found' vm $verb nobody
	done
	fails 'image "nothing": not found in any backend' image inspect nothing
	fails 'image "nothing": not found in any backend' image rm nothing
	run -0 cocoon vm reconcile-stale-create nobody -o json
	[ "$(jq -r .outcome <<<"$output")" = not-found ]
}

@test "filters and sort keys are checked, with suggestions" {
	fails '--filter: "state" is not key=value' vm list --filter state
	fails '--filter: unknown state "runing": want "creating", "created", "running", "stopped", "error", "stale" or "stopped (stale)"' \
		vm list --filter state=runing
	[[ $stderr == *"did you mean state=running?"* ]]
	fails '--filter: unknown key "x": want "name", "type" or "digest"' image list --filter x=y
	fails '--sort: unknown field "x": want one of type, name, digest, size, created, id' \
		image list --sort x
}

@test "structured errors" {
	run -1 --separate-stderr cocoon --error-format json vm inspect nobody
	[ -z "$output" ]
	[ "$(jq -r .error.code <<<"$stderr")" = vm_not_found ]
	[ "$(jq -r .error.message <<<"$stderr")" = "inspect: vm nobody: vm not found" ]
	# The environment does the same, and a flag that comes too late still counts.
	COCOON_ERROR_FORMAT=json run -1 --separate-stderr cocoon vm lst
	[ "$(jq -r .error.code <<<"$stderr")" = unknown_command ]
	run -1 --separate-stderr cocoon vm list --frmat x --error-format json
	[ "$(jq -r .error.hint <<<"$stderr")" = "did you mean --format?" ]
	COCOON_ERROR_FORMAT=json run -1 --separate-stderr cocoon --error-format=text vm lst
	[[ $stderr == "Error: "* ]]
}

@test "standard output that cannot be written is an error; a reader that left is not" {
	# shellcheck disable=SC2016 # the inner shell expands it
	run -1 bash -c '"$0" version >/dev/full' "$COCOON"
	[ "$output" = "Error: write standard output: No space left on device" ]
	# shellcheck disable=SC2016
	run -0 bash -c 'set -o pipefail; { sleep 0.2; "$0" --help; } | true' "$COCOON"
	[ -z "$output" ]
}

@test "colour only on a terminal, and never with NO_COLOR" {
	need script
	printf 'log:\n  level: debug\n' >"$T/c.yaml"
	esc=$'\033'
	out=$(script -qec "$COCOON vm run --dry-run --pull never --qemu none" /dev/null </dev/null || true)
	[[ $out == *"${esc}["*"using qemu"* ]]
	out=$(NO_COLOR=1 script -qec "$COCOON vm run --dry-run --pull never --qemu none" /dev/null </dev/null || true)
	[[ $out == *"using qemu"* ]]
	[[ $out != *"${esc}["* ]]
	run -1 --separate-stderr cocoon vm run --dry-run --pull never --qemu none
	[[ $stderr != *"${esc}["* ]]
}

@test "the log level hides lines, the log file takes them" {
	run -1 --separate-stderr cocoon --log-level warn vm run --dry-run --pull never none
	[ "${#stderr_lines[@]}" = 1 ]
	printf 'log:\n  filename: %s\n' "$T/cocoon.log" >"$T/c.yaml"
	run -1 --separate-stderr cocoon --config "$T/c.yaml" vm run --dry-run --pull never none
	[[ $stderr == "Error: "* ]]
	[ "$(head -1 "$T/cocoon.log" | jq -r .level)" = info ]
}

@test "console refuses a standard input that is no terminal" {
	fails 'stdin is not a terminal' vm run --attach none
}

@test "info" {
	run -0 --separate-stderr cocoon info
	[[ $output == *"Drivers:"*"qemu"*"KVM:"*"$T/root"* ]]
	[ "$(cocoon info -o json | jq -r '.drivers[] | select(.name == "qemu").usable')" = true ]
	[ "$(cocoon info -o json | jq -r .directories.root.path)" = "$T/root" ]
	# It looks and does not touch.
	[ ! -e "$T/root" ]
}

@test "completion: the bash script offers commands, flags and words" {
	need bash
	# shellcheck disable=SC2016
	run -0 bash --norc -c '
		set -u
		PATH=$(dirname "$0"):$PATH
		source <(cocoon completion bash)
		try()
		{
			COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
			compopt() { :; }
			_cocoon
			echo "${COMPREPLY[*]}"
		}
		try cocoon vm st
		try cocoon vm run --me
		try cocoon vm run --pull ""
		try cocoon vm start nobo
	' "$COCOON"
	[ "${lines[0]}" = "start stop status" ]
	[ "${lines[1]}" = "--memory --mergeable" ]
	[ "${lines[2]}" = "missing always never" ]
}

@test "completion is silent on every error" {
	echo '{' >"$T/bad.json"
	run -0 --separate-stderr cocoon __complete --config "$T/bad.json" vm start ""
	[ "$output" = ":4" ]
	[ -z "$stderr" ]
	mkdir -p "$T/root/meta" && echo garbage >"$T/root/meta/cocoon.db"
	run -0 --separate-stderr cocoon __complete vm start ""
	[ -z "$stderr" ]
	run -0 --separate-stderr cocoon __complete image rm ""
	[ -z "$stderr" ]
	run -0 --separate-stderr cocoon __complete
	[ -z "$stderr" ]
}

@test "the committed reference equals the generated one, and the pages are clean" {
	cocoon __docs markdown "$T/cli.md"
	diff -u "$TOP/docs/cli.md" "$T/cli.md"
	cocoon __docs man "$T/man"
	[ "$(find "$T/man" -name '*.1' | wc -l)" = $(($(commands "" | wc -l) + 1)) ]
	need groff
	for page in "$T"/man/*.1; do
		[ -z "$(groff -man -Tutf8 -ww -z "$page" 2>&1)" ]
	done
}
