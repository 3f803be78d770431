//! `bench` without a word: measures the rows, and tells of them.

use std::path::Path;

use anyhow::{Result, bail};
use local_stack::state;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{self, Config},
    load,
    machine::{Machine, first_line},
    process::{Cores, Peaks, Place},
    report::{self, Report},
    rows::{Row, database, http, resources},
    say,
    sink::Sink,
    wrk,
};

/// What every row is measured with.
#[derive(Debug, Clone, Copy)]
pub struct Bench<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The machine's cores. The caller's thread, which alone starts processes, and the runtime's are in `place`.
    pub cores: &'a Cores,
    /// Where those are.
    pub place: Place,
    /// A folder for logs and state, which goes with the run; everybody can pass through it.
    pub folder: &'a Path,
    /// The collector that spans are sent to.
    pub sink: &'a Sink,
    /// Row 7's memory under load.
    pub peaks: &'a Peaks,
}

/// Measures.
///
/// # Errors
/// When one of ours cannot be measured. A peer that cannot is named in the report.
pub fn main(flags: lexopt::Parser) -> Result<()> {
    let Some(config) = Config::read(flags)? else {
        say(config::HELP);
        return Ok(());
    };
    report::check(&config)?;
    let run = Run { cores: Cores::read()?.for_both()?, peaks: Peaks::default(), config };
    let mut memory = resources::memory();
    let mut measured = http::Measured::default();
    if [1, 2, 5, 7].iter().any(|row| run.config.measures(*row)) {
        let alone = async |bench: &Bench<'_>| http::measure(bench, &mut memory).await;
        measured = run.within(Place::Generator, alone)?;
    }
    let mut rows = measured.rows;
    let together = async |bench: &Bench<'_>| {
        rows.extend(database::measure(bench).await?);
        if bench.config.measures(7) || bench.config.measures(8) {
            let ready = resources::measure(bench, &mut memory).await?;
            rows.extend(resources::complete(bench, memory));
            rows.push(ready);
        }
        let machine = Machine::read(bench.cores.of(Place::Anywhere).len()).await?;
        let versions = versions(bench.config, measured.versions).await;
        Ok(Report { machine, versions, settings: settings(bench.config), rows })
    };
    let mut report = run.within(Place::Anywhere, together)?;
    report.rows.retain(|row| run.measures(row));
    report.rows.sort_by_key(|row| row.number);
    say(&report.targets());
    report.write(&run.config)
}

/// A run of the command.
#[derive(Debug)]
struct Run {
    config: Config,
    cores: Cores,
    peaks: Peaks,
}

impl Run {
    /// Does something in a place, with a folder and a sink of its own, until it is done or a signal comes. All that it
    /// has started ends with it.
    fn within<T>(
        &self,
        place: Place,
        work: impl AsyncFnOnce(&Bench<'_>) -> Result<T>,
    ) -> Result<T> {
        let folder = state::temporary_folder()?;
        let runtime = self.cores.runtime(place)?;
        runtime.block_on(async {
            let sink = Sink::start().await?;
            let bench = Bench {
                config: &self.config,
                cores: &self.cores,
                place,
                folder: folder.path(),
                sink: &sink,
                peaks: &self.peaks,
            };
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                done = work(&bench) => done,
                _ = interrupt.recv() => bail!("stopped"),
                _ = terminate.recv() => bail!("stopped"),
            }
        })
    }

    fn measures(&self, row: &Row) -> bool {
        row.number.parse().is_ok_and(|number| self.config.measures(number))
    }
}

/// Who was measured, in which version.
async fn versions(config: &Config, mut known: Vec<(String, String)>) -> Vec<(String, String)> {
    let postgres = config.postgres.join("postgres");
    let pgbench = config.postgres.join("pgbench");
    let programs: [(&str, &Path, &str); 4] = [
        ("nginx", &config.nginx, "-v"),
        ("wrk", &config.wrk, "-v"),
        ("PostgreSQL", &postgres, "--version"),
        ("pgbench", &pgbench, "--version"),
    ];
    for (name, program, flag) in programs {
        let version = first_line(program, &[flag]).await;
        known.push((name.to_owned(), version.unwrap_or_else(|| "cannot be run".to_owned())));
    }
    known
}

/// What holds for all rows.
fn settings(config: &Config) -> Vec<String> {
    let Config { rounds, window, warm_up, .. } = config;
    vec![
        format!("rounds: {rounds}; in each every side is measured for {window:?} after a warm-up of {warm_up:?}, in an order that is rotated from round to round"),
        format!("loads at the maximum: wrk, one thread, {} connections, keep-alive", wrk::CONNECTIONS),
        load::pacing(),
        "rows 1, 2 and 5 (passing through): the side that is measured has the first core, the load and the upstream the others; requests/s per core are requests answered by CPU seconds used (user and system, of all of the side's processes)".to_owned(),
        "rows 3, 4, 5 (orders) and 6: nothing is bound to a core, neither side nor load".to_owned(),
        "on: metrics; the access log, into files (services and nginx unbuffered, gunicorn); traces (TRACE_RATIO=0.01) to a sink that answers 200".to_owned(),
        "services: IDENTITY=off, reading is open (READ_ACCESS=open), all else as by default".to_owned(),
    ]
}
