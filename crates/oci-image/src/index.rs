//! One image for several platforms: an image index of layouts that hold one platform each.
//!
//! Source: OCI image specification 1.1, image-index.md.

use std::path::Path;

use anyhow::{Context, ensure};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};

use crate::{
    Result,
    layout::{LARGEST_BLOB, Layout, index_of},
    referrers::{self, Referrers},
};

/// Joins the layouts into one at `output`, with all their referrers; the index' descriptor.
pub fn join(layouts: &[Layout], output: &Path) -> Result<Descriptor> {
    let joined = Layout::create(output)?;
    let mut manifests = Vec::new();
    let mut all_referrers = Referrers::new();
    let mut names = Vec::new();
    for layout in layouts {
        let (mut image, name) = layout.image()?;
        let folder = layout.folder().display();
        ensure!(
            *image.media_type() == MediaType::ImageManifest && image.platform().is_some(),
            "{folder} holds {}, not an image of one platform",
            image.media_type()
        );
        copy_manifest(layout, &image, &joined)?;
        for (subject, artifacts) in referrers::read(layout)? {
            for artifact in &artifacts {
                copy_manifest(layout, artifact, &joined)?;
            }
            all_referrers.entry(subject).or_default().extend(artifacts);
        }
        image.set_annotations(None);
        manifests.push(image);
        names.push(name);
    }
    let name = names.first().context("an index of no layout: name at least one")?;
    ensure!(
        names.iter().all(|other| other == name),
        "the layouts are of different images: {}",
        names.join(", ")
    );
    manifests.sort_by_key(platform);
    for pair in manifests.windows(2) {
        let [one, two] = [platform(&pair[0]), platform(&pair[1])];
        ensure!(one != two, "two of the layouts are for {one}");
    }
    let index = joined.add_json(MediaType::ImageIndex, &index_of(manifests)?)?;
    joined.finish(index.clone(), name, &all_referrers)?;
    Ok(index)
}

/// `OS/ARCHITECTURE` of a descriptor.
pub fn platform(descriptor: &Descriptor) -> String {
    let platform = descriptor.platform().as_ref();
    platform.map_or_else(String::new, |it| format!("{}/{}", it.os(), it.architecture()))
}

/// Copies a manifest and the blobs that it names.
fn copy_manifest(from: &Layout, descriptor: &Descriptor, to: &Layout) -> Result<()> {
    let manifest: ImageManifest = from.document(descriptor)?;
    for blob in [descriptor, manifest.config()].into_iter().chain(manifest.layers()) {
        let bytes = from.blob(blob, LARGEST_BLOB).with_context(|| blob.digest().to_string())?;
        to.add(blob.media_type().clone(), &bytes)?;
    }
    Ok(())
}
