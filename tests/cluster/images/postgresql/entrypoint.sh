#!/bin/bash
# Prepares PGDATA once from POSTGRES_USER, POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE and POSTGRES_DB, then becomes
# the server. The same variables as the public `postgres` image (https://hub.docker.com/_/postgres).
set -euo pipefail

if [ "${1:-postgres}" != postgres ]; then
  exec "$@"
fi
shift || true

user="${POSTGRES_USER:-postgres}"
database="${POSTGRES_DB:-$user}"
if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
  POSTGRES_PASSWORD="$(<"$POSTGRES_PASSWORD_FILE")"
fi

# The root file system may be read-only and /var/run/postgresql not mounted: the socket then goes to /tmp.
sockets=/var/run/postgresql
[ -w "$sockets" ] || sockets=/tmp

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -z "${POSTGRES_PASSWORD:-}" ]; then
    echo "error: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE: a database without a password is not started" >&2
    exit 1
  fi
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  # An interrupted first start leaves a folder without PG_VERSION at its end: begin again.
  find "$PGDATA" -mindepth 1 -delete
  building="$PGDATA/.building"
  mkdir "$building"
  initdb --pgdata="$building" --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --encoding=UTF8 \
    --auth-local=trust --auth-host=scram-sha-256 ${POSTGRES_INITDB_ARGS:-} >/dev/null
  echo "host all all all scram-sha-256" >> "$building/pg_hba.conf"
  if [ "$database" != postgres ]; then
    pg_ctl --pgdata="$building" --wait --silent --log=/dev/stderr \
      --options="-c listen_addresses= -c unix_socket_directories=$sockets" start
    psql --host="$sockets" --username="$user" --dbname=postgres --quiet --set=ON_ERROR_STOP=1 --set=name="$database" \
      <<< 'CREATE DATABASE :"name";'
    pg_ctl --pgdata="$building" --wait --silent --mode=fast stop
  fi
  # PG_VERSION comes last: it says that everything is there.
  find "$building" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
  mv "$building/PG_VERSION" "$PGDATA/PG_VERSION"
  rmdir "$building"
fi
unset POSTGRES_PASSWORD
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories="$sockets" "$@"
