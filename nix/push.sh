# nix run .#push -- REGISTRY[/PATH] [OPTIONS OF skopeo copy]: every image for all its platforms, with what hangs on it.
if [ $# = 0 ] || [ "$1" = --help ]; then
    echo "usage: nix run .#push -- REGISTRY[/PATH] [OPTIONS OF skopeo copy, e.g. --dest-tls-verify=false --dest-creds USER:PASSWORD]
       ONLY=\"orders inventory\" pushes these alone; TAG=v2 gives another tag than $version" >&2
    exit 64
fi
registry=$1
shift
tag=${TAG:-$version}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=("$@")
copy() { # LAYOUT NAME TARGET
    skopeo --insecure-policy copy --quiet --all --preserve-digests --retry-times 2 "${options[@]}" "oci:$1:$2" "docker://$3" && return
    echo "push: $3 was not pushed. What a registry has taken already it keeps by digest: the same command again goes on." >&2
    exit 1
}
# Joins a list of referrers with the one that a registry has by now; prints the layout that holds the joined one. A
# client that adds one keeps the others: OCI distribution specification, "Referrers Tag Schema".
joined() { # LAYOUT LIST TARGET
    local theirs=$work/$2 blob
    # A list that is not there, and a registry that is not, look alike: then ours is pushed as it is.
    if ! skopeo --insecure-policy copy --quiet --all --preserve-digests "${options[@]/#--dest-/--src-}" "docker://$3" "oci:$theirs:$2" 2>/dev/null; then
        echo "$1"
        return
    fi
    skopeo --insecure-policy copy --quiet --all --preserve-digests "oci:$1:$2" "oci:$theirs:ours" >&2
    blobs=$theirs/blobs/sha256
    list() { jq -r --arg name "$1" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $name).digest | sub("sha256:"; "")' "$theirs/index.json"; }
    jq -cjs '.[0] * {manifests: [.[].manifests[]] | unique_by(.digest)}' "$blobs/$(list ours)" "$blobs/$(list "$2")" >"$work/list"
    blob=$(sha256sum "$work/list" | cut -d' ' -f1)
    cp "$work/list" "$blobs/$blob"
    jq -n --arg name "$2" --arg digest "sha256:$blob" --argjson size "$(wc -c <"$work/list")" '{schemaVersion: 2, manifests: [{
        mediaType: "application/vnd.oci.image.index.v1+json", $digest, $size, annotations: {"org.opencontainers.image.ref.name": $name}}]}' >"$theirs/index.json"
    echo "$theirs"
}
for name in ${ONLY:-$names}; do
    layout=$layouts/$name
    if [ ! -e "$layout/index.json" ]; then echo "push: there is no image $name; there are: $names" >&2; exit 64; fi
    # What hangs on an image first, by the tags that clients without the referrers API look for, and its own tag last:
    # who sees the image finds all of it.
    lists=$(jq -r '.manifests[1:][].annotations["org.opencontainers.image.ref.name"]' "$layout/index.json")
    for list in $lists; do
        from=$(joined "$layout" "$list" "$registry/$name:$list")
        copy "$from" "$list" "$registry/$name:$list"
    done
    copy "$layout" "$name:$version" "$registry/$name:$tag"
    echo "$registry/$name:$tag@$(jq -r '.manifests[0].digest' "$layout/index.json")"
done
