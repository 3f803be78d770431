# nix run .#image-table [-- MEASURED]: the table of the images as README has it, from the layouts themselves.
# MEASURED: what `nix run .#containers` wrote, lines "NAME MILLISECONDS KILOBYTES", for this machine's architecture.
measured=${1:-/dev/null}
host=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
# Bytes, or a multiple, as a number of two decimals.
decimal() { echo "$(($1 / $2)).$(printf %02d $(($1 % $2 * 100 / $2)))"; }
blob() { echo "$layouts/$1/blobs/sha256/${2#sha256:}"; }

echo "| image | platform | layers, compressed: base + application | digest | time to ready | idle memory |"
echo "|---|---|---|---|---|---|"
for name in $names; do
    index=$(jq -r '.manifests[0].digest' "$layouts/$name/index.json")
    echo "| $name | all | | \`$index\` | | |"
    jq -r '.manifests[] | [.digest, .platform.architecture] | @tsv' "$(blob "$name" "$index")" | while read -r digest architecture; do
        layers=$(jq -r '.layers[].size' "$(blob "$name" "$digest")" | while read -r size; do echo "$(decimal "$size" 1000000) MB"; done | paste -sd+ -)
        figures="| | "
        if [ "$architecture" = "$host" ]; then
            while read -r of milliseconds memory; do
                if [ "$of" = "$name" ]; then figures="| $milliseconds ms | $(decimal "$memory" 1024) MiB "; fi
            done <"$measured"
        fi
        echo "| | linux/$architecture | ${layers//+/ + } | \`$digest\` $figures|"
    done
done
