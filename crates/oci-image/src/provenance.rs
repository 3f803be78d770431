//! Where an image comes from: an in-toto statement with a SLSA provenance predicate.
//!
//! It holds no time and no run's name: the same inputs give the same statement, and so the same layout.
//!
//! Source: in-toto attestation framework, Statement v1; SLSA provenance v1, <https://slsa.dev/spec/v1.0/provenance>.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::Context;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde_json::{Value, json};

use crate::{Result, index::platform, inputs, layer::sha256, layout::Layout};

/// What was built from what, by whom.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// The URI of the builder.
    pub builder: String,
    /// The URI of the kind of build, which says what the parameters mean.
    pub build_type: String,
    /// What the user chose, e.g. the flake's output.
    pub parameters: BTreeMap<String, String>,
    /// Files whose digest pins further inputs, by name: flake.lock, debs.lock.
    pub locks: Vec<(String, PathBuf)>,
    /// A Cargo.lock: it, and each registry crate in it.
    pub cargo_lock: Option<PathBuf>,
    /// Folders of sources by name.
    pub sources: Vec<(String, PathBuf)>,
    /// Lists of the system's packages (see [`inputs::components`]).
    pub components: Vec<PathBuf>,
}

/// The statement on the layout's image and, when it is for several platforms, on each of them.
pub fn statement(layout: &Layout, build: &Build) -> Result<Value> {
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(layout)?,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": build.build_type,
                "externalParameters": build.parameters,
                "resolvedDependencies": dependencies(build)?,
            },
            "runDetails": {"builder": {"id": build.builder}},
        },
    }))
}

fn subjects(layout: &Layout) -> Result<Vec<Value>> {
    let (image, name) = layout.image()?;
    let mut subjects = vec![subject(&name, &image)];
    if *image.media_type() == MediaType::ImageIndex {
        let index: ImageIndex = layout.document(&image)?;
        for manifest in index.manifests() {
            subjects.push(subject(&format!("{name} {}", platform(manifest)), manifest));
        }
    }
    Ok(subjects)
}

fn subject(name: &str, descriptor: &Descriptor) -> Value {
    json!({"name": name, "digest": {"sha256": descriptor.digest().digest()}})
}

fn dependencies(build: &Build) -> Result<Vec<Value>> {
    let mut dependencies = Vec::new();
    for (name, folder) in &build.sources {
        dependencies.push(json!({"name": name, "digest": {"dirHash": inputs::dir_hash(folder)?}}));
    }
    let cargo_lock = build.cargo_lock.as_ref().map(|file| ("Cargo.lock".to_owned(), file.clone()));
    for (name, file) in build.locks.iter().chain(&cargo_lock) {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        dependencies.push(json!({"name": name, "digest": {"sha256": sha256(&bytes)}}));
    }
    if let Some(file) = &build.cargo_lock {
        for package in inputs::cargo_lock(file)? {
            let Some(checksum) = package.checksum else { continue };
            let uri = inputs::crate_url(&package.name, &package.version)?;
            dependencies.push(json!({"uri": uri, "digest": {"sha256": checksum}}));
        }
    }
    for file in &build.components {
        for component in inputs::components(file)? {
            let mut dependency = json!({"uri": component.url()?});
            if let Some(sha256) = component.sha256 {
                dependency["digest"] = json!({"sha256": sha256});
            }
            dependencies.push(dependency);
        }
    }
    Ok(dependencies)
}
