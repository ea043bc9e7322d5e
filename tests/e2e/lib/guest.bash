# shellcheck shell=bash disable=SC2034,SC2054,SC2206,SC2207
# Boots a guest image on QEMU without cocoon, so that tests/e2e/guest-contract.bats can judge image
# and contract alone. The command line is that of the qemu driver: q35, TCG, virtio-blk with serials
# at fixed addresses, one root port per NIC. Layers become EROFS through mkfs.erofs here, which the
# product never does.
#
# guest_convert ARCHIVE DIR     layer0.erofs…, vmlinuz, initrd.img out of an OCI archive
# guest_boot [OPTION...]        see its comment; leaves GUEST_PID, a console and a QMP channel
# guest_wait REGEX [SECONDS]    until a console line matches; fails with the console's tail
# guest_type TEXT               types a line on the console
# guest_qmp COMMAND [JSON]      one QMP command; its answer is not awaited
# guest_agent FRAME...          a session with the guest agent (boot with --agent); GUEST_FRAMES
# guest_agent_sh COMMAND        runs it through the agent; GUEST_OUTPUT
# guest_login USER PASSWORD     for images with a login prompt
# guest_exited [SECONDS]        waits for QEMU to end; its exit status
# guest_kill                    ends QEMU whatever its state; for teardown

guest_missing_tools()
{
	local tool
	for tool in qemu-system-x86_64 mkfs.erofs mkfs.ext4 setfattr mknod jq tar gzip; do
		command -v "$tool" >/dev/null || echo "$tool"
	done
}

# Whiteouts in the form overlayfs wants (spec: images, whiteouts). Needs root for mknod and
# trusted xattrs.
guest_map_whiteouts()
{
	local file dir name
	find "$1" -name '.wh.*' | while read -r file; do
		dir=${file%/*} name=${file##*/}
		rm -f "$file"
		if [ "$name" = .wh..wh..opq ]; then
			setfattr -n trusted.overlay.opaque -v y "$dir"
		else
			mknod "$dir/${name#.wh.}" c 0 0
		fi
		setfattr -n trusted.overlay.origin "$dir"
	done
}

guest_convert()
{
	local archive=$1 dir=$2 manifest digest i=0 tree file name
	mkdir -p "$dir/oci"
	tar -xf "$archive" -C "$dir/oci"
	manifest=$dir/oci/blobs/sha256/$(jq -r '.manifests[0].digest[7:]' "$dir/oci/index.json")
	for digest in $(jq -r '.layers[].digest[7:]' "$manifest"); do
		tree=$dir/tree$i
		mkdir "$tree"
		tar -xpzf "$dir/oci/blobs/sha256/$digest" -C "$tree" --numeric-owner
		guest_map_whiteouts "$tree"
		for file in "$tree"/boot/vmlinuz-* "$tree"/boot/initrd.img-*; do
			name=${file##*/}
			[ ! -f "$file" ] || cp "$file" "$dir/${name%%-*}"
		done
		mkfs.erofs --quiet -zlz4hc -T0 "$dir/layer$i.erofs" "$tree" >/dev/null
		rm -rf "$tree"
		i=$((i + 1))
	done
	rm -rf "$dir/oci"
	echo $i >"$dir/layers"
}

guest_ext4()
{
	rm -f "$1"
	truncate -s "${2:-256M}" "$1"
	mkfs.ext4 -F -m 0 -q -E lazy_itable_init=1,lazy_journal_init=1,discard "$1"
}

# guest_boot: options
#   --image DIR      what guest_convert made          --cow FILE       an ext4 image
#   --data FILE:NAME a data disk (repeatable)         --nic ARGS       -netdev user,ARGS (repeatable)
#   --append WORDS   more kernel command line         --memory MIB     default 256
#   --cpus N         default 2                        --console hvc0   default ttyS0
#   --microvm        virtio-mmio and /dev/vdX ids     --no-reboot      QEMU exits at a reboot
#   --break-layers S cocoon.layers=S instead of the right one
#   --agent          a serial port for the guest agent: guest_agent
guest_boot()
{
	local image='' cow='' data=() nics=() append='' memory=256 cpus=2 console=ttyS0 microvm=no
	local extra=() broken='' agent=no
	while [ $# -gt 0 ]; do
		case $1 in
		--image) image=$2; shift ;;
		--cow) cow=$2; shift ;;
		--data) data+=("$2"); shift ;;
		--nic) nics+=("$2"); shift ;;
		--append) append+=" $2"; shift ;;
		--memory) memory=$2; shift ;;
		--cpus) cpus=$2; shift ;;
		--console) console=$2; shift ;;
		--break-layers) broken=$2; shift ;;
		--microvm) microvm=yes ;;
		--no-reboot) extra+=(-no-reboot) ;;
		--agent) agent=yes ;;
		esac
		shift
	done

	local disks=() ids=() count i args=() top_first='' words bios item letters=abcdefghijklmnop
	count=$(<"$image/layers")
	for ((i = 0; i < count; i++)); do
		disks+=("$image/layer$i.erofs|cocoon-layer$i|true")
	done
	disks+=("$cow|cocoon-cow|false")
	for item in "${data[@]}"; do
		disks+=("${item%:*}|${item##*:}|false")
	done
	for ((i = 0; i < ${#disks[@]}; i++)); do
		IFS='|' read -r file serial ro <<<"${disks[i]}"
		args+=(-blockdev '{"driver":"raw","node-name":"blk'$i'","read-only":'$ro',"file":{"driver":"file","filename":"'$file'","aio":"threads"}}')
		if [ $microvm = yes ]; then
			args+=(-device '{"driver":"virtio-blk-device","id":"disk'$i'","drive":"blk'$i'"}')
			ids+=("/dev/vd${letters:i:1}")
		else
			args+=(-device '{"driver":"virtio-blk-pci","id":"disk'$i'","drive":"blk'$i'","serial":"'$serial'","bus":"pcie.0","addr":"'$(printf '%x.%x' $((8 + i / 8)) $((i % 8)))'","multifunction":'$([ $((i % 8)) -eq 0 ] && echo true || echo false)',"num-queues":2,"queue-size":512}')
			ids+=("$serial")
		fi
	done
	for ((i = count - 1; i >= 0; i--)); do
		top_first+=${top_first:+,}${ids[i]}
	done

	words="console=$console loglevel=3 boot=cocoon-overlay cocoon.layers=${broken:-$top_first} cocoon.cow=${ids[count]} rw"
	[ ${#nics[@]} -eq 0 ] || words+=" net.ifnames=0"
	GUEST_CMDLINE=$words$append

	if [ $microvm = yes ]; then
		# This machine has no PM timer or HPET to calibrate the TSC against, and an emulated guest
		# on a busy host then often spins forever: tell it a frequency instead.
		GUEST_CMDLINE+=" tsc_early_khz=1000000"
		args=(-M microvm,acpi=on,pcie=off,rtc=on,isa-serial=on "${args[@]}")
	else
		for bios in /usr/share/seabios/bios-256k.bin /usr/share/qemu/bios-256k.bin; do
			[ ! -f $bios ] || break
		done
		args=(-M q35,usb=off,smm=off,vmport=off,sata=off,smbus=off,dump-guest-core=off,mem-merge=off,memory-backend=mem0,suppress-vmdesc=on,pflash0=fw0
			-object '{"qom-type":"memory-backend-memfd","id":"mem0","size":'$((memory << 20))',"share":true,"dump":false,"merge":false}'
			-blockdev '{"driver":"raw","node-name":"fw0","read-only":true,"file":{"driver":"file","filename":"'$bios'"}}'
			-device '{"driver":"virtio-rng-pci","id":"rng0","bus":"pcie.0","addr":"2"}'
			-device '{"driver":"virtio-serial-pci","id":"vser","bus":"pcie.0","addr":"3","max_ports":5}'
			"${args[@]}")
		for ((i = 0; i < 16; i++)); do
			args+=(-device '{"driver":"pcie-root-port","id":"rp'$i'","bus":"pcie.0","addr":"'$(printf '%x.%x' $((24 + i / 8)) $((i % 8)))'","multifunction":true,"chassis":1,"slot":'$((i + 1))',"io-reserve":0}')
		done
	fi
	for ((i = 0; i < ${#nics[@]}; i++)); do
		args+=(-netdev "user,id=net$i,ipv6=off${nics[i]:+,${nics[i]}}")
		if [ $microvm = yes ]; then
			args+=(-device '{"driver":"virtio-net-device","id":"nic'$i'","netdev":"net'$i'","mac":"'"$(guest_mac $i)"'"}')
		else
			args+=(-device '{"driver":"virtio-net-pci","id":"nic'$i'","netdev":"net'$i'","bus":"rp'$i'","addr":"0","mac":"'"$(guest_mac $i)"'","host_mtu":1500,"romfile":""}')
		fi
	done
	if [ "$console" = hvc0 ]; then
		args+=(-device '{"driver":"virtconsole","bus":"vser.0","nr":0,"chardev":"ser0"}')
		args+=(-serial none)
	else
		args+=(-serial chardev:ser0)
	fi

	GUEST_DIR=$(mktemp -d "${BATS_TEST_TMPDIR:-${TMPDIR:-/tmp}}/guest.XXXXXX")
	GUEST_CONSOLE=$GUEST_DIR/console.log
	mkfifo "$GUEST_DIR/ser.in" "$GUEST_DIR/qmp.in" "$GUEST_DIR/qmp.out"
	: >"$GUEST_CONSOLE"
	if [ "$agent" = yes ]; then
		mkfifo "$GUEST_DIR/agent.in" "$GUEST_DIR/agent.out"
		exec {GUEST_AGENT_IN}<>"$GUEST_DIR/agent.in" {GUEST_AGENT_OUT}<>"$GUEST_DIR/agent.out"
		args+=(-chardev pipe,id=agent0,path="$GUEST_DIR/agent")
		args+=(-device '{"driver":"virtserialport","bus":"vser.0","nr":1,"chardev":"agent0","name":"org.cocoon.agent.0"}')
	fi
	# Opened for reading and writing, so that no end ever waits for the other.
	exec {GUEST_KEYS}<>"$GUEST_DIR/ser.in" {GUEST_QMP_IN}<>"$GUEST_DIR/qmp.in" \
		{GUEST_QMP_OUT}<>"$GUEST_DIR/qmp.out"
	# bats waits for whoever holds its descriptor 3.
	timeout --kill-after=2 "${GUEST_TIMEOUT:-120}" \
		qemu-system-x86_64 -nodefaults -no-user-config -display none -name guest=contract \
		-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
		-accel tcg,tb-size=128 -cpu max -smp "$cpus",sockets=1,cores="$cpus",threads=1 \
		-m "${memory}M" "${extra[@]}" \
		-kernel "$image/vmlinuz" -initrd "$image/initrd.img" -append "$GUEST_CMDLINE" \
		-chardev stdio,id=ser0,signal=off \
		-chardev pipe,id=mon0,path="$GUEST_DIR/qmp" -mon chardev=mon0,mode=control \
		"${args[@]}" \
		<"$GUEST_DIR/ser.in" >"$GUEST_CONSOLE" 2>"$GUEST_DIR/qemu.log" 3>&- &
	GUEST_PID=$!
	GUEST_SEEN=0
	echo '{"execute":"qmp_capabilities"}' >&"$GUEST_QMP_IN"
}

guest_mac()
{
	printf '52:54:00:c0:c0:%02x' "$1"
}

# guest_wait: only console output after the last match counts, so a second boot is not taken for
# the first.
guest_wait()
{
	local tries=$((${2:-60} * 20)) line total
	while :; do
		line=$(tail -n "+$((GUEST_SEEN + 1))" "$GUEST_CONSOLE" | tr -d '\r' |
			grep -a -m 1 -n -E -- "$1") && break
		if [ $((tries -= 1)) -le 0 ] || ! kill -0 "$GUEST_PID" 2>/dev/null; then
			# One more look: the line may have come with the exit.
			line=$(tail -n "+$((GUEST_SEEN + 1))" "$GUEST_CONSOLE" | tr -d '\r' |
				grep -a -m 1 -n -E -- "$1") && break
			echo "no console line matches: $1" >&2
			echo "command line: $GUEST_CMDLINE" >&2
			tail -n 30 "$GUEST_CONSOLE" "$GUEST_DIR/qemu.log" >&2
			return 1
		fi
		sleep 0.05
	done
	total=${line%%:*}
	GUEST_SEEN=$((GUEST_SEEN + total))
	GUEST_LINE=${line#*:}
}

guest_type()
{
	printf '%s\n' "$1" >&"$GUEST_KEYS"
}

# guest_run COMMAND [SECONDS]: types it; GUEST_OUTPUT is what it printed, the status its own. The
# markers are spelled in two pieces so that the echo of the typing is not taken for the answer,
# however the guest's line editor wraps it.
guest_run()
{
	local first
	guest_type "echo BEGIN''OUTPUT; $1; echo END''OUTPUT \$?"
	guest_wait '^BEGINOUTPUT$' "${2:-30}" || return
	first=$((GUEST_SEEN + 1))
	guest_wait '^ENDOUTPUT [0-9]+$' "${2:-30}" || return
	GUEST_OUTPUT=$(sed -n "$first,$((GUEST_SEEN - 1))p" "$GUEST_CONSOLE" | tr -d '\r')
	return "${GUEST_LINE##* }"
}

# guest_agent FRAME...: a session with the guest agent. GUEST_FRAMES are its answers, the last one is
# `exit`, `error` or `pong`.
guest_agent()
{
	local nonce=$RANDOM$RANDOM line greeted=''
	GUEST_FRAMES=''
	printf '\n{"type":"hello","nonce":"%s"}\n' "$nonce" >&"$GUEST_AGENT_IN"
	printf '%s\n' "$@" >&"$GUEST_AGENT_IN"
	while read -r -t 60 -u "$GUEST_AGENT_OUT" line; do
		if [ -z "$greeted" ]; then
			[[ $line != '{"type":"hello","nonce":"'$nonce'"'* ]] || greeted=yes
			continue
		fi
		GUEST_FRAMES+=$line$'\n'
		[[ $line != '{"type":"'@(exit|error|pong)'"'* ]] || return 0
	done
	echo "the agent is silent behind: $GUEST_FRAMES" >&2
	return 1
}

# guest_agent_sh COMMAND: what it prints is GUEST_OUTPUT.
guest_agent_sh()
{
	guest_agent '{"type":"exec","argv":["sh","-c",'"$(jq -n --arg c "$1" '$c')"']}' '{"type":"stdin_close"}'
	GUEST_OUTPUT=$(jq -r 'select(.type == "stdout").data' <<<"$GUEST_FRAMES" | base64 -d)
}

guest_qmp()
{
	echo '{"execute":"'"$1"'"'"${2:+,\"arguments\":$2}"'}' >&"$GUEST_QMP_IN"
}

# guest_login USER PASSWORD: through the prompts of getty and shell, which end without a newline.
# Each waits for its own, because login throws away what was typed ahead.
guest_login()
{
	guest_prompt 'login: ' && guest_type "$1" &&
		guest_prompt 'Password: ' && guest_type "$2" &&
		guest_prompt '[#$] ' || return
	# Readline would wrap its own sequences around every output.
	guest_type "bind 'set enable-bracketed-paste off'"
	guest_run true
}

# guest_prompt PATTERN: until the console's last words match.
guest_prompt()
{
	local tries=$((60 * 10))
	# shellcheck disable=SC2053
	until [[ $(tail -c 64 "$GUEST_CONSOLE" | tr -d '\0') = *$1 ]]; do
		if [ $((tries -= 1)) -le 0 ] || ! kill -0 "$GUEST_PID" 2>/dev/null; then
			echo "no prompt: $1" >&2
			tail -n 20 "$GUEST_CONSOLE" >&2
			return 1
		fi
		sleep 0.1
	done
}

guest_exited()
{
	local tries=$((${1:-30} * 20)) status=0
	while kill -0 "$GUEST_PID" 2>/dev/null; do
		if [ $((tries -= 1)) -le 0 ]; then
			echo "QEMU still runs" >&2
			tail -n 20 "$GUEST_CONSOLE" >&2
			return 1
		fi
		sleep 0.05
	done
	wait "$GUEST_PID" || status=$?
	GUEST_PID=''
	return $status
}

guest_kill()
{
	if [ -n "${GUEST_PID:-}" ]; then
		kill "$GUEST_PID" 2>/dev/null || :
		wait "$GUEST_PID" 2>/dev/null || :
		GUEST_PID=''
	fi
	local fd
	for fd in "${GUEST_KEYS:-}" "${GUEST_QMP_IN:-}" "${GUEST_QMP_OUT:-}"; do
		[ -z "$fd" ] || exec {fd}>&-
	done
	GUEST_KEYS='' GUEST_QMP_IN='' GUEST_QMP_OUT=''
}
