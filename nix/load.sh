# nix run .#load [-- docker|podman|containerd|minikube|kind]: the images for this machine's architecture into a local engine.
# ONLY="orders e2e" loads these alone.

# Does an engine answer? A client may be installed without one.
answers() {
    command -v "$1" >/dev/null || return 1
    case $1 in
    kind) [ -n "$(kind get clusters 2>/dev/null)" ] ;;
    minikube) minikube status >/dev/null 2>&1 ;;
    ctr) ctr version >/dev/null 2>&1 ;;
    *) "$1" info >/dev/null 2>&1 ;;
    esac
}
engine=${1:-}
if [ -z "$engine" ]; then
    for candidate in docker podman minikube kind ctr; do
        if answers "$candidate"; then engine=$candidate; break; fi
    done
fi
for name in ${ONLY:-$names}; do
    archive=$archives/$name.tar
    [ -e "$archive" ] || { echo "load: there is no image $name; there are: $names" >&2; exit 64; }
    case $engine in
    docker | podman) "$engine" load --quiet --input "$archive" ;;
    containerd | ctr) ctr --namespace "${CONTAINERD_NAMESPACE:-k8s.io}" images import "$archive" ;;
    minikube) minikube image load "$archive" ;;
    kind) kind load image-archive "$archive" --name "${KIND_CLUSTER:-kind}" ;;
    "") echo "load: none of docker, podman, minikube, kind and ctr (containerd) answers on this machine; nix build .#NAME-archive gives a file for any other" >&2; exit 69 ;;
    *) echo "load: '$engine' is none of docker, podman, containerd, minikube, kind" >&2; exit 64 ;;
    esac || { echo "load: $engine did not take $name (see above)" >&2; exit 1; }
    echo "$engine has $name:$version" >&2
done
