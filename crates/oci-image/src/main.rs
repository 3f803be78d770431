//! The command `oci-image`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};
use oci_image::{
    Result,
    image::{self, Plan},
    inspect, verify,
};

const HELP: &str = "\
oci-image build --name NAME --architecture ARCH --base DIR --binary FILE --output DIR [--mode PATH=OCTAL]...
  builds an OCI image layout: the base layer from DIR, the program at /bin/NAME
oci-image inspect DIR
  checks a layout's blobs and prints them as a tree with sizes
oci-image verify DIR
  holds a layout against the specification and against itself: descriptors, blobs, diff ids, layers' entries; names
  every fault
";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]
fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("oci-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String> {
    let mut flags = lexopt::Parser::from_env();
    match flags.next()? {
        Some(Value(word)) if word == "build" => build(flags),
        Some(Value(word)) if word == "inspect" => inspect::tree(&PathBuf::from(flags.value()?)),
        Some(Value(word)) if word == "verify" => verified(&PathBuf::from(flags.value()?)),
        Some(Long("help") | Short('h')) => Ok(HELP.to_owned()),
        Some(other) => Err(other.unexpected().into()),
        None => bail!("what to do?\n{HELP}"),
    }
}

fn verified(folder: &Path) -> Result<String> {
    let faults = verify::faults(folder);
    if faults.is_empty() {
        return Ok(format!("{}: no fault\n", folder.display()));
    }
    bail!("{} has {} fault(s):\n  {}", folder.display(), faults.len(), faults.join("\n  "))
}

fn build(mut flags: lexopt::Parser) -> Result<String> {
    let (mut name, mut architecture, mut base, mut binary, mut output) =
        (None, None, None, None, None);
    let mut modes = Vec::new();
    while let Some(flag) = flags.next()? {
        match flag {
            Long("name") => name = Some(flags.value()?.string()?),
            Long("architecture") => architecture = Some(flags.value()?.string()?),
            Long("base") => base = Some(PathBuf::from(flags.value()?)),
            Long("binary") => binary = Some(PathBuf::from(flags.value()?)),
            Long("output") => output = Some(PathBuf::from(flags.value()?)),
            Long("mode") => modes.push(mode(&flags.value()?.string()?)?),
            other => return Err(other.unexpected().into()),
        }
    }
    let plan = Plan {
        name: name.context("--name is missing")?,
        architecture: architecture.context("--architecture is missing")?,
        base: base.context("--base is missing")?,
        modes,
        binary: binary.context("--binary is missing")?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let built = image::build(&plan, &output.context("--output is missing")?)?;
    let sizes: Vec<_> = built.layers.iter().map(ToString::to_string).collect();
    Ok(format!("{} {} layers of {} bytes\n", plan.name, built.digest, sizes.join(" + ")))
}

/// `PATH=OCTAL`.
fn mode(text: &str) -> Result<(PathBuf, u32)> {
    let (path, mode) =
        text.split_once('=').with_context(|| format!("--mode {text} is not PATH=OCTAL"))?;
    let mode = u32::from_str_radix(mode, 8)
        .with_context(|| format!("--mode {text}: {mode} is not octal"))?;
    Ok((path.into(), mode))
}
