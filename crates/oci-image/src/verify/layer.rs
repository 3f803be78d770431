//! A layer's archive: what an unpacker could be hurt by.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use crate::layer::hex;

/// The most entries of a layer.
const MOST_ENTRIES: usize = 1 << 20;
/// The largest extension record (a long name, a PAX header) in bytes: unpackers hold it in memory.
const LARGEST_RECORD: u64 = 1 << 16;
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// What was found in a layer's blob.
pub(super) struct Found {
    /// OCI's diff id: the digest of the archive.
    pub(super) diff_id: String,
    /// The archive's length in bytes.
    pub(super) length: u64,
    /// What is wrong with the entries.
    pub(super) faults: Vec<String>,
}

/// Reads a layer's blob, of at most so many bytes uncompressed; fails where an unpacker could not read on.
pub(super) fn read(blob: &[u8], most: u64) -> io::Result<Found> {
    let mut unpacked = Hashing { inner: unpack(blob, most), hash: Sha256::new() };
    records(&mut unpacked)?;
    // What follows the archive's end belongs to the diff id too.
    io::copy(&mut unpacked, &mut io::sink())?;
    let length = most - unpacked.inner.limit();
    if length == most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    let mut faults = Vec::new();
    entries(unpack(blob, most), &mut faults)?;
    Ok(Found { diff_id: format!("sha256:{}", hex(&unpacked.hash.finalize())), length, faults })
}

/// All members of the gzip file, as unpackers read them.
fn unpack(blob: &[u8], most: u64) -> io::Take<MultiGzDecoder<&[u8]>> {
    MultiGzDecoder::new(blob).take(most)
}

/// Refuses what would be held in memory whole when the entries are read.
fn records(archive: impl Read) -> io::Result<()> {
    for (count, entry) in Archive::new(archive).entries()?.raw(true).enumerate() {
        let entry = entry?;
        let is_record = matches!(
            entry.header().entry_type(),
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        );
        if is_record && entry.size() > LARGEST_RECORD {
            return Err(io::Error::other(format!("it holds a record of {} bytes", entry.size())));
        }
        if count == MOST_ENTRIES {
            return Err(io::Error::other(format!("it holds more than {MOST_ENTRIES} entries")));
        }
    }
    Ok(())
}

fn entries(archive: impl Read, faults: &mut Vec<String>) -> io::Result<()> {
    let mut seen = BTreeSet::new();
    let mut links = BTreeSet::new();
    for entry in Archive::new(archive).entries()? {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        let shown = name.display();
        let Some(path) = normal(&name) else {
            faults.push(format!("the entry {shown} leads out of the image"));
            continue;
        };
        if !seen.insert(path.clone()) {
            faults.push(format!("the entry {shown} stands twice"));
        }
        if let Some(link) = through(&path, &links) {
            faults
                .push(format!("the entry {shown} is written through the link {}", link.display()));
        }
        if entry.header().mode()? & SET_ID != 0 {
            faults.push(format!("the entry {shown} sets the user or the group"));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Directory => {}
            EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default();
                let from = path.parent().unwrap_or(Path::new(""));
                // An absolute link is read from the image's root; a relative one may not climb above it.
                if target.is_relative() && !stays_below(&from.join(&target)) {
                    faults.push(leads_out(&name, &target));
                }
                links.insert(path);
            }
            EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default();
                match normal(&target) {
                    None => faults.push(leads_out(&name, &target)),
                    Some(target) => {
                        if let Some(link) = through(&target, &links) {
                            let link = link.display();
                            faults.push(format!("the link {shown} leads through the link {link}"));
                        }
                        // Another name of a link is a link.
                        if links.contains(&target) {
                            links.insert(path);
                        }
                    }
                }
            }
            other => faults.push(format!("the entry {shown} is of the kind {other:?}")),
        }
    }
    Ok(())
}

fn leads_out(link: &Path, target: &Path) -> String {
    format!("the link {} leads out of the image, to {}", link.display(), target.display())
}

/// The link that a path passes through, if it does.
fn through<'a>(path: &Path, links: &'a BTreeSet<PathBuf>) -> Option<&'a PathBuf> {
    path.ancestors().skip(1).find_map(|parent| links.get(parent))
}

/// A path without its `.`; none when it is absolute or holds `..`, which no builder writes.
fn normal(path: &Path) -> Option<PathBuf> {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| match component {
            Component::Normal(part) => Some(part),
            _ => None,
        })
        .collect()
}

/// Does a path stay below where it starts, wherever its `..` lead on the way?
fn stays_below(path: &Path) -> bool {
    let mut depth = 0_i32;
    for component in path.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
