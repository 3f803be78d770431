//! `bench`: measures the services side by side with what people would use instead.

use std::{env, ffi::OsString, process::ExitCode};

use anyhow::{Result, bail};
use bench::{config, ideal, instructions, progress, run, scale, statements};

const HELP: &str = "\
bench               measures every row, prints the table, writes the results and the charts
bench ideal         a bare hyper server on --listen ADDRESS: what the machine gives when nothing is done
bench instructions  counts the instructions of the hot paths and holds them against the committed figures
bench statements    renews the scripts of what PostgreSQL is asked for, below --out
bench scale         how cost grows with rows, items, connections and replicas

";

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Does what the first word says; what follows it is the word's own.
fn command() -> Result<()> {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let word = arguments.first().filter(|word| !word.to_string_lossy().starts_with('-')).cloned();
    if word.is_some() {
        arguments.remove(0);
    }
    let flags = lexopt::Parser::from_args(arguments);
    match word.as_ref().map(|word| word.to_string_lossy()).as_deref() {
        None => run::main(flags),
        Some("ideal") => ideal::main(flags),
        Some("instructions") => instructions::main(flags),
        Some("statements") => statements::main(flags),
        Some("scale") => scale::main(flags),
        Some(other) => bail!("there is no `bench {other}`\n\n{HELP}{}", config::HELP),
    }
}
