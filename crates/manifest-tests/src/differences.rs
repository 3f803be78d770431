//! In what two renderings differ, leaf by leaf.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::{
    Manifests,
    manifests::{id, text},
    yaml,
};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// `Kind/name`, without a hash.
    pub object: String,
    /// Where in it; empty when the whole object is in one alone.
    pub field: String,
    /// The value in the first; `none` where it is not there.
    pub first: String,
    /// The value in the second.
    pub second: String,
}

/// All of them. The namespace's own name and its label `environment` are left out, and the hashes in generated names.
pub fn between(first: &Manifests, second: &Manifests) -> BTreeSet<Difference> {
    let (first, second) = (plain(first), plain(second));
    let mut differences = BTreeSet::new();
    let names: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    for object in names {
        let mut found = Vec::new();
        match (first.get(object), second.get(object)) {
            (Some(one), Some(other)) => compare("", one, other, &mut found),
            (Some(_), None) => found.push((String::new(), "there".to_owned(), "none".to_owned())),
            (None, _) => found.push((String::new(), "none".to_owned(), "there".to_owned())),
        }
        differences.extend(found.into_iter().map(|(field, first, second)| Difference {
            object: object.clone(),
            field,
            first,
            second,
        }));
    }
    differences
}

/// The objects by `Kind/name`, with what must differ taken out.
fn plain(manifests: &Manifests) -> BTreeMap<String, Value> {
    let namespace =
        manifests.of("Namespace").next().map(|object| text(&object["metadata"]["name"]));
    let hashed: BTreeMap<_, _> = manifests
        .of("ConfigMap")
        .filter_map(|object| {
            let name = text(&object["metadata"]["name"]);
            let (base, hash) = name.rsplit_once('-')?;
            (hash.len() == 10).then(|| (name.to_owned(), base.to_owned()))
        })
        .collect();
    let mut objects = BTreeMap::new();
    for object in manifests.all() {
        let mut object = object.clone();
        normalise(&mut object, namespace.unwrap_or_default(), &hashed);
        objects.insert(id(&object), object);
    }
    objects
}

fn normalise(value: &mut Value, namespace: &str, hashed: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(base) = hashed.get(text) {
                text.clone_from(base);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalise(item, namespace, hashed)),
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                if matches!(key.as_str(), "name" | "namespace") && field == namespace {
                    *field = "NAMESPACE".into();
                }
                // A file within a ConfigMap is compared by what it says.
                if let (Some(text), true) =
                    (field.as_str(), Path::new(key).extension().is_some_and(|kind| kind == "yml"))
                {
                    *field = yaml::document(text).expect("a .yml file is YAML");
                }
                normalise(field, namespace, hashed);
            }
            if let Some(Value::Object(labels)) = fields.get_mut("labels") {
                labels.remove("environment");
            }
        }
        _ => {}
    }
}

fn compare(path: &str, first: &Value, second: &Value, found: &mut Vec<(String, String, String)>) {
    if first == second {
        return;
    }
    match (children(first), children(second)) {
        (Some(one), Some(other)) => {
            let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let field = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let absent = Value::Null;
                let of = |side: &BTreeMap<String, Value>| side.get(key).unwrap_or(&absent).clone();
                compare(&field, &of(&one), &of(&other), found);
            }
        }
        _ => found.push((path.to_owned(), shown(first), shown(second))),
    }
}

/// The fields of an object, the items of a list by their name where they have one, else by their place.
fn children(value: &Value) -> Option<BTreeMap<String, Value>> {
    match value {
        Value::Object(fields) => {
            Some(fields.iter().map(|(key, field)| (key.clone(), field.clone())).collect())
        }
        Value::Array(items) => {
            let key = |(index, item): (usize, &Value)| {
                let name = item["name"].as_str().or(item["metadata"]["name"].as_str());
                (name.map_or_else(|| index.to_string(), str::to_owned), item.clone())
            };
            Some(items.iter().enumerate().map(key).collect())
        }
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
