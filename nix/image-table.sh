# nix run .#image-table [-- MEASURED]: the table of the images as README has it, from the layouts themselves.
# MEASURED: what tests/images/run.sh wrote, lines "NAME MILLISECONDS KILOBYTES", for this machine's architecture.
measured=${1:-/dev/null}
host=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
megabytes() { awk -v bytes="$1" 'BEGIN {printf "%.2f MB", bytes / 1e6}'; }
blob() { echo "$layouts/$1/blobs/sha256/${2#sha256:}"; }

echo "| image | platform | layers, compressed: base + application | digest | time to ready | idle memory |"
echo "|---|---|---|---|---|---|"
for name in $names; do
    index=$(jq -r '.manifests[0].digest' "$layouts/$name/index.json")
    echo "| $name | all | | \`$index\` | | |"
    jq -r '.manifests[] | [.digest, .platform.architecture] | @tsv' "$(blob "$name" "$index")" | while read -r digest architecture; do
        layers=$(jq -r '.layers[].size' "$(blob "$name" "$digest")" | while read -r size; do megabytes "$size"; echo; done | paste -sd+ - | sed 's/+/ + /g')
        figures="| | "
        if [ "$architecture" = "$host" ]; then
            figures=$(awk -v name="$name" '$1 == name {printf "| %d ms | %.1f MB ", $2, $3 / 1024}' "$measured")
        fi
        echo "| | linux/$architecture | $layers | \`$digest\` ${figures:-| | }|"
    done
done
