#!/usr/bin/env bash
# How long builds of the last commit take here, one after the other; nothing else should run:
#
#   bash bench/builds.sh                  after an edit of one service, of service-kit, and the tests
#   bash bench/builds.sh --from-nothing   the run command, the images and the checks, each in a store that has the pinned
#                                         downloads and nothing else
#
# Prints rows of a table. All of it happens in a clone and stores of its own, which go with it.
set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
chmod 755 "$work" # PostgreSQL's unprivileged user must reach its state and its programs
git clone --quiet "$(dirname "$0")/.." "$work/stockyard"
cd "$work/stockyard"

# Prints how long a command takes. When it fails, its last lines.
row() { # WHAT COMMAND...
    local start=$EPOCHREALTIME
    if ! "${@:2}" >"$work/log" 2>&1; then
        tail -n 50 "$work/log" >&2
        exit 1
    fi
    awk -v what="$1" -v start="$start" -v end="$EPOCHREALTIME" 'BEGIN {
        seconds = end - start
        printf "| %s | %s |\n", what, seconds < 100 ? sprintf("%.1f s", seconds) : sprintf("%d min %d s", seconds / 60, seconds % 60)
    }'
}
build() { ./nixw build --no-link "$@"; }
edit() { echo "// edited at $EPOCHREALTIME" >>"crates/$1/src/lib.rs"; }

# Makes the downloads ready in another store.
downloaded() { # STORE
    local inputs
    inputs=$(build --impure --print-out-paths --file nix/debianpkgs/inputs.nix all)
    ./nixw copy --no-check-sigs --to "$1" "$inputs"
}
# Starts the run command; comes back when the services listen.
run() { # STORE
    STATE_DIR=$work/state ./nixw run --store "$1" >"$work/run" 2>&1 &
    stack=$!
    until grep -q http://localhost:8080 "$work/run"; do
        kill -0 "$stack" 2>/dev/null || { cat "$work/run"; return 1; }
        sleep 0.2
    done
}

if [ "${1:-}" = --from-nothing ]; then
    for store in run images checks; do downloaded "$work/$store"; done
    row "\`nix run\` from nothing, until the services listen" run "$work/run"
    kill -INT "$stack"
    wait "$stack"
    row "\`nix build .#images\` from nothing" build --store "$work/images" .#images
    row "\`nix flake check\` from nothing" ./nixw flake check --store "$work/checks"
    exit
fi
build .#images .#orders-archive
build .#checks.x86_64-linux.test # alone, since some of its tests measure times
row "\`nix build .#images\`, nothing changed" build .#images
edit orders
row "after an edit of orders, its image for this machine: one program" build .#orders-archive
edit orders
row "after an edit of orders, all images: two programs" build .#images
edit service-kit
row "after an edit of service-kit, of which all services are made: six programs" build .#images
row "unit and integration tests (the check \`test\`), after the same edit" build .#checks.x86_64-linux.test
