#!/bin/sh
# Dumps both databases, as they were at one instant, into $BACKUPS/TIME, and keeps the newest $KEEP of these folders.
# $PASSWORDS holds the password of each role, which has the name of its database.
set -eu
umask 077

pipes=$(mktemp -d)
target=$BACKUPS/$(date -u +%Y%m%dT%H%M%SZ)
mkdir "$target.partial"
trap 'rm -rf "$pipes" "$target.partial"' EXIT
# What a run that was cut off has left: no run takes as long as that.
find "$BACKUPS" -maxdepth 1 -name '*.partial' -mmin +120 -exec rm -rf {} +

# Runs a program on a database as the role that owns it.
on() { # DATABASE PROGRAM ARGUMENTS...
    database=$1 program=$2
    shift 2
    PGPASSWORD=$(cat "$PASSWORDS/$database") "$program" --username="$database" --dbname="$database" "$@"
}

# A session that does what is written to NAME.in, until that is closed: by the end of this script at the latest.
session() { # NAME DATABASE
    mkfifo "$pipes/$1.in" "$pipes/$1.out"
    on "$2" psql -qXAt -v ON_ERROR_STOP=1 <"$pipes/$1.in" >"$pipes/$1.out" &
}
session hold orders
exec 3>"$pipes/hold.in" 4<"$pipes/hold.out"
session orders orders
exec 5>"$pipes/orders.in" 6<"$pipes/orders.out"
session inventory inventory
exec 7>"$pipes/inventory.in" 8<"$pipes/inventory.out"

# No order is written for some milliseconds, while each database begins a transaction that sees what is there now. So
# orders' is as it was at the very instant of inventory's.
echo "BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE orders IN SHARE MODE; SELECT 1;" >&3
read -r _ <&4
begin="BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot();"
echo "$begin" >&5
echo "$begin" >&7
read -r of_orders <&6
read -r of_inventory <&8
echo "COMMIT;" >&3

dump() { # DATABASE SNAPSHOT
    on "$1" pg_dump --format=custom --snapshot="$2" --file="$target.partial/$1"
    # To its last byte: only what is whole gets its name.
    pg_restore --file=/dev/null "$target.partial/$1"
}
dump orders "$of_orders"
dump inventory "$of_inventory"
mv "$target.partial" "$target"
echo "backup: $target"

# The names sort by time; the arguments are the folders, the oldest first.
set -- "$BACKUPS"/*Z
while [ $# -gt "$KEEP" ]; do
    rm -rf "$1"
    echo "backup: $1 is removed"
    shift
done
