# Holds Prometheus' configuration, rules, alerts, runbooks and dashboard together. Runs in the repository's root.
passed=0
holds() { # NAME ACTUAL EXPECTED
    if [ "$2" != "$3" ]; then printf '%s: expected\n%s\nnot\n%s\n' "$1" "$3" "$2" >&2; exit 1; fi
    passed=$((passed + 1))
}
quiet() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }

base=kustomize/base/prometheus
containers=kustomize/components/container-metrics
operator=kustomize/components/prometheus-operator
rules=("$base"/rules/*.yml "$containers/containers.yml")
work=$(mktemp -d)

# What a pod has below /etc/prometheus; the token is there in a cluster alone.
pod() { # CONFIGURATION THRESHOLDS
    rm -rf "$work/etc"
    cp -r --no-preserve=mode "$base" "$work/etc"
    cp --no-preserve=mode "$1" "$work/etc/prometheus.yml"
    cp --no-preserve=mode "$2" "$work/etc/rules/thresholds.yml"
}
: >"$work/token"
for overlay in staging production; do
    thresholds=kustomize/overlays/$overlay/thresholds.yml
    pod "kustomize/overlays/$overlay/prometheus.yml" "$([ -e "$thresholds" ] && echo "$thresholds" || echo "$base/rules/thresholds.yml")"
    quiet promtool check config --lint=all --lint-fatal "$work/etc/prometheus.yml"
    holds "$overlay: every file of rules is loaded" "$(grep -c "rules found" "$work/log")" "$(find "$work/etc/rules" -name '*.yml' | wc -l)"
    sed "s#/var/run/secrets/kubernetes.io/serviceaccount/token#$work/token#" "$containers/container-metrics.yml" >"$work/etc/scrape/container-metrics.yml"
    cp --no-preserve=mode "$containers/containers.yml" "$work/etc/rules/"
    quiet promtool check config --lint=all --lint-fatal "$work/etc/prometheus.yml"
    holds "$overlay with container-metrics: the same" "$(grep -c "rules found" "$work/log")" "$(find "$work/etc/rules" -name '*.yml' | wc -l)"
done

holds "every environment scrapes what lies in scrape/" \
    "$(grep -lx 'scrape_config_files: \[scrape/\*\.yml\]' "$base/prometheus.yml" kustomize/overlays/*/prometheus.yml | wc -l)" 3

# Every rule and what it says, a line each: KIND, NAME, then TEXT of expr. The files keep to the few forms known here,
# which the count shows.
listed() {
    gawk '
        function flush() { if (name != "") print kind "\t" name "\t" text; name = "" }
        FNR == 1 { flush() }
        /^ *#/ { next }
        match($0, /- (\{)?(alert|record): ("([^"]+)"|[^ ,]+)/, part) {
            flush(); kind = part[2]; name = part[4] != "" ? part[4] : part[3]; text = ""; within = 0
            if (part[1] != "" && match($0, /expr: (.*)\}/, expression)) text = expression[1]
            next
        }
        match($0, /^ +expr: (.*)/, part) { within = part[1] == "|-"; text = within ? "" : part[1]; next }
        /^ +(for|labels|annotations|summary|runbook):|^ *- name:/ { within = 0 }
        within { text = text " " $0 }
        END { flush() }' "$@"
}
for file in "${rules[@]}" kustomize/overlays/staging/thresholds.yml; do
    quiet promtool check rules --lint=all --lint-fatal "$file"
    holds "$file: as many rules as promtool finds" "$(listed "$file" | wc -l)" "$(sed -n 's/.*SUCCESS: \([0-9]*\) rules found/\1/p' "$work/log")"
done
listed "${rules[@]}" >"$work/rules"
alerts=$(gawk -F'\t' '$1 == "alert" { print $2 }' "$work/rules" | sort -u)

for file in tests/prometheus/*_test.yml; do
    quiet promtool test rules "$file"
    passed=$((passed + $(grep -c '  - name:' "$file")))
done

# Of each alert a test in which it fires, one in which it does not, and a page.
tested() { # fires|silent
    gawk -v want="$1" '
        match($0, /alertname: *([A-Za-z]+)/, part) { name = part[1] }
        /exp_alerts:/ { print (/exp_alerts: *\[\]/ ? "silent" : "fires"), name }' tests/prometheus/*_test.yml |
        sed -n "s/^$1 //p" | sort -u
}
holds "alerts with a test in which they fire" "$(tested fires)" "$alerts"
holds "alerts with a test in which they do not" "$(tested silent)" "$alerts"
pages=$(cd docs/runbooks && for page in *.md; do [ "$page" = README.md ] || echo "${page%.md}"; done)
holds "alerts with a runbook" "$(sort <<<"$pages")" "$alerts"
holds "alerts in the runbooks' list" "$(sed -n 's/^| \[\([A-Za-z]*\)\](\1\.md) .*/\1/p' docs/runbooks/README.md | sort)" "$alerts"
for alert in $alerts; do
    holds "$alert names its runbook in each of its rules" \
        "$(grep -h "runbook:.*/$alert\.md" "${rules[@]}" | sort -u | tr -d ' ')" "runbook:docs/runbooks/$alert.md"
    holds "$alert: the page's title" "$(head -n 1 "docs/runbooks/$alert.md")" "# $alert"
done
holds "every alert has its line about a runbook" "$(grep -h 'runbook:' "${rules[@]}" | wc -l)" "$(grep -c '^alert' "$work/rules")"

# Thresholds: a name that is not recorded would be NaN, and its alert silent.
used=$(grep -oh 'threshold:[a-z_]*' <(gawk -F'\t' '{ print $3 }' "$work/rules") | sort -u)
for file in "$base/rules/thresholds.yml" kustomize/overlays/staging/thresholds.yml; do
    holds "$file has every threshold that is used, and no other" "$(listed "$file" | cut -f2 | sort -u)" "$used"
    # Where the component hpa is there, its maxReplicas.
    for hpa in $(find kustomize/components -path '*/hpa/*.yaml'); do
        most=$(sed -n 's/^ *maxReplicas: //p' "$hpa")
        [ -z "$most" ] || holds "$file has $hpa's maxReplicas" \
            "$(sed -n "s/.*threshold:replicas\", labels: {job: $(basename "$hpa" .yaml)}, expr: vector(\([0-9]*\)).*/\1/p" "$file")" "$most"
    done
done
bound=$(grep -oh 'le="[0-9.]*"' "$base/rules/red.yml" | sort -u)
holds "the bound between fast and slow is one, and a bucket's" \
    "$(grep -c "[ ,]${bound//[^0-9.]/}," crates/service-kit/src/metrics.rs)" 1

# PromQL outside the rules: promtool reads it too. The dashboard's variables stand in strings alone.
jq -r '[.. | objects | .expr // empty] | .[]' kustomize/components/grafana/stockyard.json >"$work/dashboard"
sed -n '/^```promql/,/^```$/{/^```/d;p}' docs/runbooks/*.md >"$work/runbooks"
for place in dashboard runbooks; do
    jq -Rn '{groups: [{name: "queries", rules: [inputs | {record: "query:\(input_line_number)", expr: .}]}]}' "$work/$place" >"$work/$place.yml"
    quiet promtool check rules "$work/$place.yml"
    holds "$place: every query can be read" "$(grep -o '[0-9]* rules found' "$work/log")" "$(wc -l <"$work/$place") rules found"
done
holds "the dashboard's panels are told apart" "$(jq '[.panels[].id] | unique | length' kustomize/components/grafana/stockyard.json)" \
    "$(jq '.panels | length' kustomize/components/grafana/stockyard.json)"

# Every metric that is asked for is one that somebody gives: docs/metrics.md (a test of the services holds its first
# table against what they show) or a rule here.
known=$(
    sed -n 's/^| `\([a-z_]*\)` .*| histogram.*/\1_bucket\n\1_sum\n\1_count/p; s/^| \(`\|[A-Za-z][^|`]*| `\)\([a-z_]*\)`.*/\2/p' docs/metrics.md
    cut -f2 "$work/rules"
)
asked() {
    sed -E 's/"[^"]*"//g; s/\{[^}]*\}//g; s/\[[^]]*\]//g; s/\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)//g; s/\boffset +[0-9a-z]+//g' "$@" |
        grep -oE '[a-zA-Z_:][a-zA-Z0-9_:]*( *\()?' | grep -v '($' | grep -vxE ' *(and|or|unless|by|without|bool) *' | sort -u
}
for place in rules dashboard runbooks; do
    [ "$place" = rules ] && gawk -F'\t' '{ print $3 }' "$work/rules" >"$work/expressions" || cp "$work/$place" "$work/expressions"
    holds "$place: metrics that nobody gives" "$(asked "$work/expressions" | grep -vxF "$known" || true)" ""
    passed=$((passed + $(asked "$work/expressions" | wc -l) - 1))
done

# The operator's rules are the same ones.
cp -r --no-preserve=mode kustomize "$work/kustomize"
rm -r "$work/$operator/rules" "$work/$operator/staging/thresholds.yaml"
bash "$work/$operator/generate.sh"
holds "the operator's rules are what generate.sh makes" "$(diff -r "$operator" "$work/$operator")" ""
holds "the operator's rules are all in its component" "$(sed -n 's#^  - rules/##p' "$operator/kustomization.yaml" | sort)" "$(ls "$operator/rules")"

mkdir -p "$out"
echo "$passed passed, 0 failed" | tee "$out/totals"
