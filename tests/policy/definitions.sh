#!/usr/bin/env bash
# Takes the definitions of custom resources (crds.txt) from their projects' Go modules, by checksum, into a new folder.
# Usage: definitions.sh FOLDER
set -euo pipefail
table=$(dirname "$0")/crds.txt
mkdir "$1"
while read -r module version sum file; do
    found=$(GOTOOLCHAIN=local GOFLAGS=-mod=mod go mod download -json "$module@$version")
    grep -qF "\"Sum\": \"$sum\"" <<<"$found" || { echo "$module@$version has another checksum"; exit 1; }
    folder=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$found")
    cp "$folder/$file" "$1"
done < <(grep -vE '^(#|$)' "$table")
