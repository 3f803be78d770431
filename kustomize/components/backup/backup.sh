#!/bin/sh
# Dumps both databases into $BACKUPS/TIME, and keeps the newest $KEEP of these folders.
# $PASSWORDS holds the password of each role, which has the name of its database.
set -eu
umask 077

target=$BACKUPS/$(date -u +%Y%m%dT%H%M%SZ)
# What a run that was cut off has left.
rm -rf "$BACKUPS"/*.partial
mkdir "$target.partial"

# Together, so that both are of the same moment as near as may be.
dump() {
    PGPASSWORD=$(cat "$PASSWORDS/$1") pg_dump --username="$1" --format=custom --file="$target.partial/$1" "$1"
}
dump orders &
orders=$!
dump inventory
wait "$orders"

# Only what is whole gets its name.
for database in orders inventory; do
    pg_restore --list "$target.partial/$database" >/dev/null
done
mv "$target.partial" "$target"
echo "backup: $target"

# The names sort by time; the arguments are the folders, the oldest first.
set -- "$BACKUPS"/*Z
while [ $# -gt "$KEEP" ]; do
    rm -rf "$1"
    echo "backup: $1 is removed"
    shift
done
