//! A layout as a readable tree with sizes; every blob is held against its descriptor on the way.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use crate::{Result, layer::sha256};

/// The tree as text.
pub fn tree(folder: &Path) -> Result<String> {
    let file = folder.join("index.json");
    let index = ImageIndex::from_file(&file).with_context(|| {
        format!("{} is no OCI image layout: its index.json cannot be read", folder.display())
    })?;
    let mut text = format!("{}\n", folder.display());
    for descriptor in index.manifests() {
        let manifest = ImageManifest::from_reader(blob(folder, descriptor)?.as_slice())
            .with_context(|| format!("{} is no image manifest", descriptor.digest()))?;
        let platform = descriptor.platform().as_ref();
        let platform =
            platform.map_or_else(String::new, |it| format!("{}/{}", it.os(), it.architecture()));
        text.push_str(&format!("  manifest {} {platform}\n", line(descriptor)));
        blob(folder, manifest.config())?;
        text.push_str(&format!("    config {}\n", line(manifest.config())));
        for layer in manifest.layers() {
            blob(folder, layer)?;
            text.push_str(&format!("    layer  {}\n", line(layer)));
        }
    }
    Ok(text)
}

/// A blob's bytes, checked against its descriptor.
fn blob(folder: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = descriptor
        .as_digest_sha256()
        .with_context(|| format!("{} is no SHA-256 digest", descriptor.digest()))?;
    let path = folder.join("blobs/sha256").join(digest);
    let length = fs::metadata(&path)
        .with_context(|| format!("the blob {} is missing", path.display()))?
        .len();
    ensure!(
        length == descriptor.size(),
        "the blob {digest} has {length} bytes, its descriptor says {}",
        descriptor.size()
    );
    let bytes = fs::read(&path)?;
    ensure!(sha256(&bytes) == digest, "the blob {digest} has other bytes than its digest says");
    Ok(bytes)
}

fn line(descriptor: &Descriptor) -> String {
    format!("{} {} bytes", descriptor.digest(), descriptor.size())
}
