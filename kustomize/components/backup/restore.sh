#!/bin/sh
# Puts both databases back to a backup: the newest, or the one whose name $BACKUP has.
# Each in one transaction: it is as it was in the backup afterwards, or as it was before.
set -eu

set -- "$BACKUPS"/*Z
for newest; do :; done
source=${BACKUP:+$BACKUPS/$BACKUP}
source=${source:-$newest}
[ -d "$source" ] || {
    echo "restore: there is no $source" >&2
    exit 1
}

for database in orders inventory; do
    PGPASSWORD=$(cat "$PASSWORDS/$database") pg_restore --username="$database" --dbname="$database" \
        --single-transaction --clean --if-exists --no-owner --no-privileges "$source/$database"
    echo "restore: $database is as in $source"
done
