# pkgsCross.aarch64-multiplatform: what is built here for arm64, and Debian's own arm64 programs.
{
  lib,
  lock,
  stdenvs,
  makeRustPlatform,
  toolchain,
  cross,
  imageRoots,
  runCommand,
  writeShellScriptBin,
}: let
  inherit (stdenvs.cross) stdenv stdenvStatic;

  # The toolchain's compiler with the standard libraries of both platforms: build scripts and macros run here.
  sysroot = runCommand "rust-sysroot" {} ''
    mkdir -p $out/lib/rustlib
    ln -s ${toolchain}/usr/lib/rustlib/x86_64-unknown-linux-gnu ${cross}/usr/lib/rustlib/aarch64-unknown-linux-gnu $out/lib/rustlib/
  '';
  rustc = writeShellScriptBin "rustc" "exec ${toolchain}/usr/bin/rustc --sysroot ${sysroot} \"$@\"";

  set = stdenv: {
    inherit lib stdenv;
    rustPlatform = makeRustPlatform {inherit stdenv rustc;};
    busybox = runCommand "busybox-arm64" {
      meta.mainProgram = "busybox";
      passthru.debs = lock.contents lock.sets.busybox-arm64;
    } "mkdir -p $out/bin; cp ${import ./tree.nix "busybox-arm64" {}}/usr/bin/busybox $out/bin/";
  };
  # Debian's programs find their loader and libraries in a root folder, so the packages are those of images.
  rooted = root: root // {imageRoot = root;};
in
  set stdenv
  // {
    pkgsStatic = set stdenvStatic;
    postgresql_17 = rooted (imageRoots.postgresql "postgresql-arm64");
    prometheus = rooted (imageRoots.prometheus "prometheus-arm64");
  }
