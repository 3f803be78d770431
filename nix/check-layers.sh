# An edited service's image against the one before: the same base layer, another application layer, nothing else. The
# other services do not have its sources.
blob() { echo "$1/blobs/sha256/${2#sha256:}"; }
manifest() { # LAYOUT: its manifest for this architecture
    local image
    image=$(blob "$1" "$(jq -r '.manifests[0].digest' "$1/index.json")")
    if [ "$(jq -r .mediaType "$image")" = application/vnd.oci.image.index.v1+json ]; then
        image=$(blob "$1" "$(jq -r --arg it "$architecture" '.manifests[] | select(.platform.architecture == $it).digest' "$image")")
    fi
    echo "$image"
}
one=$(manifest "$before") two=$(manifest "$after")
layer() { jq -r ".layers[$2].digest" "$1"; }
[ "$(layer "$one" 0)" = "$(layer "$two" 0)" ] || { echo "the base layer changed" >&2; exit 1; }
[ "$(layer "$one" 1)" != "$(layer "$two" 1)" ] || { echo "the edit changed no layer: the check proves nothing" >&2; exit 1; }
# Beside the layer's diff id, the configuration is as it was.
config() { jq 'del(.rootfs.diff_ids[1])' "$(blob "$1" "$(jq -r .config.digest "$2")")"; }
diff <(config "$before" "$one") <(config "$after" "$two") || { echo "the configuration changed beside the layer" >&2; exit 1; }
for source in $others; do
    [ -e "$source/crates/service-kit/src" ] && [ ! -e "$source/crates/orders/src" ] || { echo "another service is built from orders' sources" >&2; exit 1; }
done
mkdir "$out"
echo '4 passed, 0 failed' >"$out/totals"
