# For tree.sh and image-root.sh: busybox's commands in PATH, and unpack.
mkdir() { "$seed/busybox" mkdir "$@"; }
mkdir "$NIX_BUILD_TOP/bin"
"$seed/busybox" --install -s "$NIX_BUILD_TOP/bin"
export PATH=$NIX_BUILD_TOP/bin
unset -f mkdir

# Unpacks Debian packages into the folder that one is in.
unpack() {
    for deb in "$@"; do
        case $(ar t "$deb" | grep '^data.tar') in
        data.tar.xz) ar p "$deb" data.tar.xz | unxz | tar x ;;
        data.tar.zst) ar p "$deb" data.tar.zst | unzstd | tar x ;;
        data.tar.gz) ar p "$deb" data.tar.gz | gunzip | tar x ;;
        *) echo "$deb holds no data.tar" >&2; exit 1 ;;
        esac
    done
}
