# nixpkgs' trivial builders: runCommand, writeText and friends, linkFarm, symlinkJoin, mkShell.
{
  lib,
  stdenv,
  toolchain,
}: rec {
  runCommand = name: env: buildCommand:
    stdenv.mkDerivation (env
      // {
        inherit name buildCommand;
        passAsFile = ["buildCommand"] ++ env.passAsFile or [];
      });
  runCommandLocal = name: env: runCommand name (env // {preferLocalBuild = true;});

  writeText = name: text:
    runCommandLocal name {
      inherit text;
      passAsFile = ["text"];
    } "cp $textPath $out";
  writeTextDir = path: text:
    runCommandLocal (baseNameOf path) {
      inherit text;
      passAsFile = ["text"];
    }
    "mkdir -p $out/${dirOf path}; cp $textPath $out/${path}";
  shell = "${toolchain}/usr/bin/bash";
  writeShellScript = name: text:
    runCommandLocal name {
      text = "#!${shell}\n${text}";
      passAsFile = ["text"];
    }
    "cp $textPath $out; chmod +x $out";
  writeShellScriptBin = name: text:
    runCommandLocal name
    {
      text = "#!${shell}\n${text}";
      passAsFile = ["text"];
      meta.mainProgram = name;
    }
    "mkdir -p $out/bin; cp $textPath $out/bin/${name}; chmod +x $out/bin/${name}; ${shell} -n $out/bin/${name}";
  # nixpkgs runs ShellCheck unless a checkPhase is given; here one is always given.
  writeShellApplication = {
    name,
    text,
    checkPhase,
    runtimeInputs ? [],
    runtimeEnv ? {},
    meta ? {},
  }:
    runCommandLocal name {
      text = ''
        #!${shell}
        set -o errexit
        set -o nounset
        set -o pipefail
        ${lib.concatStringsSep "\n" (lib.mapAttrsToList (key: value: "export ${key}=${lib.escapeShellArg value}") runtimeEnv)}
        export PATH="${lib.makeBinPath runtimeInputs}''${PATH:+:$PATH}"
        ${text}
      '';
      passAsFile = ["text"];
      meta = {mainProgram = name;} // meta;
    } ''
      mkdir -p $out/bin
      target=$out/bin/${name}
      cp $textPath $target
      chmod +x $target
      ${checkPhase}
    '';

  linkFarm = name: entries: let
    list =
      if builtins.isList entries
      then entries
      else lib.mapAttrsToList (name: path: {inherit name path;}) entries;
  in
    runCommandLocal name {} ("mkdir -p $out\ncd $out\n"
      + lib.concatMapStringsSep "\n"
      (entry: "mkdir -p \"$(dirname ${lib.escapeShellArg entry.name})\"; ln -s ${entry.path} ${lib.escapeShellArg entry.name}")
      list);
  symlinkJoin = {
    name,
    paths,
    postBuild ? "",
  }:
    runCommandLocal name {inherit paths;} ''
      mkdir -p $out
      for path in $paths; do cp -rsf --no-preserve=mode $path/. $out/; done
      ${postBuild}
    '';

  # A shell to develop in: `nix develop` needs the variables alone, so building it gives an empty file.
  mkShell = {
    packages ? [],
    inputsFrom ? [],
    shellHook ? "",
    ...
  } @ arguments:
    stdenv.mkDerivation ((removeAttrs arguments ["packages" "inputsFrom"])
      // {
        name = arguments.name or "nix-shell";
        nativeBuildInputs = packages ++ lib.concatMap (package: package.nativeBuildInputs or []) inputsFrom;
        inherit shellHook;
        # `nix develop` reads the setup and goes on, with variables that are not set; for our setup.sh that is a fault.
        outputs = ["out"];
        stdenv = runCommandLocal "shell-stdenv" {} "mkdir $out; { cat ${./setup.sh}; echo 'set +u'; } > $out/setup";
        buildCommand = "touch $out";
      });
}
