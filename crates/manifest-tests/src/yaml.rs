//! YAML as JSON's values, which are easier to ask.

use anyhow::{Context, Result, bail};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

/// Every document of a text.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    Yaml::load_from_str(text)?.iter().map(value).collect()
}

/// The one document of a text.
pub fn document(text: &str) -> Result<Value> {
    documents(text)?.pop().context("there is no document")
}

fn value(yaml: &Yaml<'_>) -> Result<Value> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => (*truth).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::FloatingPoint(number)) => number.into_inner().into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(value).collect::<Result<_>>()?,
        Yaml::Mapping(fields) => {
            let field = |(key, field): (&Yaml<'_>, &Yaml<'_>)| match key {
                Yaml::Value(Scalar::String(key)) => Ok((key.to_string(), value(field)?)),
                other => bail!("a key is no text: {other:?}"),
            };
            Value::Object(fields.iter().map(field).collect::<Result<_>>()?)
        }
        other => bail!("not plain YAML: {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_keep_their_kinds() {
        let text = "a: 1\nb: [1.5, \"2\", true, ~]\nc: \"off\"\n---\nd: {e: 5m}\n";
        let expected =
            [json!({"a": 1, "b": [1.5, "2", true, null], "c": "off"}), json!({"d": {"e": "5m"}})];
        assert_eq!(documents(text).unwrap(), expected);
        assert!(documents("a: [").is_err());
    }
}
