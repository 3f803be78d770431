# The root folder of an OCI image: the programs of a set of Debian packages with what they need at run time alone,
# each file as Debian ships it and at Debian's own path.
{
  lib,
  toolchain,
}: let
  lock = import ./lock.nix;
in
  # programs: name below /bin -> path of the program.
  # files: paths of further files, as shell patterns; a library that these or the programs need is taken by itself.
  set: {
    programs,
    files ? "",
  }:
    derivation {
      name = "${set}-image-root";
      system = "x86_64-linux";
      builder = "${lock.seed}/busybox";
      args = ["ash" "-eu" ./image-root.sh];
      inherit (lock) seed;
      inherit files;
      unpack = ./unpack.sh;
      readelf = "${toolchain}/usr/bin/readelf";
      programs = lib.mapAttrsToList (program: path: "${program}=${path}") programs;
      debs = map (deb: deb.file) lock.sets.${set};
      allowedReferences = [];
    }
    // {debs = lock.contents lock.sets.${set};}
