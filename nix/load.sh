# nix run .#load [-- docker|podman|containerd|minikube|kind]: the images for this machine's architecture into a local engine.
engine=${1:-}
if [ -z "$engine" ]; then
    for candidate in docker podman minikube kind ctr; do
        if command -v "$candidate" >/dev/null; then engine=$candidate; break; fi
    done
fi
for name in $names; do
    archive=$archives/$name.tar
    case $engine in
    docker | podman) "$engine" load --quiet --input "$archive" ;;
    containerd | ctr) ctr --namespace "${CONTAINERD_NAMESPACE:-k8s.io}" images import "$archive" ;;
    minikube) minikube image load "$archive" ;;
    kind) kind load image-archive "$archive" --name "${KIND_CLUSTER:-kind}" ;;
    "") echo "load: there is none of docker, podman, minikube, kind and ctr (containerd) on this machine's PATH; nix build .#NAME-archive gives a file for any other" >&2; exit 69 ;;
    *) echo "load: '$engine' is none of docker, podman, containerd, minikube, kind" >&2; exit 64 ;;
    esac || { echo "load: $engine did not take $name (see above); the same command again goes on" >&2; exit 1; }
    echo "$engine has $name:$version" >&2
done
