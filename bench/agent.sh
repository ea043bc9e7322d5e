#!/bin/bash
# The guest agent over its unix stand-in (agent.rtt, agent.mibs.*). Called by bench/run.
set -euo pipefail

agent=$(dirname "$BENCH_BUILD")/guest/agent/cocoon-agent
[ -x "$agent" ] || { echo "bench: agent: left out: no guest agent" >&2 && exit 0; }
exec "$BENCH_BUILD/agent_bench" "$agent"
