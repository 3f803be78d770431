#!/bin/sh
# Puts both databases back to a backup: the newest, or the one whose name $BACKUP has. Waits up to $PATIENCE seconds (60)
# for the services to be gone.
# Each in one transaction: it is as it was in the backup afterwards, or as it was before.
set -eu

set -- "$BACKUPS"/*Z
for newest; do :; done
source=${BACKUP:+$BACKUPS/$BACKUP}
source=${source:-$newest}
fail() { echo "restore: $1" >&2; exit 1; }
[ -d "$source" ] || fail "there is no $source"

# A session of a database as the role that owns it.
on() { # DATABASE ARGUMENTS...
    database=$1
    shift
    PGPASSWORD=$(cat "$PASSWORDS/$database") psql -qXAt -v ON_ERROR_STOP=1 --username="$database" --dbname="$database" "$@"
}

# An order in the middle of being placed would go on in the database that is not yet as it was.
others() {
    on "$1" -c "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
}
for database in orders inventory; do
    seconds=0
    until count=$(others "$database") && [ "$count" = 0 ]; do
        [ "$seconds" -lt "${PATIENCE:-60}" ] || fail "${count:-its} sessions use the database $database: scale the services orders and inventory to 0, and start this again"
        sleep 1
        seconds=$((seconds + 1))
    done
done

# Also what came after the backup goes, as a table of a later version: the service that has it makes it again.
for database in orders inventory; do
    {
        echo "BEGIN; DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner;"
        # Not to the end of a backup that is not whole: a statement that fails ends it all.
        pg_restore --no-owner --no-privileges --file=- "$source/$database" && echo "COMMIT;" ||
            echo "DO \$\$ BEGIN RAISE 'the backup is not whole'; END \$\$;"
    } | on "$database" >/dev/null || fail "$database is as it was before"
    echo "restore: $database is as in $source"
done
