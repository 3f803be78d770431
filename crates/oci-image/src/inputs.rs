//! What an image is made of, as the tools that built it recorded: Cargo.lock, the packages of the system, a source tree.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use packageurl::PackageUrl;
use serde::Deserialize;

use crate::{Result, layer::sha256};

/// A package as Cargo.lock pins it.
#[derive(Debug, Clone, Deserialize)]
pub struct Locked {
    /// The crate's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its archive in the registry, in hex; none for the workspace's own.
    pub checksum: Option<String>,
}

#[derive(Deserialize)]
struct CargoLock {
    package: Vec<Locked>,
}

/// The packages of a Cargo.lock.
pub fn cargo_lock(file: &Path) -> Result<Vec<Locked>> {
    let context = || format!("{} is no Cargo.lock", file.display());
    let lock: CargoLock = toml::from_str(&read(file)?).with_context(context)?;
    Ok(lock.package)
}

/// A package of the system (a Debian package, say), of which files are in the image.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The kind of package as a package URL has it: deb, or generic.
    #[serde(rename = "type")]
    pub kind: String,
    /// The architecture as the distribution names it.
    pub architecture: Option<String>,
    /// SHA-256 of the package in hex.
    pub sha256: Option<String>,
}

/// The packages of a file with a JSON list of them.
pub fn components(file: &Path) -> Result<Vec<Component>> {
    let context = || format!("{} is no list of packages", file.display());
    let mut list: Vec<Component> = serde_json::from_str(&read(file)?).with_context(context)?;
    list.sort();
    list.dedup();
    Ok(list)
}

/// The package URL of a crate.
pub fn crate_url(name: &str, version: &str) -> Result<String> {
    Ok(PackageUrl::new("cargo", name)?.with_version(version)?.to_string())
}

impl Component {
    /// Its package URL.
    pub fn url(&self) -> Result<String> {
        let mut url = PackageUrl::new(self.kind.as_str(), self.name.as_str())?;
        if self.kind == "deb" {
            url.with_namespace("debian")?;
        }
        url.with_version(self.version.as_str())?;
        if let Some(architecture) = &self.architecture {
            url.add_qualifier("arch", architecture.as_str())?;
        }
        Ok(url.to_string())
    }
}

/// The digest of a folder: SHA-256 of the lines `SHA256  PATH` of its files, sorted by path (in-toto's `dirHash`, which
/// is Hash1 of Go's dirhash). `find . -type f | sort | xargs sha256sum` gives the lines, but for the leading `./`.
pub fn dir_hash(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    // Byte by byte: paths themselves compare part by part, in another order.
    files.sort_by(|one, two| one.as_os_str().cmp(two.as_os_str()));
    let mut lines = String::new();
    for file in files {
        let name = file.strip_prefix(root).expect("it was found below the root");
        writeln!(lines, "{}  {}", sha256(&fs::read(&file)?), name.display())
            .expect("a string takes all");
    }
    Ok(sha256(lines.as_bytes()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// A file's text; the error names the file.
pub(crate) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
