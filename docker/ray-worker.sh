#!/usr/bin/env bash
# A node that computes runs: WORKER_CPUS at once. It ends when it loses the head, and is then started again.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${RAY_ADDRESS:-}" ]; then
    echo "error: RAY_ADDRESS is not set: give HOST:PORT of the head" >&2
    exit 2
fi
if [[ ! ${WORKER_CPUS:-2} =~ ^[1-9][0-9]*$ ]]; then
    echo "error: WORKER_CPUS is '$WORKER_CPUS': give the number of cores that this worker has" >&2
    exit 2
fi

exec "$scripts/ray-node.sh" --address "$RAY_ADDRESS" --block --num-cpus "${WORKER_CPUS:-2}"
