# nix develop: the pinned compiler and the tools of the checks.
{pkgs}:
pkgs.mkShell {
  packages = [pkgs.cargo pkgs.rustc pkgs.clippy pkgs.rustfmt pkgs.postgresql_17 pkgs.prometheus pkgs.skopeo pkgs.jq pkgs.kustomize];
  shellHook = "export STOCKYARD_POSTGRES_DIR=${pkgs.postgresql_17}/bin";
}
