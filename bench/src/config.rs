//! What the measurements are told: where programs are, how long, how often.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use lexopt::{
    Parser,
    prelude::{Long, Short, ValueExt},
};

/// The flags, for the help.
pub const HELP: &str = "\
  --bin-dir DIR    the services' programs           (or STOCKYARD_BIN_DIR)
  --postgres DIR   PostgreSQL's programs, pgbench   (or STOCKYARD_POSTGRES_DIR)
  --nginx FILE     nginx; without it the one in PATH
  --wrk FILE       wrk; without it the one in PATH
  --valgrind FILE  valgrind; without it the one in PATH
  --peers DIR      the folder bench/peers of the sources (or STOCKYARD_PEERS); default bench/peers
  --cache DIR      where podinfo and Flask are kept; default ${XDG_CACHE_HOME:-~/.cache}/stockyard/bench
  --out DIR        where RESULTS.md and the charts are written; of a whole run in a checkout's root, bench
  --readme FILE    a page whose table between <!-- bench --> and <!-- /bench --> is renewed
  --rows N,N       the rows to measure, of 1 to 8; default all
  --rounds N       rounds; default 5
  --seconds N      how long a side is measured in a round; default 4
";

/// The rows' numbers.
const ALL_ROWS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Rounds, and how long a side is measured in each.
const ROUNDS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(4);
/// How long a side is loaded before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of the services' programs.
    pub programs: PathBuf,
    /// The folder of PostgreSQL's programs and pgbench.
    pub postgres: PathBuf,
    /// nginx' program.
    pub nginx: PathBuf,
    /// wrk's program.
    pub wrk: PathBuf,
    /// valgrind's program.
    pub valgrind: PathBuf,
    /// The folder of what peers are made from.
    pub peers: PathBuf,
    /// The folder that keeps the made peers.
    pub cache: PathBuf,
    /// Where the results are written.
    pub out: Option<PathBuf>,
    /// The page whose table is renewed.
    pub readme: Option<PathBuf>,
    /// The rows that are measured.
    pub rows: Vec<u8>,
    /// How often each side is measured.
    pub rounds: u32,
    /// How long each time.
    pub window: Duration,
    /// How long it is loaded before that.
    pub warm_up: Duration,
}

impl Config {
    /// Reads flags, and the environment for what no flag says. None when help is asked for.
    ///
    /// # Errors
    /// Says which flag is wrong or missing.
    pub fn read(flags: Parser) -> Result<Option<Self>> {
        let lookup = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Self::parse(flags, &lookup)
    }

    fn parse(mut flags: Parser, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let path = |name: &str| lookup(name).map(PathBuf::from);
        let mut programs = path("STOCKYARD_BIN_DIR");
        let mut postgres = path("STOCKYARD_POSTGRES_DIR");
        let mut config = Self {
            programs: PathBuf::new(),
            postgres: PathBuf::new(),
            nginx: "nginx".into(),
            wrk: "wrk".into(),
            valgrind: "valgrind".into(),
            peers: path("STOCKYARD_PEERS").unwrap_or_else(|| "bench/peers".into()),
            cache: default_cache(lookup).unwrap_or_default(),
            out: None,
            readme: None,
            rows: ALL_ROWS.into(),
            rounds: ROUNDS,
            window: WINDOW,
            warm_up: WARM_UP,
        };
        while let Some(flag) = flags.next()? {
            match flag {
                Long("bin-dir") => programs = Some(flags.value()?.into()),
                Long("postgres") => postgres = Some(flags.value()?.into()),
                Long("nginx") => config.nginx = flags.value()?.into(),
                Long("wrk") => config.wrk = flags.value()?.into(),
                Long("valgrind") => config.valgrind = flags.value()?.into(),
                Long("peers") => config.peers = flags.value()?.into(),
                Long("cache") => config.cache = flags.value()?.into(),
                Long("out") => config.out = Some(flags.value()?.into()),
                Long("readme") => config.readme = Some(flags.value()?.into()),
                Long("rows") => config.rows = rows(&flags.value()?.string()?)?,
                Long("rounds") => config.rounds = flags.value()?.parse()?,
                Long("seconds") => config.window = Duration::from_secs(flags.value()?.parse()?),
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        config.programs = programs.context("where are the services' programs? Set --bin-dir")?;
        config.postgres = postgres.context("where are PostgreSQL's programs? Set --postgres")?;
        let kept = !config.cache.as_os_str().is_empty();
        ensure!(kept, "neither HOME nor --cache says where to keep the peers");
        let some = config.rounds > 0 && !config.window.is_zero();
        ensure!(some, "--rounds and --seconds are at least 1");
        let page = config.readme.is_none() || config.is_whole();
        ensure!(page, "--readme takes the table of a whole run: no --rows, --rounds or --seconds");
        Ok(Some(config))
    }

    /// The folder of the results: the one that was named, or of a whole run in a checkout the checkout's.
    pub fn results(&self) -> Option<PathBuf> {
        let in_checkout = || Path::new("bench/Cargo.toml").exists().then(|| PathBuf::from("bench"));
        self.out.clone().or_else(|| if self.is_whole() { in_checkout() } else { None })
    }

    /// Is it every row, with the rounds and the time that its figures are defined by?
    fn is_whole(&self) -> bool {
        let defined = (self.rounds, self.window) == (ROUNDS, WINDOW);
        defined && ALL_ROWS.iter().all(|row| self.measures(*row))
    }

    /// Is that row measured?
    pub fn measures(&self, row: u8) -> bool {
        self.rows.contains(&row)
    }
}

/// Rows by their numbers, e.g. `1,2,8`.
fn rows(text: &str) -> Result<Vec<u8>> {
    let number = |word: &str| word.parse().ok().filter(|number| ALL_ROWS.contains(number));
    let rows: Option<_> = text.split(',').map(number).collect();
    rows.context("--rows takes numbers of 1 to 8, e.g. 1,2,8")
}

fn default_cache(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let cache = lookup("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(lookup("HOME")?).join(".cache")));
    cache.map(|cache| cache.join("stockyard/bench"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&'static str], environment: &[(&str, &str)]) -> Result<Option<Config>> {
        let lookup = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Config::parse(Parser::from_args(flags), &lookup)
    }

    const PROGRAMS: [&str; 4] = ["--bin-dir", "bin", "--postgres", "pg"];

    #[test]
    fn the_definitions_of_the_benchmark_are_the_defaults() {
        let config = parse(&PROGRAMS, &[("HOME", "/home/ada")]).unwrap().unwrap();
        assert_eq!((config.rounds, config.window), (5, Duration::from_secs(4)));
        assert!(ALL_ROWS.iter().all(|row| config.measures(*row)));
        assert_eq!(config.cache, Path::new("/home/ada/.cache/stockyard/bench"));
    }

    #[test]
    fn programs_come_from_flags_or_the_environment_and_are_asked_for() {
        let environment =
            [("STOCKYARD_BIN_DIR", "a"), ("STOCKYARD_POSTGRES_DIR", "b"), ("XDG_CACHE_HOME", "/c")];
        let config = parse(&["--postgres", "d"], &environment).unwrap().unwrap();
        assert_eq!([config.programs, config.postgres], ["a", "d"].map(PathBuf::from));
        let message = parse(&[], &[("HOME", "/")]).unwrap_err().to_string();
        assert_eq!(message, "where are the services' programs? Set --bin-dir");
    }

    #[test]
    fn part_of_a_run_leaves_a_checkouts_results_alone() {
        let with = |flags: &[&'static str]| {
            parse(&[&PROGRAMS, flags].concat(), &[("HOME", "/")]).map(Option::unwrap)
        };
        assert!(with(&[]).unwrap().is_whole());
        assert_eq!(with(&["--readme", "a"]).unwrap().readme, Some("a".into()));
        for part in [["--rows", "1"], ["--rounds", "1"], ["--seconds", "1"]] {
            let config = with(&part).unwrap();
            assert!(!config.is_whole() && config.results().is_none(), "{part:?}");
            assert!(with(&[part[0], part[1], "--readme", "a"]).is_err(), "{part:?}");
        }
        let named = with(&["--rows", "1", "--out", "a"]).unwrap().results();
        assert_eq!(named, Some("a".into()));
    }

    #[test]
    fn rows_that_there_are_not_and_rounds_of_nothing_are_refused() {
        let with = |flags: &[&'static str]| parse(&[&PROGRAMS, flags].concat(), &[("HOME", "/")]);
        assert_eq!(with(&["--rows", "1,8"]).unwrap().unwrap().rows, [1, 8]);
        for wrong in [["--rows", "9"], ["--rows", ""], ["--rounds", "0"], ["--seconds", "0"]] {
            assert!(with(&wrong).is_err(), "{wrong:?}");
        }
    }
}
