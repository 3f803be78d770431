# The part of nixpkgs' lib that Stockyard's flake uses: same names, arguments and meaning.
rec {
  genAttrs = names: f: builtins.listToAttrs (map (name: nameValuePair name (f name)) names);
  nameValuePair = name: value: {inherit name value;};
  mapAttrs' = f: set: builtins.listToAttrs (map (name: f name set.${name}) (builtins.attrNames set));
  mapAttrsToList = f: set: map (name: f name set.${name}) (builtins.attrNames set);
  optional = condition: value:
    if condition
    then [value]
    else [];
  optionals = condition: values:
    if condition
    then values
    else [];
  optionalString = condition: text:
    if condition
    then text
    else "";
  optionalAttrs = condition: set:
    if condition
    then set
    else {};
  inherit (builtins) concatStringsSep concatMap elem filter mapAttrs;
  concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  hasSuffix = suffix: text: let
    length = builtins.stringLength text;
    extra = length - builtins.stringLength suffix;
  in
    extra >= 0 && builtins.substring extra length text == suffix;
  removePrefix = prefix: text:
    if hasPrefix prefix text
    then builtins.substring (builtins.stringLength prefix) (builtins.stringLength text) text
    else text;
  escapeShellArg = value: "'${builtins.replaceStrings ["'"] ["'\\''"] (toString value)}'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  makeBinPath = concatMapStringsSep ":" (package: "${package}/bin");
  assertMsg = condition: message:
    if condition
    then true
    else throw message;
  getName = package: package.pname or (builtins.parseDrvName package.name).name;
  getVersion = package: package.version or (builtins.parseDrvName package.name).version;
  getExe = package: "${package}/bin/${package.meta.mainProgram or package.pname or package.name}";
  getExe' = package: name: "${package}/bin/${name}";
  cleanSourceWith = {
    src,
    filter ? _: _: true,
    name ? "source",
  }:
    builtins.path {
      inherit filter name;
      path = src;
    };
  licenses = {
    mit.spdxId = "MIT";
    asl20.spdxId = "Apache-2.0";
  };
  platforms.linux = ["x86_64-linux"];
}
