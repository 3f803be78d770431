//! A service under callgrind, beside a stack that runs as it is.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use local_stack::{
    Result, Service, Stack,
    api_keys::ApiKeys,
    child::{Child, Output},
    ports::loopback,
    service::{self, Running},
};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{callgrind, paths::HotPath};
use crate::kept::Kept;

/// How long a service may take under callgrind to listen, to be ready, and to drain: it is some fifty times slower.
const WITHIN: Duration = Duration::from_secs(120);
/// How often a path is gone in both runs, so that what is done once (connections, caches) does not count.
const WARM_UP: u32 = 200;

/// What counted services are started with.
#[derive(Debug)]
pub(crate) struct Counter<'a> {
    /// The stack that has the database and the services that are not counted.
    pub(crate) stack: &'a Stack,
    /// The stack's state folder.
    pub(crate) state: PathBuf,
    /// The folder of the services' programs.
    pub(crate) programs: PathBuf,
    /// valgrind's program.
    pub(crate) valgrind: PathBuf,
    /// Where counts are written.
    pub(crate) counts: TempDir,
}

impl Counter<'_> {
    /// Instructions of going a path once: the difference of two runs by the times that one of them went further, so
    /// that start and end do not count.
    pub(crate) async fn count(&self, path: HotPath) -> Result<u64> {
        let short = self.total(path, WARM_UP).await?;
        let long = self.total(path, WARM_UP + path.times()).await?;
        let more = long.checked_sub(short).context("the longer run took fewer instructions")?;
        Ok(more / u64::from(path.times()))
    }

    /// All instructions of a service that starts, goes a path so many times, and ends.
    async fn total(&self, path: HotPath, times: u32) -> Result<u64> {
        let service = path.service();
        let counts = self.counts.path().join(format!("{}-{times}", path.name()));
        let program = self.programs.join(service.name());
        let mut command = callgrind::command(&self.valgrind, &program, &counts);
        command.envs(self.environment(service)?);
        let child = Child::spawn(service.name(), command, &Output::Kept)?;
        let mut running = Running::listening(child, WITHIN).await?;
        let went = go(&running, path, times).await;
        let child = &mut running.child;
        went.with_context(|| {
            format!("{} under callgrind printed:\n{}", service.name(), child.tail())
        })?;
        let status = child.stop(Signal::TERM, WITHIN).await?;
        ensure!(status.success(), "{} ended with {status}:\n{}", service.name(), child.tail());
        callgrind::total(&counts)
    }

    /// A service's settings: as in production, but for what it does by time and not by request, and for time-outs,
    /// which a program under callgrind would run into.
    fn environment(&self, service: Service) -> Result<Vec<(&'static str, String)>> {
        let any = loopback(0).to_string();
        let mut environment: Vec<(&str, String)> = vec![
            ("LISTEN", any.clone()),
            ("ADMIN_LISTEN", any),
            ("TOKIO_WORKER_THREADS", "1".into()),
            ("HEALTH_STALL", "10m".into()),
            ("REQUEST_TIMEOUT", "5m".into()),
            ("DATABASE_WAIT", "1m".into()),
            ("SWEEP_INTERVAL", "24h".into()),
            ("RESUME_INTERVAL", "24h".into()),
            ("ORDER_LEASE", "10m".into()),
            // Spans are made and queued; no collector is there, and none is asked before the end.
            ("TRACE_RATIO", "0.01".into()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9".into()),
            ("OTEL_BSP_SCHEDULE_DELAY", "86400000".into()),
        ];
        environment.extend(service::LOCAL.map(|(name, value)| (name, value.to_owned())));
        match service {
            Service::Gateway => {
                environment.extend(ApiKeys::open(&self.state)?.environment());
                environment.push(("ORDERS_URL", self.stack.url(Service::Orders).to_owned()));
                environment.push(("INVENTORY_URL", self.stack.url(Service::Inventory).to_owned()));
            }
            Service::Orders => {
                environment.push(("DATABASE_URL", self.stack.database_url("orders")));
                environment.push(("INVENTORY_URL", self.stack.url(Service::Inventory).to_owned()));
            }
            Service::Inventory => {
                environment.push(("DATABASE_URL", self.stack.database_url("inventory")));
            }
        }
        Ok(environment)
    }
}

/// Waits until a service is ready, and goes a path so many times on one connection.
async fn go(service: &Running, path: HotPath, times: u32) -> Result<()> {
    service.await_ready(WITHIN).await?;
    let mut connection = Kept::open(&service.url).await?;
    for _ in 0..times {
        path.go(&mut connection).await?;
    }
    Ok(())
}
