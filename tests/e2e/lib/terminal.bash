# shellcheck shell=bash
# A conversation with a guest that asks for a login, over `vm console`. lib.bash's console() types one
# line and looks; this waits for each answer before it goes on.
#
# terminal_open VM            one at a time
# terminal_type TEXT          a line
# terminal_wait REGEX [S]     until something new on the terminal matches; only what follows counts next
# terminal_login USER PASSWORD
# terminal_run COMMAND [S]    in the shell; TERMINAL_OUTPUT is what it printed, the status its own
# terminal_close

terminal_open()
{
	TERMINAL=$T/terminal
	mkfifo "$TERMINAL.in"
	: >"$TERMINAL.out"
	TERMINAL_SEEN=0
	# For reading and writing, so that neither end waits for the other.
	exec {TERMINAL_IN}<>"$TERMINAL.in"
	script -qefc "'$COCOON' vm console '$1'" "$TERMINAL.out" <"$TERMINAL.in" >/dev/null 2>&1 3>&- &
	TERMINAL_PID=$!
	terminal_wait 'Connected to'
}

terminal_type()
{
	printf '%s\r' "$1" >&"$TERMINAL_IN"
}

terminal_wait()
{
	local end=$((SECONDS + ${2:-60})) text

	while :; do
		text=$(tail -c "+$((TERMINAL_SEEN + 1))" "$TERMINAL.out" | tr -d '\0\r')
		if [[ $text =~ $1 ]]; then
			TERMINAL_SEEN=$(stat -c %s "$TERMINAL.out")
			TERMINAL_TEXT=$text
			return
		fi
		if [ $SECONDS -ge $end ]; then
			echo "not on the terminal: $1"
			tail -c 3000 "$TERMINAL.out"
			return 1
		fi
		sleep 0.2
	done
}

terminal_login()
{
	terminal_type ''
	terminal_wait 'login: *$' 120
	terminal_type "$1"
	terminal_wait 'Password: *$' 60
	terminal_type "$2"
	terminal_wait '[$#] *$' 90
	# Readline would wrap its own sequences around every output, and wrap long lines.
	terminal_type "bind 'set enable-bracketed-paste off'; stty cols 500; PS1='% '"
	terminal_run true
}

# The markers are spelled in two pieces, so that the echo of the typing is not taken for the answer.
terminal_run()
{
	local status

	terminal_type "echo BEGIN''OUTPUT; $1; echo END''OUTPUT \$?"
	terminal_wait 'ENDOUTPUT [0-9]+' "${2:-60}" || return
	TERMINAL_OUTPUT=${TERMINAL_TEXT#*BEGINOUTPUT}
	status=${TERMINAL_OUTPUT##*ENDOUTPUT }
	TERMINAL_OUTPUT=${TERMINAL_OUTPUT%ENDOUTPUT *}
	return "${status%%[!0-9]*}"
}

terminal_close()
{
	[ -n "${TERMINAL_PID-}" ] || return 0
	printf '\035.' >&"$TERMINAL_IN"
	for _ in $(seq 50); do
		kill -0 "$TERMINAL_PID" 2>/dev/null || break
		sleep 0.1
	done
	kill "$TERMINAL_PID" 2>/dev/null || true
	wait "$TERMINAL_PID" 2>/dev/null || true
	exec {TERMINAL_IN}>&-
	rm -f "$TERMINAL.in" "$TERMINAL.out"
	TERMINAL_PID=
}
