# What `nix run` runs, and `nix run .#NAME`.
{
  pkgs,
  lib,
  workspace,
  images,
}: let
  bin = pkgs.symlinkJoin {
    name = "stockyard-services";
    paths = map (name: workspace.programs.${name}) workspace.services;
  };
  # The command `local-stack WORD` with the Nix-built programs.
  app = word: description: {
    type = "app";
    program = lib.getExe (pkgs.writeShellApplication {
      name = "stockyard-${word}";
      checkPhase = "${pkgs.stdenv.shell} -n $target";
      text = ''
        exec ${lib.getExe workspace.programs.local-stack} ${word} \
          --bin-dir ${bin}/bin --postgres ${pkgs.postgresql_17}/bin \
          --prometheus ${lib.getExe pkgs.prometheus} --rules ${../kustomize/base/prometheus/rules} "$@"
      '';
    });
    meta = {inherit description;};
  };
in {
  default = app "up" "The three services, PostgreSQL and Prometheus on this machine";
  crash-rounds = app "crash-rounds" "Kills orders and inventory under load, N times, and holds the databases against the law";
  push = {
    type = "app";
    program = lib.getExe (pkgs.writeShellApplication {
      name = "stockyard-push";
      runtimeInputs = [pkgs.skopeo pkgs.jq];
      checkPhase = "${pkgs.stdenv.shell} -n $target";
      text = ''
        if [ $# = 0 ]; then
          echo "usage: nix run .#push -- REGISTRY[/PATH] [OPTIONS OF skopeo copy, e.g. --dest-tls-verify=false --dest-creds USER:PASSWORD]" >&2
          exit 64
        fi
        registry=$1
        shift
        for name in ${toString workspace.services}; do
          layout=${images.images}/$name
          target=$registry/$name
          if ! skopeo --insecure-policy copy --quiet --retry-times 2 "$@" "oci:$layout:$name" "docker://$target:${images.version}"; then
            echo "push: $target was not pushed. What a registry has taken already it keeps by digest: the same command again goes on." >&2
            exit 1
          fi
          echo "$target@$(jq -r '.manifests[0].digest' "$layout/index.json")"
        done
      '';
    });
    meta.description = "Pushes the images to a registry and prints their references by digest";
  };
  secrets = {
    type = "app";
    program = lib.getExe (pkgs.writeShellApplication {
      name = "stockyard-secrets";
      checkPhase = "${pkgs.stdenv.shell} -n $target";
      text = builtins.readFile ./secrets.sh;
    });
    meta.description = "Writes the passwords of staging's databases, once, into a file that git ignores";
  };
  reproduce = {
    type = "app";
    program = lib.getExe (pkgs.writeShellApplication {
      name = "stockyard-reproduce";
      checkPhase = "${pkgs.stdenv.shell} -n $target";
      text = ''
        # Nix builds each again, on one core, and fails when a byte differs.
        for name in ${toString workspace.services}; do
          for output in "$name" "$name-image"; do
            nix build --no-link ".#$output"
            nix build --no-link --rebuild --cores 1 ".#$output"
          done
          layout=$(nix build --no-link --print-out-paths ".#$name-image")
          echo "$name, built twice: $(${lib.getExe workspace.programs.oci-image} inspect "$layout" | sed -n 's/^  manifest \([^ ]*\).*/\1/p')"
        done
      '';
    });
    meta.description = "Builds the services and their images twice and compares them byte by byte";
  };
}
