# What the flake gives for one system.
{
  pkgs,
  lib,
  created,
}: let
  workspace = import ./workspace.nix {inherit pkgs lib;};
  images = import ./images.nix {inherit pkgs lib workspace created;};
  # The same from other surroundings, for `nix run .#reproduce`.
  reproduction = import ./images.nix {
    inherit pkgs lib created;
    workspace = import ./workspace.nix {
      inherit pkgs lib;
      elsewhere = true;
    };
    surroundings = "mkdir elsewhere; cd elsewhere; umask 027; export TZ=Asia/Tokyo LC_ALL=C.UTF-8\n";
  };
  appsWith = arguments: import ./apps.nix ({inherit pkgs lib workspace images reproduction;} // arguments);
  apps = appsWith {};
  checks = import ./checks.nix {
    inherit pkgs lib workspace images;
    apps = appsWith {inChecks = true;};
  };
  # What `nix flake check` builds, but for the checks that measure times or wait for programs: nixw builds it before
  # them, side by side.
  compiled =
    builtins.attrValues (removeAttrs checks ["test" "memory" "instructions" "push" workspace.foreignArchitecture])
    ++ builtins.attrValues workspace.programs
    ++ builtins.attrValues workspace.programsFor.${workspace.foreignArchitecture}
    ++ [workspace.devLayer];
in {
  packages =
    {
      compiled = pkgs.writeText "compiled" (lib.concatMapStringsSep "\n" toString compiled);
      inherit (workspace.programs) api-gateway orders inventory local-stack nix-format oci-image;
      inherit (images) images archives;
      inherit (pkgs) cosign;
      default = images.images;
      manifests = import ./manifests.nix {inherit pkgs lib images;};
    }
    // lib.mapAttrs' (name: lib.nameValuePair "${name}-${workspace.foreignArchitecture}") workspace.programsFor.${workspace.foreignArchitecture}
    // lib.mapAttrs' (name: lib.nameValuePair "${name}-image") images.byName
    // lib.mapAttrs' (name: lib.nameValuePair "${name}-archive") images.archiveOf;
  inherit apps checks;
  formatter = workspace.programs.nix-format;
  devShells.default = import ./shell.nix {inherit pkgs;};
}
