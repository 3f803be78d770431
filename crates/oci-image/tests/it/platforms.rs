//! An image for several platforms, and what hangs on it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use oci_image::{
    image::build,
    index::join,
    inspect,
    layout::Layout,
    referrers::{self, IN_TOTO, SPDX},
    verify::faults,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{inputs, plan};

/// A layout for each architecture, each with a document that names its image.
fn platforms() -> (TempDir, Vec<Layout>) {
    let folder = inputs(false);
    let layouts = ["arm64", "amd64"].map(|architecture| {
        let output = folder.path().join(architecture);
        build(&plan(folder.path(), architecture).unwrap(), &output).unwrap();
        let layout = Layout::open(&output);
        referrers::attach(&layout, SPDX, bill(&layout).to_string().as_bytes()).unwrap();
        layout
    });
    (folder, layouts.into())
}

/// The least that verify takes for an SPDX document of the layout's image.
fn bill(layout: &Layout) -> Value {
    let digest = layout.image().unwrap().0.digest().digest().to_owned();
    json!({"packages": [{"checksums": [{"algorithm": "SHA256", "checksumValue": digest}]}]})
}

fn joined() -> (TempDir, PathBuf) {
    let (folder, layouts) = platforms();
    let output = folder.path().join("joined");
    join(&layouts, &output).unwrap();
    (folder, output)
}

#[track_caller]
fn assert_fault(output: &Path, expected: &str) {
    let faults = faults(output);
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}: {faults:#?}");
}

#[test]
fn an_index_holds_every_platform_with_its_referrers_sorted() {
    let (_folder, output) = joined();
    assert_eq!(faults(&output), Vec::<String>::new());
    let tree = inspect::tree(&output).unwrap();
    let shape: Vec<_> = tree.lines().map(|line| line.split(" sha256").next().unwrap()).collect();
    let platform = [
        "    manifest",
        "      config",
        "      layer",
        "      layer",
        "      referrer",
        "        document",
    ];
    let expected = [vec!["demo:1", "  index"], platform.to_vec(), platform.to_vec()].concat();
    assert_eq!(shape, expected, "{tree}");
    assert!(tree.find("linux/amd64") < tree.find("linux/arm64"), "{tree}");
}

#[test]
fn the_order_of_the_layouts_changes_no_byte() {
    let (folder, mut layouts) = platforms();
    let one = join(&layouts, &folder.path().join("one")).unwrap();
    layouts.reverse();
    let two = join(&layouts, &folder.path().join("two")).unwrap();
    assert_eq!(one, two);
    let index = |name: &str| fs::read(folder.path().join(name).join("index.json")).unwrap();
    assert_eq!(index("one"), index("two"));
}

#[test]
fn a_second_document_hangs_beside_the_first_and_nothing_dangles() {
    let (_folder, output) = joined();
    let layout = Layout::open(&output);
    let (image, _) = layout.image().unwrap();
    let statement = json!({"subject": [{"digest": {"sha256": image.digest().digest()}}]});
    referrers::attach(&layout, IN_TOTO, statement.to_string().as_bytes()).unwrap();
    assert_eq!(faults(&output), Vec::<String>::new());
    assert_eq!(layout.image().unwrap().0, image, "the image itself is as it was");
    let again = referrers::attach(&layout, IN_TOTO, statement.to_string().as_bytes());
    assert!(again.unwrap_err().to_string().contains("already"));
    assert_eq!(faults(&output), Vec::<String>::new());
}

#[test]
fn layouts_that_do_not_belong_together_are_refused() {
    let (folder, layouts) = platforms();
    let twice = [layouts[0].clone(), layouts[0].clone()];
    let error = join(&twice, &folder.path().join("twice")).unwrap_err().to_string();
    assert_eq!(error, "two of the layouts are for linux/arm64");

    let mut other = plan(folder.path(), "riscv64").unwrap();
    other.name = "other".to_owned();
    build(&other, &folder.path().join("other")).unwrap();
    let strangers = [layouts[0].clone(), Layout::open(&folder.path().join("other"))];
    let error = join(&strangers, &folder.path().join("strangers")).unwrap_err().to_string();
    assert_eq!(error, "the layouts are of different images: demo:1, other:1");

    let error = join(&[], &folder.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("no layout"), "{error}");
}

#[test]
fn a_damaged_layout_is_not_joined() {
    let (folder, layouts) = platforms();
    let blobs = fs::read_dir(layouts[1].folder().join("blobs/sha256")).unwrap();
    let largest =
        blobs.map(|blob| blob.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len());
    let largest = largest.unwrap();
    let bytes = fs::read(&largest).unwrap();
    fs::write(&largest, &bytes[1..]).unwrap();
    let error = join(&layouts, &folder.path().join("out")).unwrap_err();
    assert!(format!("{error:#}").contains("its descriptor says"), "{error:#}");
}

#[test]
fn referrers_that_lie_are_told() {
    // A document of another image.
    let (_folder, output) = joined();
    let wrong = json!({"packages": [{"checksums": [{"checksumValue": "0"}]}]}).to_string();
    referrers::attach(&Layout::open(&output), SPDX, wrong.as_bytes()).unwrap();
    assert_fault(&output, "it tells of another image than it hangs on");

    // A list that tells another type than the artifact's own.
    let (_folder, output) = joined();
    let file = output.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let list = &mut index["manifests"][1];
    let blob = |digest: &Value| {
        output.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
    };
    let text = fs::read_to_string(blob(&list["digest"])).unwrap().replace(SPDX, "text/plain");
    let digest = oci_image::layer::sha256(text.as_bytes());
    fs::remove_file(blob(&list["digest"])).unwrap();
    fs::write(output.join("blobs/sha256").join(&digest), &text).unwrap();
    list["digest"] = format!("sha256:{digest}").into();
    list["size"] = text.len().into();
    fs::write(&file, index.to_string()).unwrap();
    assert_fault(&output, "different artifact types");

    // A list under the name of another subject.
    let (_folder, output) = joined();
    let file = output.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let name = &mut index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"];
    *name = format!("sha256-{}", "0".repeat(64)).into();
    fs::write(&file, index.to_string()).unwrap();
    assert_fault(&output, "no list of referrers named");
    assert_fault(&output, "does not refer to it");

    // No list at all: nothing points to the artifact.
    let (_folder, output) = joined();
    let file = output.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    index["manifests"].as_array_mut().unwrap().truncate(1);
    fs::write(&file, index.to_string()).unwrap();
    assert_fault(&output, "nothing points to it");

    // A name that stands twice.
    let twice = index["manifests"][0].clone();
    index["manifests"].as_array_mut().unwrap().push(twice);
    fs::write(&file, index.to_string()).unwrap();
    assert_fault(&output, "the name demo:1 stands twice");
}

#[test]
fn a_layout_of_several_images_is_left_as_it_is() {
    let (_folder, output) = joined();
    let file = output.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut second = index["manifests"][0].clone();
    second["annotations"] = json!({});
    index["manifests"].as_array_mut().unwrap().push(second);
    fs::write(&file, index.to_string()).unwrap();
    let error = referrers::attach(&Layout::open(&output), SPDX, b"{}").unwrap_err().to_string();
    assert!(error.ends_with("holds several images: give a layout of one"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), index.to_string());
}
