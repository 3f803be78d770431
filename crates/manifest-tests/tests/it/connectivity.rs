//! docs/connectivity.md, against what the network policies let pass.

use std::collections::BTreeSet;

use serde_json::json;

use manifest_tests::{
    Manifests,
    connectivity::{Way, sides, ways},
    render::{self, Combination},
    table,
};

/// The ways that the page lists for a combination, as far as both ends are there.
fn documented(components: &[String], manifests: &Manifests) -> BTreeSet<Way> {
    let parts: BTreeSet<_> =
        manifests.workloads().map(|workload| workload.part().to_owned()).collect();
    let around = |end: &str| end == "DNS" || end.contains(' ');
    let there = |end: &String| around(end) || parts.contains(end);
    let rows = table::rows("connectivity.md", &["with", "from", "to", "ports", "for"]).unwrap();
    assert!(rows.len() > 10, "the page's table is not found");
    rows.into_iter()
        .filter(|row| row[0] == "base" || components.contains(&row[0]))
        .filter(|row| there(&row[1]) && there(&row[2]))
        .flat_map(|row| {
            let ports = row[3].split(", ").map(str::to_owned).collect::<Vec<_>>();
            ports.into_iter().map(move |port| (row[1].clone(), row[2].clone(), port))
        })
        .collect()
}

#[test]
fn who_may_reach_whom_is_exactly_what_is_documented() {
    for combination in Combination::all().unwrap() {
        let manifests = combination.render().unwrap();
        let (open, documented) =
            (ways(&manifests), documented(&combination.components, &manifests));
        let extra: Vec<_> = open.difference(&documented).collect();
        let missing: Vec<_> = documented.difference(&open).collect();
        assert!(
            extra.is_empty() && missing.is_empty(),
            "{combination:?}\nopen, not documented: {extra:#?}\ndocumented, not open: {missing:#?}"
        );
    }
}

#[test]
fn what_one_side_allows_the_other_does_too() {
    for combination in Combination::all().unwrap() {
        let [sent, received] = sides(&combination.render().unwrap());
        let alone: Vec<_> = sent.symmetric_difference(&received).collect();
        assert!(alone.is_empty(), "{combination:?}: {alone:#?}");
    }
}

#[test]
fn a_rule_too_many_or_too_few_shows() {
    let staging = render::overlay("staging").unwrap();
    let before = ways(&staging);
    let changed = |change: &dyn Fn(&mut Manifests)| {
        let mut manifests = staging.clone();
        change(&mut manifests);
        manifests
    };

    let manifests = changed(&|manifests| {
        let policy = manifests.get_mut("NetworkPolicy", "postgres").unwrap();
        policy["spec"]["ingress"][0]["from"] = json!([{"namespaceSelector": {}}]);
    });
    assert!(ways(&manifests).len() > before.len(), "any pod reaches PostgreSQL, and nothing shows");

    let manifests = changed(&|manifests| {
        manifests.retain(|object| object["metadata"]["name"] != "default-deny");
    });
    assert!(
        ways(&manifests).len() > before.len(),
        "nothing is denied by default, and nothing shows"
    );

    let manifests = changed(&|manifests| {
        let policy = manifests.get_mut("NetworkPolicy", "dns").unwrap();
        policy["spec"]["egress"][0]["to"].as_array_mut().unwrap().remove(0);
    });
    assert!(ways(&manifests).len() < before.len(), "there is no DNS, and nothing shows");

    let manifests = changed(&|manifests| {
        let policy = manifests.get_mut("NetworkPolicy", "postgres").unwrap();
        policy["spec"]["ingress"][0]["from"] = json!([{"podSelector": {}}]);
    });
    let [sent, received] = sides(&manifests);
    assert_ne!(sent, received, "PostgreSQL takes connections from any part, and nothing shows");
}
