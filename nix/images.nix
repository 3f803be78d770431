# OCI image layouts for linux/amd64 and linux/arm64, each with its SBOM and provenance: the services, and what they need
# beside them in a cluster that reaches no public registry.
{
  pkgs,
  lib,
  workspace,
  # When the packages were locked (RFC 3339): an image's date. The commit's would change every digest with every commit.
  created,
  # Commands before everything that is built, for `nix run .#reproduce`.
  surroundings ? "",
}: let
  version = "0.1.0";
  build = name: arguments: script: pkgs.runCommand name arguments (surroundings + script);
  platforms = {
    ${workspace.hostArchitecture} = pkgs;
    ${workspace.foreignArchitecture} = workspace.foreign;
  };
  architectures = builtins.attrNames platforms;
  oci-image = lib.getExe workspace.programs.oci-image;

  # The packages whose files a package holds, for the SBOM: Debian's, by their own names; elsewhere the package itself.
  componentsOf = package:
    if package ? debs
    then map (deb: deb // {type = "deb";}) package.debs
    else [
      {
        type = "generic";
        name = lib.getName package;
        version = lib.getVersion package;
      }
    ];
  components = name: packages: pkgs.writeText "${name}.json" (builtins.toJSON (lib.concatMap componentsOf packages));
  # What a static program was linked from.
  linked = {pkgsStatic, ...}:
    if pkgsStatic.stdenv ? linkedDebs
    then {debs = pkgsStatic.stdenv.linkedDebs;}
    else pkgsStatic.stdenv.cc.libc;

  # What all images share.
  base = build "image-base" {} ''
    mkdir -p $out/etc/ssl/certs $out/usr/share $out/tmp
    cp ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt $out/etc/ssl/certs/ca-certificates.crt
    cp -rL ${pkgs.tzdata}/share/zoneinfo $out/usr/share/zoneinfo
    chmod -R u+w $out
    rm -rf $out/usr/share/zoneinfo/right $out/usr/share/zoneinfo/posix
    printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' > $out/etc/passwd
    printf 'root:x:0:\nnonroot:x:65532:\n' > $out/etc/group
  '';
  baseComponents = [pkgs.cacert pkgs.tzdata];

  # The files of a package as an image's root: as Debian ships them, or, from nixpkgs, the package's closure.
  rootOf = package:
    package.imageRoot
    or (pkgs.runCommand "${lib.getName package}-root" {
        closure = pkgs.closureInfo {rootPaths = [package];};
      } ''
        mkdir -p $out/nix/store $out/usr/bin
        for path in $(cat $closure/store-paths); do cp -a $path $out/nix/store/; done
        ln -s ${package}/bin/* $out/usr/bin/
        ln -s usr/bin $out/bin
      '');

  # What each image is. process: how it runs. For an architecture: the flags of its application layer (application),
  # the packages in it (packages), what else its SBOM is made from (bill). source: of the provenance.
  service = name: {
    process = "--entrypoint /bin/${name} --port 8080 --port 9090";
    application = architecture: "--file bin/${name}=${lib.getExe workspace.programsFor.${architecture}.${name}}";
    packages = architecture: [(linked platforms.${architecture})];
    bill = architecture: "--binary ${lib.getExe workspace.programsFor.${architecture}.${name}} --cargo-lock ${../Cargo.lock} --crates ${workspace.cargoDeps}";
    source = "--source source=${workspace.programs.${name}.src} --cargo-lock ${../Cargo.lock}";
  };
  # initdb and the entrypoint need a shell; no other image has one.
  postgres = {
    process = "--entrypoint /bin/entrypoint --env PGDATA=/var/lib/postgresql/data --env PGHOST=/tmp --env PGUSER=postgres --port 5432 --volume /var/lib/postgresql --stop-signal SIGINT";
    application = architecture: let
      set = platforms.${architecture};
    in "--tree ${rootOf set.postgresql_17} --file usr/bin/sh=${lib.getExe set.pkgsStatic.busybox} --file usr/bin/entrypoint=${entrypoint}";
    packages = architecture: [(rootOf platforms.${architecture}.postgresql_17) platforms.${architecture}.pkgsStatic.busybox];
    bill = _: "";
    source = "--lock postgres-entrypoint.sh=${./postgres-entrypoint.sh}";
  };
  entrypoint = pkgs.runCommand "entrypoint" {} "install -m 555 ${./postgres-entrypoint.sh} $out";
  prometheus = {
    process = "--entrypoint /bin/prometheus --port 9090 --volume /prometheus";
    application = architecture: "--tree ${rootOf platforms.${architecture}.prometheus}";
    packages = architecture: [(rootOf platforms.${architecture}.prometheus)];
    bill = _: "";
    source = "";
  };
  load = {
    process = "--entrypoint /bin/e2e";
    application = _: "--file bin/e2e=${lib.getExe workspace.senderPrograms.e2e}";
    packages = architecture: [(linked platforms.${architecture})];
    bill = _: "--binary ${lib.getExe workspace.senderPrograms.e2e} --cargo-lock ${../Cargo.lock} --crates ${workspace.cargoDeps}";
  };
  plans = lib.genAttrs workspace.services service // {inherit postgres prometheus;};

  command = name: plan: architecture:
    lib.concatStringsSep " " [
      "${oci-image} build --name ${name} --version ${version} --created ${created} --architecture ${architecture} --user 65532:65532"
      "--env PATH=/bin --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt ${plan.process}"
      "--layer base --tree ${base} --mode tmp=1777 --layer application ${plan.application architecture}"
    ];
  # The layout of one platform with its SBOM.
  platform = name: plan: architecture:
    build "${name}-image-${architecture}" {allowedReferences = [];} ''
      ${command name plan architecture} --output $out
      ${oci-image} sbom $out ${plan.bill architecture} \
        --components ${components "${name}-components" (baseComponents ++ plan.packages architecture)} > sbom
      ${oci-image} attach $out --spdx sbom
    '';
  # All platforms in one index, with its provenance.
  image = name: plan:
    build "${name}-image" {allowedReferences = [];} ''
      ${oci-image} index --output $out ${lib.concatMapStringsSep " " (platform name plan) architectures}
      ${oci-image} provenance $out --builder https://nixos.org/nix --build-type urn:stockyard:nix-flake:1 \
        --parameter output=${name}-image --lock flake.lock=${../flake.lock} ${packageSet} ${plan.source} \
        --components ${components "${name}-inputs" (baseComponents ++ compilers ++ lib.concatMap plan.packages architectures)} > provenance
      ${oci-image} attach $out --in-toto provenance
    '';
  # Debian's packages are pinned by a lock of their own; another nixpkgs is pinned by flake.lock.
  packageSet = lib.optionalString (pkgs.stdenv.cc ? debs) "--lock debs.lock=${./debianpkgs/debs.lock} --source nix=${workspace.pick "nix" ["nix"]}";
  compilers = [pkgs.rustc] ++ map (set: set.stdenv.cc) (builtins.attrValues platforms);

  # What `docker load` and `podman load` take, for this machine's architecture; with the layout's own layers.
  archive = name: layout:
    pkgs.runCommand "${name}-archive.tar" {nativeBuildInputs = [pkgs.skopeo];} ''
      skopeo --insecure-policy --tmpdir "$NIX_BUILD_TOP" --override-arch ${workspace.hostArchitecture} \
        copy oci:${layout}:${name}:${version} docker-archive:$out:${name}:${version}
    '';
  farm = name: paths: pkgs.linkFarm name (lib.mapAttrsToList (name: path: {inherit name path;}) paths);
in rec {
  inherit version created;
  byName = lib.mapAttrs image plans;
  images = farm "images" byName;
  archiveOf = lib.mapAttrs (name: plan: archive name (platform name plan workspace.hostArchitecture)) plans;
  archives = farm "archives" (lib.mapAttrs' (name: lib.nameValuePair "${name}.tar") archiveOf);
  # The images, and what sends the load in the end-to-end tests, which is asked for by name alone.
  withTests = let
    layouts = byName // {e2e = platform "e2e" load workspace.hostArchitecture;};
  in {
    layouts = farm "layouts" layouts;
    archives = farm "archives" (lib.mapAttrs' (name: lib.nameValuePair "${name}.tar") (archiveOf // {e2e = archive "e2e" layouts.e2e;}));
  };
  # For the checks: the commands that build the layouts for amd64, and the layout of another program.
  commands = lib.mapAttrs' (name: plan: lib.nameValuePair "build_${builtins.replaceStrings ["-"] ["_"] name}" (command name plan "amd64")) plans;
  ofProgram = name: program:
    platform name (plans.${name}
      // {
        application = _: "--file bin/${name}=${lib.getExe program}";
        bill = _: "--binary ${lib.getExe program}";
      })
    workspace.hostArchitecture;
}
