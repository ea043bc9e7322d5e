#!/bin/bash
# Conversion of a layer into an image, on one tree of at least 900 MB: BENCH_TREE, else /usr/bin and
# /usr/share. Each line: name, median, unit, what it is held against, ratio (other / ours).
#	image.convert         plain tar; against mkfs.erofs from a directory (>= 1.5 wanted)
#	image.convert_cpu     the same in seconds of CPU time, which a busy machine disturbs less
#	image.convert_gzip    gzip tar; against the usual decompressor alone, zlib in libarchive (>= 0.85 wanted)
#	image.convert_igzip   gzip tar; against our own decompressor alone, which takes half of zlib's time
#	image.convert_gunzip  gzip tar; against gzip -dc
#	image.convert_umoci   gzip tar; against umoci unpack (>= 4 wanted)
#	image.convert_rss     peak memory in MiB (<= 64 wanted), pages of mapped temporary files included
# What is compared runs in turns, nobody syncs, and every output is removed before the next begins. The first
# round is dropped. As many rounds as fit, at most BENCH_ROUNDS (5): BENCH_SECONDS (210) for everything.
# umoci, the slowest by far, has two of them.
set -euo pipefail

bin=${BENCH_BUILD:-$(dirname "$0")/../build/bench}
rounds=${BENCH_ROUNDS:-5}
budget=${BENCH_SECONDS:-210}
for tool in mkfs.erofs gzip; do
	command -v "$tool" >/dev/null || { echo "bench: image.convert: left out: no $tool" >&2 && exit 0; }
done
work=$(mktemp -d "${TMPDIR:-/tmp}/cocoon-convert-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/oci/temp" "$work/tree" "$work/oci/blobs/sha256"
free=$(df --output=avail -m "$work" | tail -n 1)
[ "$free" -ge 6000 ] || { echo "bench: image.convert: left out: needs 6 GB in $work" >&2 && exit 0; }

# Its own files may come and go under tar's eyes: the tree is what the archive caught.
if [ -n "${BENCH_TREE-}" ]; then
	tar -C "$BENCH_TREE" --ignore-failed-read --warning=no-file-changed -cf "$work/tar" . || [ $? -eq 1 ]
else
	tar -C / --ignore-failed-read --warning=no-file-changed -cf "$work/tar" usr/bin usr/share || [ $? -eq 1 ]
fi
size=$(($(stat -c %s "$work/tar") / 1000000))
[ "$size" -ge 900 ] || echo "bench: image.convert: the tree has only $size MB" >&2
gzip -3nc "$work/tar" >"$work/tar.gz" &
tar -C "$work/tree" -xpf "$work/tar"
wait $!

# blob FILE: into the OCI layout; prints its descriptor's digest and size.
blob()
{
	local hex

	hex=$(sha256sum "$1" | cut -d' ' -f1)
	ln "$1" "$work/oci/blobs/sha256/$hex"
	printf '"digest":"sha256:%s","size":%s' "$hex" "$(stat -c %s "$1")"
}

layout()
{
	local layer diff

	layer=$(blob "$work/tar.gz")
	diff=$(sha256sum "$work/tar" | cut -d' ' -f1)
	printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
		"$diff" >"$work/config"
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]}' \
		"$(blob "$work/config")" "$layer" >"$work/manifest"
	printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}' \
		"$(blob "$work/manifest")" >"$work/oci/index.json"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
}

unpack=()
[ "$(id -u)" -eq 0 ] || unpack=(--rootless)
with_umoci=yes
command -v umoci >/dev/null || with_umoci=''
[ -z "$with_umoci" ] || layout

# timed COMMAND...: "seconds<TAB>seconds of CPU"
timed()
{
	local TIMEFORMAT='%3R %3U %3S'

	{ time "$@" >/dev/null 2>"$work/err"; } 2>&1 | awk '{ printf "%s\t%.3f\n", $1, $2 + $3 }'
}

# part NAME: one run; its line goes to $work/NAME, but that of the first round.
part()
{
	case $1 in
	plain) "$bin/image_convert" layer "$work/tar" "$work/root/image" ;;
	gzip) "$bin/image_convert" layer "$work/tar.gz" "$work/root/image" ;;
	inflate | zlib) "$bin/image_convert" "$1" "$work/tar.gz" ;;
	gunzip) timed gzip -dc "$work/tar.gz" ;;
	mkfs) timed mkfs.erofs --quiet "$work/dir.img" "$work/tree" ;;
	umoci) timed umoci unpack "${unpack[@]}" --image "$work/oci:v1" "$work/bundle" ;;
	esac >"$work/line"
	[ "$round" -eq 0 ] || cat "$work/line" >>"$work/$1"
	# What it left to be written must not be paid for by the next; what is gone need not be written.
	rm -rf "$work/bundle" "$work/root/image" "$work/dir.img"
	sync -f "$work"
}

last=0
for ((round = 0; round <= rounds; round++)); do
	[ "$round" -lt 2 ] || [ $((SECONDS + last)) -lt "$budget" ] || break
	from=$SECONDS
	for name in plain mkfs gzip zlib inflate gunzip; do
		part "$name"
	done
	last=$((SECONDS - from))
	[ -z "$with_umoci" ] || [ "$round" -lt 1 ] || [ "$round" -gt 2 ] || [ $((SECONDS + last)) -ge "$budget" ] || part umoci
done

# median FILE COLUMN
median()
{
	cut -f"$2" "$work/$1" | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# line NAME OURS OTHER [COLUMN OF EACH]
line()
{
	awk -v name="$1" -v ours="$(median "$2" "${4:-1}")" -v other="$(median "$3" "${5:-1}")" \
		'BEGIN { printf "%s\t%.3f\ts\t%.3f\t%.2f\n", name, ours, other, other / ours }'
}

line image.convert plain mkfs
line image.convert_cpu plain mkfs 2 2
line image.convert_gzip gzip zlib
line image.convert_igzip gzip inflate
line image.convert_gunzip gzip gunzip
if [ -s "$work/umoci" ]; then
	line image.convert_umoci gzip umoci
else
	echo "bench: image.convert_umoci: left out: $([ -n "$with_umoci" ] && echo no time || echo no umoci)" >&2
fi
cat "$work/plain" "$work/gzip" | cut -f3 | sort -g | tail -n 1 |
	awk '{ printf "image.convert_rss\t%.1f\tMiB\t64.0\t%.2f\n", $1 / 1024, 64 * 1024 / $1 }'
