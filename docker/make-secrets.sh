#!/usr/bin/env bash
# Make the random secrets that are not there yet, in docker/secrets/ (or in the folder that is given). Git ignores it.
#
# Compose mounts each file as it is, and the containers run as other users than you do. So the files can be read by all,
# and the folder around them can be entered by you alone.
set -euo pipefail

folder=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

for name in postgres-password s3-access-key s3-secret-key ray-token; do
    file=$folder/$name
    if [ -e "$file" ]; then
        echo "kept $file"
        continue
    fi
    head -c 20 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$file.new"
    chmod 644 "$file.new"
    mv "$file.new" "$file" # whole or absent
    echo "made $file"
done
