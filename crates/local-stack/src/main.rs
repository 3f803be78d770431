//! `local-stack up`: the whole system on this machine until Ctrl-C.

use std::{collections::BTreeMap, env, process::ExitCode};

use anyhow::{Context, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};
use local_stack::{Result, Service, Settings, Stack, ports::Ports, state};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
local-stack up: runs PostgreSQL, inventory, orders, api-gateway and Prometheus on this machine until Ctrl-C

  --bin-dir DIR      the services' programs        (or STOCKYARD_BIN_DIR)
  --postgres DIR     PostgreSQL's programs         (or STOCKYARD_POSTGRES_DIR)
  --prometheus FILE  Prometheus' program; optional (or STOCKYARD_PROMETHEUS)

STATE_DIR            where the state stays between runs
GATEWAY_PORT 8080, ORDERS_PORT 8081, INVENTORY_PORT 8082, PROMETHEUS_PORT 9099,
GATEWAY_ADMIN_PORT 9090, ORDERS_ADMIN_PORT 9091, INVENTORY_ADMIN_PORT 9092
";

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]
async fn main() -> ExitCode {
    let settings = match settings() {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("local-stack: {error:#}\n\n{HELP}");
            return ExitCode::from(64);
        }
    };
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("local-stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The settings from flags and environment; none when help is asked for.
fn settings() -> Result<Option<Settings>> {
    let lookup = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let mut programs = lookup("STOCKYARD_BIN_DIR");
    let mut postgres = lookup("STOCKYARD_POSTGRES_DIR");
    let mut prometheus = lookup("STOCKYARD_PROMETHEUS");
    let mut up = false;
    let mut flags = lexopt::Parser::from_env();
    while let Some(flag) = flags.next()? {
        match flag {
            Value(word) if word == "up" => up = true,
            Long("bin-dir") => programs = Some(flags.value()?.string()?),
            Long("postgres") => postgres = Some(flags.value()?.string()?),
            Long("prometheus") => prometheus = Some(flags.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    if !up {
        bail!("what to do? There is `up`");
    }
    Ok(Some(Settings {
        programs: programs.context("where are the services' programs? Set --bin-dir")?.into(),
        postgres: postgres.context("where are PostgreSQL's programs? Set --postgres")?.into(),
        prometheus: prometheus.map(Into::into),
        state: state::default_folder(lookup)?,
        ports: Ports::from_lookup(lookup)?,
        durable: true,
        echo: true,
        environment: BTreeMap::new(),
    }))
}

/// Runs the stack until a signal or the end of a part.
#[expect(clippy::print_stdout, reason = "a command talks to its user")]
async fn run(settings: Settings) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let with_prometheus = settings.prometheus.is_some();
    println!("Starting in {} (STATE_DIR)", settings.state.display());
    // A signal during the start drops what has been started, which kills it.
    let mut stack = tokio::select! {
        stack = Stack::start(settings) => stack?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    println!("{}", welcome(&stack, with_prometheus));
    let failure = tokio::select! {
        failure = stack.watch() => Some(failure),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    println!("Stopping");
    let stopped = tokio::select! {
        stopped = stack.stop() => stopped,
        _ = interrupt.recv() => bail!("stopped at once by a second Ctrl-C; what was acknowledged is kept"),
    };
    failure.map_or(stopped, Err)
}

fn welcome(stack: &Stack, with_prometheus: bool) -> String {
    let gateway = stack.url(Service::Gateway).replace("127.0.0.1", "localhost");
    let mut text = format!(
        "
All parts are ready.

  Gateway Dashboard   {gateway}
  metrics             {}/metrics",
        stack.admin_url(Service::Gateway)
    );
    if with_prometheus {
        text.push_str(&format!("\n  Prometheus          {}", stack.prometheus_url()));
    }
    text.push_str(&format!(
        r#"

Place an order:

  curl -sS {gateway}/api/v1/orders -H 'content-type: application/json' \
    -H "Idempotency-Key: $(date +%s%N)" -d '{{"customer":"ada","lines":[{{"sku":"BOLT-M8","quantity":2}}]}}'

Ctrl-C drains everything. The logs follow.
"#
    ));
    text
}
