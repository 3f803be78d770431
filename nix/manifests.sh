# Renders each overlay of $kustomize with the digests of the image $layouts.
cp -R "$kustomize" kustomize
chmod -R u+w kustomize
echo '# The Secrets are made on their own.' >kustomize/overlays/staging/secrets.yaml

mkdir "$out"
for overlay in staging production; do
    mkdir "kustomize/overlays/$overlay-pinned"
    pinned=kustomize/overlays/$overlay-pinned/kustomization.yaml
    printf 'namespace: %s\nresources: [../%s]\nconfigMapGenerator:\n' "$overlay" "$overlay" >"$pinned"
    images=$(kustomize build "kustomize/overlays/$overlay" | sed -nE 's/^ +(- )?image: //p' | sort -u)
    printf 'images:\n' >pins
    for layout in "$layouts"/*; do
        name=${layout##*/}
        digest=$(jq -er '.manifests[0].digest' "$layout/index.json")
        # By the name and tag that the overlay gives it, in whatever form that is written.
        for image in $images; do
            repository=${image%:*}
            [ "${repository##*/}" = "$name" ] || continue
            printf '  - {name: "%s", newTag: "%s", digest: "%s"}\n' "$repository" "${image##*:}" "$digest" >>pins
        done
        # A service shows the digest that it runs from.
        [ ! -d "kustomize/base/$name" ] || ! grep -q "name: $name-config" "kustomize/base/$name/kustomization.yaml" ||
            printf '  - {name: %s-config, behavior: merge, literals: ["IMAGE_DIGEST=%s"]}\n' "$name" "$digest" >>"$pinned"
    done
    cat pins >>"$pinned"
    kustomize build "kustomize/overlays/$overlay-pinned" >"$out/$overlay.yaml"
    if grep -E '^ +(- )?image: ' "$out/$overlay.yaml" | grep -v '@sha256:'; then
        echo "manifests: $overlay has images without a digest" >&2
        exit 1
    fi
done
