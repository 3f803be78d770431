# Sourced by the first process of a sandbox, in its folder $work: Kubernetes' control plane. $kubernetes is its binary.

# Of the ranges for documentation and for benchmarks (RFC 5737, RFC 2544): no address that anyone uses is hidden.
node=198.51.100.1
services=198.19.0.0/16
dns=198.19.0.10

# Loopback, and the node's address with a route to everywhere that leads nowhere.
network() {
    ip link set lo up
    ip link add node0 type veth peer name node1
    ip link set node1 up
    ip address add "$node/24" dev node0
    ip link set node0 up
    ip route add default dev node0
}

issue() { # NAME SUBJECT, and what openssl shall do more
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj "$2" \
        -config <(printf '[req]\ndistinguished_name = name\n[name]\n') -keyout "pki/$1.key" -out "pki/$1.crt" "${@:3}" 2>log/openssl.log
}
authority() { # NAME
    issue "$1" "/CN=$1" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}
signed() { # AUTHORITY NAME SUBJECT, and what openssl shall do more
    issue "${@:2}" -CA "pki/$1.crt" -CAkey "pki/$1.key" -addext basicConstraints=critical,CA:FALSE
}
# A certificate for a client of the API server, and its kubeconfig.
client() { # NAME SUBJECT, and what openssl shall do more
    signed ca "$1" "$2" "${@:3}" -addext extendedKeyUsage=clientAuth,serverAuth
    cat >"$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://$node:6443", certificate-authority: $work/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $work/pki/$1.crt, client-key: $work/pki/$1.key}}]
contexts: [{name: local, context: {cluster: local, user: $1}}]
current-context: local
END
}
certificates() {
    authority ca
    authority front-proxy-ca
    signed ca server /CN=kube-apiserver -addext extendedKeyUsage=serverAuth \
        -addext "subjectAltName=DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$node,IP:${services%.*.*}.0.1"
    signed front-proxy-ca front-proxy /CN=front-proxy -addext extendedKeyUsage=clientAuth
    client admin /O=system:masters/CN=admin
    client controllers /CN=system:kube-controller-manager
    signing_key -algorithm RSA -pkeyopt rsa_keygen_bits:2048
}
# The key that service accounts' tokens are signed with from now on. Those of before stay published.
signing_key() { # what openssl shall make
    openssl genpkey "$@" -out pki/accounts.key 2>log/openssl.log
    openssl pkey -in pki/accounts.key -pubout >>pki/accounts.pub
}

# Starts a program in the background, with a log.
background() { # LOG COMMAND...
    "${@:2}" >"log/$1.log" 2>&1 &
    started+=("$!")
}
started=()
start() { background "$1" "$kubernetes" "$@"; }
# The same for a program that tests end and start again (tests/cluster/plane): it is gone while there is a file NAME.away.
start_again() { # NAME ARGUMENTS...
    again "$@" &
    started+=("$!")
}
again() {
    while true; do
        "$kubernetes" "$@" >>"log/$1.log" 2>&1 &
        echo "$!" >"$1.pid"
        wait "$!" || true
        [ -e "$1.away" ] || exit 1
        rm "$1.pid"
        while [ -e "$1.away" ]; do sleep 0.05; done
    done
}
kubectl() { "$kubernetes" kubectl --kubeconfig "$work/admin.kubeconfig" "$@"; }

# etcd and the API server, until it answers.
start_api_server() {
    start etcd --data-dir data/etcd --unsafe-no-fsync --log-level warn \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380
    start_again kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address="$node" \
        --service-cluster-ip-range="$services" --enable-aggregator-routing=true --allow-privileged=true \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --tls-cert-file=pki/server.crt --tls-private-key-file=pki/server.key --client-ca-file=pki/ca.crt \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file=pki/accounts.pub --service-account-signing-key-file=pki/accounts.key \
        --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority=pki/ca.crt \
        --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key \
        --proxy-client-cert-file=pki/front-proxy.crt --proxy-client-key-file=pki/front-proxy.key \
        --requestheader-client-ca-file=pki/front-proxy-ca.crt --requestheader-allowed-names=front-proxy \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra-
    await_api_server
}
await_api_server() {
    until kubectl get --raw /readyz >log/readyz.log 2>&1; do
        running
        sleep 0.1
    done
}
start_controllers() {
    start_again kube-controller-manager --kubeconfig=controllers.kubeconfig --leader-elect=false --bind-address=127.0.0.1 \
        --use-service-account-credentials --service-account-private-key-file=pki/accounts.key --root-ca-file=pki/ca.crt "$@"
}

# Tells that all is there, and lives until one of the programs ends.
stay() {
    touch ready
    wait -n || true
    echo "a program ended: see $work/log" >&2
    exit 1
}

# Ends this process, and with it the sandbox, when a program that was started is no more.
running() {
    local process
    for process in "${started[@]}"; do
        kill -0 "$process" 2>/dev/null || { echo "a program ended: see $work/log" >&2; exit 1; }
    done
}
