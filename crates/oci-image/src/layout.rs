//! An OCI image layout on the disk: blobs by digest, `index.json`, `oci-layout`.
//!
//! Source: OCI image specification 1.1, image-layout.md. The first entry of our `index.json` is the image (an image
//! manifest or an index of several platforms); the others are the lists of referrers (see [`crate::referrers`]).

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, ensure};
use oci_spec::image::{
    Descriptor, DescriptorBuilder, ImageIndex, ImageIndexBuilder, MediaType, OciLayoutBuilder,
    Sha256Digest,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Result,
    layer::sha256,
    referrers::{self, Referrers},
};

/// The annotation that names an image in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The largest manifest, index or configuration in bytes: what registries take.
pub const LARGEST_DOCUMENT: u64 = 4 << 20;
/// The largest blob in bytes.
pub const LARGEST_BLOB: u64 = 1 << 30;

/// A layout.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Makes the folder, which must not hold anything yet.
    pub fn create(folder: &Path) -> Result<Self> {
        let empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        ensure!(
            empty,
            "{} is not empty: a layout is written into a folder of its own",
            folder.display()
        );
        fs::create_dir_all(folder.join("blobs/sha256"))
            .with_context(|| format!("cannot make the layout {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// A layout that is there; it is read with every blob held against its descriptor.
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
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

    /// Writes a document with its keys sorted: a map of its own order would change the digest from run to run.
    pub fn add_json(&self, media_type: MediaType, document: &impl Serialize) -> Result<Descriptor> {
        self.add(media_type, serde_json::to_value(document)?.to_string().as_bytes())
    }

    /// Writes `index.json` and `oci-layout`, which completes the layout: the image by its name, then its referrers.
    pub fn finish(
        &self,
        mut image: Descriptor,
        name: &str,
        all_referrers: &Referrers,
    ) -> Result<()> {
        let mut annotations = image.annotations().clone().unwrap_or_default();
        annotations.insert(REF_NAME.to_owned(), name.to_owned());
        image.set_annotations(Some(annotations));
        let mut manifests = vec![image];
        for (subject, referrers) in all_referrers {
            manifests.push(referrers::add_list(self, subject, referrers)?);
        }
        let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
        self.replace("oci-layout", &layout)?;
        self.replace("index.json", &index_of(manifests)?)
    }

    /// Writes a document by its name, whole or not at all.
    fn replace(&self, name: &str, document: &impl Serialize) -> Result<()> {
        let new = self.folder.join(format!("{name}.new"));
        let write = || -> Result<()> {
            fs::write(&new, serde_json::to_value(document)?.to_string())?;
            Ok(fs::rename(&new, self.folder.join(name))?)
        };
        write().with_context(|| format!("cannot write {}", new.display()))
    }

    /// `index.json`.
    pub fn index(&self) -> Result<ImageIndex> {
        let bytes = read_file(&self.folder.join("index.json"), LARGEST_DOCUMENT);
        bytes.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)).with_context(|| {
            format!(
                "{} is no OCI image layout: its index.json cannot be read",
                self.folder.display()
            )
        })
    }

    /// The image that the layout is of, with its name. A layout of several images is refused: give one of one.
    pub fn image(&self) -> Result<(Descriptor, String)> {
        let index = self.index()?;
        let mut images = index.manifests().iter().filter(|entry| !referrers::is_list(entry));
        let folder = self.folder.display();
        let image = images.next().with_context(|| format!("{folder} holds no image"))?;
        ensure!(images.next().is_none(), "{folder} holds several images: give a layout of one");
        let name = ref_name(image).with_context(|| format!("the image in {folder} has no name"))?;
        Ok((image.clone(), name.to_owned()))
    }

    /// A blob's bytes, held against their descriptor before anything large is read.
    pub fn blob(&self, descriptor: &Descriptor, largest: u64) -> Result<Vec<u8>> {
        let path = self.path(descriptor).context("it is no SHA-256 digest")?;
        let length = length(&path).context("its blob cannot be read")?;
        let said = descriptor.size();
        ensure!(length == said, "its blob has {length} bytes, its descriptor says {said}");
        let bytes = read_file(&path, largest).context("its blob cannot be read")?;
        ensure!(
            descriptor.as_digest_sha256() == Some(&sha256(&bytes)),
            "its blob has other bytes than the digest says"
        );
        Ok(bytes)
    }

    /// A document among the blobs, e.g. a manifest.
    pub fn document<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T> {
        let bytes = self
            .blob(descriptor, LARGEST_DOCUMENT)
            .with_context(|| descriptor.digest().to_string())?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no {}", descriptor.digest(), descriptor.media_type()))
    }

    /// Where a descriptor's blob lies; none unless the digest is SHA-256 in hex, which cannot lead elsewhere.
    pub fn path(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        Some(self.folder.join("blobs/sha256").join(descriptor.as_digest_sha256()?))
    }

    /// Removes a blob that nothing points to any more.
    pub(crate) fn remove(&self, descriptor: &Descriptor) -> Result<()> {
        let path = self.path(descriptor).context("it is no SHA-256 digest")?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// A file's bytes. What is no file is refused (a pipe would never end), and so is what is larger than `largest`.
pub(crate) fn read_file(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let length = length(path)?;
    ensure!(length <= largest, "it has {length} bytes; at most {largest} are read");
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn length(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    ensure!(metadata.is_file(), "{} is no file", path.display());
    Ok(metadata.len())
}

/// An image index of these manifests.
pub(crate) fn index_of(manifests: Vec<Descriptor>) -> Result<ImageIndex> {
    Ok(ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()?)
}

/// The name that a descriptor has in `index.json`.
pub fn ref_name(descriptor: &Descriptor) -> Option<&str> {
    Some(descriptor.annotations().as_ref()?.get(REF_NAME)?.as_str())
}
