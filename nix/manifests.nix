# The overlays as they are applied, each image by the digest that it was built with. Without Secrets: those are not Nix's.
{
  pkgs,
  lib,
  images,
}: let
  kustomize = lib.cleanSourceWith {
    name = "kustomize";
    src = ../kustomize;
    filter = path: _: !(builtins.elem (baseNameOf path) ["secrets.yaml" "api-key" "api-key-load-test"]);
  };
in
  pkgs.runCommand "manifests" {
    nativeBuildInputs = [pkgs.kustomize pkgs.jq];
    layouts = images.images;
    inherit kustomize;
  } (builtins.readFile ./manifests.sh)
