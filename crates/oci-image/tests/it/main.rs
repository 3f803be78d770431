//! The library as its users see it: a folder and a program in, a layout out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bill;
mod platforms;
mod verify;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use oci_image::{
    Result,
    image::{Built, Plan, Process, build},
    inspect,
    layer::Entries,
    layout::Layout,
};
use oci_spec::image::{ImageConfiguration, ImageManifest};
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
    let program = folder.path().join("program");
    fs::write(&program, "program").unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The plan of an image of the architecture, made of what [`inputs`] made.
fn plan(folder: &Path, architecture: &str) -> Result<Plan> {
    let (mut base, mut application) = (Entries::default(), Entries::default());
    base.add_tree(&folder.join("base"))?;
    base.set_mode(Path::new("tmp"), 0o1777)?;
    application.add_file(Path::new("bin/demo"), &folder.join("program"))?;
    Ok(Plan {
        name: "demo".to_owned(),
        version: "1".to_owned(),
        created: "2026-01-02T03:04:05Z".to_owned(),
        architecture: architecture.to_owned(),
        layers: vec![("base".to_owned(), base), ("application".to_owned(), application)],
        process: Process {
            user: "65532:65532".to_owned(),
            entrypoint: vec!["/bin/demo".to_owned()],
            ..Process::default()
        },
    })
}

fn build_in(folder: &Path, output: &str) -> Built {
    build(&plan(folder, "amd64").unwrap(), &folder.join(output)).unwrap()
}

#[test]
fn the_digest_is_of_the_bytes_alone() {
    let (one, two) = (inputs(false), inputs(true));
    assert_eq!(build_in(one.path(), "a").digest, build_in(two.path(), "b").digest);
    fs::write(two.path().join("program"), "another").unwrap();
    assert_ne!(build_in(one.path(), "c").digest, build_in(two.path(), "d").digest);
}

/// Every entry of every layer with its mode, and its owner where that is not root; times are held to be constant on the way.
fn modes(output: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    for blob in fs::read_dir(output.join("blobs/sha256")).unwrap() {
        let bytes = fs::read(blob.unwrap().path()).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
            for entry in archive.entries().unwrap() {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!(header.mtime().unwrap(), 1);
                let (user, group) = (header.uid().unwrap(), header.gid().unwrap());
                let owner = if (user, group) == (0, 0) {
                    String::new()
                } else {
                    format!(" {user}:{group}")
                };
                seen.push(format!(
                    "{} {:o}{owner}",
                    entry.path().unwrap().display(),
                    header.mode().unwrap()
                ));
            }
        }
    }
    seen.sort();
    seen
}

#[test]
fn layers_hold_constant_owners_times_and_modes() {
    let folder = inputs(false);
    build_in(folder.path(), "out");
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
    assert_eq!(modes(&folder.path().join("out")), expected);
}

#[test]
fn the_folder_of_a_volume_is_the_users() {
    let folder = inputs(false);
    let mut plan = plan(folder.path(), "amd64").unwrap();
    plan.process.volumes = ["/var/lib/data", "/bin"].map(str::to_owned).into();
    build(&plan, &folder.path().join("out")).unwrap();
    let modes = modes(&folder.path().join("out"));
    for expected in
        ["var/ 755", "var/lib/ 755", "var/lib/data/ 755 65532:65532", "bin/ 755 65532:65532"]
    {
        assert!(modes.iter().any(|entry| entry == expected), "{expected}: {modes:?}");
    }
    for (user, volume, refused) in [
        ("nonroot", "/data", "--user UID:GID in numbers"),
        ("1:1", "data", "no absolute path"),
        ("1:1", "/bin/demo/x", "which is no folder"),
    ] {
        plan.process.user = user.to_owned();
        plan.process.volumes = vec![volume.to_owned()];
        let error = build(&plan, &folder.path().join("refused")).unwrap_err();
        assert!(format!("{error:#}").contains(refused), "{error:#}");
    }
}

#[test]
fn an_image_says_when_what_it_is_made_of_was_locked() {
    let folder = inputs(false);
    build_in(folder.path(), "out");
    let layout = Layout::open(&folder.path().join("out"));
    let manifest: ImageManifest = layout.document(&layout.image().unwrap().0).unwrap();
    let config: ImageConfiguration = layout.document(manifest.config()).unwrap();
    let told = "2026-01-02T03:04:05Z";
    assert_eq!(config.created().as_deref(), Some(told));
    assert!(
        config.history().iter().flatten().all(|layer| layer.created().as_deref() == Some(told))
    );
    let bill = oci_image::sbom::spdx(&layout, &oci_image::sbom::Sources::default()).unwrap();
    assert_eq!(bill["creationInfo"]["created"], told);
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
fn a_missing_file_is_told() {
    let folder = inputs(false);
    fs::remove_file(folder.path().join("program")).unwrap();
    let error = plan(folder.path(), "amd64").unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.ends_with("program"), "{error}");
}

#[test]
fn a_file_below_a_link_is_refused() {
    let folder = inputs(false);
    let mut entries = Entries::default();
    entries.add_tree(&folder.path().join("base")).unwrap();
    let error = entries.add_file(Path::new("link/file"), &folder.path().join("program"));
    assert_eq!(
        error.unwrap_err().to_string(),
        "link/file would stand below link, which is no folder"
    );
}
