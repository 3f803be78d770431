//! Every overlay, and every named combination of components.

use std::fs;

use manifest_tests::{
    Manifests, policies,
    render::{self, Combination, repository},
};

#[test]
fn every_combination_builds_without_a_warning_and_holds_every_policy() {
    let mut faults = Vec::new();
    for combination in Combination::all().unwrap() {
        let manifests = combination.render().unwrap();
        for (policy, check) in policies::ALL {
            let found = check(&manifests).into_iter();
            faults.extend(found.map(|fault| format!("{combination:?}, {policy}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_first_combinations_are_the_overlays_as_they_are_committed() {
    for overlay in ["staging", "production"] {
        let file = format!("kustomize/overlays/{overlay}/kustomization.yaml");
        let text = fs::read_to_string(repository().join(file)).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("  - ../../components/"));
        let combination = Combination::of_overlay(overlay).unwrap();
        assert_eq!(combination.components, lines.collect::<Vec<_>>(), "{overlay}");
    }
}

#[test]
fn every_component_is_in_a_combination_or_of_the_cluster() {
    let all = Combination::all().unwrap();
    let components = fs::read_dir(repository().join("kustomize/components")).unwrap();
    for component in components.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        let used = all.iter().any(|combination| combination.components.contains(&component));
        let of_the_cluster = repository().join("kustomize/cluster").join(&component).is_dir();
        assert!(used || of_the_cluster, "{component} is built nowhere");
    }
}

#[test]
fn what_is_of_the_cluster_builds_without_a_warning_and_grants_no_wildcard() {
    let mut count = 0;
    for folder in fs::read_dir(repository().join("kustomize/cluster")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            let manifests = Manifests::parse(&render::build(&folder).unwrap()).unwrap();
            assert_eq!(policies::access::wildcards(&manifests), Vec::<String>::new());
            count += 1;
        }
    }
    assert!(count >= 2);
}

#[test]
fn production_holds_no_secret_and_staging_holds_those_of_its_databases_and_its_gateway() {
    let secrets = |overlay: &str| render::overlay(overlay).unwrap().of("Secret").count();
    assert_eq!((secrets("staging"), secrets("production")), (4, 0));
}

#[test]
fn the_one_right_on_nodes_is_to_read_their_metrics() {
    let folder = repository().join("kustomize/cluster/container-metrics");
    let manifests = Manifests::parse(&render::build(&folder).unwrap()).unwrap();
    let granted = policies::access::granted(&manifests).unwrap();
    let expected = "ServiceAccount/prometheus-sa get nodes/metrics";
    assert_eq!(granted.into_iter().collect::<Vec<_>>(), [expected]);
}
