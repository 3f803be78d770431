# The pinned files: Debian packages by debs.lock, crates by a Cargo.lock. Each is a fixed-output derivation that
# cannot fetch: ./nixw puts the bytes into the store.
let
  words = line: builtins.filter builtins.isString (builtins.split " +" line);
  lines =
    builtins.filter (line: builtins.isString line && line != "")
    (builtins.split "\n" (builtins.readFile ./debs.lock));
  rows = kind: builtins.filter (row: builtins.head row == kind) (map words lines);
  at = builtins.elemAt;
in rec {
  # The date of the suite's index that the lock was made by.
  created = at (builtins.head (rows "created")) 1;

  # A file or folder that must be in the store already.
  requireFile = {
    name,
    hash,
    mode ? "flat",
    what,
  }:
    derivation {
      inherit name;
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = ["-c" "echo '${what} is not in the store: run ./nixw once, it fetches every pinned input' >&2; exit 1"];
      outputHashMode = mode;
      outputHashAlgo = "sha256";
      outputHash = hash;
      preferLocalBuild = true;
    };

  # The lock's name of a package (NAME, or NAME:arm64) -> { key, name, version, architecture, path, sha256, file }.
  # The store name is that of the package alone, with _ for the colon: a version's ~ or % may not stand there.
  debs = builtins.listToAttrs (map (row: rec {
    name = at row 1;
    value = {
      key = name;
      name = builtins.head (builtins.split ":" name);
      version = at row 2;
      architecture = builtins.head (builtins.match ".*_([a-z0-9]+)\\.deb" (at row 3));
      path = at row 3;
      sha256 = at row 4;
      file = requireFile {
        name = "${builtins.replaceStrings [":"] ["_"] name}.deb";
        hash = at row 4;
        what = "the Debian package ${name} ${at row 2}";
      };
    };
  }) (rows "deb"));

  # Set name -> its packages.
  sets = builtins.listToAttrs (map (row: {
    name = at row 1;
    value = map (name: debs.${name}) (builtins.tail (builtins.tail row));
  }) (rows "set"));

  # What a package of ours is made of, for an SBOM.
  contents = map (deb: {inherit (deb) name version architecture sha256;});

  # busybox as a folder: it picks its applet by the name that it is called by.
  seed = requireFile {
    name = "seed";
    hash = at (builtins.head (rows "seed")) 1;
    mode = "recursive";
    what = "busybox";
  };

  # The registry crates of a Cargo.lock: { name, version, sha256, file }.
  crates = lockFile:
    map (package:
      package
      // {
        sha256 = package.checksum;
        file = requireFile {
          name = "crate-${package.name}-${package.version}.tar.gz";
          hash = package.checksum;
          what = "the crate ${package.name} ${package.version}";
        };
      }) (builtins.filter (package: package ? checksum) (builtins.fromTOML (builtins.readFile lockFile)).package);
}
