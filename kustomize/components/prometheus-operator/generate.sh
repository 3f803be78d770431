#!/usr/bin/env bash
# Makes the PrometheusRules from Prometheus' own rule files: the same text, two columns further in. The check
# `prometheus` runs it and compares. By hand after a change of a rule: bash kustomize/components/prometheus-operator/generate.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

rule() { # FROM TO
    local name
    name=$(basename "$1" .yml)
    {
        echo "# Made by generate.sh from kustomize/$1."
        printf 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: stockyard-%s\nspec:\n' "$name"
        grep -v '^#' "$1" | sed 's/^\(.\)/  \1/'
    } >"components/prometheus-operator/$2"
}
mkdir -p components/prometheus-operator/rules
for file in base/prometheus/rules/*.yml components/container-metrics/containers.yml; do
    rule "$file" "rules/$(basename "$file" .yml).yaml"
done
rule overlays/staging/thresholds.yml staging/thresholds.yaml
