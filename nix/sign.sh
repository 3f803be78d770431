# nix run .#sign -- REGISTRY[/PATH] --key cosign.key [OPTIONS OF cosign sign]: signs what push has pushed, by digest.
# Offline: no transparency log is written. cosign asks for the key's password, or takes COSIGN_PASSWORD.
if [ $# = 0 ] || [ "$1" = --help ]; then
    echo "usage: nix run .#sign -- REGISTRY[/PATH] --key cosign.key [OPTIONS OF cosign sign, e.g. --allow-insecure-registry]" >&2
    exit 64
fi
registry=$1
shift
for name in ${ONLY:-$names}; do
    reference=$registry/$name@$(jq -r '.manifests[0].digest' "$layouts/$name/index.json")
    # --recursive: the index, and each platform's manifest, which is what a node pulls.
    cosign sign --recursive --tlog-upload=false --yes "$@" "$reference" || { echo "sign: $reference was not signed: was it pushed, and is the key's password right?" >&2; exit 1; }
    echo "$reference"
done
