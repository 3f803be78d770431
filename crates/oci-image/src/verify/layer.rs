//! A layer's archive: what an unpacker could be hurt by.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Component, Path},
};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

/// The largest archive in bytes, uncompressed: a small blob may not become an endless one.
const LARGEST_ARCHIVE: u64 = 4 << 30;

/// What is wrong with a layer's blob.
pub(super) fn faults(blob: &[u8], diff_id: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut unpacked =
        Hashing { inner: GzDecoder::new(blob).take(LARGEST_ARCHIVE), hash: Sha256::new() };
    if let Err(error) = entries(&mut unpacked, &mut faults) {
        faults.push(format!("its archive cannot be read: {error}"));
        return faults;
    }
    // What follows the archive's end belongs to the diff id too.
    if let Err(error) = io::copy(&mut unpacked, &mut io::sink()) {
        faults.push(format!("its archive cannot be read to its end: {error}"));
        return faults;
    }
    if unpacked.inner.limit() == 0 {
        faults.push(format!("its archive has more than {LARGEST_ARCHIVE} bytes"));
        return faults;
    }
    let digest: String =
        unpacked.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if diff_id != format!("sha256:{digest}") {
        faults.push(format!("its archive is sha256:{digest}, its diff id says {diff_id}"));
    }
    faults
}

fn entries(archive: impl Read, faults: &mut Vec<String>) -> io::Result<()> {
    let mut last = None;
    let mut links = BTreeSet::new();
    for entry in Archive::new(archive).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let shown = path.display();
        if !stays_below(&path) {
            faults.push(format!("the entry {shown} leads out of the image"));
        }
        if last.as_ref().is_some_and(|last| *last == path) {
            faults.push(format!("the entry {shown} stands twice"));
        }
        if let Some(link) = path.ancestors().skip(1).find(|parent| links.contains(*parent)) {
            faults
                .push(format!("the entry {shown} is written through the link {}", link.display()));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Directory => {}
            EntryType::Link | EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default();
                let from = path.parent().unwrap_or(Path::new(""));
                // An absolute link is read from the image's root; a relative one may not climb above it.
                let is_hard = entry.header().entry_type() == EntryType::Link;
                let reached = if is_hard { target.to_path_buf() } else { from.join(&target) };
                if (is_hard || target.is_relative()) && !stays_below(&reached) {
                    faults.push(format!(
                        "the link {shown} leads out of the image, to {}",
                        target.display()
                    ));
                }
                if !is_hard {
                    links.insert(path.clone());
                }
            }
            other => faults.push(format!("the entry {shown} is of the kind {other:?}")),
        }
        last = Some(path);
    }
    Ok(())
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
