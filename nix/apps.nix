# What `nix run` runs, and `nix run .#NAME`.
{
  pkgs,
  lib,
  workspace,
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
          --bin-dir ${bin}/bin --postgres ${pkgs.postgresql_17}/bin --prometheus ${lib.getExe pkgs.prometheus} "$@"
      '';
    });
    meta = {inherit description;};
  };
in {
  default = app "up" "The three services, PostgreSQL and Prometheus on this machine";
  crash-rounds = app "crash-rounds" "Kills orders and inventory under load, N times, and holds the databases against the law";
}
