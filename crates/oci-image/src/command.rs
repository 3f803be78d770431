//! What the command line says: a word, then its flags.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use lexopt::prelude::{Long, Short, Value, ValueExt};
use oci_image::{
    Result,
    image::{self, Plan, Process},
    index, inspect,
    layer::Entries,
    layout::Layout,
    provenance, referrers, sbom, verify,
};

const HELP: &str = "\
Builds OCI image layouts whose digest depends on the bytes alone.

oci-image build --name NAME --version VERSION --created TIME --architecture ARCH --output DIR
                            an image for one platform; TIME: when what it is made of was locked (RFC 3339)
    --layer NAME            begins a layer; what follows is in it
      --tree DIR            everything below DIR
      --file PATH=FILE      FILE at PATH
      --mode PATH=OCTAL     another mode than 0444, or 0555 for what may be run
    --user UID:GID  --entrypoint WORD...  --command WORD...  --env NAME=VALUE...  --port NUMBER...
    --volume PATH...  --stop-signal NAME     (repeated for several; a volume's folder is the user's)
oci-image index --output DIR LAYOUT...      one image for several platforms, with what hangs on each
oci-image sbom LAYOUT                       prints the SPDX document of an image for one platform
    --binary FILE           the program, built by cargo auditable; --cargo-lock FILE, --crates DIR (for licences)
    --components FILE...    JSON list of the system's packages: name, version, type, architecture, sha256
oci-image provenance LAYOUT                 prints the in-toto statement (SLSA provenance) of an image
    --builder URI  --build-type URI  --parameter NAME=VALUE...
    --source NAME=DIR...  --lock NAME=FILE...  --cargo-lock FILE  --components FILE...
oci-image attach LAYOUT --spdx FILE | --in-toto FILE
                                            hangs a document on the layout's image: a referrer, and its fallback tag
oci-image inspect LAYOUT                    prints a layout as a tree with sizes
oci-image verify LAYOUT                     holds a layout against the specification and against itself; names every
                                            fault, and exits with 1 when there is one
";

/// Does what the words say; the text to print.
pub(crate) fn run(mut flags: lexopt::Parser) -> Result<String> {
    let word = match flags.next()? {
        Some(Value(word)) => word.string()?,
        Some(Long("help") | Short('h')) => return Ok(HELP.to_owned()),
        Some(other) => return Err(other.unexpected().into()),
        None => bail!("what to do?\n\n{HELP}"),
    };
    match word.as_str() {
        "build" => build(flags),
        "index" => join(flags),
        "sbom" => print_sbom(flags),
        "provenance" => print_provenance(flags),
        "attach" => attach(flags),
        "inspect" => inspect::tree(&one_layout(flags)?),
        "verify" => verified(&one_layout(flags)?),
        other => bail!("{other} is no command; oci-image --help lists them"),
    }
}

fn build(mut flags: lexopt::Parser) -> Result<String> {
    let (mut name, mut version, mut created) = (None, None, None);
    let (mut architecture, mut output) = (None, None);
    let mut layers: Vec<(String, Entries)> = Vec::new();
    let mut process = Process::default();
    while let Some(flag) = flags.next()? {
        let Long(flag) = flag else { return Err(flag.unexpected().into()) };
        let flag = flag.to_owned();
        let value = flags.value()?.string()?;
        match flag.as_str() {
            "name" => name = Some(value),
            "version" => version = Some(value),
            "created" => created = Some(value),
            "architecture" => architecture = Some(value),
            "output" => output = Some(PathBuf::from(value)),
            "layer" => layers.push((value, Entries::default())),
            "tree" | "file" | "mode" => {
                let (_, entries) = layers
                    .last_mut()
                    .with_context(|| format!("--{flag} {value} stands before any --layer"))?;
                fill(entries, &flag, &value)?;
            }
            _ => describe(&mut process, &flag, value)?,
        }
    }
    let plan = Plan {
        name: name.context("--name is missing")?,
        version: version.context("--version is missing")?,
        created: created.context("--created is missing")?,
        architecture: architecture.context("--architecture is missing")?,
        layers,
        process,
    };
    let built = image::build(&plan, &output.context("--output is missing")?)?;
    let sizes: Vec<_> = built.layers.iter().map(ToString::to_string).collect();
    Ok(format!("{} {} layers of {} bytes\n", plan.name, built.digest, sizes.join(" + ")))
}

/// Puts into a layer what a flag says.
fn fill(entries: &mut Entries, flag: &str, value: &str) -> Result<()> {
    match flag {
        "tree" => entries.add_tree(Path::new(value)),
        "file" => {
            let (path, file) = pair(flag, value)?;
            entries.add_file(Path::new(&path), Path::new(&file))
        }
        _ => {
            let (path, mode) = pair(flag, value)?;
            let mode = u32::from_str_radix(&mode, 8).ok().filter(|mode| *mode <= 0o1777);
            entries.set_mode(
                Path::new(&path),
                mode.with_context(|| format!("--mode {value}: an octal number up to 1777"))?,
            )
        }
    }
}

/// Notes how the program is run.
fn describe(process: &mut Process, flag: &str, value: String) -> Result<()> {
    match flag {
        "user" => process.user = value,
        "entrypoint" => process.entrypoint.push(value),
        "command" => process.command.push(value),
        "env" => process.environment.push(value),
        "port" => process.ports.push(format!("{value}/tcp")),
        "volume" => process.volumes.push(value),
        "stop-signal" => process.stop_signal = Some(value),
        other => bail!("--{other} is no flag of build; oci-image --help lists them"),
    }
    Ok(())
}

fn join(mut flags: lexopt::Parser) -> Result<String> {
    let (mut layouts, mut output) = (Vec::new(), None);
    while let Some(flag) = flags.next()? {
        match flag {
            Long("output") => output = Some(PathBuf::from(flags.value()?)),
            Value(folder) => layouts.push(Layout::open(Path::new(&folder))),
            other => return Err(other.unexpected().into()),
        }
    }
    let index = index::join(&layouts, &output.context("--output is missing")?)?;
    Ok(format!("{}\n", index.digest()))
}

fn print_sbom(mut flags: lexopt::Parser) -> Result<String> {
    let (mut layout, mut sources) = (None, sbom::Sources::default());
    while let Some(flag) = flags.next()? {
        match flag {
            Long("binary") => sources.binary = Some(flags.value()?.into()),
            Long("cargo-lock") => sources.cargo_lock = Some(flags.value()?.into()),
            Long("crates") => sources.crates = Some(flags.value()?.into()),
            Long("components") => sources.components.push(flags.value()?.into()),
            Value(folder) if layout.is_none() => layout = Some(PathBuf::from(folder)),
            other => return Err(other.unexpected().into()),
        }
    }
    let layout = Layout::open(&layout.context("of which layout?")?);
    Ok(format!("{:#}\n", sbom::spdx(&layout, &sources)?))
}

fn print_provenance(mut flags: lexopt::Parser) -> Result<String> {
    let (mut layout, mut build) = (None, provenance::Build::default());
    while let Some(flag) = flags.next()? {
        let flag = match flag {
            Value(folder) if layout.is_none() => {
                layout = Some(PathBuf::from(folder));
                continue;
            }
            Long(flag) => flag.to_owned(),
            other => return Err(other.unexpected().into()),
        };
        let value = flags.value()?.string()?;
        match flag.as_str() {
            "builder" => build.builder = value,
            "build-type" => build.build_type = value,
            "parameter" => build.parameters.extend([pair(&flag, &value)?]),
            "cargo-lock" => build.cargo_lock = Some(value.into()),
            "components" => build.components.push(value.into()),
            "lock" | "source" => {
                let (name, path) = pair(&flag, &value)?;
                let list = if flag == "lock" { &mut build.locks } else { &mut build.sources };
                list.push((name, path.into()));
            }
            other => bail!("--{other} is no flag of provenance; oci-image --help lists them"),
        }
    }
    ensure!(!build.builder.is_empty(), "--builder is missing");
    ensure!(!build.build_type.is_empty(), "--build-type is missing");
    let layout = Layout::open(&layout.context("of which layout?")?);
    Ok(format!("{:#}\n", provenance::statement(&layout, &build)?))
}

fn attach(mut flags: lexopt::Parser) -> Result<String> {
    let (mut layout, mut document) = (None, None);
    while let Some(flag) = flags.next()? {
        match flag {
            Long("spdx") => document = Some((referrers::SPDX, PathBuf::from(flags.value()?))),
            Long("in-toto") => document = Some((referrers::IN_TOTO, PathBuf::from(flags.value()?))),
            Value(folder) if layout.is_none() => layout = Some(PathBuf::from(folder)),
            other => return Err(other.unexpected().into()),
        }
    }
    let layout = Layout::open(&layout.context("to which layout?")?);
    let (kind, file) = document.context("what? Give --spdx FILE or --in-toto FILE")?;
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let attached = referrers::attach(&layout, kind, &bytes)?;
    Ok(format!("{} {kind}\n", attached.digest()))
}

fn verified(folder: &Path) -> Result<String> {
    let faults = verify::faults(folder);
    if faults.is_empty() {
        return Ok(format!("{}: no fault\n", folder.display()));
    }
    bail!("{} has {} fault(s):\n  {}", folder.display(), faults.len(), faults.join("\n  "))
}

/// The one argument of a command without flags.
fn one_layout(mut flags: lexopt::Parser) -> Result<PathBuf> {
    let folder = match flags.next()? {
        Some(Value(folder)) => PathBuf::from(folder),
        Some(other) => return Err(other.unexpected().into()),
        None => bail!("of which layout? Give its folder"),
    };
    match flags.next()? {
        None => Ok(folder),
        Some(other) => Err(other.unexpected().into()),
    }
}

/// `NAME=VALUE`.
fn pair(flag: &str, text: &str) -> Result<(String, String)> {
    let (name, value) =
        text.split_once('=').with_context(|| format!("--{flag} {text} is not of the form A=B"))?;
    Ok((name.to_owned(), value.to_owned()))
}
