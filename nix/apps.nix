# What `nix run` runs, and `nix run .#NAME`.
{
  pkgs,
  lib,
  workspace,
  images,
  reproduction,
}: let
  bin = pkgs.symlinkJoin {
    name = "stockyard-services";
    paths = map (name: workspace.programs.${name}) workspace.services;
  };
  # A script as an app; it has the images' names and version.
  script = name: description: runtimeInputs: text: {
    type = "app";
    program = lib.getExe (pkgs.writeShellApplication {
      name = "stockyard-${name}";
      inherit runtimeInputs text;
      runtimeEnv = {
        inherit (images) version;
        names = toString (builtins.attrNames images.byName);
        layouts = "${images.images}";
      };
      checkPhase = "${pkgs.stdenv.shell} -n $target";
    });
    meta = {inherit description;};
  };
  # The command `local-stack WORD` with the Nix-built programs.
  localStack = word: description:
    script word description [] ''
      exec ${lib.getExe workspace.programs.local-stack} ${word} \
        --bin-dir ${bin}/bin --postgres ${pkgs.postgresql_17}/bin --prometheus ${lib.getExe pkgs.prometheus} "$@"
    '';
in {
  default = localStack "up" "The three services, PostgreSQL and Prometheus on this machine";
  crash-rounds = localStack "crash-rounds" "Kills orders and inventory under load, N times, and holds the databases against the law";
  measure = localStack "measure" "Starts the services N times; time to ready and idle memory of each";
  push =
    script "push" "Pushes the images for all platforms, with SBOM and provenance, and prints their references by digest"
    [pkgs.skopeo pkgs.jq] (builtins.readFile ./push.sh);
  load =
    script "load" "Loads the images into docker, podman, containerd, minikube or kind"
    [] "archives=${images.archives}\n${builtins.readFile ./load.sh}";
  sign =
    script "sign" "Signs the pushed images with a key, by cosign"
    [pkgs.cosign pkgs.jq] (builtins.readFile ./sign.sh);
  reproduce =
    script "reproduce" "Builds everything twice, the second time in other surroundings, and compares every byte"
    [pkgs.coreutils pkgs.diffutils pkgs.jq] "again=${reproduction.images}\n${builtins.readFile ./reproduce.sh}";
  image-table =
    script "image-table" "Writes README's table of the images"
    [pkgs.coreutils pkgs.jq] (builtins.readFile ./image-table.sh);
}
