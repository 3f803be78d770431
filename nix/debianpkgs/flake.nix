{
  description = "A nixpkgs-shaped package set made of pinned Debian packages";
  outputs = _: {
    lib = import ./lib.nix;
    inherit (import ./lock.nix) created;
    legacyPackages.x86_64-linux = import ./default.nix;
  };
}
