//! Good layouts are accepted; each kind of corrupt or hostile one gets a clear fault.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use oci_image::{layer::sha256, verify::faults};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{build_in, inputs};

fn layout() -> (TempDir, PathBuf) {
    let folder = inputs(false);
    build_in(folder.path(), "out");
    let output = folder.path().join("out");
    (folder, output)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Writes a blob as its digest names it; its descriptor.
fn add(output: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256(bytes);
    fs::write(output.join("blobs/sha256").join(&digest), bytes).unwrap();
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
}

fn blob(output: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
    output.join("blobs/sha256").join(digest)
}

/// Changes the layout's manifest, its configuration beside it, and what points to them; the old ones go.
fn change(output: &Path, edit: impl FnOnce(&mut Value, &mut Value)) {
    let mut index = read(&output.join("index.json"));
    let old = blob(output, &index["manifests"][0]);
    let mut manifest = read(&old);
    let old_config = blob(output, &manifest["config"]);
    let mut config = read(&old_config);
    fs::remove_file(old).unwrap();
    fs::remove_file(old_config).unwrap();
    edit(&mut manifest, &mut config);
    let media_type = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
    manifest["config"] = add(output, &media_type, config.to_string().as_bytes());
    let descriptor =
        add(output, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    index["manifests"][0]["digest"] = descriptor["digest"].clone();
    index["manifests"][0]["size"] = descriptor["size"].clone();
    fs::write(output.join("index.json"), index.to_string()).unwrap();
}

/// Puts another archive in place of the program's layer.
fn change_layer(output: &Path, archive: &[u8]) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(archive).unwrap();
    let bytes = gzip.finish().unwrap();
    change(output, |manifest, config| {
        fs::remove_file(blob(output, &manifest["layers"][1])).unwrap();
        manifest["layers"][1] = add(output, "application/vnd.oci.image.layer.v1.tar+gzip", &bytes);
        config["rootfs"]["diff_ids"][1] = format!("sha256:{}", sha256(archive)).into();
    });
}

/// An archive of one entry whose name and link are taken as they are.
fn archive(kind: tar::EntryType, name: &str, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(0);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

#[track_caller]
fn assert_fault(output: &Path, expected: &str) {
    let faults = faults(output);
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}: {faults:#?}");
}

#[test]
fn what_we_build_has_no_fault_and_a_rebuilt_change_neither() {
    let (_folder, output) = layout();
    assert_eq!(faults(&output), Vec::<String>::new());
    change(&output, |_, _| {});
    assert_eq!(faults(&output), Vec::<String>::new());
}

#[test]
fn damaged_blobs_and_documents_are_named() {
    let (_folder, output) = layout();
    let index = read(&output.join("index.json"));
    let manifest = read(&blob(&output, &index["manifests"][0]));
    let layer = blob(&output, &manifest["layers"][1]);
    let bytes = fs::read(&layer).unwrap();
    fs::write(&layer, &bytes[1..]).unwrap();
    assert_fault(&output, "its descriptor says");
    let mut other = bytes.clone();
    other[20] ^= 1;
    fs::write(&layer, other).unwrap();
    assert_fault(&output, "other bytes than the digest says");
    fs::remove_file(&layer).unwrap();
    assert_fault(&output, "its blob cannot be read");
    fs::write(&layer, bytes).unwrap();
    fs::write(output.join("blobs/sha256").join("0".repeat(64)), "x").unwrap();
    assert_fault(&output, "nothing points to it");
    fs::write(output.join("index.json"), "{").unwrap();
    assert_fault(&output, "index.json: ");
    fs::write(output.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert_fault(&output, "version 2.0.0 is not 1.0.0");
}

#[test]
fn documents_that_contradict_each_other_are_told() {
    for (expected, edit) in [
        (
            "but 1 diff ids",
            (|_, config| drop(config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop()))
                as fn(&mut Value, &mut Value),
        ),
        ("its diff id says", |_, config| {
            config["rootfs"]["diff_ids"][0] = format!("sha256:{}", "0".repeat(64)).into();
        }),
        ("different platforms", |_, config| config["architecture"] = "arm64".into()),
        ("not that of a gzip layer", |manifest, _| {
            manifest["layers"][0]["mediaType"] = "text/plain".into();
        }),
        ("its descriptor says", |manifest, _| {
            manifest["layers"][0]["size"] = json!(9_000_000_000_000_000_000_u64);
        }),
        ("it refers to sha256:1111", |manifest, _| {
            manifest["subject"] = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{}", "1".repeat(64)), "size": 7});
        }),
    ] {
        let (_folder, output) = layout();
        change(&output, edit);
        assert_fault(&output, expected);
    }
}

#[test]
fn hostile_layers_are_refused() {
    for (expected, kind, name, link) in [
        ("leads out of the image", tar::EntryType::Regular, "../etc/passwd", ""),
        ("leads out of the image", tar::EntryType::Regular, "/etc/passwd", ""),
        ("leads out of the image", tar::EntryType::Regular, "a/../../b", ""),
        ("leads out of the image, to ../../etc", tar::EntryType::Symlink, "bin/link", "../../etc"),
        ("leads out of the image, to /etc/passwd", tar::EntryType::Link, "hard", "/etc/passwd"),
        ("of the kind Char", tar::EntryType::Char, "dev", ""),
    ] {
        let (_folder, output) = layout();
        change_layer(&output, &archive(kind, name, link));
        assert_fault(&output, expected);
    }
    let (_folder, output) = layout();
    let link = archive(tar::EntryType::Symlink, "etc", "/");
    let through = archive(tar::EntryType::Regular, "etc/passwd", "");
    // Each ends in two empty blocks; only the last pair ends the whole.
    change_layer(&output, &[&link[..512], &through[..]].concat());
    assert_fault(&output, "the entry etc/passwd is written through the link etc");
    let (_folder, output) = layout();
    let whole = archive(tar::EntryType::Regular, "file", "");
    change_layer(&output, &whole[..300]);
    assert_fault(&output, "its archive cannot be read");
}

#[test]
fn indexes_that_lie_too_deep_end_the_walk() {
    let (_folder, output) = layout();
    for _ in 0..6 {
        let inner = fs::read(output.join("index.json")).unwrap();
        let descriptor = add(&output, "application/vnd.oci.image.index.v1+json", &inner);
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        fs::write(output.join("index.json"), index.to_string()).unwrap();
    }
    assert_fault(&output, "more than 4 indexes deep");
}

#[test]
fn an_index_that_names_another_many_times_is_read_once() {
    let (_folder, output) = layout();
    let started = std::time::Instant::now();
    for _ in 0..3 {
        let inner = fs::read(output.join("index.json")).unwrap();
        let descriptor = add(&output, "application/vnd.oci.image.index.v1+json", &inner);
        let index = json!({"schemaVersion": 2, "manifests": vec![descriptor; 300]});
        fs::write(output.join("index.json"), index.to_string()).unwrap();
    }
    assert_eq!(faults(&output), Vec::<String>::new());
    assert!(started.elapsed().as_secs() < 20, "27 million names were followed");
}

#[test]
fn a_blob_that_is_no_file_is_not_read() {
    let (_folder, output) = layout();
    let index = read(&output.join("index.json"));
    let manifest = read(&blob(&output, &index["manifests"][0]));
    let layer = blob(&output, &manifest["layers"][1]);
    fs::remove_file(&layer).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &layer).unwrap();
    assert_fault(&output, "its blob is no file");
}
