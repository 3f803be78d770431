# Reads each image layout with skopeo and holds what the images promise.
passed=0
holds() { # NAME ACTUAL EXPECTED
    if [ "$2" != "$3" ]; then echo "$1: $2, expected $3" >&2; exit 1; fi
    passed=$((passed + 1))
}

export TMPDIR=$NIX_BUILD_TOP
for program in $programs; do
    binary=$(echo "$program"/bin/*)
    name=${binary##*/}
    layout=$layouts/$name
    manifest=$(skopeo inspect --raw "oci:$layout")
    config=$(skopeo inspect --config "oci:$layout")
    size=$(jq '[.layers[].size] | add' <<<"$manifest")

    holds "$name: oci-image verify" "$(oci-image verify "$layout" | grep -c 'no fault')" 1
    holds "$name: layers" "$(jq '.layers | length' <<<"$manifest")" 2
    holds "$name: user" "$(jq -r .config.User <<<"$config")" 65532:65532
    holds "$name: entrypoint" "$(jq -r '.config.Entrypoint[]' <<<"$config")" "/bin/$name"
    holds "$name: architecture" "$(jq -r .architecture <<<"$config")" "$architecture"
    holds "$name: at most $limit bytes ($size)" "$((size <= limit))" 1
    base_digest=$(jq -r '.layers[0].digest' <<<"$manifest")
    holds "$name: the base layer is the same in all" "${first_base:=$base_digest}" "$base_digest"
    holds "$name: no store path in the binary" "$(grep -c /nix/store "$binary" || true)" 0

    # From other times, modes and another folder, the same digest.
    cp -rL "$base" "again-$name.base" && chmod -R u+rwX "again-$name.base" && touch -d 2001-01-01 "again-$name.base/etc/passwd"
    cp "$binary" "again-$name" && chmod 700 "again-$name"
    TZ=Asia/Tokyo oci-image build --name "$name" --architecture "$architecture" --base "again-$name.base" --mode tmp=1777 \
        --binary "again-$name" --output "again-$name.image" >/dev/null
    holds "$name: the same digest when built again" "$(cat "again-$name.image/index.json")" "$(cat "$layout/index.json")"
    echo "$name $(skopeo inspect "oci:$layout" | jq -r .Digest) $size bytes compressed" | tee -a sizes
done
mkdir "$out"
cp sizes "$out/"
echo "$passed passed, 0 failed" >"$out/totals"
