# Makes cargo use the vendored crates ($cargoDeps) and our linker; as nixpkgs' cargoSetupHook.
cargoSetup() {
    cmp -s Cargo.lock "$cargoDeps/Cargo.lock" || { echo "Cargo.lock is not the one that cargoDeps was made of" >&2; exit 1; }
    mkdir -p .cargo
    sed "s|@vendor@|$cargoDeps|" "$cargoDeps/.cargo/config.toml" >>.cargo/config.toml
    # Paths of the store and of the build folder do not enter the binary: it would drag them into its closure.
    local remap="\"--remap-path-prefix=$cargoDeps=/vendor\", \"--remap-path-prefix=$PWD=/source\""
    [ -z "@static@" ] || remap+=', "-Ctarget-feature=+crt-static"'
    cat >>.cargo/config.toml <<EOF
[target.@target@]
linker = "@prefix@cc"
rustflags = [$remap]
EOF
    # In a cross build, build scripts and macros are the build machine's.
    [ @target@ = @build@ ] || printf '[target.@build@]\nlinker = "cc"\n' >>.cargo/config.toml
    local target=@target@ build=@build@
    export "CC_${build//-/_}=cc" "AR_${build//-/_}=ar" "CC_${target//-/_}=@prefix@cc" "AR_${target//-/_}=@prefix@ar"
    export CARGO_HOME=$NIX_BUILD_TOP/cargo-home CARGO_NET_OFFLINE=true CARGO_TERM_PROGRESS_WHEN=never
    export CARGO_BUILD_JOBS=$NIX_BUILD_CORES
    export CFLAGS="-ffile-prefix-map=$cargoDeps=/vendor -ffile-prefix-map=$PWD=/source"
}
postPatchHooks+=(cargoSetup)
