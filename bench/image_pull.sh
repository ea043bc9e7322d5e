#!/bin/bash
# image.pull: `image pull` of a two-layer image from a registry on loopback into an empty root, against
# curl downloading the same blobs and sha256sum checking them. Interleaved, first round dropped. Called by
# bench/run, which sets COCOON, TOP and the directories.
set -euo pipefail

command -v docker-registry >/dev/null && command -v skopeo >/dev/null && command -v curl >/dev/null || {
	echo "bench: image.pull: left out: needs docker-registry, skopeo and curl" >&2
	exit 0
}
rounds=${BENCH_PULLS:-30}
work=$(mktemp -d /tmp/cc-pull-XXXXXX)
# shellcheck source=tools/registry.bash
. "$TOP/tools/registry.bash"
trap 'registry_stop; rm -rf "$work"' EXIT
export COCOON_LOG_LEVEL=warn COCOON_RUN_DIR=$work/run COCOON_LOG_DIR=$work/log

# 12 MB that do not compress, as kernels and archives, and 20 MB that do, as programs.
mkdir -p "$work/base/boot" "$work/top/usr" "$work/oci/blobs/sha256"
head -c 8000000 /dev/urandom >"$work/base/boot/vmlinuz-1"
head -c 4000000 /dev/urandom >"$work/base/boot/initrd.img-1"
for i in $(seq 200); do
	head -c 25000 /dev/urandom | od -An -tx1 | head -c 100000 >"$work/top/usr/file$i"
done

blob()
{
	local hex

	hex=$(sha256sum <"$1" | cut -d' ' -f1)
	cp "$1" "$work/oci/blobs/sha256/$hex"
	echo "sha256:$hex"
}
layers='[]' ids='[]'
for part in base top; do
	tar -C "$work/$part" -cf "$work/$part.tar" .
	ids=$(jq -c --arg d "sha256:$(sha256sum <"$work/$part.tar" | cut -d' ' -f1)" '. + [$d]' <<<"$ids")
	gzip -6n "$work/$part.tar"
	layers=$(jq -c --arg d "$(blob "$work/$part.tar.gz")" --argjson s "$(stat -c %s "$work/$part.tar.gz")" \
		'. + [{mediaType:"application/vnd.oci.image.layer.v1.tar+gzip",digest:$d,size:$s}]' <<<"$layers")
done
jq -nc --argjson ids "$ids" \
	'{architecture:"amd64",os:"linux",config:{},rootfs:{type:"layers",diff_ids:$ids}}' >"$work/config"
jq -nc --argjson l "$layers" --arg d "$(blob "$work/config")" --argjson s "$(stat -c %s "$work/config")" \
	'{schemaVersion:2,mediaType:"application/vnd.oci.image.manifest.v1+json",
	  config:{mediaType:"application/vnd.oci.image.config.v1+json",digest:$d,size:$s},layers:$l}' >"$work/manifest"
jq -nc --arg d "$(blob "$work/manifest")" --argjson s "$(stat -c %s "$work/manifest")" \
	'{schemaVersion:2,manifests:[{mediaType:"application/vnd.oci.image.manifest.v1+json",digest:$d,size:$s,
	  annotations:{"org.opencontainers.image.ref.name":"v1"}}]}' >"$work/oci/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
tar -C "$work/oci" -cf "$work/image.tar" .
registry_start "$work/registry"
registry_push "$work/image.tar" bench/image:v1
mapfile -t digests < <(jq -r '.[].digest' <<<"$layers")

ours()
{
	rm -rf "$work/root"
	COCOON_ROOT_DIR=$work/root "$COCOON" image pull "$REGISTRY/bench/image:v1" 2>/dev/null
}

theirs()
{
	local d pids=()

	rm -f "$work"/got.*
	for d in "${digests[@]}"; do
		{
			curl -sf -o "$work/got.${d#*:}" "http://$REGISTRY/v2/bench/image/blobs/$d"
			echo "${d#*:}  $work/got.${d#*:}" | sha256sum -c --quiet
		} &
		pids+=($!)
	done
	wait "${pids[@]}"
}

seconds()
{
	local start=$EPOCHREALTIME end

	"$1"
	end=$EPOCHREALTIME
	awk -v a="$start" -v b="$end" 'BEGIN { printf "%.6f", b - a }'
}

for ((i = 0; i <= rounds; i++)); do
	a=$(seconds ours)
	b=$(seconds theirs)
	[ "$i" = 0 ] || echo "$a $b" >>"$work/samples"
done

median()
{
	cut -d' ' -f"$1" "$work/samples" | sort -n | awk '{ v[NR] = $1 }
		END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
awk -v ours="$(median 1)" -v floor="$(median 2)" \
	'BEGIN { printf "image.pull\t%.3f\ts\t%.3f\t%.2f\n", ours, floor, ours / floor }'
