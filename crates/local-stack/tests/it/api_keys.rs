//! The gateway's API keys, in a file that a test changes.

use std::{fs, path::PathBuf};

use local_stack::Stack;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::start_with;

pub(crate) struct Keys(TempDir);

impl Keys {
    pub(crate) fn new(keys: &[Value]) -> Self {
        let made = Self(TempDir::new().unwrap());
        made.write(&json!(keys).to_string());
        made
    }

    pub(crate) fn write(&self, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("keys.json")
    }

    pub(crate) async fn stack(&self, state: &TempDir, settings: &[(&str, &str)]) -> Stack {
        let file = self.file().display().to_string();
        start_with(state, &[&[("API_KEYS_FILE", &*file)], settings].concat()).await
    }
}

/// A key whose text is its name.
pub(crate) fn key(text: &str, may: &str, requests_per_second: u32) -> Value {
    named(text, text, may, requests_per_second)
}

/// A key with this text.
pub(crate) fn named(name: &str, text: &str, may: &str, requests_per_second: u32) -> Value {
    let sha256: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"name": name, "sha256": sha256, "may": may, "requests_per_second": requests_per_second})
}
