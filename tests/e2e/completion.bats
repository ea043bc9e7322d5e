#!/usr/bin/env bats
# What the shells themselves offer with our scripts loaded: words, flags, names of live objects.

load lib

setup()
{
	cocoon_setup
	need mkfs.ext4
	with_tiny tiny
	cocoon vm create --name one --memory 512M --nics 0 tiny
	cocoon vm create --name over-there --memory 512M --nics 0 tiny
	# Found by every shell under the name that the scripts are for.
	mkdir "$T/bin"
	printf '#!/bin/sh\nexec "%s" "$@"\n' "$COCOON" >"$T/bin/cocoon"
	chmod +x "$T/bin/cocoon"
	export PATH=$T/bin:$PATH
}

teardown()
{
	cocoon_teardown
}

# expect SHELL: the same questions to each shell; ask_SHELL WORDS... prints the candidates, one a line.
expect()
{
	[ "$(ask_"$1" vm sta | sort)" = $'start\nstatus' ]
	[ "$(ask_"$1" vm start o | sort)" = $'one\nover-there' ]
	[ "$(ask_"$1" vm start ove)" = over-there ]
	# Neither runs, so there is nothing to stop.
	[ -z "$(ask_"$1" vm stop o)" ]
	[ "$(ask_"$1" vm run ti)" = tiny ]
	[ "$(ask_"$1" vm run --me | sort)" = $'--memory\n--mergeable' ]
	[ "$(ask_"$1" vm run --pull a)" = always ]
	[ -z "$(ask_"$1" snapshot rm '')" ]
	[ "$(ask_"$1" completion z)" = zsh ]
	# An ID once begun.
	[ "$(ask_"$1" vm inspect "$(field one .id | cut -c 1-6)")" = "$(field one .id)" ]
}

ask_bash()
{
	bash --norc -c 'source <(cocoon completion bash)
		COMP_WORDS=(cocoon "$@") COMP_CWORD=$#
		_cocoon 2>/dev/null
		printf "%s\n" "${COMPREPLY[@]}"' - "$@" | grep . || true
}

# zsh completes on a terminal only: what its own _describe would be given.
ask_zsh()
{
	zsh -f -c 'compdef() { : }
		_describe() { local c; for c in "${candidates[@]}"; do print -r -- "${${c%%[^\\]:*}}${${(M)c#*[^\\]:}[-2]}"; done }
		_files() { : }
		source <(cocoon completion zsh)
		words=(cocoon "$@") CURRENT=$(($# + 1))
		_cocoon' - "$@" | grep . || true
}

ask_fish()
{
	local words=

	printf -v words ' %s' "$@"
	HOME=$T fish --no-config -c 'cocoon completion fish | source
		complete -C $argv[1]' "cocoon${words/%  / }" | cut -f 1 | grep . || true
}

@test "bash" {
	expect bash
}

@test "zsh" {
	need zsh
	expect zsh
}

@test "fish" {
	need fish
	expect fish
}

@test "a locked, a broken and an absent store: silence, and soon" {
	for shell in bash zsh fish; do
		command -v $shell >/dev/null || continue
		[ -z "$(COCOON_ROOT_DIR=$T/nowhere ask_$shell vm start o 2>&1)" ]
	done
	[ ! -e "$T/nowhere" ]
	echo garbage >"$T/root/meta/meta.db"
	rm -f "$T"/root/meta/meta.db-*
	run -0 --separate-stderr cocoon __complete vm start o
	[ "$output" = :4 ]
	[ -z "$stderr" ]
}
