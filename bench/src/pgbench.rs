//! pgbench: what PostgreSQL itself gives for the same statements.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// A script, and how it is run.
#[derive(Debug, Clone)]
pub struct Pgbench {
    /// pgbench's program.
    pub program: PathBuf,
    /// The database, as a connection string.
    pub database: String,
    /// The script.
    pub script: PathBuf,
    /// Connections, each of which runs one transaction after the other.
    pub clients: usize,
    /// Threads that they are shared out to.
    pub threads: usize,
}

/// What pgbench measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Runs of the script a second, without the time for connecting.
    pub rate: f64,
    /// How long one took, on average.
    pub latency: Duration,
}

impl Pgbench {
    /// Runs the script for so long, whole seconds, each statement prepared once a connection (`-M prepared`). The
    /// script's variable `turn` begins at the given number.
    ///
    /// # Errors
    /// Also when a statement fails: a run that did something else is no figure.
    pub async fn run(&self, time: Duration, turn: u64) -> Result<Figures> {
        let mut command = Command::new(&self.program);
        command.args(["--no-vacuum", "--protocol=prepared"]);
        command.arg("--client").arg(self.clients.to_string());
        command.arg("--jobs").arg(self.threads.to_string());
        command.arg("--time").arg(time.as_secs().max(1).to_string());
        command.arg("--define").arg(format!("turn={turn}"));
        command.arg("--file").arg(&self.script).arg(&self.database);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await;
        let output = output.with_context(|| format!("cannot start {}", self.program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!("pgbench ended with {}:\n{}", output.status, text(&output.stderr));
        }
        parse(&text(&output.stdout))
    }
}

/// Reads what pgbench prints at its end.
fn parse(output: &str) -> Result<Figures> {
    let figure = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.with_context(|| format!("pgbench did not print {name:?}:\n{output}"))
    };
    let failed = figure("number of failed transactions:")?;
    if failed != "0" {
        bail!("{failed} transactions of pgbench failed:\n{output}");
    }
    let rate: f64 = figure("tps =")?.parse()?;
    let latency: f64 = figure("latency average =")?.parse()?;
    Ok(Figures { rate, latency: Duration::from_secs_f64(latency / 1e3) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
pgbench (17.5 (Debian 17.5-1))
transaction type: order.sql
scaling factor: 1
query mode: prepared
number of clients: 16
number of threads: 2
maximum number of tries: 1
duration: 4 s
number of transactions actually processed: 7203
number of failed transactions: 0 (0.000%)
latency average = 8.872 ms
initial connection time = 24.119 ms
tps = 1803.340000 (without initial connection time)
";

    #[test]
    fn rate_and_latency_are_read_from_the_output() {
        let figures = Figures { rate: 1803.34, latency: Duration::from_micros(8872) };
        assert_eq!(parse(OUTPUT).unwrap(), figures);
    }

    #[test]
    fn a_run_with_failures_is_no_figure() {
        let output = OUTPUT.replace("transactions: 0 (0.000%)", "transactions: 3 (0.042%)");
        let message = parse(&output).unwrap_err().to_string();
        assert!(message.starts_with("3 transactions of pgbench failed"), "{message}");
        let message = parse("pgbench: error: no connection").unwrap_err().to_string();
        assert!(message.starts_with("pgbench did not print \"number of failed"), "{message}");
    }

    #[tokio::test]
    async fn a_program_that_there_is_not_is_named() {
        let program = PathBuf::from("/nowhere/pgbench");
        let pgbench = Pgbench {
            program,
            database: String::new(),
            script: PathBuf::new(),
            clients: 1,
            threads: 1,
        };
        let message = pgbench.run(Duration::from_secs(1), 0).await.unwrap_err().to_string();
        assert_eq!(message, "cannot start /nowhere/pgbench");
    }
}
