//! What names something else: is it there?

use serde_json::Value;

use crate::{
    Faults, Manifests, Workload,
    manifests::{id, list, name, selects, text},
};

/// The Secrets that an overlay may name without holding them.
const FROM_ELSEWHERE: [&str; 5] =
    ["postgres-admin", "orders-database", "inventory-database", "api-keys", "api-gateway-tls"];

fn selected<'a>(
    manifests: &'a Manifests,
    selector: &'a Value,
) -> impl Iterator<Item = Workload<'a>> {
    manifests.workloads().filter(move |workload| selects(selector, workload.labels()))
}

/// The selector of a Service is a bare map.
fn service_selector(service: &Value) -> Value {
    serde_json::json!({"matchLabels": service["spec"]["selector"]})
}

/// Workloads select their own pods, Services and budgets the pods of one workload.
pub fn selectors(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    for workload in manifests.workloads().filter(Workload::serves) {
        if !selects(&workload.object["spec"]["selector"], workload.labels()) {
            faults.push(format!("{} does not select its own pods", workload.id()));
        }
    }
    let services = manifests.of("Service").map(|service| (service, service_selector(service)));
    let budgets = manifests.of("PodDisruptionBudget");
    let budgets = budgets.map(|budget| (budget, budget["spec"]["selector"].clone()));
    for (object, selector) in services.chain(budgets) {
        let count = selected(manifests, &selector).count();
        if count != 1 {
            faults.push(format!("{} selects the pods of {count} workloads", id(object)));
        }
    }
    for set in manifests.of("StatefulSet") {
        let service = manifests.get("Service", text(&set["spec"]["serviceName"]));
        if service.is_none_or(|service| service["spec"]["clusterIP"] != "None") {
            faults.push(format!("{} has no headless Service", id(set)));
        }
    }
    faults
}

/// Services, probes and Ingresses name ports that are there.
pub fn ports(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    for service in manifests.of("Service") {
        let selector = service_selector(service);
        for port in list(&service["spec"]["ports"]) {
            if !selected(manifests, &selector)
                .all(|workload| workload.has_port(&port["targetPort"]))
            {
                faults.push(format!("{} leads to port {}", id(service), port["targetPort"]));
            }
        }
    }
    for workload in manifests.workloads() {
        let containers = workload.containers().flat_map(|container| {
            ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| &container[probe])
        });
        for probe in containers {
            for port in [&probe["httpGet"]["port"], &probe["tcpSocket"]["port"]] {
                if !port.is_null() && !workload.has_port(port) {
                    faults.push(format!("{} is probed on port {port}", workload.id()));
                }
            }
        }
    }
    let paths = manifests.of("Ingress").flat_map(|ingress| list(&ingress["spec"]["rules"]));
    for path in paths.flat_map(|rule| list(&rule["http"]["paths"])) {
        let backend = &path["backend"]["service"];
        let service = manifests.get("Service", text(&backend["name"]));
        let known = service.is_some_and(|service| {
            list(&service["spec"]["ports"])
                .iter()
                .any(|port| port["name"] == backend["port"]["name"])
        });
        if !known {
            faults.push(format!("an Ingress leads to {backend}"));
        }
    }
    faults
}

/// `ConfigMaps`, Secrets and claims that pods name, and the volumes that they mount.
pub fn sources(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    for workload in manifests.workloads() {
        for (kind, named) in named_sources(workload) {
            let elsewhere = match kind {
                "ConfigMap" => named == "kube-root-ca.crt",
                "Secret" => FROM_ELSEWHERE.contains(&named),
                _ => false,
            };
            if !elsewhere && manifests.get(kind, named).is_none() {
                faults.push(format!("{}: there is no {kind} {named}", workload.id()));
            }
        }
        let claims = list(&workload.object["spec"]["volumeClaimTemplates"]).iter().map(name);
        let volumes = list(&workload.pod()["volumes"]).iter().map(|volume| text(&volume["name"]));
        let volumes: Vec<_> = volumes.chain(claims).collect();
        let mounts = workload.containers().flat_map(|container| list(&container["volumeMounts"]));
        let mounted: Vec<_> = mounts.map(|mount| text(&mount["name"])).collect();
        for mount in mounted.iter().filter(|mount| !volumes.contains(mount)) {
            faults.push(format!("{} mounts no volume {mount}", workload.id()));
        }
        for volume in volumes.iter().filter(|volume| !mounted.contains(volume)) {
            faults.push(format!("{} does not mount {volume}", workload.id()));
        }
    }
    faults
}

fn named_sources(workload: Workload<'_>) -> Vec<(&'static str, &str)> {
    let volumes = list(&workload.pod()["volumes"]).iter();
    let projected = volumes.clone().flat_map(|volume| list(&volume["projected"]["sources"]));
    let environment = workload.containers().flat_map(|container| list(&container["envFrom"]));
    let all = volumes.chain(projected).chain(environment);
    all.flat_map(|source| {
        [
            ("ConfigMap", &source["configMap"]["name"]),
            ("ConfigMap", &source["configMapRef"]["name"]),
            ("Secret", &source["secret"]["secretName"]),
            ("Secret", &source["secret"]["name"]),
            ("PersistentVolumeClaim", &source["persistentVolumeClaim"]["claimName"]),
        ]
    })
    .filter_map(|(kind, named)| Some((kind, named.as_str()?)))
    .collect()
}

/// Nothing passes by default; every part has a policy for both directions; peers in the namespace and named ports exist.
pub fn network_policies(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    let both =
        |policy: &Value| policy["spec"]["policyTypes"] == serde_json::json!(["Ingress", "Egress"]);
    let denies = manifests.get("NetworkPolicy", "default-deny").is_some_and(|policy| {
        let spec = &policy["spec"];
        both(policy)
            && spec["podSelector"].as_object().is_some_and(serde_json::Map::is_empty)
            && list(&spec["ingress"]).is_empty()
            && list(&spec["egress"]).is_empty()
    });
    if !denies {
        faults.push("nothing denies by default".to_owned());
    }
    for workload in manifests.workloads() {
        let own = manifests.get("NetworkPolicy", workload.part());
        if !own.is_some_and(|policy| {
            both(policy) && selects(&policy["spec"]["podSelector"], workload.labels())
        }) {
            faults.push(format!("{} has no policy of its own", workload.id()));
        }
    }
    for policy in manifests.of("NetworkPolicy") {
        let peers = ["ingress", "egress"].into_iter().flat_map(|direction| {
            list(&policy["spec"][direction])
                .iter()
                .flat_map(|rule| list(&rule["from"]).iter().chain(list(&rule["to"])))
        });
        let here =
            peers.filter(|peer| peer["namespaceSelector"].is_null() && peer["ipBlock"].is_null());
        let selectors =
            here.map(|peer| &peer["podSelector"]).chain([&policy["spec"]["podSelector"]]);
        for selector in selectors.filter(|selector| selected(manifests, selector).next().is_none())
        {
            faults.push(format!("{} names pods that are not there: {selector}", id(policy)));
        }
    }
    faults
}
