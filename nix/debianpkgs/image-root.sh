# Takes the programs ($programs, NAME=PATH) and files ($files) of Debian packages ($debs) into $out, with the
# libraries that they need.
. "$unpack"
set -o pipefail

# Every package must give something: the list of packages is what the image's SBOM says.
top=$(realpath "$NIX_BUILD_TOP")
mkdir "$top/all" "$top/lists"
for deb in $debs; do
    mkdir "$top/one" && cd "$top/one"
    unpack "$deb"
    find . ! -type d | sed 's,^\./,,' >"$top/lists/${deb##*/}"
    cp -a . "$top/all/"
    rm -rf "$top/one"
done
cd "$top/all"

# Copies a file, what a link leads to, and the loader and libraries of an ELF file.
take() { # PATH
    [ ! -e "$out/$1" ] || return 0
    [ -e "$1" ] || { echo "no package of the set holds $1" >&2; exit 1; }
    mkdir -p "$out/${1%/*}"
    cp -d "$1" "$out/$1"
    local path
    if [ -L "$1" ]; then
        path=$(realpath "$1")
        take "${path#"$top/all/"}"
    elif [ "$(head -c 4 "$1" | tail -c 3)" = ELF ]; then
        for path in $(needed "$1"); do take "$path"; done
    fi
}
needed() { # ELF FILE
    "$readelf" -ld "$1" | sed -n \
        -e 's,.*Requesting program interpreter: /\(.*\)\],usr/\1,p' \
        -e "s,.*(NEEDED).*\[\(.*\)\],$libs/\1,p"
}
libs=$(find usr/lib -name 'libc.so.6')
libs=${libs%/*}

mkdir -p "$out/usr/bin"
for program in $programs; do
    take "${program#*=}"
    [ -e "$out/usr/bin/${program%%=*}" ] || ln -s "../../${program#*=}" "$out/usr/bin/${program%%=*}"
done
for file in $files; do
    if [ ! -d "$file" ]; then take "$file"; fi
done
for link in bin lib lib64; do
    if [ -d "$out/usr/$link" ]; then ln -s "usr/$link" "$out/$link"; fi
done

cd "$out"
for list in "$top"/lists/*; do
    while read -r file; do
        if [ -e "$file" ] || [ -L "$file" ]; then continue 2; fi
    done <"$list"
    echo "nothing of ${list##*/} is in the image root: take it out of the set" >&2
    exit 1
done
