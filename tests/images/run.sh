# Runs the five images as containers, as a cluster would: read-only root, no capability, their own user, no network but
# a loopback of their own. Places an order, restarts PostgreSQL, and measures time to ready and idle memory.
#
# nix run .#containers -- TABLE         TABLE: the file for what was measured, lines "NAME MILLISECONDS KILOBYTES"
# tests/images/run.sh ARCHIVES TABLE    ARCHIVES: the folder of `nix build .#archives`
# Needs root, podman, runc, iproute2 and curl. Its last line holds the totals.
set -euo pipefail
archives=$1
rounds=5
namespace=stockyard-images-$$
work=$(mktemp -d)
table=$work/table
passed=0 failed=0
check() { # NAME COMMAND...
    if "${@:2}" >"$work/output" 2>&1; then passed=$((passed + 1)); echo "ok      $1"; else
        failed=$((failed + 1)); echo "FAILED  $1"; sed 's/^/        /' "$work/output"; fi
}
# Fails with a message that matches: a test of a refusal may not pass for another reason.
fails_with() { # PATTERN COMMAND...
    local said
    if said=$("${@:2}" 2>&1); then echo "it did not fail: $said"; return 1; fi
    grep -q -- "$1" <<<"$said" || { echo "$said"; return 1; }
}
clean_up() {
    for name in prometheus api-gateway orders inventory postgres; do podman rm --force --time 10 "$namespace-$name" >/dev/null 2>&1 || true; done
    podman volume rm --force "$namespace-data" "$namespace-metrics" >/dev/null 2>&1 || true
    ip netns del "$namespace" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT

ip netns add "$namespace"
ip -n "$namespace" link set lo up
inside() { ip netns exec "$namespace" "$@"; }
get() { inside curl -fsS --max-time 5 "$@"; }

# podman's own defaults ask for more open files and processes than a container here may be given.
limits=(--ulimit "nofile=$(ulimit -Hn):$(ulimit -Hn)" --ulimit nproc=1024:1024)
image() { echo "docker.io/library/$1:$version"; }
create() { # NAME OPTIONS... -- ARGUMENTS...
    local name=$1 options=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
    if [ $# -gt 0 ]; then shift; fi
    podman --runtime=runc create --pull=never --name "$namespace-$name" --network="ns:/run/netns/$namespace" --read-only \
        --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges "${limits[@]}" "${options[@]}" "$(image "$name")" "$@" >/dev/null
}
now() { echo $(($(date +%s%N) / 1000000)); }
# Starts a container and waits until it is ready; the milliseconds that took.
start() { # NAME COMMAND...
    local begun
    begun=$(now)
    podman start "$namespace-$1" >/dev/null
    for _ in $(seq 1000); do
        if "${@:2}" >/dev/null 2>&1; then echo $(($(now) - begun)); return; fi
        sleep 0.01
    done
    echo "$1 was not ready in time:" >&2
    podman logs "$namespace-$1" >&2
    return 1
}
main_process() { podman inspect --format '{{.State.Pid}}' "$namespace-$1"; }
# Resident memory in kB: of one process, or of a server's processes with what they share counted once.
resident() { awk '/^VmRSS/ {print $2}' "/proc/$(main_process "$1")/status"; }
proportional() {
    local pid
    pid=$(main_process "$1")
    cat /proc/"$pid"/smaps_rollup $(cat /proc/"$pid"/task/*/children | tr ' ' '\n' | sed 's,.\+,/proc/&/smaps_rollup,') 2>/dev/null |
        awk '/^Pss:/ {sum += $2} END {print sum}'
}
median() { sort -n | sed -n "$(((rounds + 1) / 2))p"; }
ready() { get "http://127.0.0.1:$1/ready"; }

for archive in "$archives"/*.tar; do
    name=$(basename "$archive" .tar)
    loaded=$(podman load --quiet --input "$archive")
    version=${loaded##*:}
    check "$name: podman load takes the archive" podman image exists "$(image "$name")"
done

secrets=$work/secrets keys=$work/keys
mkdir "$secrets" "$keys"
random() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }
for role in postgres orders inventory; do random >"$secrets/$role-password"; done
api_key=$(random)
sum=$(printf %s "$api_key" | sha256sum)
printf '[{"name": "ci", "sha256": "%s", "may": "write", "requests_per_second": 50}]' "${sum%% *}" >"$keys/keys.json"
random >"$keys/session-key"
chmod 755 "$work" "$secrets" "$keys"
chmod 444 "$secrets"/* "$keys"/*
cat >"$work/prometheus.yml" <<'YAML'
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: orders
    static_configs: [{targets: ["127.0.0.1:9091"]}]
YAML

# Fresh named volumes: their owner is that of the image's folder.
create postgres -v "$namespace-data:/var/lib/postgresql" -v "$secrets:/etc/postgresql-secrets:ro" --tmpfs /tmp:mode=1777
database() { podman exec "$namespace-postgres" pg_isready -q -h 127.0.0.1; }
first=$(start postgres database)
echo "postgres made its databases and was ready in $first ms"
# Without identity: no Kubernetes is here to say who calls.
service() { # NAME PORT ADMIN OPTIONS...
    create "$1" -e "LISTEN=127.0.0.1:$2" -e "ADMIN_LISTEN=127.0.0.1:$3" -e ENVIRONMENT=local -e IDENTITY=off "${@:4}"
}
as() { echo "host=127.0.0.1 user=$1 dbname=$1"; }
service inventory 8082 9092 -e "DATABASE_URL=$(as inventory)" -e DATABASE_PASSWORD_FILE=/secrets/inventory-password \
    -v "$secrets:/secrets:ro" -e DEMO_CATALOGUE=on
service orders 8081 9091 -e "DATABASE_URL=$(as orders)" -e DATABASE_PASSWORD_FILE=/secrets/orders-password \
    -v "$secrets:/secrets:ro" -e INVENTORY_URL=http://127.0.0.1:8082
service api-gateway 8080 9090 -v "$keys:/etc/api-keys:ro" -e ORDERS_URL=http://127.0.0.1:8081 -e ORDERS_ADMIN_URL=http://127.0.0.1:9091 \
    -e INVENTORY_URL=http://127.0.0.1:8082 -e INVENTORY_ADMIN_URL=http://127.0.0.1:9092
create prometheus -v "$work/prometheus.yml:/etc/prometheus/prometheus.yml:ro" -v "$namespace-metrics:/prometheus" -- \
    --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus --web.listen-address=127.0.0.1:9099

: >"$table"
measure() { # NAME MEMORY READY...
    local name=$1 memory=$2 round
    : >"$work/times"
    for round in $(seq "$rounds"); do
        start "$name" "${@:3}" >>"$work/times"
        if [ "$round" -lt "$rounds" ]; then podman stop --time 10 "$namespace-$name" >/dev/null; fi
    done
    sleep 3 # idle: what the start needed is given back, what it keeps is what is measured
    echo "$name $(median <"$work/times") $($memory "$name")" | tee -a "$table"
}
podman stop --time 10 "$namespace-postgres" >/dev/null
measure postgres proportional database
measure inventory resident ready 9092
measure orders resident ready 9091
measure api-gateway resident ready 9090
measure prometheus resident get http://127.0.0.1:9099/-/ready

place() {
    get -X POST http://127.0.0.1:8080/api/v1/orders -H "Authorization: Bearer $api_key" -H 'content-type: application/json' \
        -H "Idempotency-Key: $1" -d '{"customer":"ci","lines":[{"sku":"BOLT-M8","quantity":1}]}'
}
confirmed() { place "$1" | grep -q '"status":"confirmed"'; }
check "an order placed through the three containers is confirmed" confirmed one
check "one without an API key is refused" fails_with "error: 401" get -X POST http://127.0.0.1:8080/api/v1/orders
podman stop --time 10 "$namespace-postgres" >/dev/null
check "postgres is ready again after a stop" start postgres database
check "the order is still there, by its key" confirmed one
no_huge_pages() { [ "$(podman exec "$namespace-postgres" psql -qtAX -d postgres -c 'SHOW huge_pages')" = off ]; }
check "postgres asks for no huge pages, which a cgroup may forbid by SIGBUS" no_huge_pages
scraped() { get -G http://127.0.0.1:9099/api/v1/query --data-urlencode 'query=up{job="orders"} == 1' | grep -q '"value"'; }
until_scraped() { for _ in $(seq 200); do if scraped; then return; fi; sleep 0.1; done; return 1; }
check "prometheus scrapes orders" until_scraped
wrong_password() { podman exec -e PGPASSWORD=wrong "$namespace-postgres" psql -h 127.0.0.1 -U orders -c 'SELECT 1'; }
check "postgres refuses a wrong password" fails_with "password authentication failed" wrong_password
other_database() {
    podman exec -e PGPASSWORD="$(cat "$secrets/orders-password")" "$namespace-postgres" psql -h 127.0.0.1 -U orders -d inventory -c 'SELECT 1'
}
check "postgres keeps orders out of inventory's database" fails_with "permission denied for database" other_database
for name in api-gateway orders inventory; do
    check "$name: at most 8192 kB of resident memory when idle" [ "$(awk -v name="$name" '$1 == name {print $3}' "$table")" -le 8192 ]
done
for name in api-gateway orders inventory prometheus; do
    check "$name: holds no shell" fails_with "no such file or directory" podman --runtime=runc run --rm --pull=never --network=none "${limits[@]}" --entrypoint /bin/sh "$(image "$name")" -c true
done
for name in api-gateway orders inventory prometheus postgres; do
    check "$name: runs as 65532" [ "$(awk '/^Uid/ {print $2, $3, $4, $5}' "/proc/$(main_process "$name")/status")" = "65532 65532 65532 65532" ]
done
cat "$table" >"$2"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
