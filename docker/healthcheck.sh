#!/usr/bin/env bash
# Exit code 0 if the container does what it is for: `healthcheck.sh ROLE`.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case "${1:-}" in
    fedbench)
        fedbench --version >/dev/null
        ;;
    mlflow) # a question that the database has to answer
        python - "http://127.0.0.1:${MLFLOW_PORT:-5000}/api/2.0/mlflow/experiments/search" <<'PYTHON'
import sys
import urllib.request

question = urllib.request.Request(sys.argv[1], b'{"max_results": 1}', {"Content-Type": "application/json"})
try:
    urllib.request.urlopen(question, timeout=5).close()
except OSError as error:
    sys.exit(f"MLflow does not answer: {error}")
PYTHON
        ;;
    ray-head)
        # shellcheck source=docker/ray-settings.sh
        source "$scripts/ray-settings.sh"
        ray health-check --address "${NODE_ADDRESS:-127.0.0.1}:${RAY_PORT:-6379}"
        ;;
    ray-worker) # the head answers, and this container's own part runs
        # shellcheck source=docker/ray-settings.sh
        source "$scripts/ray-settings.sh"
        ray health-check --address "$RAY_ADDRESS"
        grep -q -s -x raylet /proc/[0-9]*/comm
        ;;
    *)
        echo "error: '${1:-}' has no health check: use fedbench, mlflow, ray-head or ray-worker" >&2
        exit 2
        ;;
esac
