# The Cargo workspace: sources, the layers of compiled crates, the programs.
#
# A dependency layer holds the compiled third-party crates. Its source is the manifests alone, so an edit of an .rs
# file leaves its derivation as it is. The layer of service-kit has its sources too. (The check `layer` holds that an
# edit of a service changes none of them.)
#
#   release of the host ─┬─ service-kit ── the services
#                        ├─ senders ── bench and e2e, where they are used
#                        └─ release of the other architecture ── service-kit ── its services
#   stack ─┬─ local-stack
#          └─ tools ─┬─ oci-image, nix-format, the checks' bench
#                    └─ dev ── clippy, doc, test, kustomize
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

  # Begins with what a layer compiled. cp -a keeps the layer's equal times: with others cargo takes it for stale.
  useLayer = layer: part: ''
    mkdir -p target
    cp -a ${layer}/target/${part} target/
    chmod -R u+w target
    . ${dummies}
  '';
  # A step of the build, from which another one goes on. begin: the commands before it.
  layerOf = name: begin: {
    pname = name;
    preBuild = begin;
    installPhase = ''
      rm -rf target/*/incremental target/*/*/incremental target/*/*-tmp # -tmp is nixpkgs' copy of the programs
      mkdir $out
      mv target $out/target
    '';
    dontFixup = true;
    doCheck = false;
  };

  # A release build for an architecture, by buildRustPackage's own phases, which add a program's list of crates to it.
  release = goarch: flags: arguments:
    static.${goarch}.rustPlatform.buildRustPackage ({
        version = "0.1.0";
        inherit cargoDeps preUnpack;
        cargoBuildFlags = flags;
      }
      // arguments);
  package = name: ["-p" name];
  releaseLayer = name: goarch: crates: begin:
    release goarch (lib.concatMap package crates ++ ["--lib"])
    (layerOf "dependencies-${name}-${goarch}" begin // {src = pick "manifests" manifests;});

  # What the services are made of, and nothing else. All three want the same features of each crate.
  # Macros and build scripts run where the build does: the other architecture's layer takes those of the host's.
  releaseLayers = {
    ${hostArchitecture} = releaseLayer "release" hostArchitecture services ". ${dummies}";
    ${foreignArchitecture} = releaseLayer "release" foreignArchitecture services (useLayer releaseLayers.${hostArchitecture} "release");
  };
  # service-kit on top of that, which an edit of one service does not compile. cargo goes by times, and whatever comes
  # from a layer is of 1970: the sources are younger than the empty ones that the layer below has, and then as old.
  kit = ["crates/service-kit"];
  isNew = "find crates/service-kit -exec touch {} +\n";
  isOld = "find crates/service-kit -exec touch -d @1 {} +\n";
  kitLayers = lib.mapAttrs (goarch: layer:
    release goarch (lib.concatMap package services ++ ["--lib"])
    (layerOf "service-kit-${goarch}" (useLayer layer "." + isNew) // {src = pick "service-kit" (manifests ++ kit);}))
  releaseLayers;
  # What sends load at full speed.
  senders = ["bench" "e2e"];
  senderLayer = releaseLayer "senders" hostArchitecture senders (useLayer releaseLayers.${hostArchitecture} ".");

  # The development builds, each going on from the one before: what `nix run` needs, what builds an image, the checks.
  # As parts of the whole workspace (--workspace), they all want the same features.
  devBins = names: "cargo build --workspace --locked --offline ${lib.concatMapStringsSep " " (name: "--bin ${name}") names}";
  devLayerOf = name: begin: commands:
    cargo pkgs (layerOf "dependencies-${name}" begin
      // {
        src = pick "manifests" manifests;
        buildPhase = ''
          runHook preBuild
          ${commands}
        '';
      });
  stackLayer = devLayerOf "stack" ". ${dummies}" (devBins ["local-stack"]);
  toolLayer = devLayerOf "tools" (useLayer stackLayer ".") (devBins ["bench" "nix-format" "oci-image"]);
  devLayer = devLayerOf "dev" (useLayer toolLayer ".") ''
    cargo clippy --workspace --all-targets --locked --offline
    cargo check --workspace --locked --offline
    cargo build --workspace --bins --tests --locked --offline
    cargo test -p manifest-tests --no-run --locked --offline
  '';

  metaOf = name: {
    mainProgram = name;
    license = [lib.licenses.mit lib.licenses.asl20];
    platforms = lib.platforms.linux;
  };
  sourcesOf = name: uses: pick name (manifests ++ builtins.filter (crate: builtins.elem (baseNameOf crate) ([name] ++ uses)) crates);
  # crates: what else is built with it, so that the features are the layer's.
  program = goarch: crates: begin: uses: name:
    release goarch (lib.concatMap package crates) rec {
      pname = name;
      src = sourcesOf name uses;
      # What it was built from, known without git: the hash in its sources' store path.
      STOCKYARD_REVISION = builtins.unsafeDiscardStringContext (builtins.substring 0 12 (baseNameOf "${src}"));
      preBuild = begin;
      postInstall = "find $out/bin -type f ! -name ${name} -delete";
      doCheck = false; # the check `test` runs them all at once
      allowedReferences = []; # an image holds the binary alone: it may not point into the store
      meta = metaOf name;
    };
  service = goarch: name: program goarch [name] (useLayer kitLayers.${goarch} "." + isOld) ["service-kit"] name;
  sender = program hostArchitecture senders (useLayer senderLayer ".");
  # A program that no image holds and that need not be fast; what must be is optimized in Cargo.toml's profile.dev.
  tool = layer: uses: name:
    cargo pkgs {
      pname = name;
      src = sourcesOf name uses;
      preBuild = useLayer layer ".";
      buildPhase = ''
        runHook preBuild
        ${devBins [name]}
      '';
      installPhase = "install -D target/debug/${name} $out/bin/${name}";
      meta = metaOf name;
    };
in rec {
  inherit services pick cargo cargoDeps manifests settings useLayer releaseLayers devLayer crates foreign hostArchitecture foreignArchitecture;
  # All that holds compiled crates, for the check `layer`.
  layers = lib.concatMap builtins.attrValues [releaseLayers kitLayers] ++ [stackLayer toolLayer devLayer senderLayer];
  # GOARCH -> name -> the service's program.
  programsFor = lib.mapAttrs (goarch: _: lib.genAttrs services (service goarch)) static;
  # The host's.
  programs =
    programsFor.${hostArchitecture}
    // {
      local-stack = tool stackLayer [] "local-stack";
      nix-format = tool toolLayer [] "nix-format";
      oci-image = tool toolLayer [] "oci-image";
      bench = tool toolLayer ["local-stack"] "bench";
    };
  # Of the release profile, for what is measured: a slower sender would be measured with it.
  senderPrograms = {
    bench = sender ["local-stack"] "bench";
    e2e = sender ["local-stack" "manifest-tests"] "e2e";
  };
}
