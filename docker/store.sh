#!/bin/sh
# The S3-compatible store: VersityGW over a folder. POSIX sh, because its image has no bash.
set -eu

scripts=$(cd "$(dirname "$0")" && pwd)

ROOT_ACCESS_KEY_ID=$("$scripts/secret.sh" s3-access-key)
ROOT_SECRET_ACCESS_KEY=$("$scripts/secret.sh" s3-secret-key)
export ROOT_ACCESS_KEY_ID ROOT_SECRET_ACCESS_KEY # in the environment, where no list of processes shows them
export VGW_HEALTH=/_health

exec versitygw --port "${STORE_LISTEN:-:7070}" posix "${STORE_FOLDER:-/data}"
