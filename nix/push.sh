# nix run .#push -- REGISTRY[/PATH] [OPTIONS OF skopeo copy]: every image for all its platforms, with what hangs on it.
if [ $# = 0 ] || [ "$1" = --help ]; then
    echo "usage: nix run .#push -- REGISTRY[/PATH] [OPTIONS OF skopeo copy, e.g. --dest-tls-verify=false --dest-creds USER:PASSWORD]
       ONLY=\"orders inventory\" pushes these alone; TAG=v2 gives another tag than $version" >&2
    exit 64
fi
registry=$1
shift
tag=${TAG:-$version}

copy() { # LAYOUT NAME TARGET
    skopeo --insecure-policy copy --quiet --all --preserve-digests --retry-times 2 "${options[@]}" "oci:$1:$2" "docker://$3" && return
    echo "push: $3 was not pushed. What a registry has taken already it keeps by digest: the same command again goes on." >&2
    exit 1
}
options=("$@")
for name in ${ONLY:-$names}; do
    layout=$layouts/$name
    if [ ! -e "$layout/index.json" ]; then echo "push: there is no image $name; there are: $names" >&2; exit 64; fi
    # What hangs on an image first, by the tags that clients without the referrers API look for, and its own tag last:
    # who sees the image finds all of it.
    for reference in $(jq -r '.manifests[1:][].annotations["org.opencontainers.image.ref.name"]' "$layout/index.json"); do
        copy "$layout" "$reference" "$registry/$name:$reference"
    done
    copy "$layout" "$name:$version" "$registry/$name:$tag"
    echo "$registry/$name:$tag@$(jq -r '.manifests[0].digest' "$layout/index.json")"
done
