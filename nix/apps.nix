# What `nix run` runs, and `nix run .#NAME`.
{
  pkgs,
  lib,
  workspace,
  images,
  reproduction,
  # The checks' own: without the programs whose only point is to send load fast. Those are built where they are used.
  inChecks ? false,
}: let
  bin = pkgs.symlinkJoin {
    name = "stockyard-services";
    paths = map (name: workspace.programs.${name}) workspace.services;
  };
  script = name: description: arguments: {
    type = "app";
    program = lib.getExe (pkgs.writeShellApplication ({
        name = "stockyard-${name}";
        checkPhase = "${pkgs.stdenv.shell} -n $target";
      }
      // arguments));
    meta = {inherit description;};
  };
  # The command `local-stack WORD` with the Nix-built programs.
  localStack = word: description:
    script word description {
      text = ''
        exec ${lib.getExe workspace.programs.local-stack} ${word} \
          --bin-dir ${bin}/bin --postgres ${pkgs.postgresql_17}/bin \
          --prometheus ${lib.getExe pkgs.prometheus} --rules ${../kustomize/base/prometheus/rules} "$@"
      '';
    };
  # A script that does something with all images.
  withImages = name: description: runtimeInputs: environment:
    script name description {
      inherit runtimeInputs;
      text = builtins.readFile ./${name}.sh;
      runtimeEnv =
        {
          inherit (images) version;
          names = toString (builtins.attrNames images.byName);
          layouts = "${images.images}";
        }
        // environment;
    };
in {
  default = localStack "up" "The three services, PostgreSQL and Prometheus on this machine";
  api-key = localStack "key" "Prints the API key of the run on this machine, which writes need";
  crash-rounds = localStack "crash-rounds" "Kills orders and inventory under load, N times, and holds the databases against the law";
  soak = localStack "soak" "Runs the services under steady load; fails when one holds more memory at the end";
  measure = localStack "measure" "Starts the services N times; time to ready and idle memory of each";
  bench = script "bench" "Measures the services side by side with what people would use instead" {
    runtimeInputs = [pkgs.nginx pkgs.wrk pkgs.valgrind];
    runtimeEnv = {
      STOCKYARD_BIN_DIR = "${bin}/bin";
      STOCKYARD_POSTGRES_DIR = "${pkgs.postgresql_17}/bin";
      STOCKYARD_PEERS = "${../bench/peers}";
    };
    text = "exec ${lib.getExe (
      if inChecks
      then workspace.programs.bench
      else workspace.senderPrograms.bench
    )} \"$@\"";
  };
  push = withImages "push" "Pushes the images for all platforms, with SBOM and provenance, and prints their references by digest" [pkgs.skopeo pkgs.jq] {
    layouts =
      if inChecks
      then images.images
      else images.withTests.layouts;
  };
  load = withImages "load" "Loads the images into docker, podman, containerd, minikube or kind" [] {archives = "${images.withTests.archives}";};
  sign = withImages "sign" "Signs the pushed images with a key, by cosign" [pkgs.cosign pkgs.jq] {};
  reproduce =
    withImages "reproduce" "Builds everything twice, the second time in other surroundings, and compares every byte"
    [pkgs.diffutils pkgs.jq] {again = "${reproduction.images}";};
  containers = script "containers" "Runs the images as containers in podman, and measures them" {
    text = "exec bash ${../tests/images/run.sh} ${images.archives} \"\${1:-/dev/null}\"";
  };
  e2e = {
    type = "app";
    program = lib.getExe workspace.senderPrograms.e2e;
    meta.description = "The end-to-end tests, in the checkout, against the Kubernetes of KUBECONFIG";
  };
  image-table = withImages "image-table" "Prints README's table of the images" [pkgs.jq] {};
  secrets = script "secrets" "Writes the passwords of staging's databases, once, into a file that git ignores" {
    text = builtins.readFile ./secrets.sh;
  };
}
