#!/usr/bin/env bash
# The image's entry point: the first word is what the container is for, the rest goes to that script.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
role=${1:-}

case "$role" in
    fedbench | mlflow | ray-head | ray-worker)
        shift
        exec "$scripts/$role.sh" "$@"
        ;;
    *)
        echo "error: '$role' is no role of this image: use fedbench, mlflow, ray-head or ray-worker" >&2
        exit 2
        ;;
esac
