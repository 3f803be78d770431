# stdenv.mkDerivation with nixpkgs' phases and hooks, and a C compiler that links against the toolchain's tree.
{
  lib,
  toolchain,
}: let
  libs = "${toolchain}/usr/lib/x86_64-linux-gnu";
  shell = "${toolchain}/usr/bin/bash";
  bare = name: script:
    derivation {
      inherit name;
      system = "x86_64-linux";
      builder = shell;
      args = ["-euc" script];
      PATH = "${toolchain}/usr/bin";
    };

  # Dynamic links get the tree's loader and libraries; a static-pie with an rpath would crash at its start.
  cc = bare "gcc-wrapper" ''
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
    for tool in ar ld nm objcopy objdump ranlib readelf strip strings; do ln -s ${toolchain}/usr/bin/$tool $out/bin/$tool; done
  '';

  setup = bare "stdenv" "mkdir $out; cp ${./setup.sh} $out/setup";

  # As rustc and nixpkgs name it. Static means glibc with +crt-static here, musl on the real nixpkgs.
  platform = isStatic: {
    system = "x86_64-linux";
    config = "x86_64-unknown-linux-gnu";
    isLinux = true;
    isx86_64 = true;
    isMusl = false;
    inherit isStatic;
    rust = rec {
      rustcTarget = "x86_64-unknown-linux-gnu";
      rustcTargetSpec = rustcTarget;
      cargoShortTarget = rustcTarget;
      cargoEnvVarTarget = "X86_64_UNKNOWN_LINUX_GNU";
    };
    go.GOARCH = "amd64";
  };

  mkDerivation = arguments: let
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
        initialPath = "${cc}/bin:${toolchain}/usr/bin";
      }
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
          mkDerivation (fixed
            // (
              if builtins.isFunction f
              then f fixed
              else f
            ));
      }
      // lib.optionalAttrs (fixed ? pname) {inherit (fixed) pname version;};
  in
    result;

  make = isStatic: {
    inherit mkDerivation cc shell;
    hostPlatform = platform isStatic;
    buildPlatform = platform false;
  };
in {
  inherit cc;
  stdenv = make false;
  stdenvStatic = make true;
}
