#!/bin/sh
# Print a secret: `secret.sh NAME` reads SECRETS_DIR/NAME. POSIX sh, because the store's image has no bash.
set -eu

file=${SECRETS_DIR:-/run/secrets}/$1
if [ ! -r "$file" ]; then
    echo "error: the secret $file is missing or cannot be read: run make-secrets.sh in docker/" >&2
    exit 2
fi
secret=$(cat "$file") # without the line's end
if [ -z "$secret" ]; then
    echo "error: the secret $file is empty: remove it, then run make-secrets.sh in docker/" >&2
    exit 2
fi
printf '%s\n' "$secret"
