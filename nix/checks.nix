# What `nix flake check` runs. Each check writes its totals ("N passed, N failed") to its output.
{
  pkgs,
  lib,
  workspace,
  images,
  apps,
}: let
  sources = workspace.pick "sources" (workspace.manifests ++ workspace.settings ++ workspace.crates ++ ["docs" "kustomize/base" "kustomize/components/backup"]);

  # A check that runs cargo on the development layer.
  cargoCheck = name: arguments:
    workspace.cargo pkgs ({
        pname = "check-${name}";
        src = sources;
        preBuild = workspace.useLayer workspace.devLayer ".";
        installPhase = "mkdir -p $out; cp totals $out/";
      }
      // arguments);

  one = "echo '1 passed, 0 failed' > totals";

  # From cargo's `log` to totals, which fails where no test ran.
  sumOfTests = ''
    sum() { echo $(( $(sed -nE "s/^test result:.* ([0-9]+) $1;.*/\1/p" log | paste -sd+ -) )); }
    echo "$(sum passed) passed, $(sum failed) failed" > totals
    grep -qE '^[1-9][0-9]* passed, 0 failed' totals
  '';
in {
  fmt = cargoCheck "fmt" {
    src = workspace.pick "sources" (workspace.manifests ++ workspace.settings ++ workspace.crates ++ ["flake.nix" "nix"]);
    nativeBuildInputs = [pkgs.rustfmt workspace.programs.nix-format];
    preBuild = "";
    buildPhase = ''
      cargo fmt --all --check
      nix-format --check
      echo '2 passed, 0 failed' > totals
    '';
  };

  clippy = cargoCheck "clippy" {
    nativeBuildInputs = [pkgs.clippy];
    buildPhase = ''
      runHook preBuild
      cargo clippy --workspace --all-targets --locked --offline -- -D warnings
      ${one}
    '';
  };

  doc = cargoCheck "doc" {
    RUSTDOCFLAGS = "-D warnings";
    buildPhase = ''
      runHook preBuild
      cargo doc --workspace --no-deps --locked --offline
      ${one}
    '';
  };

  # Unit tests, and the integration tests: the real programs against a real PostgreSQL, here in the sandbox.
  test = cargoCheck "test" {
    buildPhase = ''
      runHook preBuild
      cargo build --workspace --exclude manifest-tests ${lib.concatMapStringsSep " " (name: "--bin ${name}") workspace.services} --tests --locked --offline
      export STOCKYARD_BIN_DIR=$PWD/target/debug STOCKYARD_POSTGRES_DIR=${pkgs.postgresql_17}/bin
      cargo test --workspace --exclude manifest-tests --locked --offline 2>&1 | tee log
      ${sumOfTests}
    '';
  };

  # The overlays and combinations of components, rendered by the set's kustomize, against the policies.
  kustomize = cargoCheck "kustomize" {
    src = workspace.pick "sources" (workspace.manifests
      ++ workspace.settings
      ++ ["crates/manifest-tests" "docs/connectivity.md" "docs/overlays.md" "docs/rbac.md" "kustomize" "tests/policy"]);
    STOCKYARD_KUSTOMIZE = lib.getExe pkgs.kustomize;
    buildPhase = ''
      runHook preBuild
      cargo test -p manifest-tests --locked --offline 2>&1 | tee log
      ${sumOfTests}
    '';
  };

  # An edit of a service's .rs file leaves the layers as they are, and does change the program.
  layer = let
    edited = import ./workspace.nix {
      inherit pkgs lib;
      without = "routes.rs";
    };
    same = f: (f workspace).drvPath == (f edited).drvPath;
  in
    assert lib.assertMsg (map (layer: layer.drvPath) workspace.layers == map (layer: layer.drvPath) edited.layers) "an edit of an .rs file changes a layer";
    assert lib.assertMsg (!same (w: w.programs.orders)) "an edit of an .rs file does not change the program: the check proves nothing";
      pkgs.runCommand "check-layer" {} "mkdir $out; echo '${toString (builtins.length workspace.layers + 1)} passed, 0 failed' > $out/totals";

  # What an edit of one line changes in the images: one layer of one service. README and git's history change nothing.
  layers = let
    without = import ./workspace.nix {
      inherit pkgs lib;
      without = "README.md";
    };
    # What an edit of that text in orders/src/lib.rs makes of the program, without linking it again.
    edited = pkgs.runCommand "orders" {} ''
      mkdir -p $out/bin
      sed 's/each once/once each/' ${lib.getExe workspace.programs.orders} > $out/bin/orders
      chmod +x $out/bin/orders
    '';
  in
    assert lib.assertMsg (without.programs.orders.drvPath == workspace.programs.orders.drvPath) "README.md changes a program";
      pkgs.runCommand "check-layers" {
        nativeBuildInputs = [pkgs.jq];
        before = images.byName.orders;
        after = images.ofProgram "orders" edited;
        others = map (name: workspace.programs.${name}.src) ["api-gateway" "inventory"];
        architecture = workspace.hostArchitecture;
      } (builtins.readFile ./check-layers.sh);

  # A service built again with service-kit, on its dependency layer, with another time zone, locale and umask and on one
  # core.
  reproducible = let
    again = workspace.programs.inventory.overrideAttrs {
      preUnpack = "export TZ=Asia/Tokyo LC_ALL=C.UTF-8 NIX_BUILD_CORES=1; umask 027";
      preBuild = workspace.useLayer workspace.releaseLayers.${workspace.hostArchitecture} ".";
    };
  in
    pkgs.runCommand "check-reproducible" {} ''
      cmp ${lib.getExe workspace.programs.inventory} ${lib.getExe again}
      mkdir $out
      echo '1 passed, 0 failed' > $out/totals
    '';

  images = pkgs.runCommand "check-images" ({
      nativeBuildInputs = [pkgs.skopeo pkgs.jq workspace.programs.oci-image];
      inherit (images) version created;
      names = builtins.attrNames images.byName;
      layouts = images.images;
      programs = pkgs.linkFarm "programs" (lib.concatMap (architecture:
        map (name: {
          name = "${name}-${architecture}";
          path = lib.getExe workspace.programsFor.${architecture}.${name};
        })
        workspace.services) (builtins.attrNames workspace.programsFor));
    }
    // images.commands) (builtins.readFile ./check-images.sh);

  # What each service takes when nothing is asked of it.
  memory = pkgs.runCommand "check-memory" {} ''
    export STATE_DIR=$PWD/state
    ${apps.measure.program} --max-idle-kb 8192 1
    mkdir $out
    echo '3 passed, 0 failed' > $out/totals
  '';

  # Instructions of the hot paths, in the programs that the images have, against the committed figures. They are amd64's.
  ${
    if workspace.hostArchitecture == "amd64"
    then "instructions"
    else null
  } = pkgs.runCommand "check-instructions" {} ''
    ${apps.bench.program} instructions --figures ${../bench/instructions.toml} | tee log
    mkdir $out
    grep -E '^[1-9][0-9]* passed, 0 failed$' log > $out/totals
  '';

  # The ways out of here: pushed to a real registry, pulled back, signed.
  push = pkgs.runCommand "check-push" {
    nativeBuildInputs = [pkgs.distribution pkgs.skopeo pkgs.jq pkgs.cosign workspace.programs.oci-image];
    inherit (images) version;
    names = builtins.attrNames images.byName;
    layouts = images.images;
    push = apps.push.program;
    sign = apps.sign.program;
  } (builtins.readFile ./check-push.sh);

  # The services of the other architecture, under qemu.
  ${workspace.foreignArchitecture} = pkgs.runCommand "check-${workspace.foreignArchitecture}" {
    nativeBuildInputs = [pkgs.postgresql_17];
    programs = pkgs.symlinkJoin {
      name = "services-${workspace.foreignArchitecture}";
      paths = builtins.attrValues workspace.programsFor.${workspace.foreignArchitecture};
    };
    cpu = builtins.head (builtins.split "-" workspace.foreign.stdenv.hostPlatform.system);
    emulator = pkgs.qemu-user;
  } (builtins.readFile ./check-arm64.sh);

  # The configurations, the rules and their unit tests, and that runbooks, dashboard and metrics agree with them.
  prometheus =
    pkgs.runCommand "check-prometheus" {
      nativeBuildInputs = [(pkgs.prometheus.cli or pkgs.prometheus) pkgs.jq];
      src = workspace.pick "monitoring" ["kustomize" "docs" "tests/prometheus" "crates/service-kit/src/metrics.rs"];
    } ''
      cd $src
      ${builtins.readFile ./check-prometheus.sh}
    '';
}
