#!/bin/sh
# Writes the passwords of an environment's databases, once, into a file that git ignores and its overlay reads.
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
if [ -e "$file" ]; then
    echo "secrets: $file is there already and stays as it is. For new passwords: delete it, run this again, apply, and restart postgres." >&2
    exit 0
fi

umask 077
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
echo '# Written by `nix run .#secrets`; not for git.' >"$new"
for name in postgres-admin orders-database inventory-database; do
    # 32 bytes of the kernel's, as hexadecimal digits: no character that a shell or a connection string would mind.
    password=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
    cat >>"$new" <<END
---
apiVersion: v1
kind: Secret
metadata:
  name: $name
stringData:
  password: $password
END
done
mv "$new" "$file"
trap - EXIT
echo "secrets: wrote $file"
