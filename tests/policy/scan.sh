#!/usr/bin/env bash
# Holds the manifests against tools that are not in the package set: schemas, checkov, kube-score, and kubectl's kustomize.
# Usage: scan.sh MANIFESTS, the folder that `nix build .#manifests` gives. Needs, on the PATH or by the variable:
#   kustomize (STOCKYARD_KUSTOMIZE), the set's: `nix develop -c bash tests/policy/scan.sh MANIFESTS` has it
#   kubectl, go 1.24 or later, and a Python (PYTHON) that has tests/policy/requirements.txt
set -euo pipefail
cd "$(dirname "$0")/../.."
manifests=$(realpath "$1")
policy=$PWD/tests/policy
kustomize=${STOCKYARD_KUSTOMIZE:-kustomize}
python=$(command -v "${PYTHON:-python3}")
kubernetes=1.34 # as the namespaces' labels say

passed=0 failed=0
check() { # NAME COMMAND...
    if "${@:2}"; then passed=$((passed + 1)); echo "ok      $1"; else failed=$((failed + 1)); echo "FAILED  $1"; fi
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Every combination, by both kustomizes: no warning, and the same.
same() { # FOLDER OUTPUT
    "$kustomize" build "$1" >"$2" 2>"$work/said" && kubectl kustomize "$1" >"$2.kubectl" 2>>"$work/said" &&
        cmp "$2" "$2.kubectl" && [ ! -s "$work/said" ] || { cat "$work/said"; return 1; }
}
mkdir "$work/rendered"
while read -r overlay components; do
    name=$(tr " /" "--" <<<"$overlay ${components:-alone}")
    # shellcheck disable=SC2086 # words
    sh "$policy/combine.sh" "$work/$name" "$overlay" $components
    check "kustomize and kubectl: $name" same "$work/$name/overlays/$overlay" "$work/rendered/$name.yaml"
done < <(grep -vE '^(#|$)' "$policy/combinations.txt")
for folder in kustomize/cluster/*/; do
    name=cluster-$(basename "$folder")
    check "kustomize and kubectl: $name" same "$folder" "$work/rendered/$name.yaml"
done
rm "$work"/rendered/*.kubectl

check "definitions of custom resources" bash "$policy/definitions.sh" "$work/definitions"
check "schemas, strictly" "$python" "$policy/validate.py" "$kubernetes" "$work/definitions" "$manifests"/*.yaml "$work"/rendered/*.yaml

# The scanners see the overlays as they are applied; of the further combinations, whose images have no digest yet, with
# one made up.
mkdir "$work/scanned"
cp "$manifests"/*.yaml "$work/scanned/"
for file in "$work"/rendered/*.yaml; do
    case $(basename "$file") in
    staging-hpa-vpa.yaml | production-hpa-vpa-high-availability-ingress-backup.yaml) continue ;;
    cluster-karpenter.yaml) continue ;; # neither knows its kinds
    esac
    sed -E "s/^( +(- )?image: .*:[^@]*)$/\1@sha256:$(printf '0%.0s' {1..64})/" "$file" >"$work/scanned/$(basename "$file")"
done

excepted() { # SCANNER FILE: its checks, a line each
    local environment
    environment=$(basename "$2" .yaml)
    awk -v scanner="$1" -v environment="${environment%%-*}" '$1 == scanner && $2 == environment { print $3 }' "$policy/exceptions.txt"
}
checkov() {
    local skip
    skip=$(excepted checkov "$1" | paste -sd, -)
    "$python" "$(dirname "$python")/checkov" --skip-download --framework kubernetes -f "$1" --compact --quiet ${skip:+--skip-check "$skip"} \
        >"$work/said" 2>&1 || { cat "$work/said"; return 1; }
    grep '^Passed checks: [1-9]' "$work/said"
}
kube_score() {
    local ignore=()
    mapfile -t ignore < <(excepted kube-score "$1" | sed 's/^/--ignore-test=/')
    # Without C: what another C compiler than the system's links may crash, and `go tool` calls that a success.
    CGO_ENABLED=0 GOTOOLCHAIN=local go -C "$policy" tool kube-score score "${ignore[@]}" --output-format ci "$1" >"$work/said" ||
        { grep CRITICAL "$work/said"; return 1; }
    # It says nothing of an object that it has no check for; of a pod it has many.
    if grep -qE '^kind: (Deployment|StatefulSet|CronJob|Job)$' "$1" && ! grep -q '^\[OK\]' "$work/said"; then
        echo "kube-score said nothing of $1"
        return 1
    fi
    echo "$(grep -c '^\[OK\]' "$work/said") ok, $(grep -c '^\[CRITICAL\]' "$work/said" || true) critical, $(grep -c '^\[WARNING\]' "$work/said" || true) warnings"
}
for file in "$work"/scanned/*.yaml; do
    check "checkov: $(basename "$file" .yaml)" checkov "$file"
    check "kube-score: $(basename "$file" .yaml)" kube_score "$file"
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
