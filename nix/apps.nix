# What `nix run` runs.
{
  pkgs,
  lib,
  workspace,
}: let
  bin = pkgs.symlinkJoin {
    name = "stockyard-services";
    paths = map (name: workspace.programs.${name}) workspace.services;
  };
  run = pkgs.writeShellApplication {
    name = "stockyard";
    checkPhase = "${pkgs.stdenv.shell} -n $target";
    text = ''
      exec ${lib.getExe workspace.programs.local-stack} up \
        --bin-dir ${bin}/bin --postgres ${pkgs.postgresql_17}/bin --prometheus ${lib.getExe pkgs.prometheus} "$@"
    '';
  };
in {
  default = {
    type = "app";
    program = lib.getExe run;
    meta.description = "The three services, PostgreSQL and Prometheus on this machine";
  };
}
