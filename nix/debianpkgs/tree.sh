# Unpacks Debian packages ($debs) into $out and patches every program to find its libraries there.
. "$unpack"

# patchelf aside, with a libc of its own: it must not patch the libc that it runs on.
mkdir "$NIX_BUILD_TOP/patchelf"
cd "$NIX_BUILD_TOP/patchelf"
unpack $patchelf
aside=$NIX_BUILD_TOP/patchelf/usr/lib/x86_64-linux-gnu
run_patchelf() { "$aside/ld-linux-x86-64.so.2" --library-path "$aside" "$NIX_BUILD_TOP/patchelf/usr/bin/patchelf" "$@"; }

mkdir -p "$out"
cd "$out"
unpack $debs
# Debian is usr-merged; a linker script names /lib and /lib64.
for link in bin lib lib64; do
    if [ -d "usr/$link" ] && [ ! -e "$link" ]; then ln -s "usr/$link" "$link"; fi
done
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug $drop

own=/usr/lib/x86_64-linux-gnu
libs=$out$own${base:+:$base$own}
loader=${base:-$out}$own/ld-linux-x86-64.so.2
if [ ! -e "$loader" ]; then exit 0; fi # a set of data, or of static programs

# A non-PIE program (ELF type 2) crashes after patchelf: it is started through the loader instead.
wrap() {
    mv "$1" "$1.real"
    printf '#!%s ash\nexec %s --argv0 "$0" --library-path %s %s "$@"\n' "$seed/busybox" "$loader" "$libs" "$out/$1.real" >"$1"
    chmod 755 "$1"
}

find usr/bin usr/lib usr/libexec usr/sbin -type f \( -perm -100 -o -name '*.so*' \) 2>/dev/null | while read -r file; do
    [ "$(head -c 4 "$file" | tail -c 3)" = ELF ] || continue
    case $file in *.o | */ld-linux* | */libc.so.6) continue ;; esac
    if [ "$(head -c 17 "$file" | tail -c 1 | od -An -tx1 | tr -d ' ')" = 02 ]; then
        case $file in usr/sbin/ldconfig) ;; *) wrap "$file" ;; esac
    elif run_patchelf --print-interpreter "$file" >/dev/null 2>&1; then
        run_patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libs" "$file"
    else
        case $file in *.so | *.so.*) run_patchelf --force-rpath --set-rpath "$libs" "$file" ;; esac
    fi
done
