#!/bin/bash
# Conversion of a layer into an image, on one tree of at least 900 MB: BENCH_TREE, else as much of
# /usr/bin and /usr/share as there is. Each line: name, median, unit, what it is held against, ratio.
#	image.convert        plain tar; against mkfs.erofs from a directory (other / ours, >= 1.5 wanted)
#	image.convert_gzip   gzip tar; against the decompressor alone (>= 0.85 wanted)
#	image.convert_umoci  gzip tar; against umoci unpack (>= 4 wanted)
#	image.convert_rss    peak memory in MiB (<= 64 wanted), file pages included
# What is compared runs in turns; the first round is dropped. BENCH_ROUNDS: 5.
set -euo pipefail

bin=${BENCH_BUILD:-$(dirname "$0")/../build/bench}
rounds=${BENCH_ROUNDS:-5}
work=$(mktemp -d "${TMPDIR:-/tmp}/cocoon-convert-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/oci/temp" "$work/tree"

for tool in mkfs.erofs umoci gzip jq; do
	command -v "$tool" >/dev/null || { echo "bench: image.convert: left out: no $tool" >&2 && exit 0; }
done
if [ -n "${BENCH_TREE-}" ]; then
	tar -C "$BENCH_TREE" -cf "$work/tar" .
else
	tar -C / -cf "$work/tar" usr/bin usr/share
fi
size=$(($(stat -c %s "$work/tar") / 1000000))
[ "$size" -ge 900 ] || echo "bench: image.convert: the tree has only $size MB" >&2
tar -C "$work/tree" -xpf "$work/tar"
gzip -kn "$work/tar"

umoci init --layout "$work/oci"
umoci new --image "$work/oci:v1"
umoci raw add-layer --image "$work/oci:v1" "$work/tar" >/dev/null

unpack=()
[ "$(id -u)" -eq 0 ] || unpack=(--rootless)

timed()
{
	local from=$EPOCHREALTIME to

	"$@" >/dev/null 2>&1
	to=$EPOCHREALTIME
	echo "$(((${to/./} - ${from/./}) / 1000))e-3"
}

ours()
{
	rm -f "$work/root/image"
	"$bin/image_convert" layer "$1" "$work/root/image"
}

for ((i = 0; i <= rounds; i++)); do
	for part in plain mkfs gzip inflate umoci; do
		rm -rf "$work/bundle" "$work/root/image" "$work/dir.img"
		# What the one before left to be written must not be paid for by the next.
		sync -f "$work"
		case $part in
		plain) ours "$work/tar" | tee "$work/rss" | cut -f1 ;;
		gzip) ours "$work/tar.gz" | cut -f1 ;;
		inflate) "$bin/image_convert" inflate "$work/tar.gz" | cut -f1 ;;
		mkfs) timed mkfs.erofs --quiet "$work/dir.img" "$work/tree" ;;
		umoci) timed umoci unpack "${unpack[@]}" --image "$work/oci:v1" "$work/bundle" ;;
		esac >"$work/seconds"
		[ "$i" -eq 0 ] || cat "$work/seconds" >>"$work/$part"
		cut -f2 "$work/rss" >>"$work/peaks"
	done
done

median()
{
	sort -g "$work/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# line NAME OURS OTHER
line()
{
	awk -v name="$1" -v ours="$(median "$2")" -v other="$(median "$3")" \
		'BEGIN { printf "%s\t%.3f\ts\t%.3f\t%.2f\n", name, ours, other, other / ours }'
}

line image.convert plain mkfs
line image.convert_gzip gzip inflate
line image.convert_umoci gzip umoci
sort -g "$work/peaks" | tail -n 1 | awk '{ printf "image.convert_rss\t%.1f\tMiB\t64.0\t%.2f\n", $1 / 1024, 64 * 1024 / $1 }'
