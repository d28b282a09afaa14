#!/usr/bin/env bash
# The command fedbench. With `--executor ray` its container first joins the cluster, as a node that computes nothing:
# Ray's programs have to run on a node of theirs.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${RAY_ADDRESS:-}" ] || [[ ! " $* " =~ \ --executor[\ =]ray\  ]]; then
    exec fedbench "$@"
fi

# shellcheck source=docker/ray-settings.sh
source "$scripts/ray-settings.sh"

# Asked first in this way, since Ray asks for minutes.
# shellcheck disable=SC2016 # the inner bash expands it
if ! timeout 15 bash -c '</dev/tcp/${0%:*}/${0##*:}' "$RAY_ADDRESS" 2>/dev/null; then
    echo "error: no Ray cluster answers at $RAY_ADDRESS: check that ray-head is running, or correct RAY_ADDRESS" >&2
    exit 2
fi
if ! log=$("$scripts/ray-node.sh" --address "$RAY_ADDRESS" --num-cpus 0 2>&1); then
    echo "$log" >&2
    echo "error: the Ray cluster at $RAY_ADDRESS cannot be joined: the reason is in the lines above" >&2
    exit 2
fi

# The container's end takes the node with it, so nothing has to be stopped here.
exec fedbench "$@"
