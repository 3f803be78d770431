//! A program under callgrind, which counts the instructions that it executes.

use std::{fs, path::Path};

use anyhow::Context;
use local_stack::Result;
use tokio::process::Command;

/// The command that runs `program` and at its end writes what was counted to the file `counts`.
pub(crate) fn command(valgrind: &Path, program: &Path, counts: &Path) -> Command {
    let mut command = Command::new(valgrind);
    command.args(["--quiet", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}", counts.display()));
    command.arg(program);
    command
}

/// All instructions that were counted in such a file.
pub(crate) fn total(counts: &Path) -> Result<u64> {
    let text = fs::read_to_string(counts);
    let total = text.map_err(anyhow::Error::from).and_then(|text| parse(&text));
    total.with_context(|| format!("callgrind's output, {}", counts.display()))
}

fn parse(text: &str) -> Result<u64> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let events = field("events: ").context("it names no events")?;
    anyhow::ensure!(events.trim() == "Ir", "it counts {events} and not instructions alone");
    let totals = field("totals: ").context("it has no totals: the program was killed")?;
    totals.trim().parse().context("its totals are no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 4\ncmd: orders\npart: 1\n\ndesc: I1 cache: \ndesc: Trigger: Program termination\n\npositions: line\nevents: Ir\nsummary: 12345\n\n\nob=(1) /bin/orders\nfl=(1) ???\nfn=(1) 0x0000000000017b30\n0 3\n\ntotals: 12345\n";

    #[test]
    fn the_total_is_read_from_what_callgrind_writes() {
        assert_eq!(parse(COUNTS).unwrap(), 12_345);
    }

    #[test]
    fn what_is_no_count_of_instructions_is_refused() {
        let of = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            of(&COUNTS.replace("totals", "sums")),
            "it has no totals: the program was killed"
        );
        assert_eq!(
            of(&COUNTS.replace("Ir", "Ir Dr")),
            "it counts Ir Dr and not instructions alone"
        );
        assert_eq!(of(""), "it names no events");
    }
}
