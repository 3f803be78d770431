//! The library as its users see it: a folder and a program in, a layout out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod verify;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use oci_image::{
    image::{Built, Plan, build},
    inspect,
};
use tempfile::{TempDir, tempdir};

/// A base tree and a program; `reversed` makes the files in another order and with other modes.
fn inputs(reversed: bool) -> TempDir {
    let folder = tempdir().unwrap();
    let base = folder.path().join("base");
    fs::create_dir_all(base.join("tmp")).unwrap();
    fs::create_dir_all(base.join("etc")).unwrap();
    let mut files = vec!["passwd", "group", "hosts"];
    if reversed {
        files.reverse();
    }
    for file in files {
        fs::write(base.join("etc").join(file), file).unwrap();
        let mode = if reversed { 0o600 } else { 0o644 };
        fs::set_permissions(base.join("etc").join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("etc/hosts", base.join("link")).unwrap();
    fs::write(folder.path().join("program"), "program").unwrap();
    folder
}

fn build_in(folder: &Path, output: &str) -> Built {
    let plan = Plan {
        name: "demo".to_owned(),
        architecture: "amd64".to_owned(),
        base: folder.join("base"),
        modes: vec![("tmp".into(), 0o1777)],
        binary: folder.join("program"),
        version: "1".to_owned(),
    };
    build(&plan, &folder.join(output)).unwrap()
}

#[test]
fn the_digest_is_of_the_bytes_alone() {
    let (one, two) = (inputs(false), inputs(true));
    assert_eq!(build_in(one.path(), "a").digest, build_in(two.path(), "b").digest);
    fs::write(two.path().join("program"), "another").unwrap();
    assert_ne!(build_in(one.path(), "c").digest, build_in(two.path(), "d").digest);
}

#[test]
fn layers_hold_constant_owners_times_and_modes() {
    let folder = inputs(false);
    build_in(folder.path(), "out");
    let mut seen = Vec::new();
    for blob in fs::read_dir(folder.path().join("out/blobs/sha256")).unwrap() {
        let bytes = fs::read(blob.unwrap().path()).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
            for entry in archive.entries().unwrap() {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!(
                    (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                    (0, 0, 1)
                );
                seen.push(format!(
                    "{} {:o}",
                    entry.path().unwrap().display(),
                    header.mode().unwrap()
                ));
            }
        }
    }
    seen.sort();
    let expected = [
        "bin/ 755",
        "bin/demo 555",
        "etc/ 755",
        "etc/group 444",
        "etc/hosts 444",
        "etc/passwd 444",
        "link 777",
        "tmp/ 1777",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_damaged_blob_is_named() {
    let folder = inputs(false);
    build_in(folder.path(), "out");
    let output = folder.path().join("out");
    assert!(inspect::tree(&output).unwrap().contains("manifest sha256:"));
    let largest =
        fs::read_dir(output.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    let largest = largest.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let bytes = fs::read(&largest).unwrap();
    fs::write(&largest, &bytes[1..]).unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap();
    assert!(inspect::tree(&output).unwrap_err().to_string().contains(name));
}

#[test]
fn a_missing_program_is_told() {
    let folder = inputs(false);
    fs::remove_file(folder.path().join("program")).unwrap();
    let plan = Plan {
        name: "demo".to_owned(),
        architecture: "amd64".to_owned(),
        base: folder.path().join("base"),
        modes: Vec::new(),
        binary: folder.path().join("program"),
        version: "1".to_owned(),
    };
    let message = build(&plan, &folder.path().join("out")).unwrap_err().to_string();
    assert!(message.starts_with("cannot read the program"), "{message}");
}
