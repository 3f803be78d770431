# rustPlatform: buildRustPackage, importCargoLock and cargoSetupHook, with nixpkgs' names and meaning.
{
  lib,
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
in
  # stdenv: for which platform; rustc: a compiler that has its standard library.
  {
    stdenv,
    rustc,
  }: let
    inherit (stdenv) hostPlatform;
    inherit (stdenv.cc) targetPrefix;
    hook = name: file:
      runCommand name {
        inherit rustc targetPrefix;
        inherit (hostPlatform) isStatic;
        target = hostPlatform.rust.rustcTarget;
        build = stdenv.buildPlatform.rust.rustcTarget;
      } ''
        mkdir -p $out/nix-support
        sed -e "s|@target@|$target|g" -e "s|@build@|$build|g" -e "s|@prefix@|$targetPrefix|g" \
          -e "s|@static@|$isStatic|g" -e "s|@rustc@|$rustc|g" ${file} > $out/nix-support/setup-hook
      '';
    suffix = hostPlatform.go.GOARCH + lib.optionalString hostPlatform.isStatic "-static";
    rustPlatform = {
      inherit importCargoLock;
      cargoSetupHook = hook "cargo-setup-hook-${suffix}" ./cargo-setup-hook.sh;
      cargoBuildHook = hook "cargo-build-hook-${suffix}" ./cargo-build-hook.sh;
      buildRustPackage = arguments: let
        fixed =
          if builtins.isFunction arguments
          then arguments (fixed // {finalPackage = throw "finalPackage";})
          else arguments;
      in
        stdenv.mkDerivation (removeAttrs fixed ["cargoLock"]
          // {
            cargoDeps = fixed.cargoDeps or (importCargoLock fixed.cargoLock);
            nativeBuildInputs = [rustPlatform.cargoSetupHook rustPlatform.cargoBuildHook] ++ fixed.nativeBuildInputs or [];
            doCheck = fixed.doCheck or true;
            buildType = fixed.buildType or "release";
            auditable = fixed.auditable or true;
          });
    };
  in
    rustPlatform
