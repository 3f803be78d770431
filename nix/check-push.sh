# Pushes the images to a real registry and pulls them back; what fails there fails clearly, and a retry mends it.
passed=0
ok() { passed=$((passed + 1)); echo "ok $1"; }
die() { echo "$1" >&2; sed 's/^/  /' log >&2 || true; exit 1; }
export HOME=$NIX_BUILD_TOP TMPDIR=$NIX_BUILD_TOP
registry=127.0.0.1:5000 credentials=ci:secret

echo 'ci:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a' >htpasswd # bcrypt of "secret"
cat >config.yml <<YAML
version: 0.1
storage: {filesystem: {rootdirectory: $PWD/registry}}
http: {addr: "$registry"}
auth: {htpasswd: {realm: ci, path: $PWD/htpasswd}}
YAML
start() {
    registry serve config.yml >registry.log 2>&1 &
    server=$!
    for _ in $(seq 200); do
        if (exec 3<>/dev/tcp/127.0.0.1/5000) 2>/dev/null; then return; fi
        sleep 0.05
    done
    cat registry.log >&2
    die "the registry did not start"
}
push() { "$push" "$registry/stockyard" --dest-tls-verify=false --dest-creds "$@" >log 2>&1; }

touch log
if push "$credentials"; then die "a registry that is not there took a push"; fi
grep -q 'connection refused' log && grep -q 'was not pushed' log || die "an unreachable registry is not told"
ok "an unreachable registry is told"

start
if push ci:wrong; then die "a wrong password was taken"; fi
grep -qi 'authoriz\|authentic' log && grep -q 'was not pushed' log || die "a wrong password is not told"
ok "a wrong password is told"

# A push that is cut off in the middle: no tag of an image is there without all of it, and a retry completes it.
set -m # a process group of its own, so that skopeo dies with it
push "$credentials" &
pusher=$!
set +m
blobs() { find registry -name data -path '*blobs*' 2>/dev/null | wc -l; }
for _ in $(seq 2000); do
    if [ "$(blobs)" -ge 3 ]; then break; fi
    sleep 0.01
done
[ "$(blobs)" -ge 3 ] || die "nothing was pushed that could be cut off"
kill -KILL -- "-$pusher" || die "the push was over before it could be cut off"
wait "$pusher" 2>/dev/null || true
repositories=registry/docker/registry/v2/repositories/stockyard
if [ -e "$repositories/${names##* }/_manifests/tags/$version" ]; then die "the push was whole before it was cut off"; fi
for name in $names; do
    lists=$(jq '.manifests | length - 1' "$layouts/$name/index.json")
    if [ -e "$repositories/$name/_manifests/tags/$version" ] && [ "$(ls -d "$repositories/$name"/_manifests/tags/sha256-* | wc -l)" != "$lists" ]; then
        die "$name has its tag, but not all that hangs on it"
    fi
done
kill -KILL "$server"
wait "$server" 2>/dev/null || true
start
push "$credentials" || die "a retry after a cut does not complete"
ok "a retry completes a push that was cut off"
cp log references

for name in $names; do
    layout=$layouts/$name
    index=$(jq -r '.manifests[0].digest' "$layout/index.json")
    grep -qx "$registry/stockyard/$name:$version@$index" references || die "$name: push does not print its reference"
    pull() { skopeo --insecure-policy copy --quiet --all --preserve-digests --src-tls-verify=false --src-creds "$credentials" "docker://$registry/stockyard/$name$1" "oci:pulled-$name:$2" 2>log || die "$name$1 cannot be pulled"; }
    pull "@$index" image
    [ "$(jq -r '.manifests[0].digest' "pulled-$name/index.json")" = "$index" ] || die "$name: another digest came back"
    ok "$name: pulled by digest, the same for all platforms"
    # The lists of referrers by their fallback tags, and through them the SBOMs and the provenance.
    for tag in $(jq -r '.manifests[1:][].annotations["org.opencontainers.image.ref.name"]' "$layout/index.json"); do
        pull ":$tag" "$tag"
    done
    # Blobs are named by their digests, and skopeo held them against these: the same names, the same content.
    diff <(ls "$layout/blobs/sha256") <(ls "pulled-$name/blobs/sha256") >log || die "$name: other blobs came back"
    ok "$name: every blob came back, SBOM and provenance too"
done

# What somebody else has hung on an image meanwhile is kept by the next push.
name=${names%% *}
cp -rL "$layouts/$name" another
chmod -R u+w another
digest=$(jq -r '.manifests[0].digest' another/index.json)
tag=sha256-${digest#sha256:}
jq --arg digest "${digest#sha256:}" -n '{subject: [{digest: {sha256: $digest}}], note: "another"}' >another.json
added=$(oci-image attach another --in-toto another.json | cut -d' ' -f1)
skopeo --insecure-policy copy --quiet --all --preserve-digests --dest-tls-verify=false --dest-creds "$credentials" "oci:another:$tag" "docker://$registry/stockyard/$name:$tag" 2>log || die "the other referrer cannot be pushed"
push "$credentials" || die "a second push fails"
skopeo inspect --raw --tls-verify=false --creds "$credentials" "docker://$registry/stockyard/$name:$tag" | grep -q "$added" || die "a push has lost what somebody else hung on the image"
ok "a push keeps what others have hung on an image"

COSIGN_PASSWORD=password cosign generate-key-pair >log 2>&1 || die "cosign made no key"
export COSIGN_PASSWORD=password
login() { mkdir -p "$HOME/.docker"; printf '{"auths":{"%s":{"auth":"%s"}}}' "$registry" "$(printf %s "$credentials" | base64)" >"$HOME/.docker/config.json"; }
login
"$sign" "$registry/stockyard" --key cosign.key --allow-insecure-registry >log 2>&1 || die "the images were not signed"
verify() { cosign verify --key "$1" --offline --insecure-ignore-tlog --allow-insecure-registry "$2" >log 2>&1; }
for name in $names; do
    reference=$registry/stockyard/$name@$(jq -r '.manifests[0].digest' "$layouts/$name/index.json")
    verify cosign.pub "$reference" || die "$name: the signature does not verify"
    ok "$name: signed, and verified offline"
done
mkdir other
(cd other && cosign generate-key-pair >/dev/null 2>&1)
if verify other/cosign.pub "$reference"; then die "another key verifies the signature"; fi
ok "another key does not verify"

kill "$server"
wait "$server" 2>/dev/null || true
mkdir "$out"
echo "$passed passed, 0 failed" >"$out/totals"
