//! An image of one platform: layers, configuration, manifest.
//!
//! Source: OCI image specification 1.1, config.md and manifest.md.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::Context;
use oci_spec::image::{
    Arch, Config, ConfigBuilder, Descriptor, History, HistoryBuilder, ImageConfiguration,
    ImageConfigurationBuilder, ImageManifestBuilder, MediaType, Os, PlatformBuilder, RootFsBuilder,
};

use crate::{
    Result,
    layer::{Entries, Layer, Owner},
    layout::Layout,
    referrers::Referrers,
};

/// What an image is made of.
#[derive(Debug)]
pub struct Plan {
    /// The image's name.
    pub name: String,
    /// Its version: tag and label.
    pub version: String,
    /// When what it is made of was locked, as RFC 3339 writes it. The time of the build would change every digest.
    pub created: String,
    /// The architecture as OCI names it, e.g. amd64.
    pub architecture: String,
    /// The layers from the lowest, each with the name that the history shows.
    pub layers: Vec<(String, Entries)>,
    /// What is run, and how.
    pub process: Process,
}

/// The configuration's part on the process. What is empty is left out.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// User and group, as numbers: Kubernetes' runAsNonRoot takes no names.
    pub user: String,
    /// The program with its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a user replaces.
    pub command: Vec<String>,
    /// `NAME=VALUE` each.
    pub environment: Vec<String>,
    /// `PORT/tcp` each.
    pub ports: Vec<String>,
    /// Folders that are written to.
    pub volumes: Vec<String>,
    /// The signal that ends the process in order, when it is not SIGTERM.
    pub stop_signal: Option<String>,
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The manifest's digest: the image's.
    pub digest: String,
    /// The compressed size of each layer in bytes.
    pub layers: Vec<u64>,
}

/// Builds the image into a layout at `output`.
pub fn build(plan: &Plan, output: &Path) -> Result<Built> {
    let mut layers = Vec::with_capacity(plan.layers.len());
    let (last, lower) = plan
        .layers
        .split_last()
        .context("an image of no layer: give --layer, and what is in it")?;
    for (name, entries) in lower {
        layers.push((entries.pack()?, name.as_str()));
    }
    let mut entries = last.1.clone();
    for (path, owner) in owned_volumes(&plan.process)? {
        entries.own_folder(&path, owner)?;
    }
    layers.push((entries.pack()?, last.0.as_str()));
    let layout = Layout::create(output)?;
    let mut descriptors = Vec::with_capacity(layers.len());
    for (layer, _) in &layers {
        descriptors.push(layout.add(MediaType::ImageLayerGzip, &layer.blob)?);
    }
    let config = layout.add_json(MediaType::ImageConfig, &configuration(plan, &layers)?)?;
    let sizes = descriptors.iter().map(Descriptor::size).collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(descriptors)
        .build()?;
    let mut manifest = layout.add_json(MediaType::ImageManifest, &manifest)?;
    let platform = PlatformBuilder::default()
        .os(Os::Linux)
        .architecture(Arch::from(plan.architecture.as_str()))
        .build()?;
    manifest.set_platform(Some(platform));
    let digest = manifest.digest().to_string();
    layout.finish(manifest, &format!("{}:{}", plan.name, plan.version), &Referrers::new())?;
    Ok(Built { digest, layers: sizes })
}

/// The folders that the process writes to, in the image, with its user: docker gives a fresh volume the owner of the folder
/// that it is mounted on.
fn owned_volumes(process: &Process) -> Result<Vec<(PathBuf, Owner)>> {
    let owned = |volume: &String| {
        let ids = process.user.split_once(':').and_then(|(user, group)| {
            Some(Owner { user: user.parse().ok()?, group: group.parse().ok()? })
        });
        let owner = ids.with_context(|| {
            format!("--volume {volume} needs --user UID:GID in numbers, not {:?}", process.user)
        })?;
        let path = Path::new(volume).strip_prefix("/");
        Ok((
            path.with_context(|| format!("--volume {volume} is no absolute path"))?.to_owned(),
            owner,
        ))
    };
    process.volumes.iter().map(owned).collect()
}

fn configuration(plan: &Plan, layers: &[(Layer, &str)]) -> Result<ImageConfiguration> {
    let diff_ids: Vec<_> =
        layers.iter().map(|(layer, _)| format!("sha256:{}", layer.diff_id)).collect();
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?;
    let history = layers.iter().map(|(_, what)| history(plan, what)).collect::<Result<Vec<_>>>()?;
    Ok(ImageConfigurationBuilder::default()
        .created(plan.created.as_str())
        .architecture(Arch::from(plan.architecture.as_str()))
        .os(Os::Linux)
        .config(process(plan)?)
        .rootfs(rootfs)
        .history(history)
        .build()?)
}

fn process(plan: &Plan) -> Result<Config> {
    let process = &plan.process;
    let mut config = ConfigBuilder::default()
        .user(process.user.as_str())
        .env(process.environment.clone())
        .entrypoint(process.entrypoint.clone())
        .working_dir("/")
        .labels(HashMap::from([
            ("org.opencontainers.image.title".to_owned(), plan.name.clone()),
            ("org.opencontainers.image.version".to_owned(), plan.version.clone()),
            ("org.opencontainers.image.created".to_owned(), plan.created.clone()),
        ]))
        .build()?;
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    config.set_cmd(some(&process.command));
    config.set_exposed_ports(some(&process.ports));
    config.set_volumes(some(&process.volumes));
    config.set_stop_signal(process.stop_signal.clone());
    Ok(config)
}

fn history(plan: &Plan, what: &str) -> Result<History> {
    Ok(HistoryBuilder::default()
        .created(plan.created.as_str())
        .created_by(format!("stockyard oci-image: {what} layer"))
        .build()?)
}
