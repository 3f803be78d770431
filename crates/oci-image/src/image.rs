//! An image of one program: a base layer that images share, and a layer with the program.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, History, HistoryBuilder, ImageConfigurationBuilder,
    ImageManifestBuilder, MediaType, Os, PlatformBuilder, RootFsBuilder,
};

use crate::{
    Result,
    layer::{Entries, Layer},
    layout::Layout,
};

/// A constant time: a real one would change every digest.
const CREATED: &str = "1970-01-01T00:00:01Z";
/// The user and group `nonroot`.
const USER: &str = "65532:65532";
/// The annotation that names an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The image's and the program's name.
    pub name: String,
    /// The architecture as OCI names it, e.g. amd64.
    pub architecture: String,
    /// The tree of the base layer.
    pub base: PathBuf,
    /// Modes of entries in the base layer that differ from the usual.
    pub modes: Vec<(PathBuf, u32)>,
    /// The program; it stands at `/bin/NAME`.
    pub binary: PathBuf,
    /// The version, for the label.
    pub version: String,
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
    let mut base = Entries::of_tree(&plan.base)?;
    for (path, mode) in &plan.modes {
        base.set_mode(path, *mode)?;
    }
    let program = Entries::of_program(&plan.binary, &Path::new("bin").join(&plan.name))?;
    let layers = [(base.pack()?, "base"), (program.pack()?, "application")];

    let layout = Layout::create(output)?;
    let mut descriptors = Vec::with_capacity(layers.len());
    for (layer, _) in &layers {
        descriptors.push(layout.add(MediaType::ImageLayerGzip, &layer.blob)?);
    }
    let config = layout.add(MediaType::ImageConfig, configuration(plan, &layers)?.as_bytes())?;
    let sizes = descriptors.iter().map(Descriptor::size).collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(descriptors)
        .build()?;
    let mut manifest = layout.add(MediaType::ImageManifest, manifest.to_string()?.as_bytes())?;
    let platform = PlatformBuilder::default()
        .os(Os::Linux)
        .architecture(Arch::from(plan.architecture.as_str()))
        .build()?;
    manifest.set_platform(Some(platform));
    manifest.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), plan.name.clone())])));
    let digest = manifest.digest().to_string();
    layout.finish(vec![manifest])?;
    Ok(Built { digest, layers: sizes })
}

/// The configuration as text with its labels sorted: a map of its own order would change the digest from run to run.
fn configuration(plan: &Plan, layers: &[(Layer, &str)]) -> Result<String> {
    let config = ConfigBuilder::default()
        .user(USER)
        .exposed_ports(vec!["8080/tcp".to_owned(), "9090/tcp".to_owned()])
        .env(vec![
            "PATH=/bin".to_owned(),
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt".to_owned(),
        ])
        .entrypoint(vec![format!("/bin/{}", plan.name)])
        .working_dir("/")
        .labels(HashMap::from([
            ("org.opencontainers.image.title".to_owned(), plan.name.clone()),
            ("org.opencontainers.image.version".to_owned(), plan.version.clone()),
        ]))
        .build()?;
    let diff_ids: Vec<_> =
        layers.iter().map(|(layer, _)| format!("sha256:{}", layer.diff_id)).collect();
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?;
    let history = layers.iter().map(|(_, what)| history(what)).collect::<Result<Vec<_>>>()?;
    let configuration = ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(Arch::from(plan.architecture.as_str()))
        .os(Os::Linux)
        .config(config)
        .rootfs(rootfs)
        .history(history)
        .build()?;
    // serde_json's own map is sorted.
    Ok(serde_json::to_value(&configuration)?.to_string())
}

fn history(what: &str) -> Result<History> {
    Ok(HistoryBuilder::default()
        .created(CREATED)
        .created_by(format!("stockyard oci-image: {what} layer"))
        .build()?)
}
