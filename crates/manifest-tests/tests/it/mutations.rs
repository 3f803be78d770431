//! Every policy finds what it is for: tests/policy/mutations.txt breaks production's rendering in one place at a time.

use std::fs;

use manifest_tests::{
    Manifests, policies,
    render::{self, repository},
};
use serde_json::Value;

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// One change, and the policy that must tell of it.
#[derive(Debug)]
struct Mutation {
    policy: String,
    kind: String,
    name: String,
    place: String,
    value: Value,
}

fn mutations() -> Vec<Mutation> {
    let text = fs::read_to_string(repository().join("tests/policy/mutations.txt")).unwrap();
    let mut policy = String::new();
    let mut mutations = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut policy);
            continue;
        }
        let [object, place, value] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("no mutation: {line}");
        };
        let (kind, name) = object.split_once('/').unwrap();
        mutations.push(Mutation {
            policy: policy.clone(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            place: place.replace("{container}", CONTAINER).replace("{pod}", POD),
            value: serde_json::from_str(value).unwrap_or_else(|error| panic!("{line}: {error}")),
        });
    }
    mutations
}

/// Puts a value into a place, whose parent must be there; null takes it away.
fn put(object: &mut Value, place: &str, value: &Value) {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("there is no {parent}"));
    let key = key.replace("~1", "/");
    match (parent, key.parse::<usize>()) {
        (Value::Array(items), Ok(index)) => items[index] = value.clone(),
        (Value::Object(fields), _) if value.is_null() => {
            fields.remove(&key).unwrap_or_else(|| panic!("there is no {place}"));
        }
        (Value::Object(fields), _) => {
            fields.insert(key, value.clone());
        }
        (other, _) => panic!("{place} is within {other}"),
    }
}

fn mutated(production: &Manifests, mutation: &Mutation) -> Manifests {
    let mut manifests = production.clone();
    let object = manifests.get_mut(&mutation.kind, &mutation.name);
    let object = object.unwrap_or_else(|| panic!("the object is not there: {mutation:?}"));
    put(object, &mutation.place, &mutation.value);
    manifests
}

#[test]
fn every_policy_finds_what_breaks_it() {
    let production = render::overlay("production").unwrap();
    let mutations = mutations();
    let found =
        |mutation: &Mutation| policies::find(&mutation.policy, &mutated(&production, mutation));
    let missed: Vec<_> = mutations.iter().filter(|mutation| found(mutation).is_empty()).collect();
    assert!(missed.is_empty(), "not found: {missed:#?}");

    let untried = policies::ALL.iter().map(|(name, _)| name);
    let untried: Vec<_> =
        untried.filter(|name| mutations.iter().all(|mutation| mutation.policy != **name)).collect();
    assert!(untried.is_empty(), "policies that nothing breaks here: {untried:?}");
}
