#!/bin/sh
# Puts the users' passwords, as their hashes, into the ACL file and starts the server.
set -eu
umask 077

here=${FSTORE_REDIS_CONFIG:-/etc/valkey}
secrets=${FSTORE_REDIS_SECRETS:-/run/secrets}
run=${FSTORE_REDIS_RUN:-/run/valkey}

hash() { # FILE: the SHA-256 of what is in it
    printf '%s' "$(cat "$1")" | sha256sum | cut -d' ' -f1
}

sed -e "s/#FLOWS/#$(hash "$secrets/redis_flows_password")/" \
    -e "s/#CLIENT/#$(hash "$secrets/redis_client_password")/" \
    "$here/users.acl" >"$run/users.acl"
exec "${FSTORE_REDIS_SERVER:-valkey-server}" "$here/valkey.conf" "$@"
