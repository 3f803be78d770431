//! `e2e [FILTER...]` runs the tests against the cluster of `KUBECONFIG`, in the checkout; `--list` names them.
//! `e2e load`, `stop`, `reach`, `ask` and `collect` are what pods of the tests run.

use std::{env, process::ExitCode};

use e2e::{ask, collector, generator, reach, tests};
use libtest_mimic::Arguments;

#[expect(clippy::print_stderr, reason = "a program's message")]
fn main() -> ExitCode {
    let outcome = match env::args().nth(1).as_deref() {
        Some("load") => generator::run(),
        Some("stop") => generator::stop(),
        Some("reach") => reach::run(),
        Some("ask") => ask::run(),
        Some("collect") => collector::run(),
        _ => return tests::run(Arguments::from_args()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}
