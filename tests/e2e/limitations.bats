#!/usr/bin/env bats
# docs/limitations.md says what each driver refuses (acceptance 28): the page is current, and the commands
# agree with every line of it.

bats_require_minimum_version 1.5.0
load lib

PAGE=$TOP/docs/limitations.md

setup()
{
	cocoon_setup
	need jq
}

teardown()
{
	cocoon_teardown
}

# The table under the heading $1: cells separated by tabs, header first.
table()
{
	awk -v want="## $1" '
		/^## / { on = $0 == want }
		on && /^\|/ && !/^\|---/ {
			gsub(/^\| | \|$/, "")
			gsub(/ \| /, "\t")
			print
		}' "$PAGE"
}

# What cocoon says: refused, or not (it worked, or failed for another reason).
judge()
{
	local error

	error=$(COCOON_ERROR_FORMAT=json timeout 60 "$COCOON" "$@" 2>&1 >/dev/null | tail -n 1)
	echo "    $*: $error" >&2
	case $(jq -r '.error.code' <<<"$error" 2>/dev/null) in
	unsupported) echo no ;;
	usage) echo "the question is wrong" ;;
	*) echo yes ;;
	esac
}

# ask WORDS: try what the second column names, with the VM `v` running and its snapshot `s` there.
ask()
{
	local flags

	case $1 in
	'`vm run`') judge vm debug --nics 0 tiny ;;
	'`vm run` of a cloud image') judge vm debug --nics 0 cloud ;;
	'`--windows`') judge vm debug --nics 0 --windows cloud ;;
	'`--network user`') judge vm debug --network user tiny ;;
	'`--'*)
		flags=${1//\`/}
		judge vm debug --nics 0 "$flags" tiny
		;;
	'`vm debug --max-cpu`') judge vm debug --nics 0 --max-cpu 4 tiny ;;
	'`vm net`') judge vm net --nics 0 v ;;
	'`vm disk attach`') judge vm disk attach v --name d --path "$T/disk" ;;
	'`vm fs attach`') judge vm fs attach v --tag t --socket /nonexistent ;;
	'`vm device attach`') judge vm device attach v --pci 0000:ff:1f.7 ;;
	'`snapshot save`') judge snapshot save --name s2 v ;;
	'`vm clone --nics`') judge vm clone --nics 2 --network no-such-network s ;;
	'`vm clone --disk-queue-size`') judge vm clone --disk-queue-size 64 --network no-such-network s ;;
	*) echo "no way to ask for $1" ;;
	esac
}

# Every row of "Refused" against the driver COCOON_TEST_DRIVER, whose column has the heading $1.
check_driver()
{
	local column bad=0 what how said pci=()

	with_driver
	with_tiny tiny
	[ -f "$COCOON_TEST_CACHE/tiny-cloud.qcow2" ] || skip "needs the tiny cloud image (os-image/tiny-cloud)"
	cocoon image import cloud "$COCOON_TEST_CACHE/tiny-cloud.qcow2"
	truncate -s 1M "$T/disk"
	column=$(table Refused | head -n 1 | tr '\t' '\n' | grep -nx "$1" | cut -d: -f1)
	[ -n "$column" ]
	# Where it is a choice, hot-plug needs it.
	[ "$(table Refused | awk -F'\t' -v c="$column" '$2 == "`--pci`" { print $c }')" = no ] || pci=(--pci)
	cocoon vm run --name v --memory 512M --nics 0 "${pci[@]}" tiny
	cocoon snapshot save --name s v || true
	[ "$(table Refused | wc -l)" -gt 10 ]
	while IFS= read -r row; do
		what=$(cut -f1 <<<"$row")
		how=$(cut -f2 <<<"$row")
		said=$(cut -f"$column" <<<"$row")
		if [ "$(ask "$how")" != "$said" ]; then
			echo "$what ($how): the page says $said"
			bad=1
		fi
	done < <(table Refused | tail -n +2)
	[ $bad -eq 0 ]
}

@test "the page is what the program writes" {
	cocoon __docs limitations "$T/limitations.md"
	diff -u "$PAGE" "$T/limitations.md"
}

@test "QEMU refuses what the page says, and nothing else" {
	COCOON_TEST_DRIVER=qemu check_driver QEMU
}

@test "Cloud Hypervisor refuses what the page says, and nothing else" {
	COCOON_TEST_DRIVER=cloud-hypervisor check_driver "Cloud Hypervisor"
}

@test "Firecracker refuses what the page says, and nothing else" {
	COCOON_TEST_DRIVER=firecracker check_driver Firecracker
}
