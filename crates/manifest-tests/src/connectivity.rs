//! Who may reach whom: the network policies, evaluated as Kubernetes defines them.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde_json::{Value, json};

use crate::{
    Manifests,
    manifests::{list, selects, text},
};

/// A way that is open: from, to, port.
pub type Way = (String, String, String);

/// One end of a connection.
#[derive(Debug)]
struct End {
    name: String,
    /// The labels of its namespace and its own, for a pod.
    pod: Option<(Value, Value)>,
    /// Its address, where it is no pod.
    address: Option<Ipv4Addr>,
    /// Its ports: name, number, protocol. For an end outside, those that are tried.
    ports: Vec<(String, u64, &'static str)>,
}

/// The ports that are tried where nobody declares any.
const TRIED: [u64; 10] = [53, 80, 443, 4318, 5432, 6443, 8443, 8888, 10250, 16443];

/// The ways between parts that the sender's policies let pass, and those that the receiver's do: a rule on one side
/// alone opens nothing today, and too much tomorrow.
pub fn sides(manifests: &Manifests) -> [BTreeSet<Way>; 2] {
    let ends = ends(manifests);
    let parts: Vec<_> =
        ends.iter().filter(|end| !end.name.contains(' ') && end.name != "DNS").collect();
    let mut sides = [BTreeSet::new(), BTreeSet::new()];
    for from in &parts {
        for to in parts.iter().filter(|to| to.name != from.name) {
            for port in &to.ports {
                let way = || (from.name.clone(), to.name.clone(), format!("{}/{}", port.1, port.2));
                if passes(manifests, "Egress", from, to, port) {
                    sides[0].insert(way());
                }
                if passes(manifests, "Ingress", to, from, port) {
                    sides[1].insert(way());
                }
            }
        }
    }
    sides
}

/// Every way that is open between the parts, and between them and what is around them.
pub fn ways(manifests: &Manifests) -> BTreeSet<Way> {
    let ends = ends(manifests);
    let mut ways = BTreeSet::new();
    for from in &ends {
        for to in &ends {
            if from.name == to.name || is_outside(manifests, from) && is_outside(manifests, to) {
                continue;
            }
            for port in &to.ports {
                if passes(manifests, "Egress", from, to, port)
                    && passes(manifests, "Ingress", to, from, port)
                {
                    ways.insert((
                        from.name.clone(),
                        to.name.clone(),
                        format!("{}/{}", port.1, port.2),
                    ));
                }
            }
        }
    }
    ways
}

fn namespace(manifests: &Manifests) -> &str {
    manifests.of("Namespace").next().map_or("", |object| text(&object["metadata"]["name"]))
}

fn named(namespace: &str) -> Value {
    json!({"kubernetes.io/metadata.name": namespace})
}

fn is_outside(manifests: &Manifests, end: &End) -> bool {
    end.pod.as_ref().is_none_or(|(labels, _)| *labels != named(namespace(manifests)))
}

fn ends(manifests: &Manifests) -> Vec<End> {
    let own = named(namespace(manifests));
    let mut ends = Vec::<End>::new();
    for workload in manifests.workloads() {
        let ports = workload.ports().map(|(name, number)| (name.to_owned(), number, "TCP"));
        // Both jobs of the backup have the same pods.
        if ends.iter().all(|end| end.name != workload.part()) {
            ends.push(End {
                name: workload.part().to_owned(),
                pod: Some((own.clone(), workload.labels().clone())),
                address: None,
                ports: ports.collect(),
            });
        }
    }
    let tried = || TRIED.map(|number| (String::new(), number, "TCP")).to_vec();
    let pod = |name: &str, namespace: Value, labels: Value, ports| End {
        name: name.to_owned(),
        pod: Some((namespace, labels)),
        address: None,
        ports,
    };
    let dns = ["TCP", "UDP"].map(|protocol| (String::new(), 53, protocol)).to_vec();
    ends.push(pod("DNS", named("kube-system"), json!({"k8s-app": "kube-dns"}), dns.clone()));
    let address = Some(Ipv4Addr::new(169, 254, 20, 10));
    let name = "the DNS cache of its node".to_owned();
    ends.push(End { name, pod: None, address, ports: dns });
    ends.push(pod("an Ingress controller", named("traefik"), json!({}), tried()));
    let prometheus = json!({"app.kubernetes.io/name": "prometheus"});
    ends.push(pod("the operator's Prometheus", named("monitoring"), prometheus, tried()));
    ends.push(pod("a pod without a policy here", own, json!({}), tried()));
    ends.push(pod("a pod elsewhere", named("elsewhere"), json!({}), tried()));
    for (name, address) in
        [("a private address", [10, 1, 2, 3]), ("a public address", [203, 0, 113, 1])]
    {
        let address = Some(Ipv4Addr::from(address));
        ends.push(End { name: name.to_owned(), pod: None, address, ports: tried() });
    }
    ends
}

/// Do the policies of `end` let this direction pass? Without any they do.
fn passes(
    manifests: &Manifests,
    direction: &str,
    end: &End,
    peer: &End,
    port: &(String, u64, &str),
) -> bool {
    let Some((_, labels)) = &end.pod else { return true };
    if is_outside(manifests, end) {
        return true;
    }
    let (rules, peers) = if direction == "Egress" { ("egress", "to") } else { ("ingress", "from") };
    let mut policies = manifests
        .of("NetworkPolicy")
        .filter(|policy| selects(&policy["spec"]["podSelector"], labels))
        .filter(|policy| list(&policy["spec"]["policyTypes"]).contains(&json!(direction)))
        .peekable();
    if policies.peek().is_none() {
        return true;
    }
    policies.flat_map(|policy| list(&policy["spec"][rules])).any(|rule| {
        let peer_passes = list(&rule[peers]).is_empty()
            || list(&rule[peers]).iter().any(|allowed| is_peer(manifests, allowed, peer));
        let port_passes = list(&rule["ports"]).is_empty()
            || list(&rule["ports"]).iter().any(|allowed| is_port(allowed, port));
        peer_passes && port_passes
    })
}

fn is_peer(manifests: &Manifests, allowed: &Value, peer: &End) -> bool {
    if !allowed["ipBlock"].is_null() {
        return peer
            .address
            .is_some_and(|address| within(text(&allowed["ipBlock"]["cidr"]), address));
    }
    let Some((namespace_labels, labels)) = &peer.pod else { return false };
    let namespace_passes = match &allowed["namespaceSelector"] {
        Value::Null => *namespace_labels == named(namespace(manifests)),
        selector => selects(selector, namespace_labels),
    };
    namespace_passes && selects(&allowed["podSelector"], labels)
}

fn is_port(allowed: &Value, (name, number, protocol): &(String, u64, &str)) -> bool {
    assert!(allowed["endPort"].is_null(), "endPort is not evaluated here");
    let same_protocol = allowed["protocol"].as_str().unwrap_or("TCP") == *protocol;
    same_protocol && (allowed["port"] == *number || (!name.is_empty() && allowed["port"] == *name))
}

/// Is an address within a block such as `10.0.0.0/8`?
fn within(block: &str, address: Ipv4Addr) -> bool {
    let (base, length) = block.split_once('/').expect("a block has a length");
    let base: Ipv4Addr = base.parse().expect("a block has an address");
    let length: u32 = length.parse().expect("a length is a number");
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    base.to_bits() & mask == address.to_bits() & mask
}
