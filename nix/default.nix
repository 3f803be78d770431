# What the flake gives for one system.
{
  pkgs,
  lib,
}: let
  workspace = import ./workspace.nix {inherit pkgs lib;};
  images = import ./images.nix {inherit pkgs lib workspace;};
  apps = import ./apps.nix {inherit pkgs lib workspace images;};
  checks = import ./checks.nix {inherit pkgs lib workspace images;};
in {
  packages =
    {
      inherit (workspace.programs) api-gateway orders inventory local-stack nix-format oci-image;
      inherit (images) images;
      default = images.images;
      manifests = import ./manifests.nix {inherit pkgs lib images;};
    }
    // lib.mapAttrs' (name: lib.nameValuePair "${name}-image") images.byService
    // lib.mapAttrs' (name: lib.nameValuePair "${name}-archive") images.archives;
  inherit apps checks;
  formatter = workspace.programs.nix-format;
  devShells.default = import ./shell.nix {inherit pkgs;};
}
