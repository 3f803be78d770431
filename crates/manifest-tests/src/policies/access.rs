//! Accounts, rights, namespaces.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    Faults, Manifests,
    manifests::{id, list, name, text},
};

/// The kinds that are no namespace's.
const OF_THE_CLUSTER: [&str; 6] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "EC2NodeClass",
    "Namespace",
    "NodePool",
];

/// The account of each part; the autoscalers, budgets and so on have none.
fn expected_account(part: &str) -> String {
    match part {
        "api-gateway" => "gateway-sa".to_owned(),
        part => format!("{part}-sa"),
    }
}

/// Every part runs as an account of its own, which is there.
pub fn accounts(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    for workload in manifests.workloads() {
        let account = text(&workload.pod()["serviceAccountName"]);
        if account != expected_account(workload.part()) {
            faults.push(format!("{} runs as {account:?}", workload.id()));
        }
        if manifests.get("ServiceAccount", account).is_none() {
            faults.push(format!("{}: there is no account {account:?}", workload.id()));
        }
    }
    faults
}

/// No token is mounted by itself; Prometheus alone has one, short-lived.
pub fn tokens(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    for account in manifests.of("ServiceAccount") {
        if account["automountServiceAccountToken"] != false {
            faults.push(format!("{} mounts its token", id(account)));
        }
    }
    for workload in manifests.workloads() {
        if workload.pod()["automountServiceAccountToken"] != false {
            faults.push(format!("{} mounts its token", workload.id()));
        }
        let volumes = list(&workload.pod()["volumes"]).iter();
        let tokens: Vec<_> = volumes
            .flat_map(|volume| list(&volume["projected"]["sources"]))
            .map(|source| &source["serviceAccountToken"])
            .filter(|token| !token.is_null())
            .collect();
        let expected = usize::from(workload.part() == "prometheus");
        if tokens.len() != expected {
            faults.push(format!("{} has {} tokens, not {expected}", workload.id(), tokens.len()));
        }
        if tokens.iter().any(|token| token["expirationSeconds"] != 3600) {
            faults.push(format!("{} has a token that lasts", workload.id()));
        }
    }
    faults
}

/// No role names everything.
pub fn wildcards(manifests: &Manifests) -> Faults {
    let roles = manifests.of("Role").chain(manifests.of("ClusterRole"));
    let star = |rule: &Value| {
        let fields = ["apiGroups", "resources", "verbs", "nonResourceURLs"];
        fields.iter().any(|field| list(&rule[field]).iter().any(|word| text(word).contains('*')))
    };
    roles
        .filter(|role| list(&role["rules"]).iter().any(star))
        .map(|role| format!("{} grants a wildcard", id(role)))
        .collect()
}

/// Who may do what: lines `SUBJECT VERB RESOURCE.GROUP`.
pub fn granted(manifests: &Manifests) -> Result<BTreeSet<String>, String> {
    let mut granted = BTreeSet::new();
    for binding in manifests.of("RoleBinding").chain(manifests.of("ClusterRoleBinding")) {
        let role = &binding["roleRef"];
        let role = manifests
            .get(text(&role["kind"]), text(&role["name"]))
            .ok_or_else(|| format!("{} binds a role that is not there", id(binding)))?;
        for subject in list(&binding["subjects"]) {
            let subject = format!("{}/{}", text(&subject["kind"]), text(&subject["name"]));
            for rule in list(&role["rules"]) {
                for (group, resource, verb) in grants(rule) {
                    let full = [resource, group].join(if group.is_empty() { "" } else { "." });
                    granted.insert(format!("{subject} {verb} {full}"));
                }
            }
        }
    }
    Ok(granted)
}

fn grants(rule: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    list(&rule["apiGroups"]).iter().flat_map(move |group| {
        list(&rule["resources"]).iter().flat_map(move |resource| {
            list(&rule["verbs"]).iter().map(move |verb| (text(group), text(resource), text(verb)))
        })
    })
}

/// Accounts: Prometheus lists and watches pods, and that is all. People: they look at what holds no secret; in staging
/// they read logs and forward ports too.
pub fn rights(manifests: &Manifests) -> Faults {
    let granted = match granted(manifests) {
        Ok(granted) => granted,
        Err(fault) => return vec![fault],
    };
    let accounts =
        ["list pods", "watch pods"].map(|right| format!("ServiceAccount/prometheus-sa {right}"));
    let debugging = ["get pods/log", "create pods/portforward", "get pods/portforward"]
        .map(|right| format!("Group/stockyard-developers {right}"));
    let staging = manifests.get("Namespace", "staging").is_some();
    let expected = accounts.into_iter().chain(debugging.into_iter().filter(|_| staging));
    let (mut expected, mut faults) = (expected.collect::<BTreeSet<_>>(), Faults::new());
    for right in granted {
        if expected.remove(&right) {
            continue;
        }
        let looks = right
            .strip_prefix("Group/stockyard-developers ")
            .and_then(|right| right.split_once(' '))
            .is_some_and(|(verb, resource)| {
                matches!(verb, "get" | "list" | "watch")
                    && !resource.contains('/')
                    && resource != "secrets"
            });
        if !looks {
            faults.push(format!("{right}: granted, and not documented"));
        }
    }
    faults
        .extend(expected.into_iter().map(|right| format!("{right}: documented, and not granted")));
    faults
}

/// An overlay's objects are in its namespace, which is the one object that is not.
pub fn scope(manifests: &Manifests) -> Faults {
    let namespaces: Vec<_> = manifests.of("Namespace").map(name).collect();
    let [namespace] = namespaces[..] else {
        return vec![format!("there are {} namespaces", namespaces.len())];
    };
    let outside = manifests.all().iter().filter(|object| {
        let of_the_cluster = OF_THE_CLUSTER.contains(&text(&object["kind"]));
        object["kind"] != "Namespace"
            && (of_the_cluster || object["metadata"]["namespace"] != namespace)
    });
    outside.map(|object| format!("{} is not in the namespace {namespace}", id(object))).collect()
}

/// The namespace refuses pods outside of the profile, by a version that is pinned.
pub fn enforced(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    for namespace in manifests.of("Namespace") {
        let label = |name: &str| {
            &namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{name}")]
        };
        if ["enforce", "audit", "warn"].iter().any(|mode| *label(mode) != json!("restricted")) {
            faults.push(format!("{} does not enforce, audit and warn", id(namespace)));
        }
        if !text(label("enforce-version")).starts_with("v1.") {
            faults.push(format!("{} enforces any version", id(namespace)));
        }
    }
    for kind in ["ResourceQuota", "LimitRange"] {
        if manifests.of(kind).next().is_none() {
            faults.push(format!("there is no {kind}"));
        }
    }
    faults
}
