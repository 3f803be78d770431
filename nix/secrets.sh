#!/bin/sh
# Writes the secrets of an environment, each once, into a file that git ignores and its overlay reads: the passwords of
# its databases, and what recognises its API keys. The keys themselves go into files of their own, which git ignores too:
# they are for people and programs outside, and are nowhere in the cluster.
# Usage, in the checkout: nix run .#secrets -- staging
set -eu

environment=${1:-}
[ "$environment" = staging ] || {
    echo "usage: nix run .#secrets -- staging (production names its Secrets, and your own tool makes them)" >&2
    exit 64
}
folder=kustomize/overlays/$environment
[ -d "$folder" ] || {
    echo "secrets: there is no $folder: run this in the checkout" >&2
    exit 66
}
file=$folder/secrets.yaml

# 32 bytes of the kernel's, as hexadecimal digits: no character that a shell or a connection string would mind.
random() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }
missing() { ! grep -qx "  name: $1" "$new"; } # NAME
secret() { # NAME, and on stdin what it holds
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\nstringData:\n' "$1" >>"$new"
    cat >>"$new"
    added="$added $1"
}
# Makes a key, keeps it in a file, and puts what recognises it into $entry.
api_key() { # FILE NAME REQUESTS_PER_SECOND
    key=$(random)
    sum=$(printf %s "$key" | sha256sum)
    entry=$(printf '{"name": "%s", "sha256": "%s", "may": "write", "requests_per_second": %s}' "$2" "${sum%% *}" "$3")
    rm -f "$folder/$1" # with whatever mode it had
    echo "$key" >"$folder/$1"
    echo "secrets: wrote the API key $2 to $folder/$1"
}

umask 077
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
if [ -e "$file" ]; then
    cat "$file" >"$new"
else
    echo '# Written by `nix run .#secrets`; not for git.' >"$new"
fi
added=
for name in postgres-admin orders-database inventory-database; do
    missing "$name" || continue
    password=$(random)
    secret "$name" <<END
  password: $password
END
done
if missing api-keys; then
    api_key api-key people 50
    people=$entry
    api_key api-key-load-test load-test 100000
    session=$(random)
    secret api-keys <<END
  keys.json: |
    [
      $people,
      $entry
    ]
  session-key: $session
END
fi

if [ -z "$added" ]; then
    echo "secrets: $file has all already and stays as it is. For new ones: docs/kubernetes.md, New passwords and keys" >&2
    exit 0
fi
mv "$new" "$file"
trap - EXIT
echo "secrets: wrote$added to $file"
