//! Runs kustomize on copies of the manifests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::Manifests;

/// An overlay with its components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combination {
    /// The overlay's folder.
    pub overlay: String,
    /// The components' folders.
    pub components: Vec<String>,
}

impl Combination {
    /// Those of tests/policy/combinations.txt; the first two are the overlays as they are.
    pub fn all() -> Result<Vec<Self>> {
        let text = fs::read_to_string(repository().join("tests/policy/combinations.txt"))?;
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let combination = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let overlay = words.next().context("a line names no overlay")?;
            Ok(Self { overlay, components: words.collect() })
        };
        lines.map(combination).collect()
    }

    /// The overlay as it is committed.
    pub fn of_overlay(overlay: &str) -> Result<Self> {
        let own = Self::all()?.into_iter().find(|combination| combination.overlay == overlay);
        own.with_context(|| format!("combinations.txt has no {overlay}"))
    }

    /// Renders it. A warning is an error.
    pub fn render(&self) -> Result<Manifests> {
        let folder = TempDir::new()?;
        let root = repository();
        let copied = Command::new("/bin/sh")
            .arg(root.join("tests/policy/combine.sh"))
            .arg(folder.path())
            .arg(&self.overlay)
            .args(&self.components)
            .status()
            .context("/bin/sh does not start")?;
        ensure!(copied.success(), "combine.sh failed for {self:?}");
        Manifests::parse(&build(&folder.path().join("overlays").join(&self.overlay))?)
    }
}

/// An overlay as it is committed, rendered.
pub fn overlay(name: &str) -> Result<Manifests> {
    Combination::of_overlay(name)?.render()
}

/// What kustomize writes for a folder. A warning is an error.
pub fn build(folder: &Path) -> Result<String> {
    let program = env::var("STOCKYARD_KUSTOMIZE").unwrap_or_else(|_| "kustomize".to_owned());
    let output = Command::new(&program).arg("build").arg(folder).output().with_context(|| {
        format!("{program} does not start: put kustomize on the PATH, or its path into STOCKYARD_KUSTOMIZE")
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", folder.display());
    Ok(String::from_utf8(output.stdout)?)
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
