#!/usr/bin/env bash
# The head of the Ray cluster. It computes nothing, so that it always answers. Its dashboard, which takes programs to run,
# is not started.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
unset RAY_ADDRESS # it is what the others are given

exec "$scripts/ray-node.sh" --head --block --port "${RAY_PORT:-6379}" --num-cpus 0 --include-dashboard false
