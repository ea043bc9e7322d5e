# shellcheck shell=dash disable=SC2015
# Shared by the image builders: options, Debian packages, deterministic tar, and the writer of OCI
# archives (a tar of an OCI image layout). Plain POSIX sh on top of GNU tar, gzip, sha256sum and
# apt; nothing here needs root, and nothing here knows what a particular image contains.
#
# Same input files and same SOURCE_DATE_EPOCH: same bytes out.

LC_ALL=C
export LC_ALL
umask 022

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

note()
{
	echo "  $*" >&2
}

# make_workdir: sets WORK to a private directory that disappears with the script.
make_workdir()
{
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/cocoon-image.XXXXXX") || exit 1
	trap 'rm -rf "$WORK"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# need COMMAND...: all missing ones in one message.
need()
{
	local command missing
	missing=''
	for command; do
		command -v "$command" >/dev/null || missing="$missing $command"
	done
	[ -z "$missing" ] || die "not installed:$missing"
}

# agent_program FILE TOP: sets AGENT to the guest agent to install: FILE, or if that is empty one built
# from the sources of TOP.
agent_program()
{
	AGENT=$1
	[ -z "$AGENT" ] || return 0
	AGENT=$WORK/cocoon-agent
	"$2/guest/agent/build" "$AGENT" || die "cannot build the guest agent (see --agent, --without-agent)"
}

# ---- Debian packages --------------------------------------------------------------------------

# package_fetch NAME: sets PACKAGE to the path of the .deb apt would install now. Downloads are kept
# in $COCOON_PACKAGE_CACHE and reused while apt still names the same file with the same hash.
package_fetch()
{
	local name cache line file hash partial
	name=$1
	cache=${COCOON_PACKAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cocoon/packages}
	mkdir -p "$cache" || exit 1
	line=$(apt-get --print-uris download "$name" 2>/dev/null) ||
		die "apt knows no package $name (run apt-get update first?)"
	# 'URI' file size algorithm:hash
	# shellcheck disable=SC2086
	set -- $line
	file=$2 hash=${4#*:}
	PACKAGE=$cache/$file
	case ${4%%:*} in
	SHA256) set -- sha256sum ;;
	SHA512) set -- sha512sum ;;
	*) die "package $name: no usable hash in '$line'" ;;
	esac
	if [ -f "$PACKAGE" ] && echo "$hash  $PACKAGE" | "$1" --check --status; then
		return
	fi
	partial=$(mktemp -d "$cache/partial.XXXXXX") || exit 1
	note "download $file"
	(cd "$partial" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$name") &&
		echo "$hash  $partial/$file" | "$1" --check --status &&
		mv -f "$partial/$file" "$PACKAGE" || {
		rm -rf "$partial"
		die "cannot download package $name"
	}
	rmdir "$partial"
}

# kernel_package META: prints the versioned kernel package that META depends on.
kernel_package()
{
	apt-cache depends "$1" 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

# package_date DEB: prints the newest timestamp (seconds since 1970) of a kernel package's kernel.
package_date()
{
	dpkg-deb --fsys-tarfile "$1" | tar --list --verbose --full-time --utc |
		sed -n 's|.* \([-0-9]* [:0-9]*\) \./boot/vmlinuz-.*|\1|p' |
		{
			read -r stamp && date -u -d "$stamp" +%s
		}
}

# ---- Deterministic archives -------------------------------------------------------------------

# tree_tar DIR OUT [TAR-ARGUMENT...]: packs DIR (or the members named) in name order with one
# timestamp and owner root, whoever runs this.
tree_tar()
{
	local dir out
	dir=$1 out=$2
	shift 2
	[ $# -gt 0 ] || set -- .
	tar --create --file "$out" --directory "$dir" --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
		--owner=0 --group=0 --numeric-owner --format=pax \
		--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime "$@"
}

# ---- OCI archive ------------------------------------------------------------------------------
# oci_begin; oci_layer TAR "what it is" (bottom layer first); oci_finish OUT REF ARCH [KEY=VALUE...]

oci_begin()
{
	OCI=$WORK/oci
	mkdir -p "$OCI/blobs/sha256"
	OCI_LAYERS='' OCI_DIFF_IDS='' OCI_HISTORY=''
	OCI_DATE=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
}

# json_string TEXT: TEXT as a JSON string. Ours never hold what would need escaping, so refuse it.
json_string()
{
	case $1 in
	*[\"\\]* | *[![:print:]]*) die "unfit for JSON: $1" ;;
	esac
	printf '"%s"' "$1"
}

# oci_blob FILE MEDIATYPE: moves FILE among the blobs; sets OCI_DESCRIPTOR.
oci_blob()
{
	local digest size
	digest=$(sha256sum "$1") digest=${digest%% *}
	size=$(stat -c %s "$1")
	mv -f "$1" "$OCI/blobs/sha256/$digest"
	chmod 644 "$OCI/blobs/sha256/$digest"
	OCI_DESCRIPTOR='{"mediaType":"'$2'","digest":"sha256:'$digest'","size":'$size'}'
}

oci_layer()
{
	local diff_id
	diff_id=$(sha256sum "$1") diff_id=${diff_id%% *}
	gzip -n -c "$1" >"$1.gz"
	oci_blob "$1.gz" application/vnd.oci.image.layer.v1.tar+gzip
	OCI_LAYERS=$OCI_LAYERS${OCI_LAYERS:+,}$OCI_DESCRIPTOR
	OCI_DIFF_IDS=$OCI_DIFF_IDS${OCI_DIFF_IDS:+,}'"sha256:'$diff_id'"'
	OCI_HISTORY=$OCI_HISTORY${OCI_HISTORY:+,}'{"created":"'$OCI_DATE'","created_by":'$(json_string "$2")'}'
	note "layer: $2, $(($(stat -c %s "$1") / 1024)) KiB"
	rm -f "$1"
}

oci_finish()
{
	local out ref arch labels config
	out=$1 ref=$2 arch=$3 labels=''
	shift 3
	while [ $# -gt 0 ]; do
		labels=$labels${labels:+,}$(json_string "${1%%=*}"):$(json_string "${1#*=}") || exit 1
		shift
	done
	printf '{"created":"%s","architecture":"%s","os":"linux","config":{"Cmd":["/sbin/init"],"Labels":{%s}},"rootfs":{"type":"layers","diff_ids":[%s]},"history":[%s]}' \
		"$OCI_DATE" "$arch" "$labels" "$OCI_DIFF_IDS" "$OCI_HISTORY" >"$WORK/config.json"
	oci_blob "$WORK/config.json" application/vnd.oci.image.config.v1+json
	config=$OCI_DESCRIPTOR
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
		"$config" "$OCI_LAYERS" >"$WORK/manifest.json"
	oci_blob "$WORK/manifest.json" application/vnd.oci.image.manifest.v1+json
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,"annotations":{"org.opencontainers.image.ref.name":%s}}]}' \
		"${OCI_DESCRIPTOR%\}}" "$(json_string "$ref")" >"$OCI/index.json"
	printf '{"imageLayoutVersion":"1.0.0"}' >"$OCI/oci-layout"
	tree_tar "$OCI" "$out.partial" blobs index.json oci-layout || {
		rm -f "$out.partial"
		die "cannot write $out"
	}
	mv -f "$out.partial" "$out"
	note "$out: $(($(stat -c %s "$out") / 1024)) KiB"
}
