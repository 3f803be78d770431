# A set of Debian packages unpacked into one folder, its programs patched to find their libraries there.
let
  lock = import ./lock.nix;
in
  # drop: paths below the tree that are left out, as shell patterns.
  # base: a tree whose loader and libraries the programs use, for a set without a libc.
  name: {
    drop ? "",
    base ? "",
  }:
    derivation {
      name = "debian-${name}";
      system = "x86_64-linux";
      builder = "${lock.seed}/busybox";
      args = ["ash" "-eu" ./tree.sh];
      inherit (lock) seed;
      unpack = ./unpack.sh;
      inherit drop base;
      debs = map (deb: deb.file) lock.sets.${name};
      patchelf = map (deb: deb.file) lock.sets.patchelf;
    }
