//! How long each service takes from its start until it is ready, and how much memory it holds while it is idle.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{Result, Service, Settings, Stack, http};

/// Between two looks at `/ready`: what the time until ready is exact to.
const LOOK: Duration = Duration::from_millis(1);
/// A port where nothing listens (discard): traces are exported in vain, so that the exporter's memory counts.
const NO_COLLECTOR: &str = "http://127.0.0.1:9";

/// What a process holds of the machine's memory, in kB, as `/proc/PID/status` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    /// In all (`VmRSS`).
    pub resident: u64,
    /// Of these its own (`RssAnon`): heap, stacks, data.
    pub anonymous: u64,
    /// Of these the program's file (`RssFile`); replicas share them.
    pub file: u64,
}

impl Memory {
    /// Of a running process.
    pub fn of(process: u32) -> Result<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/status"))?)
    }

    fn parse(status: &str) -> Result<Self> {
        let kb = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            number.with_context(|| format!("the process' status has no {name}"))
        };
        Ok(Self { resident: kb("VmRSS")?, anonymous: kb("RssAnon")?, file: kb("RssFile")? })
    }
}

/// What was measured of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Which.
    pub service: Service,
    /// From the start of its program until `/ready` answers 200: the median of the runs.
    pub ready: Duration,
    /// Its idle memory: the most of all runs.
    pub idle: Memory,
}

impl fmt::Display for Measured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Memory { resident, anonymous, file } = self.idle;
        let (name, ready) = (self.service.name(), self.ready.as_secs_f64() * 1000.0);
        write!(
            formatter,
            "{name:<12} ready after {ready:6.1} ms, idle {resident:6} kB resident ({anonymous} kB its own, {file} kB of the program's file)"
        )
    }
}

/// Starts every service so many times on one database, each time leaves them idle for `idle`, and reads their memory.
/// Idle is what it is in a cluster: probed and scraped each second.
pub async fn measure(mut settings: Settings, runs: u32, idle: Duration) -> Result<Vec<Measured>> {
    let exporter = "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned();
    settings.environment.entry(exporter).or_insert_with(|| NO_COLLECTOR.to_owned());
    let mut stack = Stack::start(settings).await?;
    let mut seen: Vec<_> = Service::ALL.map(|service| (service, Vec::new(), Vec::new())).into();
    for _ in 0..runs {
        for (service, ready, _) in &mut seen {
            stack.end(*service, Signal::TERM).await?;
            ready.push(start(&mut stack, *service).await?);
        }
        rest(&stack, idle).await?;
        for (service, _, memory) in &mut seen {
            let running = stack.running(*service).and_then(|running| running.child.id());
            memory.push(Memory::of(running.context("a service has ended")?)?);
        }
    }
    stack.stop().await?;
    let measured = |(service, mut ready, memory): (_, Vec<Duration>, Vec<Memory>)| {
        ready.sort_unstable();
        Some(Measured {
            service,
            ready: *ready.get(ready.len() / 2)?,
            idle: memory.into_iter().max()?,
        })
    };
    seen.into_iter().map(measured).collect::<Option<_>>().context("there was no run")
}

/// Starts a service; how long until it is ready.
async fn start(stack: &mut Stack, service: Service) -> Result<Duration> {
    let start = Instant::now();
    stack.start_service(service).await?;
    let ready = format!("{}/ready", stack.admin_url(service));
    while !http::get(&ready).await?.status.is_success() {
        if start.elapsed() > Duration::from_secs(60) {
            bail!("{} is not ready: {}", service.name(), http::get(&ready).await?.text());
        }
        sleep(LOOK).await;
    }
    Ok(start.elapsed())
}

/// Lets the services be idle for so long.
async fn rest(stack: &Stack, idle: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < idle {
        sleep(Duration::from_secs(1).min(idle)).await;
        for service in Service::ALL {
            for page in ["health", "ready", "metrics"] {
                http::get(&format!("{}/{page}", stack.admin_url(service))).await?;
            }
        }
    }
    Ok(())
}

/// Fails when a service holds more than `limit` kB, and says which.
pub fn hold(measured: &[Measured], limit: u64) -> Result<()> {
    let above = measured.iter().filter(|measured| measured.idle.resident > limit);
    let names: Vec<_> = above.map(|measured| measured.service.name()).collect();
    if !names.is_empty() {
        bail!("more than {limit} kB resident while idle: {}", names.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_a_process_status() {
        let status = "Name:\torders\nVmHWM:\t   9000 kB\nVmRSS:\t    6700 kB\nRssAnon:\t    1900 kB\nRssFile:\t    4800 kB\n";
        let memory = Memory { resident: 6700, anonymous: 1900, file: 4800 };
        assert_eq!(Memory::parse(status).unwrap(), memory);
        let message = Memory::parse("VmRSS:\t 1 kB").unwrap_err().to_string();
        assert_eq!(message, "the process' status has no RssAnon");
    }

    #[test]
    fn who_holds_more_than_the_limit_is_named() {
        let measured = |service, resident| Measured {
            service,
            ready: Duration::from_millis(10),
            idle: Memory { resident, anonymous: 0, file: 0 },
        };
        let all = [measured(Service::Orders, 8193), measured(Service::Inventory, 8192)];
        let message = hold(&all, 8192).unwrap_err().to_string();
        assert_eq!(message, "more than 8192 kB resident while idle: orders");
        assert!(hold(&all, 8193).is_ok());
    }
}
