# nixpkgs' generic builder, as far as it is used: PATH from the inputs, setup hooks, phases with pre and post hooks.
set -eu -o pipefail
shopt -s nullglob
export PATH=$initialPath HOME=${NIX_BUILD_TOP:-/build} SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1} LC_ALL=C
export CC=${targetPrefix:-}cc AR=${targetPrefix:-}ar
NIX_BUILD_CORES=${NIX_BUILD_CORES:-2}
[ "$NIX_BUILD_CORES" -gt 0 ] || NIX_BUILD_CORES=$(nproc)
export NIX_BUILD_CORES

# Runs a hook: a function, or a variable that holds commands.
runHook() {
    if declare -F "$1" >/dev/null; then "$1"; elif [ -n "${!1:-}" ]; then eval "${!1}"; fi
    local -n more="${1}Hooks" 2>/dev/null || return 0
    local hook
    for hook in "${more[@]:-}"; do [ -z "$hook" ] || "$hook"; done
}
preConfigureHooks=() postConfigureHooks=() postUnpackHooks=() postPatchHooks=()

for input in ${nativeBuildInputs:-} ${buildInputs:-}; do
    [ ! -d "$input/bin" ] || PATH=$input/bin:$PATH
    [ ! -e "$input/nix-support/setup-hook" ] || source "$input/nix-support/setup-hook"
done

unpackPhase() {
    runHook preUnpack
    if [ -d "$src" ]; then
        cp -r --no-preserve=mode,ownership,timestamps "$src" source
    else
        mkdir source && tar -xf "$src" -C source --strip-components=1
    fi
    cd source/${sourceRoot:-}
    runHook postUnpack
}
patchPhase() { runHook prePatch; for patch in ${patches:-}; do patch -p1 <"$patch"; done; runHook postPatch; }
configurePhase() { runHook preConfigure; runHook postConfigure; }
buildPhase() { runHook preBuild; runHook postBuild; }
checkPhase() { runHook preCheck; runHook postCheck; }
installPhase() { runHook preInstall; runHook postInstall; }
fixupPhase() { runHook preFixup; runHook postFixup; }

genericBuild() {
    if [ -n "${buildCommandPath:-}" ]; then source "$buildCommandPath"; return; fi
    if [ -n "${buildCommand:-}" ]; then eval "$buildCommand"; return; fi
    local phase
    for phase in unpackPhase patchPhase configurePhase buildPhase checkPhase installPhase fixupPhase; do
        case $phase in
        unpackPhase) [ -z "${dontUnpack:-}" ] || continue ;;
        checkPhase) [ -n "${doCheck:-}" ] || continue ;;
        fixupPhase) [ -z "${dontFixup:-}" ] || continue ;;
        esac
        echo "Running phase: $phase"
        # An attribute of this name replaces the phase, as in nixpkgs.
        if [ -n "${!phase:-}" ]; then eval "${!phase}"; else $phase; fi
    done
}
