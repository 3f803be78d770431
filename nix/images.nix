# OCI image layouts: a base layer that all share, and a layer with the service's binary.
{
  pkgs,
  lib,
  workspace,
}: let
  base = pkgs.runCommand "image-base" {} ''
    mkdir -p $out/etc/ssl/certs $out/usr/share $out/tmp
    cp ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt $out/etc/ssl/certs/ca-certificates.crt
    cp -rL ${pkgs.tzdata}/share/zoneinfo $out/usr/share/zoneinfo
    chmod -R u+w $out
    rm -rf $out/usr/share/zoneinfo/right $out/usr/share/zoneinfo/posix
    printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' > $out/etc/passwd
    printf 'root:x:0:\nnonroot:x:65532:\n' > $out/etc/group
  '';
  image = name:
    pkgs.runCommand "${name}-image" {allowedReferences = [];} ''
      ${lib.getExe workspace.programs.oci-image} build --name ${name} \
        --architecture ${pkgs.stdenv.hostPlatform.go.GOARCH} --base ${base} --mode tmp=1777 \
        --binary ${lib.getExe workspace.programs.${name}} --output $out
    '';
  # What `docker load` and `podman load` take; made from the layout, so with the same configuration and layers.
  archive = name:
    pkgs.runCommand "${name}-archive.tar" {nativeBuildInputs = [pkgs.skopeo];} ''
      skopeo --insecure-policy --tmpdir "$NIX_BUILD_TOP" copy oci:${image name}:${name} docker-archive:$out:${name}:${version}
    '';
  version = "0.1.0";
in rec {
  inherit base version;
  archives = lib.genAttrs workspace.services archive;
  byService = lib.genAttrs workspace.services image;
  images = pkgs.linkFarm "images" (lib.mapAttrsToList (name: path: {inherit name path;}) byService);
}
