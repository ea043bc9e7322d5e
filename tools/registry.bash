# shellcheck shell=bash
# A private registry on loopback, for the demo, the tests and the benchmarks.
#
# registry_start DIR      starts docker-registry with its data in DIR; sets REGISTRY (host:port)
# registry_push TAR REF   pushes an OCI archive as $REGISTRY/REF
# registry_stop           ends it; harmless when none runs

REGISTRY=
REGISTRY_PID=

registry_start()
{
	local dir=$1 tries=0

	mkdir -p "$dir/data"
	cat >"$dir/config.yml" <<-YAML
		version: 0.1
		log:
		  level: info
		  accesslog:
		    disabled: true
		storage:
		  filesystem:
		    rootdirectory: $dir/data
		  delete:
		    enabled: true
		http:
		  addr: 127.0.0.1:0
	YAML
	# Descriptor 3 is bats' own: a background process that kept it would hold the test up.
	docker-registry serve "$dir/config.yml" >"$dir/log" 2>&1 </dev/null 3>&- &
	REGISTRY_PID=$!
	# The kernel picks the port; the log tells it.
	until REGISTRY=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$dir/log") && [ -n "$REGISTRY" ]; do
		tries=$((tries + 1))
		if [ $tries -gt 300 ] || ! kill -0 "$REGISTRY_PID" 2>/dev/null; then
			echo "the registry did not start:" >&2
			cat "$dir/log" >&2
			return 1
		fi
		sleep 0.05
	done
}

registry_push()
{
	# The archive carries no signature, and the peer is our own process on loopback.
	skopeo --insecure-policy copy --quiet --dest-tls-verify=false \
		"oci-archive:$1" "docker://$REGISTRY/$2"
}

registry_stop()
{
	[ -n "$REGISTRY_PID" ] || return 0
	kill "$REGISTRY_PID" 2>/dev/null || true
	wait "$REGISTRY_PID" 2>/dev/null || true
	REGISTRY_PID=
}
