# The build, check and install phases of buildRustPackage.
# auditable: the list of crates is kept in the program, as nixpkgs does by default.
cargoBuild() {
    runHook preBuild
    cargo ${auditable:+auditable} build --target @target@ --offline --profile "$buildType" ${cargoBuildFlags:-}
    runHook postBuild
}
cargoCheck() {
    runHook preCheck
    cargo test --target @target@ --offline --profile "$buildType" ${cargoTestFlags:-} -- ${checkFlags:-}
    runHook postCheck
}
cargoInstall() {
    runHook preInstall
    mkdir -p "$out/bin"
    find "target/@target@/$buildType" -maxdepth 1 -type f -perm -100 ! -name '*.so' -exec cp {} "$out/bin/" \;
    runHook postInstall
}
PATH=@rustc@/bin:$PATH
buildPhase=${buildPhase:-cargoBuild}
checkPhase=${checkPhase:-cargoCheck}
installPhase=${installPhase:-cargoInstall}
