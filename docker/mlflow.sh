#!/usr/bin/env bash
# The MLflow server: runs in PostgreSQL, artifacts in the S3-compatible store, which only the server talks to.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# From files into the environment, where no list of processes and no log shows them. libpq reads PGPASSWORD.
PGPASSWORD=$("$scripts/secret.sh" postgres-password)
AWS_ACCESS_KEY_ID=$("$scripts/secret.sh" s3-access-key)
AWS_SECRET_ACCESS_KEY=$("$scripts/secret.sh" s3-secret-key)
export PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY

export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} # any: the store has no regions, the protocol has
export MLFLOW_S3_ENDPOINT_URL=${MLFLOW_S3_ENDPOINT_URL:-http://store:7070}
export BUCKET=${BUCKET:-mlflow}
export MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # fedbench has no use for it, and it starts more processes
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_DATABASE:-postgresql+psycopg://mlflow@postgres:5432/mlflow}

python "$scripts/prepare.py"

# Makes the tables of a new database, and upgrades those of an earlier MLflow.
if ! log=$(mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI" 2>&1); then
    echo "$log" >&2
    echo "error: the database $MLFLOW_BACKEND_STORE_URI cannot be upgraded: the reason is in the lines above" >&2
    exit 1
fi

# The names under which this server may be asked: the service's, and this machine's own through the published port.
# Another name needs MLFLOW_HOSTS: a browser could otherwise be led here by any web page (DNS rebinding).
exec mlflow server \
    --host "${MLFLOW_LISTEN:-0.0.0.0}" \
    --port "${MLFLOW_PORT:-5000}" \
    --workers "${MLFLOW_WORKERS:-2}" \
    --artifacts-destination "s3://$BUCKET" \
    --allowed-hosts "${MLFLOW_HOSTS:-mlflow:5000,localhost:*,127.0.0.1:*}"
