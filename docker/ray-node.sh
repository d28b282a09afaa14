#!/usr/bin/env bash
# What every node of the cluster shares: `ray-node.sh ARGUMENTS` is `ray start ARGUMENTS` with these settings.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/ray-settings.sh
source "$scripts/ray-settings.sh"

# A container's own address, said to Ray: on a network without a way out it cannot find it by itself.
if [ -z "${NODE_ADDRESS:-}" ]; then
    NODE_ADDRESS=$(python -c 'import socket; print(socket.gethostbyname(socket.gethostname()))')
fi

# Half of the shared memory is Ray's object store.
if [ -z "${RAY_OBJECT_STORE_BYTES:-}" ]; then
    RAY_OBJECT_STORE_BYTES=$(stat --file-system --format '%b * %S / 2' /dev/shm)
    RAY_OBJECT_STORE_BYTES=$((RAY_OBJECT_STORE_BYTES))
fi

exec ray start "$@" \
    --node-ip-address "$NODE_ADDRESS" \
    --object-store-memory "$RAY_OBJECT_STORE_BYTES" \
    --disable-usage-stats \
    --log-style record --log-color false
