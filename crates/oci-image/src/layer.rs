//! Layers: tar archives with sorted entries, constant times and owners, compressed by gzip.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::Result;

/// Every entry's time: a second after the epoch, as Nix has it.
const MTIME: u64 = 1;

/// A finished layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The compressed bytes.
    pub blob: Vec<u8>,
    /// SHA-256 of the uncompressed archive in hex: OCI's diff id.
    pub diff_id: String,
}

/// What an entry is.
#[derive(Debug, Clone)]
enum Content {
    Folder,
    File(PathBuf),
    Link(PathBuf),
}

/// A user and a group, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u64,
    /// The group.
    pub group: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    mode: u32,
    owner: Owner,
    content: Content,
}

impl Entry {
    /// Root's, as everything is but what an image writes to.
    fn new(mode: u32, content: Content) -> Self {
        Self { mode, owner: Owner::default(), content }
    }

    fn folder() -> Self {
        Self::new(0o755, Content::Folder)
    }
}

/// The entries of a layer, by their path in the image.
#[derive(Debug, Clone, Default)]
pub struct Entries(BTreeMap<PathBuf, Entry>);

impl Entries {
    /// Adds everything below `root`: folders 0755, files 0444 or, when they may be run, 0555; links as they are.
    pub fn add_tree(&mut self, root: &Path) -> Result<()> {
        self.add_folder(root, Path::new(""))
    }

    /// Adds one file at `path`, with the folders that hold it.
    pub fn add_file(&mut self, path: &Path, file: &Path) -> Result<()> {
        let metadata =
            fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        if !metadata.is_file() {
            bail!("{} is no file", file.display());
        }
        self.hold(path)?;
        let mode = mode(metadata.permissions().mode());
        self.0.insert(path.to_owned(), Entry::new(mode, Content::File(file.to_owned())));
        Ok(())
    }

    /// Gives the folder at `path` to an owner; it is made when it is missing, with the folders that hold it.
    pub fn own_folder(&mut self, path: &Path, owner: Owner) -> Result<()> {
        self.hold(path)?;
        let folder = self.0.entry(path.to_owned()).or_insert_with(Entry::folder);
        ensure!(matches!(folder.content, Content::Folder), "{} is no folder", path.display());
        folder.owner = owner;
        Ok(())
    }

    /// Makes the folders that hold `path`, where they are missing.
    fn hold(&mut self, path: &Path) -> Result<()> {
        for parent in path.ancestors().skip(1).filter(|parent| *parent != Path::new("")) {
            let entry = self.0.entry(parent.to_owned()).or_insert_with(Entry::folder);
            ensure!(
                matches!(entry.content, Content::Folder),
                "{} would stand below {}, which is no folder",
                path.display(),
                parent.display()
            );
        }
        Ok(())
    }

    /// Gives an entry another mode, for what a Nix store cannot hold (`/tmp` is 1777).
    pub fn set_mode(&mut self, path: &Path, mode: u32) -> Result<()> {
        let entry = self
            .0
            .get_mut(path)
            .with_context(|| format!("there is no entry {} to set a mode of", path.display()))?;
        entry.mode = mode;
        Ok(())
    }

    fn add_folder(&mut self, root: &Path, below: &Path) -> Result<()> {
        let folder = root.join(below);
        let children = fs::read_dir(&folder)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for child in children {
            let child = child?;
            let path = below.join(child.file_name());
            let metadata = fs::symlink_metadata(child.path())?;
            let entry = if metadata.is_dir() {
                self.add_folder(root, &path)?;
                Entry::folder()
            } else if metadata.is_symlink() {
                Entry::new(0o777, Content::Link(fs::read_link(child.path())?))
            } else if metadata.is_file() {
                Entry::new(mode(metadata.permissions().mode()), Content::File(child.path()))
            } else {
                bail!(
                    "{} is no file, folder or link: a layer cannot hold it",
                    child.path().display()
                );
            };
            self.0.insert(path, entry);
        }
        Ok(())
    }

    /// Packs them.
    pub fn pack(&self) -> Result<Layer> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            append(&mut archive, path, entry)
                .with_context(|| format!("cannot pack {}", path.display()))?;
        }
        let archive = archive.into_inner()?;
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        gzip.write_all(&archive)?;
        Ok(Layer { blob: gzip.finish()?, diff_id: sha256(&archive) })
    }
}

/// 0555 for what may be run, else 0444: never set-user-id, whatever the file system says.
fn mode(on_disk: u32) -> u32 {
    if on_disk & 0o100 == 0 { 0o444 } else { 0o555 }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &Path, entry: &Entry) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_mode(entry.mode);
    header.set_mtime(MTIME);
    header.set_uid(entry.owner.user);
    header.set_gid(entry.owner.group);
    match &entry.content {
        Content::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            // A folder's name ends in a slash.
            let mut name = path.as_os_str().as_bytes().to_vec();
            name.push(b'/');
            archive.append_data(
                &mut header,
                Path::new(std::ffi::OsStr::from_bytes(&name)),
                std::io::empty(),
            )?;
        }
        Content::File(file) => {
            let bytes = fs::read(file)?;
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice())?;
        }
        Content::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_set_the_user_id_loses_that_right() {
        assert_eq!([mode(0o4755), mode(0o2711), mode(0o644)], [0o555, 0o555, 0o444]);
    }
}
