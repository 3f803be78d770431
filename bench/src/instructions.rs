//! Instructions of the hot paths, counted by callgrind in the real programs and held against committed figures: they
//! tell of a regression where times, on a machine that does other things too, do not.

mod callgrind;
mod counted;
mod figures;
mod paths;

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context, bail};
use lexopt::Parser;
use local_stack::{Result, Settings, Stack, state};
use tempfile::TempDir;

use self::{
    counted::Counter,
    figures::{Figures, Measured, difference},
    paths::HotPath,
};
use crate::{
    config::{self, Config},
    process::{Cores, Place},
    progress, say,
};

const HELP: &str = "\
bench instructions  counts the instructions of a request on each hot path, by callgrind,
                    and fails where one differs from its committed figure by more than the tolerance

  --renew           writes what was counted in place of the committed figures
  --figures FILE    the committed figures; default bench/instructions.toml

";

/// Where the figures are committed, in the checkout.
const FIGURES: &str = "bench/instructions.toml";

/// What `bench instructions` is told beside the common settings.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    /// Are the figures written anew?
    renew: bool,
    /// Their file.
    figures: PathBuf,
}

/// `bench instructions`.
pub fn main(mut flags: Parser) -> Result<()> {
    let (own, common) = own(flags.raw_args()?.collect())?;
    let Some(config) = Config::read(Parser::from_args(common))? else {
        say(&format!("{HELP}{}", config::HELP));
        return Ok(());
    };
    // How often a service wakes up depends on who is faster, it or the one that answers it, and with several cores so does
    // its count: by 4 % between a busy machine and a quiet one.
    Cores::read()?.go(Place::Server)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&config, &own))
}

/// Parts this command's own flags from the common ones.
fn own(arguments: Vec<OsString>) -> Result<(Own, Vec<OsString>)> {
    let mut own = Own { renew: false, figures: FIGURES.into() };
    let mut common = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--renew") => own.renew = true,
            Some("--figures") => {
                own.figures = arguments.next().context("--figures takes a file")?.into();
            }
            _ => common.push(argument),
        }
    }
    Ok((own, common))
}

async fn run(config: &Config, own: &Own) -> Result<()> {
    let figures = Figures::read(&own.figures)?;
    let measured = count_all(config).await?;
    say(&table(&figures, &measured));
    if own.renew {
        fs::write(&own.figures, figures.renewed(&measured).text())
            .with_context(|| format!("cannot write {}", own.figures.display()))?;
        say(&format!("{} is renewed", own.figures.display()));
        return Ok(());
    }
    let mut faults: Vec<_> = measured.iter().filter_map(|one| figures.fault(*one)).collect();
    let passed = measured.len() - faults.len();
    faults.extend(figures.stale(&measured));
    say(&format!("{passed} passed, {} failed", faults.len()));
    if faults.is_empty() { Ok(()) } else { bail!("\n{}", faults.join("\n")) }
}

/// Counts every path, on a stack of its own.
async fn count_all(config: &Config) -> Result<Vec<Measured>> {
    let folder = state::temporary_folder()?;
    let settings = Settings::new(&config.programs, &config.postgres, folder.path());
    let stack = Stack::start(settings).await?;
    let counter = Counter {
        stack: &stack,
        state: folder.path().to_owned(),
        programs: config.programs.clone(),
        valgrind: config.valgrind.clone(),
        counts: TempDir::with_prefix("stockyard-counts-")?,
    };
    let mut measured = Vec::new();
    for path in HotPath::ALL {
        progress(&format!("{} ...", path.name()));
        let counted = counter.count(path).await.with_context(|| path.name().to_owned())?;
        measured.push((path.name(), counted));
    }
    drop(counter);
    stack.stop().await?;
    Ok(measured)
}

/// What was counted beside what is committed.
fn table(figures: &Figures, measured: &[Measured]) -> String {
    let head = format!(
        "{:<30} {:>12} {:>12} {:>9}\n",
        "instructions of a request", "counted", "committed", "more"
    );
    let line = |(name, counted): &Measured| match figures.of(name) {
        Some(committed) => {
            let more = difference(committed, *counted);
            format!("{name:<30} {counted:>12} {committed:>12} {more:>8.2}%\n")
        }
        None => format!("{name:<30} {counted:>12} {:>12}\n", "none"),
    };
    head + &measured.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_flags_are_parted_from_the_common_ones() {
        let given = ["--bin-dir", "bin", "--renew", "--figures", "f", "--postgres", "pg"];
        let (parted, common) = own(given.map(OsString::from).to_vec()).unwrap();
        assert_eq!(parted, Own { renew: true, figures: "f".into() });
        assert_eq!(common, ["--bin-dir", "bin", "--postgres", "pg"]);
        assert!(own(vec!["--figures".into()]).is_err());
    }

    #[test]
    fn the_table_shows_both_figures_and_how_far_apart_they_are() {
        let figures = Figures::parse("tolerance_percent = 5\na = 1000\n").unwrap();
        let shown = table(&figures, &[("a", 1010), ("b", 7)]);
        let lines: Vec<Vec<_>> =
            shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1..], [vec!["a", "1010", "1000", "1.00%"], vec!["b", "7", "none"]]);
    }
}
