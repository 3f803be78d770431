#!/bin/sh
# Puts both databases back to a backup: the newest, or the one whose name $BACKUP has. Waits up to $PATIENCE seconds (60)
# for the services to be gone.
set -eu
. "$(dirname "$0")/sessions.sh"

outcome="both databases are as they were before"
trap 'rm -rf "$pipes"; echo "restore: $outcome" >&2' EXIT

set -- "$BACKUPS"/*Z
for newest; do :; done
source=${BACKUP:+$BACKUPS/$BACKUP}
source=${source:-$newest}
[ -d "$source" ] || fail "there is no $source"
# To its last byte, before anything is changed.
for database in orders inventory; do
    pg_restore --file=/dev/null "$source/$database" || fail "$source/$database is not whole"
done

# An order in the middle of being placed would go on in the database that is not yet as it was.
others="SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid();"
for database in orders inventory; do
    seconds=0
    while :; do
        # shellcheck disable=SC2086 # a list of words
        count=$(on "$database" $psql -c "$others") || fail "the database $database is not reached"
        [ "$count" != 0 ] || break
        [ "$seconds" -lt "${PATIENCE:-60}" ] ||
            fail "$count sessions use the database $database: scale the services orders and inventory to 0, and start this again"
        sleep 1
        seconds=$((seconds + 1))
    done
done

# A transaction on each, and the end of both when both are as in the backup.
session orders orders
exec 3>"$pipes/orders.in" 4<"$pipes/orders.out"
session inventory inventory
exec 5>"$pipes/inventory.in" 6<"$pipes/inventory.out"
# Also what came after the backup goes, as a table of a later version: the service that has it makes it again.
replace() { # DATABASE
    echo "BEGIN; DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner;"
    pg_restore --no-owner --no-privileges --file=- "$source/$1"
    echo "SELECT 'done';"
    echo "$others" # one that came meanwhile
}
# What comes before the word are the answers of pg_restore's own statements.
answered() { # DATABASE
    while read -r line; do [ "$line" != 'done' ] || break; done
    read -r count || fail "$1 could not be replaced"
    [ "$count" = 0 ] || fail "a service came back to $1 meanwhile: scale the services orders and inventory to 0, and start this again"
}
replace orders >&3
answered orders <&4
replace inventory >&5
answered inventory <&6

outcome="only one of both databases may be as in $source: start this again with BACKUP=${source##*/}"
for session in 3 5; do echo "COMMIT; SELECT 'done';" >&"$session"; done
read -r _ <&4
read -r _ <&6
outcome="both databases are as in $source"
