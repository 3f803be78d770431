//! `local-stack`: the whole system on this machine, until Ctrl-C or to be killed again and again.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};
use local_stack::{
    Result, Service, Settings, Stack, api_keys, child::Output, crash, measure, ports::Ports, soak,
    state,
};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
local-stack up              runs PostgreSQL, inventory, orders, api-gateway and Prometheus on this machine until Ctrl-C
local-stack key             prints the API key of the state: writes are sent with it, and the dashboard's sign-in takes it
local-stack crash-rounds N  runs PostgreSQL and the services N times, kills orders and inventory under load,
                            and holds the databases against the law; default 20
local-stack soak SECONDS    runs PostgreSQL and the services under steady load, and fails when one holds more memory at the
                            end than once it was warm; default 1800
local-stack measure N       starts the services N times: how long until each is ready, and its memory while idle;
                            default 5

  --max-idle-kb KB   measure: fails when a service holds more resident memory than that
  --bin-dir DIR      the services' programs        (or STOCKYARD_BIN_DIR)
  --postgres DIR     PostgreSQL's programs         (or STOCKYARD_POSTGRES_DIR)
  --prometheus FILE  Prometheus' program; optional (or STOCKYARD_PROMETHEUS)
  --rules DIR        its rules; optional

STATE_DIR            where the state stays between runs
GATEWAY_PORT 8080, ORDERS_PORT 8081, INVENTORY_PORT 8082, PROMETHEUS_PORT 9099,
GATEWAY_ADMIN_PORT 9090, ORDERS_ADMIN_PORT 9091, INVENTORY_ADMIN_PORT 9092
";

/// How long the services are left alone before their memory is read.
const IDLE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug)]
enum Command {
    /// Say what there is to do.
    Help,
    /// Run everything until Ctrl-C.
    Up(Settings),
    /// Print the API key of a state folder.
    Key(PathBuf),
    /// Run so many crash rounds.
    CrashRounds(Settings, u32),
    /// Run under load for so long.
    Soak(Settings, Duration),
    /// Start the services so many times and measure them, against that limit.
    Measure(Settings, u32, Option<u64>),
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]
async fn main() -> ExitCode {
    let result = match command() {
        Ok(Command::Help) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Command::Up(settings)) => run(settings).await,
        Ok(Command::Key(state)) => api_keys::read(&state).map(|key| say(&key)),
        Ok(Command::CrashRounds(settings, count)) => crash_rounds(settings, count).await,
        Ok(Command::Soak(settings, time)) => soak_for(settings, time).await,
        Ok(Command::Measure(settings, count, limit)) => measure_all(settings, count, limit).await,
        Err(error) => {
            eprintln!("local-stack: {error:#}\n\n{HELP}");
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("local-stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command and its settings, from flags and environment.
fn command() -> Result<Command> {
    let lookup = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let mut programs = lookup("STOCKYARD_BIN_DIR");
    let mut postgres = lookup("STOCKYARD_POSTGRES_DIR");
    let mut prometheus = lookup("STOCKYARD_PROMETHEUS");
    let mut max_idle = None;
    let mut rules = None;
    let mut words = Vec::new();
    let mut flags = lexopt::Parser::from_env();
    while let Some(flag) = flags.next()? {
        match flag {
            Value(word) => words.push(word.string()?),
            Long("bin-dir") => programs = Some(flags.value()?.string()?),
            Long("postgres") => postgres = Some(flags.value()?.string()?),
            Long("prometheus") => prometheus = Some(flags.value()?.string()?),
            Long("max-idle-kb") => max_idle = Some(flags.value()?.parse()?),
            Long("rules") => rules = Some(flags.value()?.into()),
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    let settings = || -> Result<Settings> {
        Ok(Settings {
            programs: programs.context("where are the services' programs? Set --bin-dir")?.into(),
            postgres: postgres.context("where are PostgreSQL's programs? Set --postgres")?.into(),
            prometheus: prometheus.map(Into::into),
            rules,
            state: state::default_folder(lookup)?,
            ports: Ports::from_lookup(lookup)?,
            durable: true,
            output: Output::Echoed,
            environment: BTreeMap::new(),
        })
    };
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["up"] => Ok(Command::Up(settings()?)),
        ["key"] => Ok(Command::Key(state::default_folder(lookup)?)),
        ["crash-rounds"] => Ok(Command::CrashRounds(settings()?, 20)),
        ["crash-rounds", count] => Ok(Command::CrashRounds(settings()?, number(count)?)),
        ["soak"] => Ok(Command::Soak(settings()?, Duration::from_secs(1800))),
        ["soak", seconds] => {
            Ok(Command::Soak(settings()?, Duration::from_secs(number(seconds)?.into())))
        }
        ["measure"] => Ok(Command::Measure(settings()?, 5, max_idle)),
        ["measure", count] => Ok(Command::Measure(settings()?, number(count)?, max_idle)),
        _ => bail!("what to do? There are `up`, `key`, `crash-rounds`, `soak` and `measure`"),
    }
}

fn number(word: &str) -> Result<u32> {
    word.parse().ok().filter(|count| *count > 0).context("N is a whole number above 0")
}

/// The settings of a stack on a state of its own, beside whatever else runs here.
fn aside(settings: Settings, state: &Path) -> Settings {
    Settings {
        state: state.to_owned(),
        ports: Ports::any(),
        prometheus: None,
        durable: false,
        output: Output::Kept,
        ..settings
    }
}

/// Measures the services, tells of each, and holds them against the limit.
async fn measure_all(settings: Settings, count: u32, limit: Option<u64>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let folder = state::temporary_folder()?;
    let measured = tokio::select! {
        measured = measure::measure(aside(settings, folder.path()), count, IDLE) => measured?,
        _ = interrupt.recv() => bail!("stopped"),
    };
    for service in &measured {
        say(&service.to_string());
    }
    limit.map_or(Ok(()), |limit| measure::hold(&measured, limit))
}

/// Runs crash rounds, each on a state of its own; the first breach ends them.
async fn crash_rounds(settings: Settings, count: u32) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    for number in 1..=count {
        let folder = state::temporary_folder()?;
        let settings = aside(settings.clone(), folder.path());
        let round = tokio::select! {
            round = crash::round(settings) => round.with_context(|| format!("round {number} of {count}"))?,
            _ = interrupt.recv() => bail!("stopped in round {number} of {count}"),
        };
        say(&format!("round {number} of {count}: {round}"));
    }
    Ok(())
}

/// Runs the services under load for so long, on a state of its own.
async fn soak_for(settings: Settings, time: Duration) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let folder = state::temporary_folder()?;
    tokio::select! {
        soaked = soak::soak(aside(settings, folder.path()), time) => say(&soaked?.to_string()),
        _ = interrupt.recv() => bail!("stopped"),
    }
    Ok(())
}

/// Runs the stack until a signal or the end of a part.
async fn run(settings: Settings) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let with_prometheus = settings.prometheus.is_some();
    say(&format!("Starting in {} (STATE_DIR)", settings.state.display()));
    // A signal during the start drops what has been started, which kills it.
    let mut stack = tokio::select! {
        stack = Stack::start(settings) => stack?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    say(&welcome(&stack, with_prometheus));
    let failure = tokio::select! {
        failure = stack.watch() => Some(failure),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    say("Stopping");
    let stopped = tokio::select! {
        stopped = stack.stop() => stopped,
        _ = interrupt.recv() => bail!("stopped at once by a second Ctrl-C; what was acknowledged is kept"),
    };
    failure.map_or(stopped, Err)
}

/// Tells the user; one who has closed the output is not told, and that is no failure.
fn say(text: &str) {
    let _reader_is_gone = writeln!(io::stdout(), "{text}");
}

fn welcome(stack: &Stack, with_prometheus: bool) -> String {
    let gateway = stack.url(Service::Gateway).replace("127.0.0.1", "localhost");
    let key = stack.api_key();
    let mut text = format!(
        "
All parts are ready.

  Gateway Dashboard   {gateway}
  API key             {key}   (to sign in there, and for every write)
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
    -H "Authorization: Bearer {key}" \
    -H "Idempotency-Key: $(date +%s%N)" -d '{{"customer":"ada","lines":[{{"sku":"BOLT-M8","quantity":2}}]}}'

Ctrl-C drains everything. The logs follow.
"#
    ));
    text
}
