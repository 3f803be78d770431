# rustPlatform: buildRustPackage, importCargoLock and cargoSetupHook, with nixpkgs' names and meaning.
{
  lib,
  stdenv,
  toolchain,
  runCommand,
}: let
  lock = import ./lock.nix;

  # A vendor directory of the registry crates of a Cargo.lock, with the settings that make cargo use it.
  importCargoLock = {lockFile}:
    runCommand "cargo-vendor-dir" {
      crates = map (crate: crate.file) (lock.crates lockFile);
      sums = map (crate: crate.sha256) (lock.crates lockFile);
      names = map (crate: "${crate.name}-${crate.version}") (lock.crates lockFile);
    } ''
      mkdir -p $out/.cargo
      cp ${lockFile} $out/Cargo.lock
      files=($crates) hashes=($sums) folders=($names)
      for i in ''${!files[@]}; do
        mkdir $out/''${folders[i]}
        tar -xzf ''${files[i]} -C $out/''${folders[i]} --strip-components=1
        printf '{"files":{},"package":"%s"}' ''${hashes[i]} > $out/''${folders[i]}/.cargo-checksum.json
      done
      cat > $out/.cargo/config.toml <<'EOF'
      [source.crates-io]
      replace-with = "vendored-sources"
      [source.vendored-sources]
      directory = "@vendor@"
      EOF
    '';

  make = isStatic: let
    platform =
      if isStatic
      then "static"
      else "dynamic";
    target = stdenv.hostPlatform.rust.rustcTarget;
    hook = name: file:
      runCommand name {inherit target isStatic toolchain;} ''
        mkdir -p $out/nix-support
        substitute() { sed -e "s|@target@|$target|g" -e "s|@static@|$isStatic|g" -e "s|@toolchain@|$toolchain|g" "$1"; }
        substitute ${file} > $out/nix-support/setup-hook
      '';
    rustPlatform = {
      inherit importCargoLock;
      cargoSetupHook = hook "cargo-setup-hook-${platform}" ./cargo-setup-hook.sh;
      cargoBuildHook = hook "cargo-build-hook-${platform}" ./cargo-build-hook.sh;
      buildRustPackage = arguments: let
        fixed =
          if builtins.isFunction arguments
          then arguments (fixed // {finalPackage = throw "finalPackage";})
          else arguments;
      in
        stdenv.mkDerivation (removeAttrs fixed ["cargoLock" "auditable"]
          // {
            cargoDeps = fixed.cargoDeps or (importCargoLock fixed.cargoLock);
            nativeBuildInputs = [rustPlatform.cargoSetupHook rustPlatform.cargoBuildHook] ++ fixed.nativeBuildInputs or [];
            doCheck = fixed.doCheck or true;
            buildType = fixed.buildType or "release";
          });
    };
  in
    rustPlatform;
in {
  rustPlatform = make false;
  static.rustPlatform = make true;
}
