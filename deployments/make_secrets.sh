#!/bin/sh
# Makes the passwords and keys of the Compose stack, once: deployments/make_secrets.sh [FOLDER]
# What exists already is left alone. Compose mounts the files as they are, and the containers' users are not yours, so
# the files can be read by all; the folder that holds them is yours alone.
set -eu
umask 077

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"

secret() { # NAME: a new random one, or the one that is there
    if [ ! -e "$folder/$1" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$1"
    fi
    cat "$folder/$1"
}

text() { # NAME TEXT
    if [ ! -e "$folder/$1" ]; then
        printf '%s' "$2" >"$folder/$1"
    fi
}

postgres=$(secret postgres_password)
flows=$(secret redis_flows_password)
client=$(secret redis_client_password)
prefect=$(secret prefect_password)
secret dashboard_key >/dev/null

text redis_flows_url "redis://flows:$flows@redis:6379/0"
text redis_client_url "redis://client:$client@127.0.0.1:6379/0"
text redis_service_url "redis://client:$client@redis:6379/0"
text ledger_url "postgresql+psycopg://fstore:$postgres@postgres:5432/ledger"
text registry_url "postgresql+psycopg://fstore:$postgres@postgres:5432/registry"
text prefect_database_url "postgresql+asyncpg://fstore:$postgres@postgres:5432/prefect"
text prefect_auth "fstore:$prefect"
text alert_urls ""

chmod 644 "$folder"/*
echo "$folder: strategies on this machine read with the URL in redis_client_url; the dashboard asks for dashboard_key"
