//! Holds a layout against the specification and against itself: every descriptor against its blob, every layer against
//! its diff id, no blob that nothing points to, nothing hostile in a layer.
//!
//! Sources: OCI image specification 1.1 (image-layout, descriptor, manifest, image index, layer), RFC 1952 (gzip).

mod layer;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout,
};

use crate::layer::sha256;

/// How deep indexes may lie in each other; ours lie one deep.
const DEEPEST: usize = 4;
/// The largest manifest, index or configuration in bytes: what registries take.
const LARGEST_DOCUMENT: u64 = 4 << 20;
/// The largest layer in bytes, compressed.
const LARGEST_LAYER: u64 = 1 << 30;

/// What is wrong with a layout: one sentence a fault; empty when nothing is.
pub fn faults(folder: &Path) -> Vec<String> {
    let mut check = Check { folder: folder.to_owned(), seen: BTreeSet::new(), faults: Vec::new() };
    check.layout();
    check.faults
}

struct Check {
    folder: PathBuf,
    /// Blobs that something points to, by digest.
    seen: BTreeSet<String>,
    faults: Vec<String>,
}

impl Check {
    fn fault(&mut self, what: &str, why: impl std::fmt::Display) {
        self.faults.push(format!("{what}: {why}"));
    }

    fn layout(&mut self) {
        match OciLayout::from_file(self.folder.join("oci-layout")) {
            Ok(layout) if layout.image_layout_version() == "1.0.0" => {}
            Ok(layout) => self.fault(
                "oci-layout",
                format!("version {} is not 1.0.0", layout.image_layout_version()),
            ),
            Err(error) => self.fault("oci-layout", error),
        }
        match ImageIndex::from_file(self.folder.join("index.json")) {
            Ok(index) => self.index("index.json", &index, 0),
            Err(error) => self.fault("index.json", error),
        }
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

    /// A manifest or a nested index.
    fn manifest(&mut self, descriptor: &Descriptor, depth: usize) {
        let name = descriptor.digest().to_string();
        if depth == DEEPEST {
            self.fault(&name, format!("it lies more than {DEEPEST} indexes deep"));
            return;
        }
        let Some(bytes) = self.blob(descriptor, LARGEST_DOCUMENT) else { return };
        match descriptor.media_type() {
            MediaType::ImageIndex => match ImageIndex::from_reader(bytes.as_slice()) {
                Ok(index) => self.index(&name, &index, depth + 1),
                Err(error) => self.fault(&name, format!("it is no image index: {error}")),
            },
            MediaType::ImageManifest => match ImageManifest::from_reader(bytes.as_slice()) {
                Ok(manifest) => self.image(&name, descriptor, &manifest),
                Err(error) => self.fault(&name, format!("it is no image manifest: {error}")),
            },
            other => self.fault(
                &name,
                format!("its media type is {other}, neither a manifest's nor an index's"),
            ),
        }
    }

    fn image(&mut self, name: &str, descriptor: &Descriptor, manifest: &ImageManifest) {
        if let Some(subject) = manifest.subject() {
            let digest = subject.digest().to_string();
            if !self.path(subject).is_some_and(|path| path.is_file()) {
                self.fault(name, format!("it refers to {digest}, which is not there"));
            }
        }
        let config = self.blob(manifest.config(), LARGEST_DOCUMENT);
        if *manifest.config().media_type() != MediaType::ImageConfig {
            // An artifact, such as an SBOM: its parts are blobs of any kind.
            for part in manifest.layers() {
                self.blob(part, LARGEST_LAYER);
            }
            return;
        }
        let Some(config) = config else { return };
        let config = match ImageConfiguration::from_reader(config.as_slice()) {
            Ok(config) => config,
            Err(error) => {
                return self.fault(name, format!("its configuration cannot be read: {error}"));
            }
        };
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

    fn layer(&mut self, descriptor: &Descriptor, diff_id: &str) {
        let name = descriptor.digest().to_string();
        if *descriptor.media_type() != MediaType::ImageLayerGzip {
            self.fault(
                &name,
                format!("its media type is {}, not that of a gzip layer", descriptor.media_type()),
            );
            return;
        }
        let Some(bytes) = self.blob(descriptor, LARGEST_LAYER) else { return };
        for fault in layer::faults(&bytes, diff_id) {
            self.fault(&name, fault);
        }
    }

    /// A blob's bytes, if they are what the descriptor says.
    fn blob(&mut self, descriptor: &Descriptor, largest: u64) -> Option<Vec<u8>> {
        let name = descriptor.digest().to_string();
        let Some(path) = self.path(descriptor) else {
            self.fault(&name, "it is no SHA-256 digest");
            return None;
        };
        self.seen.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) => {
                self.fault(&name, format!("its blob cannot be read: {error}"));
                return None;
            }
        };
        // Before anything is read: neither a descriptor nor a file may make us take all memory.
        if length != descriptor.size() {
            self.fault(
                &name,
                format!("its blob has {length} bytes, its descriptor says {}", descriptor.size()),
            );
            return None;
        }
        if length > largest {
            self.fault(&name, format!("it has {length} bytes; at most {largest} are read"));
            return None;
        }
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.fault(&name, format!("its blob cannot be read: {error}"));
                return None;
            }
        };
        if !name.ends_with(&sha256(&bytes)) {
            self.fault(&name, "its blob has other bytes than the digest says");
            return None;
        }
        Some(bytes)
    }

    /// Where a descriptor's blob lies; none unless the digest is SHA-256 in hex, which cannot lead elsewhere.
    fn path(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        Some(self.folder.join("blobs/sha256").join(descriptor.as_digest_sha256()?))
    }

    fn dangling(&mut self) {
        let blobs = match fs::read_dir(self.folder.join("blobs/sha256")) {
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
