//! Holds a layout against the specification and against itself: every descriptor against its blob, every layer against
//! its diff id, every referrer against its subject, no blob that nothing points to, nothing hostile in a layer.
//!
//! Sources: OCI image specification 1.1 (image-layout, descriptor, manifest, image index, layer), OCI distribution
//! specification 1.1 (referrers tag schema), RFC 1952 (gzip).

mod layer;

use std::{collections::BTreeSet, fs, path::Path};

use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    layout::{LARGEST_BLOB, LARGEST_DOCUMENT, Layout, ref_name},
    referrers::{self, IN_TOTO, SPDX},
};

/// How deep indexes may lie in each other; ours lie one deep.
const DEEPEST: usize = 4;

/// What is wrong with a layout: one sentence a fault; empty when nothing is.
pub fn faults(folder: &Path) -> Vec<String> {
    let mut check = Check {
        layout: Layout::open(folder),
        seen: BTreeSet::new(),
        subjects: Vec::new(),
        listed: BTreeSet::new(),
        faults: Vec::new(),
    };
    check.run();
    check.faults
}

struct Check {
    layout: Layout,
    /// Blobs that something points to, by digest; each is looked at once, however often it is named.
    seen: BTreeSet<String>,
    /// Each artifact with what it refers to, in hex.
    subjects: Vec<(Descriptor, Descriptor)>,
    /// Pairs of subject and artifact, in hex, that a list of referrers has.
    listed: BTreeSet<(String, String)>,
    faults: Vec<String>,
}

impl Check {
    fn fault(&mut self, what: &str, why: impl std::fmt::Display) {
        self.faults.push(format!("{what}: {why}"));
    }

    fn run(&mut self) {
        match OciLayout::from_file(self.layout.folder().join("oci-layout")) {
            Ok(layout) if layout.image_layout_version() == "1.0.0" => {}
            Ok(layout) => self.fault(
                "oci-layout",
                format!("version {} is not 1.0.0", layout.image_layout_version()),
            ),
            Err(error) => self.fault("oci-layout", error),
        }
        match self.layout.index() {
            Ok(index) => {
                self.index("index.json", &index, 0);
                self.names(&index);
            }
            Err(error) => self.fault("index.json", format!("{error:#}")),
        }
        self.referrers();
        self.dangling();
    }

    fn index(&mut self, name: &str, index: &ImageIndex, depth: usize) {
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
            let Ok(list) = self.layout.document::<ImageIndex>(descriptor) else {
                self.fault(name, "it is no list of referrers");
                continue;
            };
            let listed = list.manifests().iter().filter_map(Descriptor::as_digest_sha256);
            self.listed.extend(listed.map(|artifact| (subject.to_owned(), artifact.to_owned())));
        }
    }

    /// A manifest or a nested index.
    fn manifest(&mut self, descriptor: &Descriptor, depth: usize) {
        let name = descriptor.digest().to_string();
        if depth == DEEPEST {
            self.fault(&name, format!("it lies more than {DEEPEST} indexes deep"));
            return;
        }
        let known = self.is_known(descriptor);
        match descriptor.media_type() {
            MediaType::ImageIndex => {
                let Some(index) = self.document::<ImageIndex>(descriptor) else { return };
                // An index that names another many times, deep down, would take for ever.
                if !known {
                    self.index(&name, &index, depth + 1);
                }
            }
            MediaType::ImageManifest => {
                let Some(manifest) = self.document::<ImageManifest>(descriptor) else { return };
                if !known {
                    self.image(&name, descriptor, &manifest);
                }
            }
            other => self.fault(
                &name,
                format!("its media type is {other}, neither a manifest's nor an index's"),
            ),
        }
    }

    fn image(&mut self, name: &str, descriptor: &Descriptor, manifest: &ImageManifest) {
        if let Some(subject) = manifest.subject() {
            self.subjects.push((descriptor.clone(), subject.clone()));
        }
        if *manifest.config().media_type() != MediaType::ImageConfig {
            return self.artifact(name, manifest);
        }
        let Some(config) = self.document::<ImageConfiguration>(manifest.config()) else { return };
        if let Some(platform) = descriptor.platform() {
            if (platform.os(), platform.architecture()) != (config.os(), config.architecture()) {
                self.fault(name, "its descriptor and its configuration name different platforms");
            }
        }
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
    }

    /// An artifact, such as an SBOM: its parts are blobs of any kind; those that we know are read.
    fn artifact(&mut self, name: &str, manifest: &ImageManifest) {
        if manifest.artifact_type().is_none() {
            self.fault(name, "it is neither an image nor an artifact with a type");
        }
        self.blob(manifest.config(), LARGEST_DOCUMENT);
        for part in manifest.layers() {
            let Some(bytes) = self.blob(part, LARGEST_BLOB) else { continue };
            let kind = part.media_type().to_string();
            if kind != SPDX && kind != IN_TOTO {
                continue;
            }
            let document = match serde_json::from_slice::<Value>(&bytes) {
                Ok(document) => document,
                Err(error) => {
                    self.fault(part.digest().as_ref(), format!("it is no JSON: {error}"));
                    continue;
                }
            };
            if !names_subject(&document, manifest.subject().as_ref()) {
                self.fault(part.digest().as_ref(), "it tells of another image than it hangs on");
            }
        }
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
        let Some(bytes) = self.blob(descriptor, LARGEST_BLOB) else { return };
        for fault in layer::faults(&bytes, diff_id) {
            self.fault(&name, fault);
        }
    }

    /// Every artifact's subject is there, and a client without the referrers API finds the artifact by its tag.
    fn referrers(&mut self) {
        let mut refer = BTreeSet::new();
        for (artifact, subject) in std::mem::take(&mut self.subjects) {
            let name = artifact.digest().to_string();
            if let Err(error) = self.layout.blob(&subject, LARGEST_DOCUMENT) {
                self.fault(&name, format!("it refers to {}: {error:#}", subject.digest()));
            }
            let hex = |descriptor: &Descriptor| descriptor.digest().digest().to_owned();
            let pair = (hex(&subject), hex(&artifact));
            if !self.listed.contains(&pair) {
                self.fault(&name, format!("no list of referrers named sha256-{} has it", pair.0));
            }
            refer.insert(pair);
        }
        for (subject, artifact) in std::mem::take(&mut self.listed).difference(&refer) {
            self.fault(&format!("sha256-{subject}"), format!("{artifact} does not refer to it"));
        }
    }

    fn document<T: DeserializeOwned>(&mut self, descriptor: &Descriptor) -> Option<T> {
        let bytes = self.blob(descriptor, LARGEST_DOCUMENT)?;
        match serde_json::from_slice(&bytes) {
            Ok(document) => Some(document),
            Err(error) => {
                self.fault(
                    descriptor.digest().as_ref(),
                    format!("it is no {}: {error}", descriptor.media_type()),
                );
                None
            }
        }
    }

    /// A blob's bytes, if they are what the descriptor says.
    fn blob(&mut self, descriptor: &Descriptor, largest: u64) -> Option<Vec<u8>> {
        self.seen.extend(descriptor.as_digest_sha256().map(str::to_owned));
        match self.layout.blob(descriptor, largest) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.fault(descriptor.digest().as_ref(), format!("{error:#}"));
                None
            }
        }
    }

    fn is_known(&self, descriptor: &Descriptor) -> bool {
        descriptor.as_digest_sha256().is_some_and(|digest| self.seen.contains(digest))
    }

    fn dangling(&mut self) {
        let blobs = match fs::read_dir(self.layout.folder().join("blobs/sha256")) {
            Ok(blobs) => blobs,
            Err(error) => return self.fault("blobs/sha256", error),
        };
        let names = blobs.flatten().map(|blob| blob.file_name().to_string_lossy().into_owned());
        let mut dangling: Vec<_> = names.filter(|name| !self.seen.contains(name)).collect();
        dangling.sort();
        for name in dangling {
            self.fault(&format!("blobs/sha256/{name}"), "nothing points to it");
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
