//! A software bill of materials for an image: what its program was linked from, and the system's packages in it.
//!
//! The crates are those that the binary itself names: `cargo auditable` writes them into its section `.dep-v0`.
//! Cargo.lock gives their checksums, the vendored sources their licences.
//!
//! Source: SPDX 2.3, <https://spdx.github.io/spdx-spec/v2.3/>; package URLs, <https://github.com/package-url/purl-spec>.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use auditable_info::{Limits, audit_info_from_file};
use auditable_serde::{DependencyKind, Package, Source};
use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Result,
    index::platform,
    inputs::{self, Component, Locked},
    layout::Layout,
};

/// What the bill is made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The program in the image, with its audit section.
    pub binary: Option<PathBuf>,
    /// The lock that it was built with.
    pub cargo_lock: Option<PathBuf>,
    /// The folder of the vendored crates, `NAME-VERSION` each, for their licences.
    pub crates: Option<PathBuf>,
    /// Lists of the system's packages (see [`inputs::components`]).
    pub components: Vec<PathBuf>,
}

/// The SPDX document of the layout's image, which is for one platform.
pub fn spdx(layout: &Layout, sources: &Sources) -> Result<Value> {
    let (image, name) = layout.image()?;
    let digest = image.as_digest_sha256().context("the image has no SHA-256 digest")?;
    let manifest: ImageManifest = layout.document(&image)?;
    let config: ImageConfiguration = layout.document(manifest.config())?;
    let created = config.created().as_ref().context("the image's configuration has no time")?;
    let mut bill = Bill::default();
    bill.packages.push(image_package(&name, digest, &platform(&image)));
    bill.relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE);
    if let Some(binary) = &sources.binary {
        bill.program(binary, sources)?;
    }
    for file in &sources.components {
        for component in inputs::components(file)? {
            bill.component(&component)?;
        }
    }
    let short = name.replace(':', "-");
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{short} {}", platform(&image)),
        "documentNamespace": format!("https://spdx.org/spdxdocs/{short}-{digest}"),
        "creationInfo": {
            "created": created,
            "creators": [concat!("Tool: oci-image-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": bill.packages,
        "relationships": bill.relationships,
    }))
}

/// The identifier of the image in the document.
const IMAGE: &str = "SPDXRef-image";

#[derive(Default)]
struct Bill {
    packages: Vec<Value>,
    relationships: Vec<Value>,
}

impl Bill {
    fn relation(&mut self, from: &str, kind: &str, to: &str) {
        self.relationships.push(json!({
            "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to,
        }));
    }

    /// The crates that the program names, and which of them needs which.
    fn program(&mut self, binary: &Path, sources: &Sources) -> Result<()> {
        let info = audit_info_from_file(binary, Limits::default()).with_context(|| {
            format!("{} has no audit section: build it by cargo auditable", binary.display())
        })?;
        let locked = match &sources.cargo_lock {
            Some(file) => inputs::cargo_lock(file)?,
            None => Vec::new(),
        };
        let locked: HashMap<_, _> =
            locked.iter().map(|it| ((it.name.as_str(), it.version.as_str()), it)).collect();
        for package in &info.packages {
            let version = package.version.to_string();
            let lock = locked.get(&(package.name.as_str(), version.as_str())).copied();
            ensure!(
                lock.is_some() || sources.cargo_lock.is_none(),
                "{} was built with {} {version}, which Cargo.lock does not name",
                binary.display(),
                package.name
            );
            let licence = licence(package, sources.crates.as_deref())?;
            self.packages.push(crate_package(package, lock, &licence)?);
            if package.root {
                self.relation(IMAGE, "CONTAINS", &crate_id(package));
            }
        }
        for package in &info.packages {
            for dependency in &package.dependencies {
                let dependency = info.packages.get(*dependency).with_context(|| {
                    format!("{}: its audit section is damaged", binary.display())
                })?;
                // SPDX says which way round: a build dependency is one OF the package that needs it.
                match dependency.kind {
                    DependencyKind::Build => self.relation(
                        &crate_id(dependency),
                        "BUILD_DEPENDENCY_OF",
                        &crate_id(package),
                    ),
                    DependencyKind::Runtime => {
                        self.relation(&crate_id(package), "DEPENDS_ON", &crate_id(dependency));
                    }
                }
            }
        }
        Ok(())
    }

    fn component(&mut self, component: &Component) -> Result<()> {
        let id = id(
            &component.kind,
            &component.name,
            component.architecture.as_deref().unwrap_or("all"),
        );
        let mut package = package(&id, &component.name, &component.version, &component.url()?);
        if let Some(sha256) = &component.sha256 {
            package["checksums"] = checksum(sha256);
        }
        self.packages.push(package);
        self.relation(IMAGE, "CONTAINS", &id);
        Ok(())
    }
}

fn image_package(name: &str, digest: &str, platform: &str) -> Value {
    let (short, version) = name.split_once(':').unwrap_or((name, ""));
    let architecture = platform.rsplit('/').next().unwrap_or_default();
    let url = format!("pkg:oci/{short}@sha256%3A{digest}?arch={architecture}&tag={version}");
    let mut package = package(IMAGE, short, version, &url);
    package["primaryPackagePurpose"] = "CONTAINER".into();
    package["checksums"] = checksum(digest);
    package
}

fn crate_package(package_of: &Package, lock: Option<&Locked>, licence: &str) -> Result<Value> {
    let version = package_of.version.to_string();
    let url = inputs::crate_url(&package_of.name, &version)?;
    let mut package = package(&crate_id(package_of), &package_of.name, &version, &url);
    if package_of.source == Source::Local {
        package["externalRefs"] = json!([]); // the registry may have a stranger's crate of this name
    }
    package["licenseDeclared"] = licence.into();
    if package_of.root {
        package["primaryPackagePurpose"] = "APPLICATION".into();
    }
    if let Some(sum) = lock.and_then(|lock| lock.checksum.as_deref()) {
        package["checksums"] = checksum(sum);
    }
    Ok(package)
}

fn package(id: &str, name: &str, version: &str, url: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": url,
        }],
    })
}

fn checksum(sha256: &str) -> Value {
    json!([{"algorithm": "SHA256", "checksumValue": sha256}])
}

fn crate_id(package: &Package) -> String {
    id("crate", &package.name, &package.version.to_string())
}

/// An identifier of letters, digits, dots and hyphens; an underscore becomes two hyphens, which no crate has.
fn id(kind: &str, name: &str, version: &str) -> String {
    let escaped = format!("SPDXRef-{kind}-{name}-{version}").replace('_', "--");
    escaped.replace(|character: char| !character.is_ascii_alphanumeric() && character != '-', ".")
}

#[derive(Deserialize)]
struct Manifest {
    package: ManifestPackage,
}

#[derive(Deserialize)]
struct ManifestPackage {
    license: Option<toml::Value>,
}

/// The licence that a crate's own manifest declares; `/` is an old way to write OR.
fn licence(package: &Package, crates: Option<&Path>) -> Result<String> {
    let unknown = "NOASSERTION".to_owned();
    let Some(folder) = crates else { return Ok(unknown) };
    let file = folder.join(format!("{}-{}/Cargo.toml", package.name, package.version));
    if !file.exists() {
        return Ok(unknown); // the workspace's own
    }
    let manifest: Manifest = toml::from_str(&inputs::read(&file)?)
        .with_context(|| format!("{} is no manifest", file.display()))?;
    let declared = manifest.package.license.as_ref().and_then(toml::Value::as_str);
    Ok(declared.map_or(unknown, |licence| licence.replace(" / ", "/").replace('/', " OR ")))
}
