#!/bin/sh
# Takes settings that hold passwords from files: NAME_FILE=/run/secrets/name becomes NAME, for this process alone, so
# that `docker inspect` and the Compose file show none. An empty file counts as not set.
set -eu

for name in FSTORE_REDIS_URL FSTORE_LEDGER_URL FSTORE_REGISTRY_URL FSTORE_ALERT_URLS \
    PREFECT_API_DATABASE_CONNECTION_URL PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        if [ ! -r "$file" ]; then
            echo "entrypoint: ${name}_FILE names $file, which can't be read" >&2
            exit 1
        fi
        value=$(cat "$file")
        if [ -n "$value" ]; then
            export "$name=$value"
        fi
        unset "${name}_FILE"
    fi
done
exec "$@"
