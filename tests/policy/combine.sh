#!/bin/sh
# Copies the manifests to a folder, with an overlay's components replaced, as a user would edit its list, and with
# passwords and keys of no worth in place of those that `nix run .#secrets` writes.
# Usage: combine.sh TARGET OVERLAY COMPONENTS...
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
target=$1 overlay=$2
shift 2

mkdir -p "$target"
cp -R "$root/kustomize/." "$target"
chmod -R u+w "$target"
rm -f "$target"/overlays/*/secrets.yaml "$target"/overlays/*/api-key "$target"/overlays/*/api-key-load-test
cp "$root/tests/policy/secrets.yaml" "$target/overlays/staging/secrets.yaml"

file=$target/overlays/$overlay/kustomization.yaml
sed -i -e '/^  - \.\.\/\.\.\/components\//d' -e '/^components:/d' "$file"
[ $# = 0 ] || printf 'components:\n' >>"$file"
for component in "$@"; do
    printf '  - ../../components/%s\n' "$component" >>"$file"
done
