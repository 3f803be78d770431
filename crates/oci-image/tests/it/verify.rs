//! Good layouts are accepted; each kind of corrupt or hostile one gets a clear fault.

use std::{
    fs,
    io::{Read, Write},
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

/// An archive of entries (kind, name, link) that are taken as they are.
fn archive_of(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    // Each ends in two empty blocks; only the last pair ends the whole.
    let mut archive = Vec::new();
    for (kind, name, link) in entries {
        archive.extend(&self::archive(*kind, name, link)[..512]);
    }
    archive.extend([0; 1024]);
    archive
}

/// An archive of one entry whose name and link are taken as they are.
fn archive(kind: tar::EntryType, name: &str, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
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
    assert_fault(&output, "is no file");
}

#[test]
fn nothing_is_written_through_a_link_however_it_is_named() {
    use tar::EntryType::{Link, Regular, Symlink};
    let link = (Symlink, "a", "/etc");
    for (expected, entries) in [
        ("the entry a/passwd is written through the link a", vec![link, (Regular, "a/passwd", "")]),
        ("the entry ./a/passwd is written through", vec![link, (Regular, "./a/passwd", "")]),
        ("z/../a/passwd leads out of the image", vec![link, (Regular, "z/../a/passwd", "")]),
        (
            "the entry h/passwd is written through",
            vec![link, (Link, "h", "a"), (Regular, "h/passwd", "")],
        ),
        ("the link h leads through the link a", vec![link, (Link, "h", "a/shadow")]),
        (
            "the entry ./b stands twice",
            vec![(Regular, "b", ""), (Regular, "c", ""), (Regular, "./b", "")],
        ),
    ] {
        let (_folder, output) = layout();
        change_layer(&output, &archive_of(&entries));
        assert_fault(&output, expected);
    }
}

#[test]
fn every_member_of_a_gzip_file_is_read() {
    let gzip = |bytes: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let first = &archive(tar::EntryType::Regular, "file", "")[..512];
    let second = archive(tar::EntryType::Regular, "../evil", "");
    for (expected, tail) in [
        ("its diff id says", gzip(&second)),
        ("../evil leads out of the image", gzip(&second)),
        ("its archive cannot be read", b"garbage".to_vec()),
    ] {
        let (_folder, output) = layout();
        let bytes = [gzip(first), tail].concat();
        change(&output, |manifest, config| {
            fs::remove_file(blob(&output, &manifest["layers"][1])).unwrap();
            manifest["layers"][1] =
                add(&output, "application/vnd.oci.image.layer.v1.tar+gzip", &bytes);
            config["rootfs"]["diff_ids"][1] = format!("sha256:{}", sha256(first)).into();
        });
        assert_fault(&output, expected);
    }
}

#[test]
fn a_record_that_would_fill_the_memory_is_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_path("././@LongLink").unwrap();
    header.set_size(1 << 20);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, std::io::repeat(b'x').take(1 << 20)).unwrap();
    let (_folder, output) = layout();
    change_layer(&output, &builder.into_inner().unwrap());
    assert_fault(&output, "it holds a record of 1048576 bytes");
}

#[test]
fn a_manifest_cannot_hide_behind_another_mention_of_it() {
    // Named as a document of an artifact first, with a layer that is gone.
    let (_folder, output) = layout();
    let file = output.join("index.json");
    let mut index = read(&file);
    let image = index["manifests"][0].clone();
    fs::remove_file(blob(&output, &read(&blob(&output, &image))["layers"][1])).unwrap();
    let empty = add(&output, "application/vnd.oci.empty.v1+json", b"{}");
    let part = json!({"mediaType": "text/plain", "digest": image["digest"], "size": image["size"]});
    let artifact = json!({"schemaVersion": 2, "artifactType": "text/plain", "config": empty, "layers": [part]});
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let artifact = add(&output, media_type, artifact.to_string().as_bytes());
    index["manifests"].as_array_mut().unwrap().insert(0, artifact);
    fs::write(&file, index.to_string()).unwrap();
    assert_fault(&output, "its blob cannot be read");

    // Named for two platforms.
    let (_folder, output) = layout();
    let file = output.join("index.json");
    let mut index = read(&file);
    let mut second = index["manifests"][0].clone();
    second["platform"]["architecture"] = "arm64".into();
    second["annotations"] = json!({});
    index["manifests"].as_array_mut().unwrap().push(second);
    fs::write(&file, index.to_string()).unwrap();
    assert_fault(&output, "different platforms");
}

#[test]
fn a_document_that_is_two_things_at_once_is_refused() {
    for (expected, edit) in [
        (
            "it says that it is",
            (|manifest, _| manifest["mediaType"] = "application/vnd.oci.image.index.v1+json".into())
                as fn(&mut Value, &mut Value),
        ),
        ("it has both manifests and layers", |manifest, _| manifest["manifests"] = json!([])),
        ("its schemaVersion is not 2", |manifest, _| manifest["schemaVersion"] = 1.into()),
    ] {
        let (_folder, output) = layout();
        change(&output, edit);
        assert_fault(&output, expected);
    }
}

#[test]
fn pipes_and_links_are_not_followed() {
    for name in ["index.json", "oci-layout"] {
        let (_folder, output) = layout();
        fs::remove_file(output.join(name)).unwrap();
        let made = std::process::Command::new("mkfifo").arg(output.join(name)).status().unwrap();
        assert!(made.success());
        assert_fault(&output, "is no file");
    }
    let (folder, output) = layout();
    fs::rename(output.join("blobs"), folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), output.join("blobs")).unwrap();
    assert_fault(&output, "blobs: it is no folder");
}

#[test]
fn a_layer_that_is_named_many_times_is_unpacked_once() {
    let (_folder, output) = layout();
    let started = std::time::Instant::now();
    change_layer(
        &output,
        &[archive(tar::EntryType::Regular, "file", ""), vec![0; 4 << 20]].concat(),
    );
    change(&output, |manifest, config| {
        let layer = manifest["layers"][1].clone();
        let diff_id = config["rootfs"]["diff_ids"][1].clone();
        manifest["layers"].as_array_mut().unwrap().extend(vec![layer; 1000]);
        config["rootfs"]["diff_ids"].as_array_mut().unwrap().extend(vec![diff_id; 1000]);
    });
    assert_eq!(faults(&output), Vec::<String>::new());
    assert!(started.elapsed().as_secs() < 60, "4 GB were unpacked");
}

#[test]
fn a_layer_that_sets_the_user_is_told() {
    let mut header = tar::Header::new_ustar();
    header.set_path("bin/su").unwrap();
    header.set_size(0);
    header.set_mode(0o4755);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, std::io::empty()).unwrap();
    let (_folder, output) = layout();
    change_layer(&output, &builder.into_inner().unwrap());
    assert_fault(&output, "the entry bin/su sets the user or the group");
}

#[test]
fn sizes_beyond_all_bounds_are_told_and_not_added_up() {
    let (_folder, output) = layout();
    change(&output, |manifest, _| {
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["size"] = json!((1_u64 << 63) + 5);
        }
    });
    let error = oci_image::inspect::tree(&output).unwrap_err();
    assert!(format!("{error:#}").contains("its descriptor says"), "{error:#}");
}
