//! A layout as a readable tree with sizes; every blob is held against its descriptor on the way.

use std::path::Path;

use anyhow::Context;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use crate::{
    Result,
    index::platform,
    layout::{LARGEST_BLOB, Layout},
    referrers::{self, Referrers},
};

/// The tree as text.
pub fn tree(folder: &Path) -> Result<String> {
    let layout = Layout::open(folder);
    let (image, name) = layout.image()?;
    let mut tree = Tree { referrers: referrers::read(&layout)?, layout, text: format!("{name}\n") };
    if *image.media_type() == MediaType::ImageIndex {
        tree.line(1, "index", &image, "");
        let index: ImageIndex = tree.layout.document(&image)?;
        for manifest in index.manifests() {
            tree.image(2, manifest)?;
        }
        tree.referrers(2, &image)?;
    } else {
        tree.image(1, &image)?;
    }
    Ok(tree.text)
}

struct Tree {
    layout: Layout,
    referrers: Referrers,
    text: String,
}

impl Tree {
    fn image(&mut self, depth: usize, descriptor: &Descriptor) -> Result<()> {
        let manifest: ImageManifest = self.layout.document(descriptor)?;
        let sizes = manifest.layers().iter().map(Descriptor::size).fold(0, u64::saturating_add);
        let about = format!("{}, layers of {sizes} bytes", platform(descriptor));
        self.line(depth, "manifest", descriptor, &about);
        self.blob(depth + 1, "config", manifest.config())?;
        for layer in manifest.layers() {
            self.blob(depth + 1, "layer", layer)?;
        }
        self.referrers(depth + 1, descriptor)
    }

    fn referrers(&mut self, depth: usize, subject: &Descriptor) -> Result<()> {
        let listed = subject.as_digest_sha256().and_then(|digest| self.referrers.get(digest));
        for artifact in listed.cloned().unwrap_or_default() {
            let (manifest, content) = referrers::document(&self.layout, &artifact)?;
            let kind = manifest.artifact_type().as_ref().map(ToString::to_string);
            self.line(depth, "referrer", &artifact, &kind.unwrap_or_default());
            self.blob(depth + 1, "document", &content)?;
        }
        Ok(())
    }

    fn blob(&mut self, depth: usize, what: &str, descriptor: &Descriptor) -> Result<()> {
        self.layout
            .blob(descriptor, LARGEST_BLOB)
            .with_context(|| descriptor.digest().to_string())?;
        self.line(depth, what, descriptor, "");
        Ok(())
    }

    fn line(&mut self, depth: usize, what: &str, descriptor: &Descriptor, about: &str) {
        let (digest, size) = (descriptor.digest(), descriptor.size());
        let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
        self.text.push_str(&format!("{:1$}{what} {digest} {size} bytes{about}\n", "", depth * 2));
    }
}
