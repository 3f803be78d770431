//! Holds a layout against the specification and against itself: every descriptor against its blob, every layer against
//! its diff id, every referrer against its subject, no blob that nothing points to, nothing hostile in a layer.
//!
//! It takes bounded memory, and time that grows with the layout's size alone: a blob is read once, however often it is
//! named, and all layers together unpack to at most [`LARGEST_UNPACKED`].
//!
//! Sources: OCI image specification 1.1 (image-layout, descriptor, manifest, image index, layer), OCI distribution
//! specification 1.1 (referrers tag schema), RFC 1952 (gzip).

mod layer;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    path::Path,
};

use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    index::platform,
    layout::{LARGEST_BLOB, LARGEST_DOCUMENT, Layout, read_file, ref_name},
    referrers::{self, IN_TOTO, SPDX},
};

/// How deep indexes may lie in each other; ours lie one deep.
const DEEPEST: usize = 4;
/// What all layers may have in bytes, uncompressed: small blobs may not become endless ones.
pub const LARGEST_UNPACKED: u64 = 16 << 30;
/// How many faults are told.
const MOST_FAULTS: usize = 100;

/// What is wrong with a layout: one sentence a fault; empty when nothing is.
pub fn faults(folder: &Path) -> Vec<String> {
    let mut check = Check {
        layout: Layout::open(folder),
        blobs: BTreeMap::new(),
        manifests: BTreeMap::new(),
        diff_ids: BTreeMap::new(),
        unpacked: 0,
        subjects: BTreeSet::new(),
        listed: BTreeSet::new(),
        faults: Vec::new(),
    };
    check.run();
    check.faults
}

/// A manifest or an index that was read.
struct Manifest {
    media_type: MediaType,
    /// Of an image, what its configuration says.
    platform: Option<String>,
    /// Of an artifact.
    artifact_type: Option<String>,
    /// Of an index, the digests that it names.
    children: Vec<String>,
}

struct Check {
    layout: Layout,
    /// The blobs that something points to, by SHA-256 in hex, with their length where it was good.
    blobs: BTreeMap<String, Option<u64>>,
    /// Manifests and indexes that were looked at, by SHA-256 in hex; none where one cannot be read.
    manifests: BTreeMap<String, Option<Manifest>>,
    /// The diff id of each layer that was looked at, by SHA-256 in hex; none where it cannot be read.
    diff_ids: BTreeMap<String, Option<String>>,
    unpacked: u64,
    /// Pairs of subject and artifact, in hex, as the artifacts say.
    subjects: BTreeSet<(String, String)>,
    /// The same, as the lists of referrers say.
    listed: BTreeSet<(String, String)>,
    faults: Vec<String>,
}

impl Check {
    fn fault(&mut self, what: &str, why: impl std::fmt::Display) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(format!("{what}: {why}"));
        }
    }

    fn run(&mut self) {
        self.version();
        match self.layout.index() {
            Ok(index) => {
                self.children("index.json", &index, 0);
                self.names(&index);
            }
            Err(error) => self.fault("index.json", format!("{error:#}")),
        }
        self.referrers();
        self.dangling();
    }

    fn version(&mut self) {
        let bytes = read_file(&self.layout.folder().join("oci-layout"), LARGEST_DOCUMENT);
        match bytes.and_then(|bytes| Ok(serde_json::from_slice::<OciLayout>(&bytes)?)) {
            Ok(layout) if layout.image_layout_version() == "1.0.0" => {}
            Ok(layout) => self.fault(
                "oci-layout",
                format!("version {} is not 1.0.0", layout.image_layout_version()),
            ),
            Err(error) => self.fault("oci-layout", format!("{error:#}")),
        }
    }

    fn children(&mut self, name: &str, index: &ImageIndex, depth: usize) {
        if index.schema_version() != 2 {
            self.fault(name, "its schemaVersion is not 2");
        }
        for descriptor in index.manifests() {
            self.manifest(descriptor, depth);
        }
    }

    /// What the layout's names promise: each once, and those of the form sha256-DIGEST list referrers.
    fn names(&mut self, index: &ImageIndex) {
        let mut names = BTreeSet::new();
        for descriptor in index.manifests() {
            let Some(name) = ref_name(descriptor) else { continue };
            if !names.insert(name) {
                self.fault("index.json", format!("the name {name} stands twice"));
            }
            let Some(subject) = referrers::subject(name) else { continue };
            let list = self.manifests.get(descriptor.digest().digest());
            let Some(list) = list
                .and_then(Option::as_ref)
                .filter(|list| list.media_type == MediaType::ImageIndex)
            else {
                self.fault(name, "it is no list of referrers");
                continue;
            };
            let pairs = list.children.iter().map(|child| (subject.to_owned(), child.clone()));
            self.listed.extend(pairs.collect::<Vec<_>>());
        }
    }

    /// A manifest or a nested index: read once, and held against what each descriptor says of it.
    fn manifest(&mut self, descriptor: &Descriptor, depth: usize) {
        let name = descriptor.digest().to_string();
        if depth == DEEPEST {
            self.fault(&name, format!("it lies more than {DEEPEST} indexes deep"));
            return;
        }
        if let Entry::Vacant(place) = self.manifests.entry(descriptor.digest().digest().to_owned())
        {
            place.insert(None);
            match descriptor.media_type() {
                MediaType::ImageIndex => self.index(&name, descriptor, depth),
                MediaType::ImageManifest => self.image(&name, descriptor),
                other => {
                    return self.fault(
                        &name,
                        format!("its media type is {other}, neither a manifest's nor an index's"),
                    );
                }
            }
        }
        self.size(descriptor);
        let known = self.manifests.get(descriptor.digest().digest());
        let Some(known) = known.and_then(Option::as_ref) else { return };
        let named = descriptor.platform().is_some().then(|| platform(descriptor));
        let typed = descriptor.artifact_type().as_ref().map(ToString::to_string);
        if known.media_type != *descriptor.media_type() {
            self.fault(&name, "its descriptors have different media types");
        } else if named.is_some() && known.platform.is_some() && named != known.platform {
            self.fault(&name, "its descriptor and its configuration name different platforms");
        } else if typed.is_some() && typed != known.artifact_type {
            self.fault(&name, "its descriptor and its manifest name different artifact types");
        }
    }

    fn index(&mut self, name: &str, descriptor: &Descriptor, depth: usize) {
        let Some(index) = self.document::<ImageIndex>(descriptor) else { return };
        self.subject(descriptor, index.subject().as_ref());
        let children = index.manifests().iter().map(|child| child.digest().digest().to_owned());
        self.manifests.insert(
            descriptor.digest().digest().to_owned(),
            Some(Manifest {
                media_type: MediaType::ImageIndex,
                platform: None,
                artifact_type: index.artifact_type().as_ref().map(ToString::to_string),
                children: children.collect(),
            }),
        );
        self.children(name, &index, depth + 1);
    }

    fn image(&mut self, name: &str, descriptor: &Descriptor) {
        let Some(manifest) = self.document::<ImageManifest>(descriptor) else { return };
        self.subject(descriptor, manifest.subject().as_ref());
        let platform = if *manifest.config().media_type() == MediaType::ImageConfig {
            self.layers(name, &manifest)
        } else {
            self.artifact(name, &manifest);
            None
        };
        self.manifests.insert(
            descriptor.digest().digest().to_owned(),
            Some(Manifest {
                media_type: MediaType::ImageManifest,
                platform,
                artifact_type: manifest.artifact_type().as_ref().map(ToString::to_string),
                children: Vec::new(),
            }),
        );
    }

    fn subject(&mut self, referrer: &Descriptor, subject: Option<&Descriptor>) {
        let hex = |descriptor: &Descriptor| descriptor.digest().digest().to_owned();
        self.subjects.extend(subject.map(|subject| (hex(subject), hex(referrer))));
    }

    /// An image's layers; its platform.
    fn layers(&mut self, name: &str, manifest: &ImageManifest) -> Option<String> {
        let config = self.document::<ImageConfiguration>(manifest.config())?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            self.fault(
                name,
                format!("{} layers, but {} diff ids", manifest.layers().len(), diff_ids.len()),
            );
        }
        for (layer, diff_id) in manifest.layers().iter().zip(diff_ids) {
            self.layer(layer, diff_id);
        }
        Some(format!("{}/{}", config.os(), config.architecture()))
    }

    fn layer(&mut self, descriptor: &Descriptor, diff_id: &str) {
        let name = descriptor.digest().to_string();
        if *descriptor.media_type() != MediaType::ImageLayerGzip {
            self.fault(
                &name,
                format!("its media type is {}, not that of a gzip layer", descriptor.media_type()),
            );
            return;
        }
        let key = descriptor.digest().digest().to_owned();
        if !self.diff_ids.contains_key(&key) {
            let found = self.unpack(descriptor);
            self.diff_ids.insert(key.clone(), found);
        }
        self.size(descriptor);
        if let Some(is) = self.diff_ids[&key].clone().filter(|is| is != diff_id) {
            self.fault(&name, format!("its archive is {is}, its diff id says {diff_id}"));
        }
    }

    /// Reads a layer's archive; its diff id.
    fn unpack(&mut self, descriptor: &Descriptor) -> Option<String> {
        let bytes = self.blob(descriptor, LARGEST_BLOB)?;
        let name = descriptor.digest().to_string();
        match layer::read(&bytes, LARGEST_UNPACKED - self.unpacked) {
            Ok(found) => {
                self.unpacked += found.length;
                for fault in found.faults {
                    self.fault(&name, fault);
                }
                Some(found.diff_id)
            }
            Err(error) => {
                self.fault(&name, format!("its archive cannot be read: {error}"));
                None
            }
        }
    }

    /// An artifact, such as an SBOM: its parts are blobs of any kind; those that we know are read.
    fn artifact(&mut self, name: &str, manifest: &ImageManifest) {
        if manifest.artifact_type().is_none() {
            self.fault(name, "it is neither an image nor an artifact with a type");
        }
        self.named(manifest.config());
        for part in manifest.layers() {
            let kind = part.media_type().to_string();
            if kind != SPDX && kind != IN_TOTO {
                self.named(part);
                continue;
            }
            let Some(bytes) = self.blob(part, LARGEST_BLOB) else { continue };
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(document) if names_subject(&document, manifest.subject().as_ref()) => {}
                Ok(_) => {
                    self.fault(
                        part.digest().as_ref(),
                        "it tells of another image than it hangs on",
                    );
                }
                Err(error) => self.fault(part.digest().as_ref(), format!("it is no JSON: {error}")),
            }
        }
    }

    /// Every artifact's subject is there, and a client without the referrers API finds the artifact by its tag.
    fn referrers(&mut self) {
        let (subjects, listed) =
            (std::mem::take(&mut self.subjects), std::mem::take(&mut self.listed));
        for (subject, artifact) in &subjects {
            let name = format!("sha256:{artifact}");
            if !self.manifests.get(subject).is_some_and(Option::is_some) {
                self.fault(
                    &name,
                    format!("it refers to sha256:{subject}, which is no manifest of this layout"),
                );
            }
            if !listed.contains(&(subject.clone(), artifact.clone())) {
                self.fault(&name, format!("no list of referrers named sha256-{subject} has it"));
            }
        }
        for (subject, artifact) in listed.difference(&subjects) {
            self.fault(&format!("sha256-{subject}"), format!("{artifact} does not refer to it"));
        }
    }

    /// A document among the blobs; one with a media type of its own says the same as its descriptor.
    fn document<T: DeserializeOwned>(&mut self, descriptor: &Descriptor) -> Option<T> {
        let bytes = self.blob(descriptor, LARGEST_DOCUMENT)?;
        let kind = descriptor.media_type().to_string();
        let parsed = serde_json::from_slice::<Value>(&bytes).map_err(anyhow::Error::from);
        let parsed = parsed.and_then(|document| {
            anyhow::ensure!(
                document.get("mediaType").is_none_or(|own| *own == kind),
                "it says that it is {}",
                document["mediaType"]
            );
            // One parser would take it for an image, another for an index (CVE-2021-41190).
            anyhow::ensure!(
                document.get("manifests").is_none() || document.get("layers").is_none(),
                "it has both manifests and layers"
            );
            anyhow::ensure!(
                document.get("schemaVersion").is_none_or(|version| *version == 2),
                "its schemaVersion is not 2"
            );
            Ok(serde_json::from_value(document)?)
        });
        match parsed {
            Ok(document) => Some(document),
            Err(error) => {
                self.fault(descriptor.digest().as_ref(), format!("it is no {kind}: {error}"));
                None
            }
        }
    }

    /// A blob that is not looked into: it is there, and is what the descriptor says.
    fn named(&mut self, descriptor: &Descriptor) {
        if self.blobs.contains_key(descriptor.digest().digest()) {
            self.size(descriptor);
        } else {
            self.blob(descriptor, LARGEST_BLOB);
        }
    }

    /// A blob's bytes, if they are what the descriptor says.
    fn blob(&mut self, descriptor: &Descriptor, largest: u64) -> Option<Vec<u8>> {
        let bytes = self.layout.blob(descriptor, largest);
        if let Err(error) = &bytes {
            self.fault(descriptor.digest().as_ref(), format!("{error:#}"));
        }
        let length = bytes.as_ref().ok().map(|bytes| bytes.len() as u64);
        self.blobs.insert(descriptor.digest().digest().to_owned(), length);
        bytes.ok()
    }

    /// Another descriptor of a blob that was read.
    fn size(&mut self, descriptor: &Descriptor) {
        let length = self.blobs.get(descriptor.digest().digest()).copied().flatten();
        if length.is_some_and(|length| length != descriptor.size()) {
            self.fault(descriptor.digest().as_ref(), "its descriptors have different sizes");
        }
    }

    fn dangling(&mut self) {
        let folder = self.layout.folder().join("blobs");
        let names = |folder: &Path| -> std::io::Result<BTreeSet<String>> {
            if !fs::symlink_metadata(folder)?.is_dir() {
                return Err(std::io::Error::other("it is no folder"));
            }
            fs::read_dir(folder)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        let known = std::mem::take(&mut self.blobs);
        match (names(&folder), names(&folder.join("sha256"))) {
            (Ok(algorithms), Ok(blobs)) => {
                for other in algorithms.iter().filter(|name| *name != "sha256") {
                    self.fault(&format!("blobs/{other}"), "nothing points to it");
                }
                for name in blobs.iter().filter(|name| !known.contains_key(*name)) {
                    self.fault(&format!("blobs/sha256/{name}"), "nothing points to it");
                }
            }
            (Err(error), _) => self.fault("blobs", error),
            (_, Err(error)) => self.fault("blobs/sha256", error),
        }
    }
}

/// Does an SPDX document or an in-toto statement name the digest of what it hangs on?
fn names_subject(document: &Value, subject: Option<&Descriptor>) -> bool {
    let Some(digest) = subject.and_then(Descriptor::as_digest_sha256) else { return false };
    let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let statement = all(&document["subject"]);
    let bill = all(&document["packages"]);
    statement.iter().any(|subject| subject["digest"]["sha256"] == digest)
        || bill.iter().any(|package| package["checksums"][0]["checksumValue"] == digest)
}
