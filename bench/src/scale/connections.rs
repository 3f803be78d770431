//! Idle connections at the gateway, from ten to ten thousand: what each holds of its memory.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::{Method, StatusCode};
use local_stack::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::sleep;

use super::{
    page::Table,
    system::{self, System},
};
use crate::{config::Config, kept::Kept, process, progress, rows::thousands};

/// How many connections are open.
const OPEN: [u32; 4] = [10, 100, 1_000, 10_000];
/// Files beside the connections that a process may need.
const OTHER_FILES: u64 = 500;
/// How many are opened at a time: below the kernel's backlog.
const AT_A_TIME: usize = 64;
/// How long they are idle before memory is read.
const IDLE: Duration = Duration::from_secs(1);

/// The table, and kB of a connection by connections.
pub(crate) async fn measure(config: &Config) -> Result<(Table, Vec<(f64, f64)>)> {
    let system = System::start(config, system::folder()?, false, &[]).await?;
    allow_files(u64::from(OPEN[OPEN.len() - 1]) + OTHER_FILES)?;
    let settings = [("MAX_CONNECTIONS", "20000"), ("HEADER_TIMEOUT", "1h"), ("IDLE_TIMEOUT", "1h")];
    let settings = settings.map(|(name, value)| (name, value.to_owned()));
    let gateway = system.gateway(&settings).await?;
    let id = gateway.child.id().context("the gateway has ended")?;
    let mut open = Vec::new();
    // What the first request leaves behind is no connection's.
    open.push(used(&gateway.url).await?);
    sleep(IDLE).await;
    let before = process::resident_kb(&[id])?;
    let mut table = Table::new(
        "Idle connections at the gateway: kB of resident memory",
        &["connections", "gateway", "of a connection"],
    );
    let mut points = Vec::new();
    for connections in OPEN {
        progress(&format!("{connections} connections ..."));
        let more = connections as usize + 1 - open.len();
        let new = stream::iter(0..more).map(|_| used(&gateway.url)).buffer_unordered(AT_A_TIME);
        open.extend(new.try_collect::<Vec<_>>().await?);
        sleep(IDLE).await;
        let resident = process::resident_kb(&[id])?;
        let each = kb(resident.saturating_sub(before)) / f64::from(connections);
        table.row([thousands(connections), resident.to_string(), format!("{each:.1}")]);
        points.push((f64::from(connections), each));
    }
    // All of them still answer: none was closed meanwhile.
    stream::iter(&mut open).map(Ok).try_for_each_concurrent(AT_A_TIME, ask).await?;
    drop(open);
    system.stop().await?;
    Ok((table, points))
}

/// A connection that has been used once.
async fn used(url: &str) -> Result<Kept> {
    let mut connection = Kept::open(url).await?;
    ask(&mut connection).await?;
    Ok(connection)
}

async fn ask(connection: &mut Kept) -> Result<()> {
    let script = (Method::GET, "/assets/live.js");
    connection.ask(script, &[], "", StatusCode::OK).await.map(drop)
}

/// Lets this process, and those that it starts, have so many files open.
fn allow_files(files: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|maximum| maximum >= files),
        "{files} open files are needed, and the limit is {maximum:?}: raise it (ulimit -n)"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum })?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "memory in kB is far below 2^52")]
fn kb(kilobytes: u64) -> f64 {
    kilobytes as f64
}
