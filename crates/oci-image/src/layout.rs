//! An OCI image layout on the disk: blobs by digest, `index.json`, `oci-layout`.

use std::{fs, path::Path, str::FromStr};

use anyhow::{Context, ensure};
use oci_spec::image::{
    Descriptor, DescriptorBuilder, ImageIndexBuilder, MediaType, OciLayoutBuilder, Sha256Digest,
};

use crate::{Result, layer::sha256};

/// A layout that is being written.
#[derive(Debug)]
pub struct Layout<'a> {
    folder: &'a Path,
}

impl<'a> Layout<'a> {
    /// Makes the folder, which must not hold anything yet.
    pub fn create(folder: &'a Path) -> Result<Self> {
        let empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        ensure!(
            empty,
            "{} is not empty: a layout is written into a folder of its own",
            folder.display()
        );
        fs::create_dir_all(folder.join("blobs/sha256"))
            .with_context(|| format!("cannot make the layout {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Writes a blob; the descriptor that points to it.
    pub fn add(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
        let digest = sha256(bytes);
        fs::write(self.folder.join("blobs/sha256").join(&digest), bytes)?;
        Ok(DescriptorBuilder::default()
            .media_type(media_type)
            .digest(Sha256Digest::from_str(&digest)?)
            .size(bytes.len() as u64)
            .build()?)
    }

    /// Writes the index of these manifests, which completes the layout.
    pub fn finish(self, manifests: Vec<Descriptor>) -> Result<()> {
        let index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests)
            .build()?;
        fs::write(self.folder.join("index.json"), index.to_string()?)?;
        let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
        fs::write(self.folder.join("oci-layout"), layout.to_string()?)?;
        Ok(())
    }
}
