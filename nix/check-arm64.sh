# Runs the services of the other architecture under qemu, with a PostgreSQL of this one: ready, asked, ended.
# The ports are fixed: the sandbox has a loopback of its own.
passed=0
holds() { # NAME ACTUAL EXPECTED, a pattern
    # shellcheck disable=SC2053 # a pattern
    if [[ $2 != $3 ]]; then echo "$1: $2, expected $3" >&2; tail -n 5 ./*.log >&2; exit 1; fi
    passed=$((passed + 1))
}

# Prints the status and the body of an answer. PORT METHOD PATH [BODY [KEY]]
ask() {
    local line body=${4:-} authorization=${5:+authorization: Bearer $5$'\r\n'}
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return
    printf '%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\nidempotency-key: one\r\n%scontent-length: %s\r\n\r\n%s' \
        "$2" "$3" "$authorization" "${#body}" "$body" >&3
    read -r _ line <&3
    printf '%s ' "${line%% *}"
    while read -r line && [ "$line" != $'\r' ]; do :; done <&3
    cat <&3
    exec 3>&-
}

# Waits until a command succeeds. NAME COMMAND...
await() {
    local name=$1 tries=0
    shift
    until "$@" >answer 2>&1; do
        if [ $((tries += 1)) = 600 ]; then holds "$name in time" "$(cat answer)" "an answer"; fi
        sleep 0.1
    done
}
is_ready() { [[ $(ask "$1" GET /ready) == 200* ]]; }

declare -A process
declare -A machine=([aarch64]=b7 [x86_64]=3e) # in an ELF file's header
start() { # NAME PORT SETTINGS...
    local name=$1 port=$2
    shift 2
    env ENVIRONMENT=local IDENTITY=off SHUTDOWN_DELAY=0 LISTEN="127.0.0.1:$port" ADMIN_LISTEN="127.0.0.1:$((port + 1000))" "$@" \
        "$emulator/bin/qemu-$cpu" "$programs/bin/$name" >"$name.log" 2>&1 &
    process[$name]=$!
    await "$name is ready" is_ready $((port + 1000))
    holds "$name: its machine" "$(od -An -tx1 -j18 -N1 "$programs/bin/$name" | tr -d ' ')" "${machine[$cpu]}"
    holds "$name: ready" "$(ask $((port + 1000)) GET /ready)" '200 *'
    holds "$name: health" "$(ask $((port + 1000)) GET /health)" '200 *'
    holds "$name: info" "$(ask $((port + 1000)) GET /info)" "200 *\"$name\"*"
}
end() { # NAME
    kill -TERM "${process[$1]}"
    local status=0
    wait "${process[$1]}" || status=$?
    holds "$1: exit after SIGTERM" "$status" 0
}

cd "$NIX_BUILD_TOP"
export LC_ALL=C
initdb -D data -U postgres -A trust -E UTF8 --locale=C --no-sync >initdb.log
postgres -D data -c listen_addresses= -c "unix_socket_directories=$PWD" -c fsync=off -c timezone=UTC0 -c log_timezone=UTC0 >postgres.log 2>&1 &
database=$!
await "PostgreSQL" pg_isready -q -h "$PWD" -U postgres -d postgres
for owner in inventory orders; do
    psql -q -h "$PWD" -U postgres -d postgres -c "CREATE ROLE $owner LOGIN" -c "CREATE DATABASE $owner OWNER $owner"
done

start inventory 8082 DEMO_CATALOGUE=on DATABASE_URL="host=$PWD user=inventory dbname=inventory"
start orders 8081 INVENTORY_URL=http://127.0.0.1:8082 DATABASE_URL="host=$PWD user=orders dbname=orders"
# For this run alone.
key=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
sum=$(printf %s "$key" | sha256sum)
printf '[{"name": "check", "sha256": "%s", "may": "write", "requests_per_second": 50}]' "${sum%% *}" >keys.json
printf %s "$key" >session-key
start api-gateway 8080 API_KEYS_FILE="$PWD/keys.json" SESSION_KEY_FILE="$PWD/session-key" \
    ORDERS_URL=http://127.0.0.1:8081 ORDERS_ADMIN_URL=http://127.0.0.1:9081 \
    INVENTORY_URL=http://127.0.0.1:8082 INVENTORY_ADMIN_URL=http://127.0.0.1:9082
order='{"customer":"ada","lines":[{"sku":"BOLT-M8","quantity":2}]}'
holds "an order without a key" "$(ask 8080 POST /api/v1/orders "$order")" '401 *'
holds "an order" "$(ask 8080 POST /api/v1/orders "$order" "$key")" '201 *"confirmed"*'
holds "its stock" "$(ask 8080 GET /api/v1/items/BOLT-M8)" '200 *"BOLT-M8"*'
for name in api-gateway orders inventory; do end "$name"; done
kill -INT "$database"
wait "$database"

mkdir "$out"
echo "$passed passed, 0 failed" >"$out/totals"
