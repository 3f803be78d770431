//! Autoscalers, budgets, quotas, connections.

use serde_json::Value;

use super::pods::{SERVICES, setting};
use crate::{
    Faults, Manifests, Workload,
    manifests::{id, list, name, quantity, selects, text},
};

/// PostgreSQL's `max_connections` where nothing sets it.
const MAX_CONNECTIONS: u64 = 100;
/// Those that it keeps for administrators (`superuser_reserved_connections`).
const RESERVED: u64 = 3;
/// Pods of a Deployment beside its replicas while it is rolled out (maxSurge).
const SURGE: u64 = 1;
/// Pods beside these that end: each is replaced at once and may take its grace of 30 s, while a rollout goes on by one
/// every six seconds.
const ENDING: u64 = 5;

fn autoscaler<'a>(manifests: &'a Manifests, workload: Workload<'a>) -> Option<&'a Value> {
    manifests.of("HorizontalPodAutoscaler").find(|autoscaler| {
        let target = &autoscaler["spec"]["scaleTargetRef"];
        target["kind"] == workload.object["kind"] && target["name"] == name(workload.object)
    })
}

/// How few and how many replicas there may be.
fn replicas(manifests: &Manifests, workload: Workload<'_>) -> (u64, u64) {
    let fixed = workload.object["spec"]["replicas"].as_u64().unwrap_or(1);
    autoscaler(manifests, workload).map_or((fixed, fixed), |autoscaler| {
        let spec = &autoscaler["spec"];
        (spec["minReplicas"].as_u64().unwrap_or(1), spec["maxReplicas"].as_u64().unwrap_or(1))
    })
}

/// Targets exist; what an autoscaler scales states no number itself; a recommender never acts; a budget lets a drain go on.
pub fn autoscaling(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    let scalers = manifests.of("HorizontalPodAutoscaler").map(|object| (object, "scaleTargetRef"));
    let recommenders = manifests.of("VerticalPodAutoscaler").map(|object| (object, "targetRef"));
    for (object, field) in scalers.chain(recommenders) {
        let target = &object["spec"][field];
        if manifests.get(text(&target["kind"]), text(&target["name"])).is_none() {
            faults.push(format!("{} has no target", id(object)));
        }
    }
    for recommender in manifests.of("VerticalPodAutoscaler") {
        if recommender["spec"]["updatePolicy"]["updateMode"] != "Off" {
            faults.push(format!("{} acts", id(recommender)));
        }
    }
    for workload in manifests.workloads().filter(Workload::serves) {
        let scaled = autoscaler(manifests, workload).is_some();
        if scaled && !workload.object["spec"]["replicas"].is_null() {
            faults.push(format!("{} states its replicas and has an autoscaler", workload.id()));
        }
        let (min, max) = replicas(manifests, workload);
        if min == 0 || min > max {
            faults.push(format!("{} has from {min} to {max} replicas", workload.id()));
        }
        let budget = manifests
            .of("PodDisruptionBudget")
            .find(|budget| selects(&budget["spec"]["selector"], workload.labels()));
        let lets_go = budget.is_some_and(|budget| {
            let spec = &budget["spec"];
            let by_most =
                spec["maxUnavailable"].as_u64().is_some_and(|most| most >= 1 && most <= min);
            let by_least = spec["minAvailable"].as_u64().is_some_and(|least| least < min);
            (by_most || by_least) && spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        });
        if !lets_go {
            faults
                .push(format!("{}: its budget blocks every drain, or lets all go", workload.id()));
        }
    }
    faults
}

/// All that may run at once, jobs too, is within the quota.
pub fn quota(manifests: &Manifests) -> Faults {
    let pods: Vec<_> = manifests
        .workloads()
        .map(|workload| {
            let surge = if workload.object["kind"] == "Deployment" { SURGE + ENDING } else { 0 };
            (workload, replicas(manifests, workload).1 + surge)
        })
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a few pods")]
    let sum = |kind: &str, resource: &str| -> f64 {
        let one = |workload: &Workload<'_>| -> f64 {
            let containers = workload.containers();
            containers
                .filter_map(|container| quantity(&container["resources"][kind][resource]))
                .sum()
        };
        pods.iter().map(|(workload, count)| one(workload) * *count as f64).sum()
    };
    #[expect(clippy::cast_precision_loss, reason = "a few pods")]
    let count = pods.iter().map(|(_, count)| *count as f64).sum();
    let (claims, storage) = claims(manifests);
    let needed = [
        ("pods", count),
        ("requests.cpu", sum("requests", "cpu")),
        ("limits.cpu", sum("limits", "cpu")),
        ("requests.memory", sum("requests", "memory")),
        ("limits.memory", sum("limits", "memory")),
        ("persistentvolumeclaims", claims),
        ("requests.storage", storage),
    ];
    let mut faults = Faults::new();
    for quota in manifests.of("ResourceQuota") {
        for (resource, needed) in needed {
            let hard = quantity(&quota["spec"]["hard"][resource]);
            if hard.is_none_or(|hard| hard < needed) {
                faults.push(format!("{resource}: {needed} needed, the quota is {hard:?}"));
            }
        }
    }
    faults
}

/// How many volumes are claimed, and how large they are together.
fn claims(manifests: &Manifests) -> (f64, f64) {
    let of_sets = manifests.of("StatefulSet");
    let of_sets = of_sets.flat_map(|set| list(&set["spec"]["volumeClaimTemplates"]));
    let all = of_sets.chain(manifests.of("PersistentVolumeClaim"));
    all.fold((0.0, 0.0), |(count, size), claim| {
        let own = quantity(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or_default();
        (count + 1.0, size + own)
    })
}

/// The pools of all replicas, and one for the backup, are within what PostgreSQL has.
pub fn connections(manifests: &Manifests) -> Faults {
    let mut faults = Faults::new();
    let Some(postgres) = manifests.get("StatefulSet", "postgres") else { return faults };
    let mut args = list(&postgres["spec"]["template"]["spec"]["containers"][0]["args"]).iter();
    let set = args.find_map(|arg| text(arg).strip_prefix("max_connections=")?.parse().ok());
    let connections = set.unwrap_or(MAX_CONNECTIONS) - RESERVED;
    let mut needed = 0;
    for workload in manifests.workloads().filter(|workload| SERVICES.contains(&workload.part())) {
        let config = format!("{}-config", workload.part());
        if setting(manifests, &config, "DATABASE_URL").is_none() {
            continue;
        }
        let pool =
            setting(manifests, &config, "DATABASE_POOL").and_then(|pool| pool.parse::<u64>().ok());
        let Some(pool) = pool else {
            faults.push(format!("{}: DATABASE_POOL is not set", workload.id()));
            continue;
        };
        needed += pool * (replicas(manifests, workload).1 + SURGE + ENDING);
    }
    if manifests.get("CronJob", "backup").is_some() {
        needed += 2; // both databases at once; administrators' are not among these
    }
    if needed > connections {
        faults.push(format!("{needed} connections at most, and PostgreSQL has {connections}"));
    }
    faults
}
