//! Accounts, rights, namespaces.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    Faults, Manifests, Workload,
    manifests::{id, list, name, text},
    table,
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
/// How long a token is good, at most.
const TOKEN_SECONDS: u64 = 3600;
/// The parts that ask who calls.
const CHECK_CALLERS: [&str; 2] = ["orders", "inventory"];
/// Where they find what they need for that.
const IDENTITY_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

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

/// No token is mounted by itself; those that docs/rbac.md lists are there, renewed by the kubelet, and no other.
pub fn tokens(manifests: &Manifests) -> Faults {
    let (mut faults, mut mounted) = (mounted_by_itself(manifests), BTreeSet::new());
    for workload in manifests.workloads() {
        for (mount, token) in mounted_tokens(workload) {
            if mount["readOnly"] != true || !mount["subPath"].is_null() {
                faults.push(format!("{} may write a token, or keeps an old one", workload.id()));
            }
            if token["expirationSeconds"].as_u64().is_none_or(|seconds| seconds > TOKEN_SECONDS) {
                faults.push(format!("{} has a token that lasts", workload.id()));
            }
            mounted.insert([
                text(&workload.pod()["serviceAccountName"]).to_owned(),
                token["audience"].as_str().unwrap_or("the API server").to_owned(),
                format!("{}/{}", text(&mount["mountPath"]), text(&token["path"])),
            ]);
        }
    }
    let documented = documented_tokens();
    let beyond = mounted.difference(&documented);
    faults.extend(beyond.map(|token| format!("{token:?}: mounted, and not documented")));
    let missing = documented.difference(&mounted);
    faults.extend(missing.map(|token| format!("{token:?}: documented, and not mounted")));
    faults
}

fn mounted_by_itself(manifests: &Manifests) -> Faults {
    let accounts = manifests.of("ServiceAccount").map(|account| (account, account));
    let pods = manifests.workloads().map(|workload| (workload.object, workload.pod()));
    let all = accounts.chain(pods);
    all.filter(|(_, settings)| settings["automountServiceAccountToken"] != false)
        .map(|(object, _)| format!("{} mounts its token", id(object)))
        .collect()
}

/// Account, audience and file of each token that docs/rbac.md lists.
fn documented_tokens() -> BTreeSet<[String; 3]> {
    let rows = table::rows("rbac.md", &["account", "audience", "file", "for"]);
    let rows = rows.expect("docs/rbac.md is there").into_iter();
    rows.filter_map(|row| row.into_iter().take(3).collect::<Vec<_>>().try_into().ok()).collect()
}

/// The tokens in a workload's pods, each with its mount.
fn mounted_tokens(workload: Workload<'_>) -> impl Iterator<Item = (&Value, &Value)> {
    projected(workload)
        .flat_map(|(mount, sources)| sources.iter().map(move |source| (mount, source)))
        .map(|(mount, source)| (mount, &source["serviceAccountToken"]))
        .filter(|(_, token)| !token.is_null())
}

/// The projected volumes as they are mounted: the mount, and what comes together in the volume.
fn projected(workload: Workload<'_>) -> impl Iterator<Item = (&Value, &[Value])> {
    let volumes = list(&workload.pod()["volumes"]);
    let mounts = workload.containers().flat_map(|container| list(&container["volumeMounts"]));
    mounts.filter_map(move |mount| {
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
        Some((mount, list(&volume["projected"]["sources"])))
    })
}

/// No setting speaks of identity, whose default is the cluster's; who checks callers has what it takes for that.
pub fn identity(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    let configs = manifests.of("ConfigMap").filter_map(|config| config["data"].as_object());
    let configured = configs.flatten().map(|(name, _)| name.as_str());
    let containers = manifests.workloads().flat_map(|workload| workload.containers());
    let given = containers.flat_map(|container| list(&container["env"]));
    let settings = configured.chain(given.map(|entry| text(&entry["name"])));
    for setting in settings.filter(|setting| setting.starts_with("IDENTITY")) {
        faults.push(format!("{setting} is set"));
    }
    let needed = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]);
    for workload in
        manifests.workloads().filter(|workload| CHECK_CALLERS.contains(&workload.part()))
    {
        let has = projected(workload).any(|(mount, sources)| {
            mount["mountPath"] == IDENTITY_FOLDER && sources == list(&needed)
        });
        if !has {
            faults.push(format!("{} cannot check who calls", workload.id()));
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
