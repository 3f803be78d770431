//! docs/overlays.md, against the differences of the rendered overlays.

use std::collections::BTreeSet;

use manifest_tests::{
    differences::{Difference, between},
    render, table,
};

fn differences() -> BTreeSet<Difference> {
    between(&render::overlay("staging").unwrap(), &render::overlay("production").unwrap())
}

fn rows() -> Vec<Vec<String>> {
    table::rows("overlays.md", &["object", "field", "staging", "production", "why"]).unwrap()
}

fn covers(row: &[String], difference: &Difference) -> bool {
    let Difference { object, field, first, second } = difference;
    let field = if field.is_empty() { "(the whole)" } else { field };
    [object.as_str(), field, first, second]
        .into_iter()
        .zip(row)
        .all(|(text, pattern)| table::matches(pattern, text))
}

#[test]
fn every_difference_is_listed_with_its_reason() {
    let rows = rows();
    let unlisted: Vec<_> = differences()
        .into_iter()
        .filter(|difference| !rows.iter().any(|row| covers(row, difference)))
        .collect();
    assert!(unlisted.is_empty(), "not in docs/overlays.md: {unlisted:#?}");
    assert!(rows.iter().all(|row| row.len() == 5 && row[4].len() >= 8), "a row has no reason");
}

#[test]
fn every_row_tells_of_a_difference() {
    let differences = differences();
    let idle: Vec<_> = rows()
        .into_iter()
        .filter(|row| !differences.iter().any(|difference| covers(row, difference)))
        .collect();
    assert!(idle.is_empty(), "docs/overlays.md lists what does not differ: {idle:#?}");
}

#[test]
fn a_change_of_one_overlay_alone_shows() {
    let staging = render::overlay("staging").unwrap();
    let mut changed = staging.clone();
    changed.get_mut("HorizontalPodAutoscaler", "orders").unwrap()["spec"]["maxReplicas"] = 7.into();
    let found: Vec<_> = between(&staging, &changed).into_iter().collect();
    let expected = Difference {
        object: "HorizontalPodAutoscaler/orders".to_owned(),
        field: "spec.maxReplicas".to_owned(),
        first: "5".to_owned(),
        second: "7".to_owned(),
    };
    assert_eq!(found, [expected]);
}
