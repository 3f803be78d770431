# The package set: what nixpkgs calls legacyPackages.x86_64-linux, as far as Stockyard's flake uses it.
let
  lib = import ./lib.nix;
  lock = import ./lock.nix;
  tree = import ./tree.nix;
  stdenvs = import ./stdenv.nix {inherit lib toolchain cross;};
  inherit (stdenvs) stdenv;
  builders = import ./trivial-builders.nix {inherit lib stdenv toolchain;};
  makeRustPlatform = import ./rust.nix {
    inherit lib;
    inherit (builders) runCommand;
  };
  static = {
    inherit lib busybox;
    stdenv = stdenvs.stdenvStatic;
    rustPlatform = makeRustPlatform {
      inherit rustc;
      inherit (static) stdenv;
    };
  };

  toolchain = tree "toolchain" {
    drop = "usr/share/gcc usr/share/perl* usr/lib/x86_64-linux-gnu/perl* usr/lib/gcc/x86_64-linux-gnu/14/lib*san.a usr/libexec/gcc/x86_64-linux-gnu/14/lto1 usr/lib/gcc/x86_64-linux-gnu/14/plugin";
  };
  # What arm64 needs beside the toolchain, in a tree of its own, so that no native build depends on it.
  cross = tree "cross" {
    base = toolchain;
    drop = "usr/lib/gcc-cross/aarch64-linux-gnu/14/lib*san.a usr/libexec/gcc-cross/aarch64-linux-gnu/14/lto* usr/libexec/gcc-cross/aarch64-linux-gnu/14/plugin usr/lib/gcc-cross/aarch64-linux-gnu/14/plugin usr/bin/aarch64-linux-gnu-lto-dump*";
  };
  postgresql = tree "postgresql" {
    drop = "usr/share/postgresql/17/man usr/share/postgresql/17/contrib usr/lib/x86_64-linux-gnu/gconv usr/lib/x86_64-linux-gnu/perl5 usr/lib/postgresql/17/lib/llvmjit* usr/lib/postgresql/17/lib/bitcode usr/lib/postgresql/17/lib/pgxs usr/share/postgresql-common usr/share/libc-bin etc var usr/share/doc-base";
  };
  # A set of which nothing but programs is used.
  bare = name: tree name {drop = "usr/share etc var usr/lib/systemd usr/lib/x86_64-linux-gnu/gconv";};
  prometheus = bare "prometheus";
  promtool = bare "promtool";
  tools = bare "tools";
  qemu = tree "qemu" {drop = "usr/share usr/lib usr/libexec usr/bin/qemu-*[!46] usr/bin/qemu-[!ax]*";};
  data = tree "data" {drop = "etc var usr/sbin usr/share/zoneinfo/right usr/share/zoneinfo/posix usr/share/zoneinfo/localtime";};

  # Programs of a set's tree under a package's usual name: [ "path in the tree" ].
  programs = name: set: tree: names:
    builders.runCommand name {
      meta.mainProgram = name;
      passthru.debs = lock.contents lock.sets.${set};
    } (
      "mkdir -p $out/bin\n"
      + lib.concatMapStringsSep "\n" (program: "ln -s ${tree}/${program} $out/bin/${baseNameOf program}") names
    );
  under = folder: map (program: "${folder}/${program}");
  ofToolchain = name: programs name "toolchain" toolchain;
  rustc = ofToolchain "rustc" (under "usr/bin" ["rustc" "rustdoc"]);
  cargo = ofToolchain "cargo" ["usr/bin/cargo"];
  busybox = programs "busybox" "busybox" (tree "busybox" {}) ["usr/bin/busybox"];
  imageRoots = import ./image-roots.nix {inherit lib toolchain;};
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
  rustPlatform = makeRustPlatform {inherit stdenv rustc;};
  pkgsStatic = static;
  pkgsCross.aarch64-multiplatform = import ./cross.nix {
    inherit lib lock stdenvs makeRustPlatform toolchain cross imageRoots;
    inherit (builders) runCommand writeShellScriptBin;
  };

  inherit rustc cargo busybox;
  clippy = ofToolchain "clippy" (under "usr/bin" ["cargo-clippy" "clippy-driver"]);
  rustfmt = ofToolchain "rustfmt" (under "usr/bin" ["cargo-fmt" "rustfmt"]);
  cargo-auditable = ofToolchain "cargo-auditable" ["usr/bin/cargo-auditable"];
  diffutils = ofToolchain "diffutils" (under "usr/bin" ["diff" "cmp"]);
  bash = ofToolchain "bash" ["usr/bin/bash"];
  coreutils = builders.runCommand "coreutils" {} "mkdir -p $out/bin; for f in ls cat cp mv rm mkdir ln sort tail head date env tr cut stat sleep chmod mktemp sha256sum dirname basename touch wc id; do ln -s ${toolchain}/usr/bin/$f $out/bin/; done";
  skopeo = programs "skopeo" "tools" tools ["usr/bin/skopeo"];
  jq = programs "jq" "tools" tools ["usr/bin/jq"];
  kustomize = programs "kustomize" "tools" tools ["usr/bin/kustomize"];
  nginx = programs "nginx" "nginx" (bare "nginx") ["usr/sbin/nginx"];
  wrk = programs "wrk" "wrk" (bare "wrk") ["usr/bin/wrk"];
  # Its tools are static programs beside it, which Debian's launcher looks for below /usr.
  valgrind =
    builders.runCommand "valgrind" {
      meta.mainProgram = "valgrind";
      passthru.debs = lock.contents lock.sets.valgrind;
    } ''
      mkdir -p $out/bin
      printf '#!%s\nexport VALGRIND_LIB=''${VALGRIND_LIB:-%s}\nexec %s "$@"\n' ${toolchain}/usr/bin/bash ${bare "valgrind"}/usr/libexec/valgrind ${bare "valgrind"}/usr/bin/valgrind.bin > $out/bin/valgrind
      chmod +x $out/bin/valgrind
    '';
  cosign = programs "cosign" "cosign" (bare "cosign") ["usr/bin/cosign"];
  # Debian's docker-registry; its program has the name that nixpkgs knows it by.
  distribution =
    builders.runCommand "distribution" {
      meta.mainProgram = "registry";
      passthru.debs = lock.contents lock.sets.distribution;
    }
    "mkdir -p $out/bin; ln -s ${bare "distribution"}/usr/bin/docker-registry $out/bin/registry";
  # Those of the two architectures that images are made for.
  qemu-user = programs "qemu-user" "qemu" qemu (under "usr/bin" ["qemu-aarch64" "qemu-x86_64"]);
  # Links do: PostgreSQL finds its share and lib folders from the real path of its programs.
  postgresql_17 =
    programs "postgresql-17" "postgresql" postgresql
    (under "usr/lib/postgresql/17/bin" ["postgres" "initdb" "psql" "pg_ctl" "pg_isready" "pg_dump" "pg_restore" "pgbench" "createdb"])
    // {imageRoot = imageRoots.postgresql "postgresql";};
  prometheus =
    builders.runCommand "prometheus" {
      meta.mainProgram = "prometheus";
      passthru = {
        debs = lock.contents (lock.sets.prometheus ++ [lock.debs.promtool]);
        imageRoot = imageRoots.prometheus "prometheus";
      };
    }
    "mkdir -p $out/bin; ln -s ${prometheus}/usr/bin/prometheus ${promtool}/usr/bin/promtool $out/bin/";
  cacert =
    builders.runCommand "cacert" {passthru.debs = lock.contents [lock.debs.ca-certificates];}
    ''
      mkdir -p $out/etc/ssl/certs
      for file in $(find ${data}/usr/share/ca-certificates/mozilla -name '*.crt' | LC_ALL=C sort); do
        cat $file; echo
      done > $out/etc/ssl/certs/ca-bundle.crt
    '';
  tzdata =
    builders.runCommand "tzdata" {passthru.debs = lock.contents [lock.debs.tzdata];}
    "mkdir -p $out/share; ln -s ${data}/usr/share/zoneinfo $out/share/zoneinfo";
}
