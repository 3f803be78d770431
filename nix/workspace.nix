# The Cargo workspace: sources, the dependency layers, the release programs.
#
# A dependency layer holds the compiled third-party crates. Its source is the manifests alone, so an edit of an .rs
# file leaves its derivation as it is (the check `layer` holds that).
#
# without: the name of a file to leave out of all sources, for that check.
# elsewhere: everything is built in another folder, time zone, locale and umask and on one core, for `nix run .#reproduce`.
{
  pkgs,
  lib,
  without ? null,
  elsewhere ? false,
}: let
  root = ../.;
  crates = map (name: "crates/${name}") (builtins.attrNames (builtins.readDir ../crates)) ++ ["bench" "tests/e2e"];
  services = ["api-gateway" "orders" "inventory"];
  tools = ["local-stack" "nix-format" "oci-image"];

  # The repository's paths below the given prefixes, and nothing else: a change elsewhere changes no derivation.
  pick = name: keep:
    lib.cleanSourceWith {
      inherit name;
      src = root;
      filter = path: type: let
        relative = lib.removePrefix "${toString root}/" (toString path);
        within = prefix: relative == prefix || lib.hasPrefix "${prefix}/" relative;
        above = prefix: type == "directory" && lib.hasPrefix "${relative}/" prefix;
        # What bench writes: a measurement may not change what it measures.
        isResult = builtins.match "bench/[^/]*[.](md|svg)" relative != null;
      in
        baseNameOf path != without && !isResult && builtins.any (prefix: within prefix || above prefix) keep;
    };
  manifests = ["Cargo.toml" "Cargo.lock"] ++ map (crate: "${crate}/Cargo.toml") crates;
  settings = ["clippy.toml" "rustfmt.toml"];

  cargoDeps = pkgs.rustPlatform.importCargoLock {lockFile = ../Cargo.lock;};

  preUnpack = lib.optionalString elsewhere ''
    mkdir -p some/where/else
    cd some/where/else
    umask 027
    export TZ=Asia/Tokyo LC_ALL=C.UTF-8 NIX_BUILD_CORES=1
  '';

  # Empty sources for the crates whose own are not there.
  dummies = builtins.toFile "dummies.sh" ''
    for crate in bench/ crates/*/ tests/e2e/; do
      [ ! -d "$crate/src" ] || continue
      mkdir -p "$crate/src"
      : > "$crate/src/lib.rs"
      [ "$crate" = crates/service-kit/ ] || echo 'fn main() {}' > "$crate/src/main.rs"
    done
  '';

  # The static package sets by architecture, as images name it: the host's own, and the other one by cross build.
  foreign =
    if pkgs.stdenv.hostPlatform.isAarch64
    then pkgs.pkgsCross.gnu64
    else pkgs.pkgsCross.aarch64-multiplatform;
  architecture = set: set.stdenv.hostPlatform.go.GOARCH;
  hostArchitecture = architecture pkgs;
  foreignArchitecture = architecture foreign;
  static = {
    ${hostArchitecture} = pkgs.pkgsStatic;
    ${foreignArchitecture} = foreign.pkgsStatic;
  };

  # A derivation that runs cargo in phases of its own: buildRustPackage brings what the set's platform needs.
  cargo = set: arguments:
    set.rustPlatform.buildRustPackage (arguments
      // {
        version = "0.1.0";
        inherit cargoDeps preUnpack;
        auditable = false;
        doCheck = false;
        dontFixup = true;
      });
  target = set: set.stdenv.hostPlatform.rust.rustcTarget;

  # cp -a keeps the layer's equal times: with others cargo takes it for stale.
  useLayer = layer: ''
    cp -a ${layer}/target target
    chmod -R u+w target
    . ${dummies}
  '';
  layerOf = set: name: build:
    cargo set {
      pname = name;
      src = pick "manifests" manifests;
      buildPhase = ''
        . ${dummies}
        ${build}
        rm -rf target/*/incremental target/*/*/incremental
      '';
      installPhase = "mkdir $out; mv target $out/target";
    };

  # Built once for each program alone: together cargo would unite the features and nothing would fit.
  releaseLayers = lib.mapAttrs (goarch: set:
    layerOf set "dependencies-release-${goarch}"
    (lib.concatMapStringsSep "\n" (name: "cargo build --release --locked --offline --target ${target set} -p ${name}")
      (services ++ lib.optionals (goarch == hostArchitecture) (tools ++ ["bench" "e2e"]))))
  static;
  devLayer = layerOf pkgs "dependencies-dev" ''
    cargo clippy --workspace --all-targets --locked --offline
    cargo test --workspace --no-run --locked --offline
  '';

  program = goarch: uses: name:
    static.${goarch}.rustPlatform.buildRustPackage rec {
      pname = name;
      version = "0.1.0";
      src = pick name (manifests ++ builtins.filter (crate: builtins.elem (baseNameOf crate) ([name] ++ uses)) crates);
      # What it was built from, known without git: the hash in its sources' store path.
      STOCKYARD_REVISION = builtins.unsafeDiscardStringContext (builtins.substring 0 12 (baseNameOf "${src}"));
      inherit cargoDeps preUnpack;
      cargoBuildFlags = ["-p" name];
      preBuild = useLayer releaseLayers.${goarch};
      postInstall = "find $out/bin -type f ! -name ${name} -delete";
      doCheck = false; # the check `test` runs them all at once
      allowedReferences = []; # an image holds the binary alone: it may not point into the store
      meta = {
        mainProgram = name;
        license = [lib.licenses.mit lib.licenses.asl20];
        platforms = lib.platforms.linux;
      };
    };
in rec {
  inherit services pick cargo cargoDeps manifests settings useLayer releaseLayers devLayer crates foreign hostArchitecture foreignArchitecture;
  # GOARCH -> name -> the service's program.
  programsFor = lib.mapAttrs (goarch: _: lib.genAttrs services (program goarch ["service-kit"])) static;
  # The host's.
  programs =
    programsFor.${hostArchitecture}
    // lib.genAttrs tools (program hostArchitecture [])
    // {
      bench = program hostArchitecture ["local-stack"] "bench";
      e2e = program hostArchitecture ["local-stack" "manifest-tests"] "e2e";
    };
}
