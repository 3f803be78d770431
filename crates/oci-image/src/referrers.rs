//! What hangs on an image: artifacts (an SBOM, a provenance statement) that refer to it by their `subject`.
//!
//! Source: OCI image specification 1.1, manifest.md ("Guidelines for Artifact Usage"), and OCI distribution
//! specification 1.1, "Referrers Tag Schema": a registry without the referrers API, and a client that copies what it
//! finds by tag alone, find them in an index tagged `sha256-DIGEST`. A layout has the same index by the same name.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, ensure};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, ImageManifestBuilder, MediaType};

use crate::{
    Result,
    layout::{Layout, REF_NAME, index_of, ref_name},
};

/// The media type of an SPDX document as JSON.
pub const SPDX: &str = "application/spdx+json";
/// The media type of an in-toto statement as JSON.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The referrers of each subject, by the SHA-256 of the subject in hex.
pub type Referrers = BTreeMap<String, Vec<Descriptor>>;

/// The subject that a fallback tag (`sha256-HEX`) lists the referrers of, in hex.
pub fn subject(tag: &str) -> Option<&str> {
    let digest = tag.strip_prefix("sha256-")?;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (digest.len() == 64 && digest.bytes().all(is_hex)).then_some(digest)
}

/// Hangs a document on the layout's image.
pub fn attach(layout: &Layout, artifact_type: &str, document: &[u8]) -> Result<Descriptor> {
    let (image, name) = layout.image()?;
    let artifact_type = MediaType::from(artifact_type);
    let content = layout.add(artifact_type.clone(), document)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(artifact_type.clone())
        .config(layout.add(MediaType::EmptyJSON, b"{}")?)
        .layers(vec![content])
        .subject(plain(&image))
        .build()?;
    let mut descriptor = layout.add_json(MediaType::ImageManifest, &manifest)?;
    descriptor.set_artifact_type(Some(artifact_type));

    let mut referrers = read(layout)?;
    let subject = image.as_digest_sha256().context("the image has no SHA-256 digest")?;
    let list = referrers.entry(subject.to_owned()).or_default();
    ensure!(
        !list.iter().any(|other| other.digest() == descriptor.digest()),
        "this document hangs on the image already"
    );
    list.push(descriptor.clone());
    let before = layout.index()?;
    layout.finish(image, &name, &referrers)?;
    // Last, so that a layout is whole at any moment.
    let after = layout.index()?;
    let kept: Vec<_> = after.manifests().iter().map(Descriptor::digest).collect();
    let mut old: Vec<_> = lists(&before).filter(|list| !kept.contains(&list.digest())).collect();
    old.dedup_by_key(|list| list.digest());
    for list in old {
        layout.remove(list)?;
    }
    Ok(descriptor)
}

/// All referrers that a layout lists.
pub fn read(layout: &Layout) -> Result<Referrers> {
    let index = layout.index()?;
    let mut all = Referrers::new();
    for descriptor in lists(&index) {
        let list: ImageIndex = layout.document(descriptor)?;
        let subject = ref_name(descriptor).and_then(subject).unwrap_or_default();
        all.entry(subject.to_owned()).or_default().extend(list.manifests().iter().cloned());
    }
    Ok(all)
}

/// The manifest of an artifact and the one document that it holds.
pub fn document(layout: &Layout, artifact: &Descriptor) -> Result<(ImageManifest, Descriptor)> {
    let manifest: ImageManifest = layout.document(artifact)?;
    let [content] = manifest.layers().as_slice() else {
        anyhow::bail!("{} holds {} documents, not one", artifact.digest(), manifest.layers().len());
    };
    let content = content.clone();
    Ok((manifest, content))
}

/// Writes the list of a subject's referrers; its descriptor has the fallback tag for a name.
pub(crate) fn add_list(
    layout: &Layout,
    subject: &str,
    referrers: &[Descriptor],
) -> Result<Descriptor> {
    let mut referrers = referrers.to_vec();
    referrers.sort_by_key(|descriptor| descriptor.digest().to_string());
    let mut list = layout.add_json(MediaType::ImageIndex, &index_of(referrers)?)?;
    list.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), format!("sha256-{subject}"))])));
    Ok(list)
}

/// The entries of `index.json` that are lists of referrers.
fn lists(index: &ImageIndex) -> impl Iterator<Item = &Descriptor> {
    index.manifests().iter().filter(|entry| is_list(entry))
}

/// Is an entry of `index.json` a list of referrers, by its name?
pub(crate) fn is_list(entry: &Descriptor) -> bool {
    ref_name(entry).is_some_and(|name| subject(name).is_some())
}

/// A descriptor without what it has by its place: name and platform.
fn plain(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type().clone(), descriptor.size(), descriptor.digest().clone())
}
