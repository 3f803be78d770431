# Reads each image layout with skopeo and holds what the images promise.
passed=0
holds() { # NAME ACTUAL EXPECTED
    if [ "$2" != "$3" ]; then echo "$1: $2, expected $3" >&2; exit 1; fi
    passed=$((passed + 1))
}
at_most() { # NAME BYTES LIMIT
    if [ "$2" -gt "$3" ]; then echo "$1: $2 bytes, at most $3" >&2; exit 1; fi
    passed=$((passed + 1))
}
blob() { echo "$layout/blobs/sha256/${1#sha256:}"; }
# The document that hangs on a manifest as an artifact of a type.
referrer() { # SUBJECT TYPE
    local list
    list=$(jq -r --arg tag "sha256-${1#sha256:}" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $tag).digest' "$layout/index.json")
    blob "$(jq -r '.layers[0].digest' "$(blob "$(jq -r --arg type "$2" '.manifests[] | select(.artifactType == $type).digest' "$(blob "$list")")")")"
}

export TMPDIR=$NIX_BUILD_TOP
for name in $names; do
    layout=$layouts/$name
    image=oci:$layout:$name:$version
    holds "$name: oci-image verify" "$(oci-image verify "$layout" | grep -c 'no fault')" 1
    index=$(jq -r '.manifests[0].digest' "$layout/index.json")
    holds "$name: the platforms that skopeo finds" \
        "$(skopeo inspect --raw "$image" | jq -r '[.manifests[].platform | .os + "/" + .architecture] | join(" ")')" "linux/amd64 linux/arm64"
    statement=$(referrer "$index" application/vnd.in-toto+json)
    holds "$name: the statement names the image" "$(jq -r '.subject[0].digest.sha256' "$statement")" "${index#sha256:}"
    holds "$name: the statement pins flake.lock" "$(jq '[.predicate.buildDefinition.resolvedDependencies[] | select(.name == "flake.lock")] | length' "$statement")" 1
    echo "$name $index" | tee -a sizes

    for architecture in amd64 arm64; do
        what="$name $architecture"
        inspect() { skopeo --override-arch "$architecture" inspect "$@" "$image"; }
        config=$(inspect --config)
        digest=$(jq -r --arg it "$architecture" '.manifests[] | select(.platform.architecture == $it).digest' "$(blob "$index")")
        manifest=$(blob "$digest")
        base=$(jq -r '.layers[0].digest' "$manifest")
        base_size=$(jq '.layers[0].size' "$manifest") size=$(jq '.layers[1].size' "$manifest")
        holds "$what: layers" "$(jq '.layers | length' "$manifest")" 2
        holds "$what: skopeo reads its layers" "$(inspect | jq '.Layers | length')" 2
        holds "$what: the base layer is the same in all" "${first_base:=$base}" "$base"
        holds "$what: architecture" "$(jq -r .architecture <<<"$config")" "$architecture"
        holds "$what: user" "$(jq -r .config.User <<<"$config")" 65532:65532
        holds "$what: made when its inputs were locked" "$(jq -r .created <<<"$config")" "$created"
        # docker gives a fresh volume the owner of the folder that it is mounted on.
        application=$(blob "$(jq -r '.layers[1].digest' "$manifest")")
        for volume in $(jq -r '.config.Volumes // {} | keys[]' <<<"$config"); do
            read -r _ owner _ < <(tar -tvzf "$application" --numeric-owner --no-recursion "${volume#/}/")
            holds "$what: the owner of $volume" "$owner" 65532/65532
        done
        at_most "$what: base layer" "$base_size" 500000
        case $name in
        postgres) limit=32000000 ;; # 10 MB of it are ICU's data, which postgres is linked to
        prometheus) limit=27000000 ;;
        api-gateway) limit=2500000 ;;
        *) limit=3600000 ;; # TLS to the database, and unwinding; docs/size-and-memory.md says what smaller would cost
        esac
        at_most "$what: application layer" "$size" "$limit"
        bill=$(referrer "$digest" application/spdx+json)
        holds "$what: the SBOM names the base's packages" "$(jq -r '[.packages[].name | select(test("^(ca-certificates|nss-cacert|tzdata)$"))] | length' "$bill")" 2
        if [ -e "$programs/$name-$architecture" ]; then
            binary=$programs/$name-$architecture
            holds "$what: entrypoint" "$(jq -r '.config.Entrypoint[]' <<<"$config")" "/bin/$name"
            holds "$what: no store path in the binary" "$(grep -c /nix/store "$binary" || true)" 0
            holds "$what: the SBOM names hyper once" "$(jq '[.packages[] | select(.externalRefs[0].referenceLocator // "" | startswith("pkg:cargo/hyper@"))] | length' "$bill")" 1
            holds "$what: crates of the registry without checksum or licence" \
                "$(jq '[.packages[] | select(.externalRefs[0].referenceLocator // "" | startswith("pkg:cargo/")) | select(.checksums == null or .licenseDeclared == "NOASSERTION") | .name] | join(" ")' -r "$bill")" ""
            holds "$what: our own crates in the SBOM" \
                "$(jq -r '[.packages[] | select(.SPDXID | startswith("SPDXRef-crate-")) | select(.externalRefs == []) | .name] | sort | join(" ")' "$bill")" "$(tr ' ' '\n' <<<"$name service-kit" | sort | paste -sd' ' -)"
        fi
        echo "$what $digest $base_size + $size bytes compressed" | tee -a sizes
    done

    # In another time zone and with another umask, the same bytes.
    command=build_${name//-/_}
    (
        umask 077
        export TZ=Asia/Tokyo LC_ALL=C.UTF-8
        eval "${!command} --output $PWD/again-$name" >/dev/null
    )
    holds "$name: the same digest when built again" "$(jq -r '.manifests[0].digest' "again-$name/index.json")" \
        "$(jq -r '.manifests[] | select(.platform.architecture == "amd64").digest' "$(blob "$index")")"
done
mkdir "$out"
cp sizes "$out/"
echo "$passed passed, 0 failed" >"$out/totals"
