#!/bin/sh
# tools/check-layers finds each kind of violation, and only those.
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

# file PATH LINE: a source file with this one line
file()
{
	mkdir -p "$tree/src/$(dirname "$1")"
	printf '%s\n' "$2" >"$tree/src/$1"
}

file base/str.c '#include "base/str.h"'
file meta/store.c '#include <sqlite3.h>'
file hv/qemu/argv.c '#include "disk/disk.h"'
file hv/qemu/name.c 'if (cc_streq(name, "qemu"))'
file cli/cmd/run.c '#include "vm/vm.h"'
file image/module.c '#include "image/pull/http.h"'
file image/pull/http.c '#include <curl/curl.h>'
"$top/tools/check-layers" "$tree" || {
	echo "a clean tree was refused"
	exit 1
}

# refused PATH LINE MESSAGE
refused()
{
	file "$1" "$2"
	if out=$("$top/tools/check-layers" "$tree"); then
		echo "accepted: $1: $2"
		exit 1
	fi
	case $out in
	"src/$1:1: "*"$3"*) ;;
	*)
		echo "$1: $2: said: $out"
		exit 1
		;;
	esac
	rm "$tree/src/$1"
}

refused base/x.c '#include "model/vm.h"' 'base may not include model/vm.h'
refused hv/x.c '#include "meta/meta.h"' 'hv may not include meta/meta.h'
refused hv/qemu/x.c '#include "model/vm.h"' 'hv/qemu may not include model/vm.h'
refused vm/x.c '#include "cli/cli.h"' 'vm may not include cli/cli.h'
refused vm/x.c '#include "image/pull/http.h"' 'private to image'
refused vm/x.c '#  include <curl/curl.h>' 'vm may not include <curl/curl.h>'
refused cli/x.c '#include <sqlite3.h>' 'cli may not include <sqlite3.h>'
refused image/x.c '#include <archive_entry.h>' 'image may not include <archive_entry.h>'
refused vm/x.c 'if (strcmp(d->name, "qemu") == 0)' 'compares a hypervisor name'
refused newcomer/x.c 'int x;' 'has no row'
