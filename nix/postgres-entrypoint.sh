#!/bin/sh
# The postgres image's program: makes the databases where they are missing, then becomes the server.
#
# PGDATA                 the databases' folder; the volume is mounted on its parent /var/lib/postgresql
# PASSWORDS              a folder of files postgres-password, orders-password, inventory-password
# The arguments are the server's, e.g. -c shared_buffers=64MB.
set -eu

: "${PGDATA:=/var/lib/postgresql/data}" "${PASSWORDS:=/etc/postgresql-secrets}"
export PGDATA PGHOST=/tmp PGUSER=postgres LC_ALL=C
export PGCTLTIMEOUT=86400 # recovery after a crash takes what it takes; a probe decides how long that may be
owners="orders inventory"

die() { echo "postgres: $1" >&2; exit 64; }

for name in postgres $owners; do
    [ -n "$(cat "$PASSWORDS/$name-password" 2>/dev/null)" ] || die "there is no password in $PASSWORDS/$name-password: mount the secret there, readable for user $(id -u)"
done
[ -w "$(dirname "$PGDATA")" ] || die "user $(id -u) cannot write to $(dirname "$PGDATA"): mount a volume there that it owns (fsGroup)"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # In a folder beside it and moved when whole: one that was cut short is begun anew.
    rm -rf "$PGDATA.new"
    initdb -D "$PGDATA.new" -U postgres --auth-local=trust --auth-host=scram-sha-256 --pwfile="$PASSWORDS/postgres-password" \
        -c huge_pages=off -E UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 >&2
    echo "host all all all scram-sha-256" >>"$PGDATA.new/pg_hba.conf"
    sync
    mv -T "$PGDATA.new" "$PGDATA"
    sync
fi

chmod 700 "$PGDATA" # a volume's fsGroup may have opened it to the group, which the server refuses

# A role and a database for each service, closed to the others, with the password that the secret has now. The server
# hears its socket alone meanwhile. psql reads the files itself: a password on a command line is there for all to see.
# No huge pages: where a cgroup allows none (hugetlb, limit 0) the server would be given them and then killed (SIGBUS).
settings="-c unix_socket_directories=$PGHOST -c huge_pages=off"
# The first process of a container has no signal handlers of its own, and sh runs traps between commands alone.
trap 'pg_ctl -w -s -m fast stop >&2 || true; exit 143' INT TERM
pg_ctl -w -s -o "$settings -c listen_addresses=''" start >&2 &
wait "$!"
for role in postgres $owners; do
    psql -qX -v ON_ERROR_STOP=1 -v role="$role" -v file="$PASSWORDS/$role-password" -d postgres >&2 <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
\set password `cat :'file'`
-- A statement that fails is logged, and this one holds a password.
SET log_min_error_statement = panic;
ALTER ROLE :"role" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'role', :'role') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'role') \gexec
REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
SQL
done
pg_ctl -w -s -m fast stop >&2
trap - INT TERM

# shellcheck disable=SC2086 # a list of words
exec postgres $settings -c listen_addresses='*' "$@"
