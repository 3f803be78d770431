{
  description = "Three hyper services in tiny, layered, reproducible OCI images, built without a Dockerfile";

  # nixpkgs-shaped, not nixpkgs: pinned Debian packages, so that no binary cache is needed.
  # The real one takes its place by --override-input nixpkgs nixpkgs/nixos-26.05.
  inputs.nixpkgs.url = "path:./nix/debianpkgs";

  outputs = {nixpkgs, ...}: let
    inherit (nixpkgs) lib;
    systems = builtins.filter (system: nixpkgs.legacyPackages ? ${system}) [
      "x86_64-linux"
      "aarch64-linux"
    ];
    # When the packages were locked, as RFC 3339 writes it: debs.lock says it, of another nixpkgs its own commit.
    created = nixpkgs.created or (iso nixpkgs.lastModifiedDate);
    iso = date: let
      at = from: length: builtins.substring from length date;
    in "${at 0 4}-${at 4 2}-${at 6 2}T${at 8 2}:${at 10 2}:${at 12 2}Z";
    perSystem = lib.genAttrs systems (
      system:
        import ./nix {
          pkgs = nixpkgs.legacyPackages.${system};
          inherit lib created;
        }
    );
    output = name: lib.mapAttrs (_: outputs: outputs.${name}) perSystem;
  in {
    packages = output "packages";
    apps = output "apps";
    checks = output "checks";
    devShells = output "devShells";
    formatter = output "formatter";
  };
}
