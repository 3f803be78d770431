# stdenv.mkDerivation with nixpkgs' phases and hooks, and C compilers: the toolchain's own, and the one for arm64.
{
  lib,
  toolchain,
  cross,
}: let
  lock = import ./lock.nix;
  libs = "${toolchain}/usr/lib/x86_64-linux-gnu";
  shell = "${toolchain}/usr/bin/bash";
  bare = name: script:
    derivation {
      inherit name;
      system = "x86_64-linux";
      builder = shell;
      # The shell must outlive what it starts: it would become its last command, and Nix kills a builder whose output is
      # closed, as cp's is for a moment before it ends.
      args = ["-euc" "${script}\n:"];
      PATH = "${toolchain}/usr/bin";
    };
  binutils = "ar ld nm objcopy objdump ranlib readelf strip strings";

  # Dynamic links get the tree's loader and libraries; a static-pie with an rpath would crash at its start.
  cc =
    bare "gcc-wrapper" ''
      mkdir -p $out/bin
      cat > $out/bin/gcc <<'EOF'
      #!${shell}
      extra=()
      case " $* " in
        *" -c "* | *" -E "* | *" -S "* | *" -static-pie "* | *" -static "* | *" --version "*) ;;
        *" -shared "*) extra=(-Wl,-rpath,${libs}) ;;
        *) extra=(-Wl,-rpath,${libs} -Wl,--dynamic-linker=${libs}/ld-linux-x86-64.so.2) ;;
      esac
      exec ${toolchain}/usr/bin/gcc -B${toolchain}/usr/bin --sysroot=${toolchain} "$@" "''${extra[@]}"
      EOF
      chmod +x $out/bin/gcc
      ln -s gcc $out/bin/cc
      for tool in ${binutils}; do ln -s ${toolchain}/usr/bin/$tool $out/bin/$tool; done
    ''
    // {
      targetPrefix = "";
      debs = lock.contents lock.sets.toolchain;
    };
  # Its programs are named after the platform, as nixpkgs names them; what it links runs elsewhere, so without an rpath.
  ccCross =
    bare "gcc-wrapper-arm64" ''
      mkdir -p $out/bin
      gcc=$out/bin/${ccCross.targetPrefix}gcc
      cat > $gcc <<'EOF'
      #!${shell}
      exec ${cross}/usr/bin/aarch64-linux-gnu-gcc-14 --sysroot=${cross} "$@"
      EOF
      chmod +x $gcc
      ln -s ${ccCross.targetPrefix}gcc $out/bin/${ccCross.targetPrefix}cc
      for tool in ${binutils}; do
        ln -s ${cross}/usr/bin/aarch64-linux-gnu-$tool $out/bin/${ccCross.targetPrefix}$tool
      done
    ''
    // {
      targetPrefix = "aarch64-unknown-linux-gnu-";
      debs = lock.contents lock.sets.cross;
    };

  setup = bare "stdenv" "mkdir $out; cp ${./setup.sh} $out/setup";

  # As rustc and nixpkgs name it. Static means glibc with +crt-static here, musl on the real nixpkgs.
  platform = cpu: isStatic: rec {
    system = "${cpu}-linux";
    config = "${cpu}-unknown-linux-gnu";
    isLinux = true;
    isx86_64 = cpu == "x86_64";
    isAarch64 = cpu == "aarch64";
    isMusl = false;
    inherit isStatic;
    rust = {
      rustcTarget = config;
      rustcTargetSpec = config;
      cargoShortTarget = config;
    };
    go.GOARCH =
      if isx86_64
      then "amd64"
      else "arm64";
  };

  # environment: what every derivation of this stdenv gets.
  makeDerivation = environment: arguments: let
    fixed =
      if builtins.isFunction arguments
      then arguments final
      else arguments;
    final = fixed // {inherit finalPackage;};
    finalPackage = result;
    name = fixed.name or "${fixed.pname}-${fixed.version}";
    drv = derivation ({
        inherit name;
        system = "x86_64-linux";
        builder = shell;
        args = ["-e" ./builder.sh];
        stdenv = setup;
      }
      // environment
      // removeAttrs fixed ["name" "meta" "passthru" "env"]
      // fixed.env or {});
    result =
      drv
      // (fixed.passthru or {})
      // {
        inherit name;
        meta = fixed.meta or {};
        nativeBuildInputs = fixed.nativeBuildInputs or [];
        overrideAttrs = f:
          makeDerivation environment (fixed
            // (
              if builtins.isFunction f
              then f fixed
              else f
            ));
      }
      // lib.optionalAttrs (fixed ? pname) {inherit (fixed) pname version;};
  in
    result;

  native = isStatic: {
    inherit cc shell;
    mkDerivation = makeDerivation {initialPath = "${cc}/bin:${toolchain}/usr/bin";};
    hostPlatform = platform "x86_64" isStatic;
    buildPlatform = platform "x86_64" false;
    # What a static program holds of other packages' code, for an SBOM; the real nixpkgs has no such attribute.
    linkedDebs = lock.contents (map (name: lock.debs.${name}) ["libc6-dev" "libgcc-14-dev" "libstd-rust-dev"]);
  };
  foreign = isStatic:
    native isStatic
    // {
      cc = ccCross;
      mkDerivation = makeDerivation {
        initialPath = "${ccCross}/bin:${cc}/bin:${toolchain}/usr/bin";
        inherit (ccCross) targetPrefix;
      };
      hostPlatform = platform "aarch64" isStatic;
      linkedDebs =
        lock.contents (map (name: lock.debs.${name})
          ["libc6-dev-arm64-cross" "libgcc-14-dev-arm64-cross" "libstd-rust-dev:arm64"]);
    };
in {
  inherit cc;
  stdenv = native false;
  stdenvStatic = native true;
  cross = {
    stdenv = foreign false;
    stdenvStatic = foreign true;
  };
}
