//! The bill of materials and the provenance: what they say, and what they refuse.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use flate2::{Compression, write::ZlibEncoder};
use oci_image::{
    inputs::dir_hash,
    layout::Layout,
    provenance::{self, Build},
    referrers::{self, IN_TOTO, SPDX},
    sbom::{self, Sources},
    verify::faults,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{build_in, inputs};

const LOCK: &str = r#"
version = 4

[[package]]
name = "demo"
version = "1.0.0"
dependencies = ["left_pad", "cc"]

[[package]]
name = "left_pad"
version = "0.2.0+x"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "aa"

[[package]]
name = "cc"
version = "1.1.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "bb"
"#;

/// A layout and everything that a bill of it is made from.
fn materials() -> (TempDir, Layout, Sources) {
    let folder = inputs(false);
    build_in(folder.path(), "out");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("Cargo.lock"), LOCK).unwrap();
    fs::create_dir_all(at("crates/left_pad-0.2.0+x")).unwrap();
    let manifest = "[package]\nname = \"left_pad\"\nlicense = \"MIT/Apache-2.0\"\n";
    fs::write(at("crates/left_pad-0.2.0+x/Cargo.toml"), manifest).unwrap();
    let package = json!({"name": "libc6-dev", "version": "2.41-12", "type": "deb", "architecture": "amd64", "sha256": "cc"});
    fs::write(at("components.json"), json!([package, package]).to_string()).unwrap();
    let sources = Sources {
        binary: Some(audited(folder.path())),
        cargo_lock: Some(at("Cargo.lock")),
        crates: Some(at("crates")),
        components: vec![at("components.json")],
    };
    let layout = Layout::open(&at("out"));
    (folder, layout, sources)
}

/// This test's own program with the section that `cargo auditable` would write.
fn audited(folder: &Path) -> PathBuf {
    let info = json!({"packages": [
        {"name": "cc", "version": "1.1.0", "source": "crates.io", "kind": "build"},
        {"name": "demo", "version": "1.0.0", "source": "local", "dependencies": [0, 2], "root": true},
        {"name": "left_pad", "version": "0.2.0+x", "source": "crates.io"},
    ]});
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(info.to_string().as_bytes()).unwrap();
    let (section, program) = (folder.join("section"), folder.join("audited"));
    fs::write(&section, zlib.finish().unwrap()).unwrap();
    let status = Command::new("objcopy")
        .arg(format!("--add-section=.dep-v0={}", section.display()))
        .args([&std::env::current_exe().unwrap(), &program])
        .status()
        .expect("objcopy comes with the linker");
    assert!(status.success());
    program
}

fn package<'a>(bill: &'a Value, name: &str) -> &'a Value {
    let packages = bill["packages"].as_array().unwrap();
    packages.iter().find(|package| package["name"] == name).unwrap()
}

#[test]
fn the_bill_names_image_crates_and_system_packages() {
    let (_folder, layout, sources) = materials();
    let bill = sbom::spdx(&layout, &sources).unwrap();
    let crate_ = package(&bill, "left_pad");
    assert_eq!(crate_["licenseDeclared"], "MIT OR Apache-2.0");
    assert_eq!(crate_["checksums"][0]["checksumValue"], "aa");
    assert_eq!(crate_["externalRefs"][0]["referenceLocator"], "pkg:cargo/left_pad@0.2.0%2Bx");
    let deb = package(&bill, "libc6-dev");
    assert_eq!(
        deb["externalRefs"][0]["referenceLocator"],
        "pkg:deb/debian/libc6-dev@2.41-12?arch=amd64"
    );
    let digest = layout.image().unwrap().0.digest().digest().to_owned();
    assert_eq!(bill["packages"][0]["checksums"][0]["checksumValue"], digest);
    assert_eq!(bill["packages"].as_array().unwrap().len(), 5, "a package named twice stands once");

    let relations = bill["relationships"].as_array().unwrap();
    let has = |from: &str, kind: &str, to: &str| {
        let wanted =
            json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
        assert!(relations.contains(&wanted), "{wanted}");
    };
    has("SPDXRef-crate-demo-1.0.0", "DEPENDS_ON", "SPDXRef-crate-left--pad-0.2.0.x");
    has("SPDXRef-crate-cc-1.1.0", "BUILD_DEPENDENCY_OF", "SPDXRef-crate-demo-1.0.0");
    has("SPDXRef-image", "CONTAINS", "SPDXRef-crate-demo-1.0.0");
    has("SPDXRef-image", "CONTAINS", "SPDXRef-deb-libc6-dev-amd64");
}

#[test]
fn a_program_that_does_not_fit_its_lock_is_refused() {
    let (folder, layout, mut sources) = materials();
    fs::write(folder.path().join("Cargo.lock"), LOCK.replace("1.1.0", "1.1.1")).unwrap();
    let error = sbom::spdx(&layout, &sources).unwrap_err().to_string();
    assert!(error.ends_with("was built with cc 1.1.0, which Cargo.lock does not name"), "{error}");
    sources.binary = Some(std::env::current_exe().unwrap());
    let error = sbom::spdx(&layout, &sources).unwrap_err().to_string();
    assert!(error.ends_with("has no audit section: build it by cargo auditable"), "{error}");
    sources.components = vec![folder.path().join("Cargo.lock")];
    sources.binary = None;
    let error = sbom::spdx(&layout, &sources).unwrap_err().to_string();
    assert!(error.ends_with("is no list of packages"), "{error}");
}

#[test]
fn the_statement_pins_every_input_and_names_the_image() {
    let (folder, layout, sources) = materials();
    let build = Build {
        builder: "https://example.com/builder".to_owned(),
        build_type: "https://example.com/type".to_owned(),
        parameters: [("output".to_owned(), "demo".to_owned())].into(),
        locks: vec![("flake.lock".to_owned(), folder.path().join("program"))],
        cargo_lock: sources.cargo_lock.clone(),
        sources: vec![("source".to_owned(), folder.path().join("base"))],
        components: sources.components.clone(),
    };
    let statement = provenance::statement(&layout, &build).unwrap();
    let digest = layout.image().unwrap().0.digest().digest().to_owned();
    assert_eq!(statement["subject"], json!([{"name": "demo:1", "digest": {"sha256": digest}}]));
    let inputs = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    let has = |wanted: Value| {
        let inputs = inputs.as_array().unwrap();
        assert!(inputs.contains(&wanted), "{wanted} in {inputs:#?}");
    };
    has(
        json!({"name": "source", "digest": {"dirHash": dir_hash(&folder.path().join("base")).unwrap()}}),
    );
    has(json!({"uri": "pkg:cargo/cc@1.1.0", "digest": {"sha256": "bb"}}));
    has(json!({"uri": "pkg:deb/debian/libc6-dev@2.41-12?arch=amd64", "digest": {"sha256": "cc"}}));
    assert_eq!(inputs.as_array().unwrap().len(), 6);

    for (kind, document) in [
        (SPDX, sbom::spdx(&layout, &sources).unwrap()),
        (IN_TOTO, provenance::statement(&layout, &build).unwrap()),
    ] {
        referrers::attach(&layout, kind, document.to_string().as_bytes()).unwrap();
    }
    assert_eq!(faults(layout.folder()), Vec::<String>::new());
}

#[test]
fn the_digest_of_a_folder_is_the_one_that_coreutils_give() {
    let folder = inputs(false);
    let base = folder.path().join("base/etc");
    // Part by part the folder comes first, byte by byte the file does.
    fs::create_dir(base.join("verify")).unwrap();
    fs::write(base.join("verify/layer.rs"), "layer").unwrap();
    fs::write(base.join("verify.rs"), "verify").unwrap();
    let lines = Command::new("/bin/sh")
        .current_dir(&base)
        .args([
            "-c",
            "find . -type f | sed 's,^./,,' | LC_ALL=C sort | xargs sha256sum | sha256sum",
        ])
        .output()
        .unwrap();
    let expected = String::from_utf8(lines.stdout).unwrap();
    assert_eq!(dir_hash(&base).unwrap(), expected.split(' ').next().unwrap());
}
