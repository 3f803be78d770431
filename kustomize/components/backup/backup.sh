#!/bin/sh
# Dumps both databases, as they were at one instant, into $BACKUPS/TIME, and keeps the newest $KEEP of these folders.
set -eu
umask 077
. "$(dirname "$0")/sessions.sh"

target=$BACKUPS/$(date -u +%Y%m%dT%H%M%SZ)
mkdir "$target.partial"
trap 'rm -rf "$pipes" "$target.partial"' EXIT
# What a run that was cut off has left: no run takes as long as that.
find "$BACKUPS" -maxdepth 1 -name '*.partial' -mmin +120 -exec rm -rf {} +

session hold orders
exec 3>"$pipes/hold.in" 4<"$pipes/hold.out"
session orders orders
exec 5>"$pipes/orders.in" 6<"$pipes/orders.out"
session inventory inventory
exec 7>"$pipes/inventory.in" 8<"$pipes/inventory.out"
# Both are there before anybody has to wait for them.
echo "SELECT 1;" >&5
echo "SELECT 1;" >&7
read -r _ <&6 || fail "no session on orders"
read -r _ <&8 || fail "no session on inventory"

# No order is written for some milliseconds, while each database begins a transaction that sees what is there now. So
# orders' is as it was at the very instant of inventory's. Should this script hang or its node be lost, PostgreSQL lets
# go after the second of these times.
cat >&3 <<'END'
BEGIN;
SET LOCAL lock_timeout = '2s';
SET LOCAL idle_in_transaction_session_timeout = '2s';
LOCK TABLE orders IN SHARE MODE;
SELECT clock_timestamp() AS since \gset
SELECT 1;
END
read -r _ <&4 || fail "orders could not be held"
begin="BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot();"
echo "$begin" >&5
echo "$begin" >&7
read -r of_orders <&6 || fail "no snapshot of orders"
read -r of_inventory <&8 || fail "no snapshot of inventory"
echo "SELECT round(extract(epoch FROM clock_timestamp() - :'since') * 1000); COMMIT;" >&3
# It was held until now, then.
read -r held <&4 || fail "orders were let go too early"
echo "backup: orders were held for $held ms"

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
