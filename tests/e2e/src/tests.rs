//! The tests: each has a name that tells what it shows, what it needs for itself, and a bound on its time. Those that need
//! nothing in common run side by side, the others in the order in which they are declared (schedule.rs).

mod api_keys;
mod autoscalers;
mod crashes;
mod deployment;
mod disruptions;
mod identity;
mod karpenter;
mod monitoring;
mod network;
mod probes;
mod production;
mod rights;
mod shares;
mod signing_keys;
mod tracing;

use std::{
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    Result,
    cluster::{end_proxy, kubectl},
    evidence, load,
    schedule::{Resource, Schedule},
    system::OURS,
};

/// A running test; it gives a line of what it measured.
type Running = Pin<Box<dyn Future<Output = Result<String>>>>;

/// A test.
struct Test {
    name: &'static str,
    needs: &'static [Resource],
    within: Duration,
    run: Box<dyn Fn() -> Running + Send>,
}

/// A test that needs something for itself, and has to end within so many seconds. It gives a line of what it measured.
fn test<F>(name: &'static str, needs: &'static [Resource], seconds: u64, run: fn() -> F) -> Test
where
    F: Future<Output = Result<String>> + 'static,
{
    let within = Duration::from_secs(seconds);
    Test { name, needs, within, run: Box::new(move || Box::pin(run())) }
}

/// Runs those that the arguments name. Its last line holds the totals.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program of tests")]
pub fn run(mut arguments: Arguments) -> ExitCode {
    let runtime = Arc::new(Runtime::new().expect("the system gives threads"));
    let all: Vec<_> = [
        deployment::tests(),
        autoscalers::tests(),
        karpenter::tests(),
        disruptions::tests(),
        shares::tests(),
        production::tests(),
        monitoring::tests(),
        network::tests(),
        rights::tests(),
        identity::tests(),
        probes::tests(),
        api_keys::tests(),
        tracing::tests(),
        crashes::tests(),
        signing_keys::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    arguments.test_threads = Some(all.len()); // each waits for its turn
    let schedule = Schedule::new(all.iter().map(|test| test.needs));
    let start = Instant::now();
    let trials: Vec<_> = all
        .into_iter()
        .enumerate()
        .map(|(number, test)| {
            let (schedule, runtime) = (Arc::clone(&schedule), Arc::clone(&runtime));
            trial(test, number, schedule, runtime, start)
        })
        .collect();
    for (number, trial) in trials.iter().enumerate() {
        if arguments.is_filtered_out(trial) {
            schedule.end(number);
        }
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    // Of a run that did not come to its end: the node has no room for all.
    if let Err(error) = runtime.block_on(remove_ours("--timeout=120s")) {
        eprintln!("{error:#}");
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.num_failed > 0 {
        eprintln!("What the cluster said of it: {}", evidence::folder().display());
    }
    if let Err(error) = runtime.block_on(remove_ours("--wait=false")) {
        eprintln!("{error:#}");
    }
    runtime.block_on(end_proxy());
    println!("{} passed, {} failed", conclusion.num_passed, conclusion.num_failed);
    conclusion.exit_code()
}

/// Removes the namespaces that these tests have made.
async fn remove_ours(how: &str) -> Result<()> {
    kubectl(&format!("delete namespaces -l {OURS} {how}")).await.map(drop)
}

#[expect(clippy::print_stdout, reason = "what was measured stands beside the test's name")]
fn trial(
    test: Test,
    number: usize,
    schedule: Arc<Schedule>,
    runtime: Arc<Runtime>,
    start: Instant,
) -> Trial {
    let Test { name, needs, within, run } = test;
    Trial::test(name, move || {
        let turn = schedule.wait(number);
        let (since, begun) = (start.elapsed().as_secs(), Instant::now());
        let outcome = runtime.block_on(turn.run(async {
            let outcome = timeout(within, run())
                .await
                .unwrap_or_else(|_| Err(anyhow!("not done within {within:?}")));
            let Err(error) = outcome else { return outcome };
            // Before the next test changes what there is to see.
            let kept = evidence::keep(name, &load::namespaces_of(needs)).await;
            let kept = kept.err().map(|error| {
                format!(
                    "
(no evidence: {error:#})"
                )
            });
            Err(anyhow!("{error:#}{}", kept.unwrap_or_default()))
        }));
        let took = begun.elapsed().as_secs_f64();
        let (minutes, seconds) = (since / 60, since % 60);
        match outcome {
            Ok(measured) => {
                // In one piece: others print too.
                println!(
                    "    {name}: {measured} ({took:.1} s in all, begun at {minutes}:{seconds:02})"
                );
                Ok(())
            }
            Err(error) => Err(Failed::from(format!(
                "{error:#}
({took:.1} s in all, begun at {minutes}:{seconds:02})"
            ))),
        }
    })
}
