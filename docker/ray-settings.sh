# shellcheck shell=bash
# What every process that speaks with the cluster needs; to be sourced. Whoever speaks with it can run any code on its
# nodes, so each has to show the token.
"$(dirname "${BASH_SOURCE[0]}")/secret.sh" ray-token >/dev/null
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=${SECRETS_DIR:-/run/secrets}/ray-token

export RAY_USAGE_STATS_ENABLED=0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 # what Ray will do by itself, and warns of until then
