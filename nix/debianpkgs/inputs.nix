# For ../../nixw alone: which pinned inputs the store lacks, and what it needs to fetch them.
let
  lock = import ./lock.nix;
  pkgs = import ./default.nix;
  absent = input: !builtins.pathExists (builtins.unsafeDiscardStringContext input.file.outPath);
  debs = builtins.filter (deb: deb.name != "nix-bin") (builtins.attrValues used);
  used = builtins.listToAttrs (map (deb: {
      name = deb.key;
      value = deb;
    })
    (builtins.concatLists (builtins.attrValues (removeAttrs lock.sets ["nix"]))));
  crates = lock.crates ../../Cargo.lock;
  line = words: builtins.concatStringsSep " " words + "\n";
in {
  missing = builtins.concatStringsSep "" (
    map (deb: line ["deb" deb.key deb.path deb.sha256]) (builtins.filter absent debs)
    ++ (
      if absent {file = lock.seed;}
      then ["seed\n"]
      else []
    )
    ++ map (crate: line ["crate" crate.name crate.version crate.sha256]) (builtins.filter absent crates)
  );
  busyboxDeb = lock.debs.busybox-static.file.outPath;
  inherit (pkgs) cargo cacert;
  # One derivation that holds all of them, kept from garbage collection by nixw.
  all = derivation {
    name = "stockyard-inputs";
    system = "x86_64-linux";
    builder = "${lock.seed}/busybox";
    args = ["sh" "-c" "echo $inputs > $out"];
    inputs = map (input: input.file) (debs ++ crates) ++ [lock.seed];
  };
}
