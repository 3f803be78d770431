# The package set: what nixpkgs calls legacyPackages.x86_64-linux, as far as Stockyard's flake uses it.
let
  lib = import ./lib.nix;
  tree = import ./tree.nix;
  stdenvs = import ./stdenv.nix {inherit lib toolchain;};
  inherit (stdenvs) stdenv;
  builders = import ./trivial-builders.nix {inherit lib stdenv toolchain;};
  rust = import ./rust.nix {
    inherit lib stdenv toolchain;
    inherit (builders) runCommand;
  };

  toolchain = tree "toolchain" {
    drop = "usr/share/gcc usr/share/perl* usr/lib/x86_64-linux-gnu/perl* usr/lib/gcc/x86_64-linux-gnu/14/lib*san.a usr/libexec/gcc/x86_64-linux-gnu/14/lto1 usr/lib/gcc/x86_64-linux-gnu/14/plugin";
  };
  postgresql = tree "postgresql" {
    drop = "usr/share/postgresql/17/man usr/share/postgresql/17/contrib usr/lib/x86_64-linux-gnu/gconv usr/lib/x86_64-linux-gnu/perl5 usr/lib/postgresql/17/lib/llvmjit* usr/lib/postgresql/17/lib/bitcode usr/lib/postgresql/17/lib/pgxs usr/share/postgresql-common usr/share/libc-bin etc var usr/share/doc-base";
  };
  prometheus = tree "prometheus" {drop = "usr/share etc var usr/lib/systemd usr/lib/x86_64-linux-gnu/gconv";};
  tools = tree "tools" {drop = "etc var usr/lib/x86_64-linux-gnu/gconv";};
  busybox = tree "busybox" {};
  data = tree "data" {drop = "etc var usr/sbin usr/share/zoneinfo/right usr/share/zoneinfo/posix usr/share/zoneinfo/localtime";};

  # Programs of a tree under a package's usual name: { name = "path in the tree"; }.
  programs = name: tree: names:
    builders.runCommand name {meta.mainProgram = name;} (
      "mkdir -p $out/bin\n"
      + lib.concatMapStringsSep "\n" (program: "ln -s ${tree}/${program} $out/bin/${baseNameOf program}") names
    );
  under = folder: map (program: "${folder}/${program}");
in {
  inherit lib stdenv;
  inherit (stdenvs) cc;
  stdenvNoCC = stdenv;
  gcc = stdenvs.cc;
  callPackage = path: arguments: let
    f =
      if builtins.isFunction path
      then path
      else import path;
  in
    f (builtins.intersectAttrs (builtins.functionArgs f) (import ./default.nix) // arguments);
  inherit
    (builders)
    runCommand
    runCommandLocal
    writeText
    writeTextDir
    writeShellScript
    writeShellScriptBin
    writeShellApplication
    linkFarm
    symlinkJoin
    mkShell
    ;
  inherit (rust) rustPlatform;
  pkgsStatic = {
    inherit lib;
    stdenv = stdenvs.stdenvStatic;
    inherit (rust.static) rustPlatform;
  };

  rustc = programs "rustc" toolchain (under "usr/bin" ["rustc" "rustdoc"]);
  cargo = programs "cargo" toolchain ["usr/bin/cargo"];
  clippy = programs "clippy" toolchain (under "usr/bin" ["cargo-clippy" "clippy-driver"]);
  rustfmt = programs "rustfmt" toolchain (under "usr/bin" ["cargo-fmt" "rustfmt"]);
  bash = programs "bash" toolchain ["usr/bin/bash"];
  coreutils = builders.runCommand "coreutils" {} "mkdir -p $out/bin; for f in ls cat cp mv rm mkdir ln sort tail head date env tr cut stat sleep chmod mktemp sha256sum dirname basename touch wc id; do ln -s ${toolchain}/usr/bin/$f $out/bin/; done";
  busybox = programs "busybox" busybox ["usr/bin/busybox"];
  skopeo = programs "skopeo" tools ["usr/bin/skopeo"];
  jq = programs "jq" tools ["usr/bin/jq"];
  kustomize = programs "kustomize" tools ["usr/bin/kustomize"];
  # Links do: PostgreSQL finds its share and lib folders from the real path of its programs.
  postgresql_17 =
    programs "postgresql-17" postgresql
    (under "usr/lib/postgresql/17/bin" ["postgres" "initdb" "psql" "pg_ctl" "pg_isready" "pg_dump" "pg_restore" "pgbench" "createdb"]);
  prometheus = programs "prometheus" prometheus (under "usr/bin" ["prometheus" "promtool"]);
  cacert = builders.runCommand "cacert" {} ''
    mkdir -p $out/etc/ssl/certs
    for file in $(find ${data}/usr/share/ca-certificates/mozilla -name '*.crt' | LC_ALL=C sort); do
      cat $file; echo
    done > $out/etc/ssl/certs/ca-bundle.crt
  '';
  tzdata = builders.runCommand "tzdata" {} "mkdir -p $out/share; ln -s ${data}/usr/share/zoneinfo $out/share/zoneinfo";
}
