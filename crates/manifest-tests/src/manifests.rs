//! Objects, and what is asked of them again and again.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::yaml;

/// The objects of one rendering.
#[derive(Debug, Clone)]
pub struct Manifests(Vec<Value>);

/// Something that makes pods.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// The whole object.
    pub object: &'a Value,
    /// Its pods' labels, annotations and specification.
    pub template: &'a Value,
}

impl Manifests {
    /// Reads what kustomize wrote.
    pub fn parse(yaml: &str) -> Result<Self> {
        yaml::documents(yaml).map(Self).context("kustomize wrote no YAML")
    }

    /// All of them.
    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// Those of a kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// One by kind and name.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| object["kind"] == kind && self::name(object) == name)
    }

    /// The same, to change it. A `ConfigMap` is found without the hash in its name too.
    pub fn get_mut(&mut self, kind: &str, name: &str) -> Option<&mut Value> {
        let hashed = format!("{name}-");
        self.0.iter_mut().find(|object| {
            let own = self::name(object);
            object["kind"] == kind
                && (own == name || kind == "ConfigMap" && own.starts_with(&hashed))
        })
    }

    /// Takes objects away.
    pub fn retain(&mut self, keep: impl Fn(&Value) -> bool) {
        self.0.retain(keep);
    }

    /// Adds one.
    pub fn push(&mut self, object: Value) {
        self.0.push(object);
    }

    /// All that make pods.
    pub fn workloads(&self) -> impl Iterator<Item = Workload<'_>> {
        self.0.iter().filter_map(|object| {
            let template = match text(&object["kind"]) {
                "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => "/spec/template",
                "CronJob" => "/spec/jobTemplate/spec/template",
                _ => return None,
            };
            Some(Workload { object, template: object.pointer(template).unwrap_or(&Value::Null) })
        })
    }
}

impl<'a> Workload<'a> {
    /// `Kind/name`.
    pub fn id(&self) -> String {
        id(self.object)
    }

    /// The pods' specification.
    pub fn pod(&self) -> &'a Value {
        &self.template["spec"]
    }

    /// The pods' labels.
    pub fn labels(&self) -> &'a Value {
        &self.template["metadata"]["labels"]
    }

    /// The name by which parts are told from each other.
    pub fn part(&self) -> &'a str {
        text(&self.labels()["app.kubernetes.io/name"])
    }

    /// Does it run until it is told to stop?
    pub fn serves(&self) -> bool {
        !matches!(text(&self.object["kind"]), "Job" | "CronJob")
    }

    /// Its containers, those before the start among them.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        list(&self.pod()["initContainers"]).iter().chain(list(&self.pod()["containers"]))
    }

    /// Its ports: name and number.
    pub fn ports(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.containers()
            .flat_map(|container| list(&container["ports"]))
            .map(|port| (text(&port["name"]), port["containerPort"].as_u64().unwrap_or_default()))
    }

    /// Has it this port, by name or number?
    pub fn has_port(&self, port: &Value) -> bool {
        self.ports().any(|(name, number)| *port == name || *port == number)
    }
}

/// `Kind/name`.
pub fn id(object: &Value) -> String {
    format!("{}/{}", text(&object["kind"]), name(object))
}

/// The object's name.
pub fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

/// A text; empty where there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list; empty where there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Does a label selector take these labels? An empty one takes all.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = list(&selector["matchExpressions"]);
    pairs.into_iter().all(|(key, value)| labels[key] == *value)
        && expressions.iter().all(|expression| {
            let value = &labels[text(&expression["key"])];
            let among = list(&expression["values"]).contains(value);
            match text(&expression["operator"]) {
                "In" => among,
                "NotIn" => !among,
                "Exists" => !value.is_null(),
                "DoesNotExist" => value.is_null(),
                other => panic!("{other} is no operator of a selector"),
            }
        })
}

/// A quantity in its base unit: cores or bytes.
pub fn quantity(value: &Value) -> Option<f64> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let digits = text.find(|character: char| !matches!(character, '0'..='9' | '.'));
    let (number, suffix) = text.split_at(digits.unwrap_or(text.len()));
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        let read = |value| quantity(&value).unwrap();
        assert!((read(json!("250m")) - 0.25).abs() < 1e-9);
        assert!((read(json!("1.5Gi")) - 1_610_612_736.0).abs() < 1e-9);
        assert!((read(json!(2)) - 2.0).abs() < 1e-9);
        assert_eq!(quantity(&json!("2 apples")), None);
    }

    #[test]
    fn a_selector_takes_what_it_says() {
        let labels = json!({"app": "a", "tier": "back"});
        assert!(selects(&json!({}), &labels));
        assert!(!selects(&json!({"matchLabels": {"app": "b"}}), &labels));
        let among = |values| json!({"matchExpressions": [{"key": "app", "operator": "In", "values": values}]});
        assert!(selects(&among(["a", "b"]), &labels));
        assert!(!selects(&among(["c", "d"]), &labels));
    }
}
