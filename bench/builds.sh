#!/usr/bin/env bash
# How long builds of the last commit take here, one after the other; nothing else should run:
#
#   bash bench/builds.sh                  after an edit of one service, of service-kit, and the tests
#   bash bench/builds.sh --from-nothing   the images in a store that has the pinned downloads and nothing else
#
# Prints rows of a table. All of it happens in a clone and a store of its own, which go with it.
set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
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

# The outputs that are downloads, of all that the images are made from.
downloads() {
    ./nixw derivation show --recursive .#images >"$work/derivations.json"
    ./nixw eval --impure --raw --expr "
        let
          derivations = builtins.attrValues (builtins.fromJSON (builtins.readFile $work/derivations.json));
          outputs = builtins.concatMap (derivation: builtins.attrValues derivation.outputs) derivations;
        in
          builtins.concatStringsSep \"\n\" (map (output: output.path) (builtins.filter (output: output ? hash) outputs))"
}

if [ "${1:-}" = --from-nothing ]; then
    downloads | xargs ./nixw copy --no-check-sigs --to "$work/store"
    row "\`nix build .#images\` from nothing" build --store "$work/store" .#images
    exit
fi
build .#images
build .#checks.x86_64-linux.test # alone, since some of its tests measure times
row "\`nix build .#images\`, nothing changed" build .#images
edit orders
row "after an edit of orders" build .#images
edit service-kit
row "after an edit of service-kit, of which all services are made" build .#images
row "unit and integration tests (the check \`test\`), after the same edit" build .#checks.x86_64-linux.test
