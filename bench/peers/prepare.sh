#!/usr/bin/env bash
# Makes a peer once, and keeps it: prepare.sh podinfo|flask CACHE. Its last line is what the peer is started by.
# The versions are pinned here and in requirements.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$2

# podinfo's releases are tags that Go knows no version by (6.9.2, not v6.9.2): its module has this name for 6.9.2.
podinfo=github.com/stefanprodan/podinfo/cmd/podinfo@v1.8.1-0.20250910200901-e86405a8674e

case $1 in
podinfo)
    folder=$cache/podinfo-${podinfo##*-}
    if [ ! -x "$folder/podinfo" ]; then
        command -v go >/dev/null || { echo "go is not in PATH (Debian: golang-go)" >&2; exit 1; }
        mkdir -p "$folder.new"
        GOBIN=$folder.new go install "$podinfo" >&2
        rm -rf "$folder"
        mv "$folder.new" "$folder"
    fi
    echo "$folder/podinfo"
    ;;
flask)
    wanted=$(sha256sum "$here/requirements.txt")
    folder=$cache/flask-${wanted:0:12}
    if [ ! -e "$folder/made" ]; then
        command -v python3 >/dev/null || { echo "python3 is not in PATH (Debian: python3-venv)" >&2; exit 1; }
        rm -rf "$folder"
        python3 -m venv "$folder" >&2
        "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
        : > "$folder/made"
    fi
    echo "$folder/bin/python"
    ;;
*)
    echo "prepare.sh podinfo|flask CACHE" >&2
    exit 64
    ;;
esac
