//! The tests, in the order in which they run: each has a name that tells what it shows, and a bound on its time.

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
mod signing_keys;
mod tracing;

use std::{pin::Pin, process::ExitCode, sync::Arc, time::Duration};

use anyhow::anyhow;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{runtime::Runtime, time::timeout};

use crate::{Result, evidence, load};

/// A running test; it gives a line of what it measured.
type Running = Pin<Box<dyn Future<Output = Result<String>>>>;

/// A test.
struct Test {
    name: &'static str,
    within: Duration,
    run: Box<dyn Fn() -> Running + Send>,
}

/// A test that has to end within so many seconds. It gives a line of what it measured.
fn test<F>(name: &'static str, seconds: u64, run: fn() -> F) -> Test
where
    F: Future<Output = Result<String>> + 'static,
{
    Test { name, within: Duration::from_secs(seconds), run: Box::new(move || Box::pin(run())) }
}

/// Runs those that the arguments name, one after the other. Its last line holds the totals.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program of tests")]
pub fn run(mut arguments: Arguments) -> ExitCode {
    arguments.test_threads = Some(1); // they share the cluster
    let runtime = Arc::new(Runtime::new().expect("the system gives threads"));
    let all = [
        deployment::tests(),
        autoscalers::tests(),
        disruptions::tests(),
        crashes::tests(),
        probes::tests(),
        network::tests(),
        rights::tests(),
        identity::tests(),
        api_keys::tests(),
        monitoring::tests(),
        tracing::tests(),
        signing_keys::tests(),
        production::tests(),
        karpenter::tests(),
    ];
    let trials = all.into_iter().flatten().map(|test| trial(test, Arc::clone(&runtime))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.num_failed > 0 {
        eprintln!("What the cluster said of it: {}", evidence::folder().display());
    }
    if !arguments.list {
        println!("{} passed, {} failed", conclusion.num_passed, conclusion.num_failed);
    }
    conclusion.exit_code()
}

#[expect(clippy::print_stdout, reason = "what was measured stands beside the test's name")]
fn trial(test: Test, runtime: Arc<Runtime>) -> Trial {
    Trial::test(test.name, move || {
        let start = std::time::Instant::now();
        let outcome = runtime.block_on(async {
            timeout(test.within, (test.run)())
                .await
                .unwrap_or_else(|_| Err(anyhow!("not done within {:?}", test.within)))
        });
        match outcome {
            Ok(measured) => {
                println!("    {measured} ({:.1} s in all)", start.elapsed().as_secs_f64());
                Ok(())
            }
            Err(error) => {
                let kept = runtime.block_on(evidence::keep(
                    test.name,
                    &["staging", "production", load::NAMESPACE],
                ));
                let kept = kept
                    .err()
                    .map(|error| format!("\n(no evidence: {error:#})"))
                    .unwrap_or_default();
                Err(Failed::from(format!("{error:#}{kept}")))
            }
        }
    })
}
