//! Pods and containers.

use serde_json::{Value, json};

use crate::{
    Faults, Manifests, Workload,
    manifests::{list, quantity, text},
};

/// The volumes that the restricted profile allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "downwardAPI",
    "emptyDir",
    "projected",
    "secret",
    "csi",
    "persistentVolumeClaim",
    "ephemeral",
];
/// The parts whose code is ours, with probes on the admin port.
pub const SERVICES: [&str; 3] = ["api-gateway", "orders", "inventory"];
/// What a service may take after its drain, to send its last spans.
const FLUSH_SECONDS: u64 = 3;

fn each_workload(manifests: &Manifests, check: impl Fn(Workload<'_>, &mut Faults)) -> Faults {
    let mut faults = Faults::new();
    for workload in manifests.workloads() {
        let from = faults.len();
        check(workload, &mut faults);
        for fault in &mut faults[from..] {
            *fault = format!("{}: {fault}", workload.id());
        }
    }
    faults
}

fn each_container(manifests: &Manifests, check: impl Fn(&Value, &mut Faults)) -> Faults {
    each_workload(manifests, |workload, faults| {
        for container in workload.containers() {
            check(container, faults);
        }
    })
}

/// The Pod Security Standard `restricted`, v1.34, field by field.
pub fn restricted(manifests: &Manifests) -> Faults {
    each_workload(manifests, |workload, faults| {
        let pod = workload.pod();
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if pod[field] == true {
                faults.push(format!("{field} is on"));
            }
        }
        for volume in list(&pod["volumes"]) {
            let kinds = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
            for kind in kinds.filter(|key| *key != "name" && !VOLUMES.contains(key)) {
                faults.push(format!("volume {} is a {kind}", volume["name"]));
            }
        }
        let context = &pod["securityContext"];
        identity(context, "the pod", faults);
        if !list(&context["sysctls"]).is_empty() {
            faults.push("sysctls are set".to_owned());
        }
        for container in workload.containers() {
            restricted_container(container, context, faults);
        }
        if !list(&pod["ephemeralContainers"]).is_empty() {
            faults.push("ephemeral containers are set".to_owned());
        }
    })
}

/// The fields that are the same of a pod and of a container.
fn identity(context: &Value, whose: &str, faults: &mut Faults) {
    if context["runAsUser"] == 0 {
        faults.push(format!("{whose} runs as user 0"));
    }
    for field in ["seLinuxOptions", "appArmorProfile", "windowsOptions"] {
        if !context[field].is_null() {
            faults.push(format!("{whose} sets {field}"));
        }
    }
}

fn restricted_container(container: &Value, pod: &Value, faults: &mut Faults) {
    let name = text(&container["name"]);
    let own = &container["securityContext"];
    identity(own, name, faults);
    let either = |field: &str| if own[field].is_null() { &pod[field] } else { &own[field] };
    if *either("runAsNonRoot") != true {
        faults.push(format!("{name} may run as root"));
    }
    if !matches!(text(&either("seccompProfile")["type"]), "RuntimeDefault" | "Localhost") {
        faults.push(format!("{name} has no seccomp profile"));
    }
    if own["allowPrivilegeEscalation"] != false {
        faults.push(format!("{name} may gain privileges"));
    }
    if own["privileged"] == true {
        faults.push(format!("{name} is privileged"));
    }
    if !list(&own["capabilities"]["drop"]).contains(&json!("ALL")) {
        faults.push(format!("{name} keeps capabilities"));
    }
    if list(&own["capabilities"]["add"]).iter().any(|added| added != "NET_BIND_SERVICE") {
        faults.push(format!("{name} adds capabilities"));
    }
    if !matches!(text(&own["procMount"]), "" | "Default") {
        faults.push(format!("{name} sets procMount"));
    }
    if list(&container["ports"]).iter().any(|port| port["hostPort"].as_u64().unwrap_or(0) != 0) {
        faults.push(format!("{name} takes a port of the node"));
    }
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| &container[probe]);
    let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
    for action in probes.into_iter().chain(hooks) {
        if ["httpGet", "tcpSocket"].iter().any(|kind| !action[kind]["host"].is_null()) {
            faults.push(format!("{name} has a probe or hook with a host"));
        }
    }
}

/// Beyond the standard: no file of the image is written, and the user is nobody that a node knows.
pub fn hardened(manifests: &Manifests) -> Faults {
    let mut faults = each_container(manifests, |container, faults| {
        if container["securityContext"]["readOnlyRootFilesystem"] != true {
            faults.push(format!("{} writes to its image", text(&container["name"])));
        }
    });
    faults.extend(each_workload(manifests, |workload, faults| {
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            if workload.pod()["securityContext"][field].as_u64().is_none_or(|id| id < 10_000) {
                faults.push(format!("{field} is below 10000"));
            }
        }
        if workload.pod()["enableServiceLinks"] != false {
            faults.push("every Service comes as environment variables".to_owned());
        }
    }));
    faults
}

/// CPU, memory and disk: a request and a limit that is no less.
pub fn resources(manifests: &Manifests) -> Faults {
    each_container(manifests, |container, faults| {
        for resource in ["cpu", "memory", "ephemeral-storage"] {
            let amount = |kind: &str| quantity(&container["resources"][kind][resource]);
            match (amount("requests"), amount("limits")) {
                (Some(request), Some(limit)) if request <= limit => {}
                (Some(_), Some(_)) => {
                    faults.push(format!("{resource}: the request is above the limit"));
                }
                _ => faults.push(format!("{resource}: a request or a limit is missing")),
            }
        }
    })
}

/// What serves has three probes; being alive and being ready are asked in two ways. Our services' are on the admin port.
pub fn probes(manifests: &Manifests) -> Faults {
    each_workload(manifests, |workload, faults| {
        if !workload.serves() {
            return;
        }
        let container = &workload.pod()["containers"][0];
        let action =
            |probe: &str| ["httpGet", "tcpSocket", "exec"].map(|kind| &container[probe][kind]);
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            if action(probe).iter().all(|action| action.is_null()) {
                faults.push(format!("{probe} is missing"));
            }
        }
        if action("livenessProbe") == action("readinessProbe") {
            faults.push("liveness and readiness are the same".to_owned());
        }
        if SERVICES.contains(&workload.part()) {
            for (probe, path) in [
                ("startupProbe", "/health"),
                ("livenessProbe", "/health"),
                ("readinessProbe", "/ready"),
            ] {
                if container[probe]["httpGet"] != json!({"path": path, "port": "admin"}) {
                    faults.push(format!("{probe} does not ask for {path} on the admin port"));
                }
            }
        }
    })
}

/// preStop, the service's own delay and grace, and the last spans fit into the pod's grace.
pub fn drain(manifests: &Manifests) -> Faults {
    each_workload(manifests, |workload, faults| {
        if !SERVICES.contains(&workload.part()) {
            return;
        }
        let seconds = |name: &str| {
            let value = setting(manifests, "stockyard-config", name);
            value.and_then(|value| value.strip_suffix('s')?.parse::<u64>().ok())
        };
        let hook = &workload.pod()["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
        let parts = [hook.as_u64(), seconds("SHUTDOWN_DELAY"), seconds("SHUTDOWN_GRACE")];
        let Some([hook, delay, grace]) = all(parts) else {
            faults.push("preStop, SHUTDOWN_DELAY or SHUTDOWN_GRACE is missing".to_owned());
            return;
        };
        let needed = hook + delay + grace + FLUSH_SECONDS;
        let given = workload.pod()["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        if needed > given {
            faults.push(format!("needs {needed} s to drain and has {given} s"));
        }
    })
}

fn all<T: Copy, const N: usize>(values: [Option<T>; N]) -> Option<[T; N]> {
    values.into_iter().collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// A setting of a generated `ConfigMap`.
pub fn setting<'a>(manifests: &'a Manifests, config: &str, name: &str) -> Option<&'a str> {
    let hashed = format!("{config}-");
    let found = manifests
        .of("ConfigMap")
        .find(|object| text(&object["metadata"]["name"]).starts_with(&hashed));
    found.and_then(|object| object["data"][name].as_str())
}

/// Every image has a version or a digest.
pub fn images(manifests: &Manifests) -> Faults {
    each_container(manifests, |container, faults| {
        let image = text(&container["image"]);
        let tagged = image.split('@').next().unwrap_or_default();
        let tag =
            tagged.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
        let digest = image.contains("@sha256:");
        if tag == Some("latest") || (tag.is_none() && !digest) {
            faults.push(format!("{image} may be any version"));
        }
        if !image.contains('/') && container["imagePullPolicy"] == "Always" {
            faults.push(format!("{image} is loaded by hand, and would be pulled from a registry"));
        }
    })
}

/// No secret comes by the environment, which children and crash reports see.
pub fn secrets(manifests: &Manifests) -> Faults {
    each_container(manifests, |container, faults| {
        let by_name =
            list(&container["env"]).iter().map(|entry| &entry["valueFrom"]["secretKeyRef"]);
        let whole = list(&container["envFrom"]).iter().map(|entry| &entry["secretRef"]);
        if by_name.chain(whole).any(|reference| !reference.is_null()) {
            faults.push(format!("{} takes a secret by its environment", text(&container["name"])));
        }
    })
}
