//! Who is measured: the gateway, bare hyper, nginx, podinfo, Flask. Each is started on the server's core, and ends with
//! its value.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use local_stack::{
    Service,
    api_keys::ApiKeys,
    child::{Child, Output},
    http,
    ports::{Port, free, loopback},
    service::{self, Running},
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{process::Command, time::sleep};

use crate::{
    process::{self, Place, Server},
    run::Bench,
};

/// How long a peer may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long one may take to be made; podinfo is compiled with all that it needs.
const MADE_WITHIN: Duration = Duration::from_secs(1200);
/// How long ours may take to drain.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Where nobody listens: podinfo's exporter speaks gRPC, which the sink does not.
const NO_COLLECTOR: &str = "http://127.0.0.1:9";

/// A running server.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    /// Where it answers, `http://ADDRESS`.
    pub url: String,
    /// Where it tells about itself; a service's alone.
    pub admin_url: Option<String>,
}

#[derive(Debug)]
enum Process {
    One(Child),
    Group(Server),
}

impl Peer {
    /// Its processes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processes(&self) -> Result<Vec<u32>> {
        match &self.process {
            Process::One(child) => {
                let ended = || format!("{} has ended; it printed:\n{}", child.name(), child.tail());
                process::tree(child.id().with_context(ended)?)
            }
            Process::Group(server) => server.processes(),
        }
    }

    /// The most memory that it has held, in kB; of several processes what they hold now, what they share counted once.
    pub fn peak_kb(&self) -> Result<u64> {
        match self.processes()?[..] {
            [one] => process::peak_kb(one),
            ref several => process::resident_kb(several),
        }
    }

    /// A service's version and source revision.
    pub async fn version(&self) -> Option<String> {
        let info = http::get(&format!("{}/info", self.admin_url.as_ref()?)).await.ok()?.json();
        let [version, revision] = ["version", "revision"].map(|name| info[name].as_str());
        Some(format!("{} of the sources {}", version?, revision?))
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        match self.process {
            Process::One(mut child) => child.stop(Signal::TERM, DRAIN_WITHIN).await.map(drop),
            Process::Group(server) => {
                server.stop().await;
                Ok(())
            }
        }
    }

    /// What answers at that address once it does.
    async fn once_it_answers(mut server: Server, address: String, path: &str) -> Result<Self> {
        let url = format!("http://{address}");
        let start = Instant::now();
        while !http::get(&format!("{url}{path}")).await.is_ok_and(|reply| reply.status.is_success())
        {
            ensure!(!server.has_ended(), "it ended at its start: {}", server.last_line());
            ensure!(
                start.elapsed() < READY_WITHIN,
                "it does not answer {path} within {READY_WITHIN:?}: {}",
                server.last_line()
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { process: Process::Group(server), url, admin_url: None })
    }
}

/// The gateway before an upstream, with everything on: metrics, the access log into a file, 1 % of traces to the sink.
pub async fn gateway(bench: &Bench<'_>, upstream: &str) -> Result<Peer> {
    let own = [
        ("ORDERS_URL", upstream.to_owned()),
        ("INVENTORY_URL", upstream.to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", bench.sink.url()),
        ("TRACE_RATIO", "0.01".to_owned()),
    ];
    let keys = ApiKeys::open(bench.folder)?.environment();
    let local = service::LOCAL.map(|(name, value)| (name, value.to_owned()));
    let all = local.into_iter().chain(own).chain(keys);
    let settings: Vec<_> = all.map(|(name, value)| (name.to_owned(), value)).collect();
    let any = Port { variable: "", number: 0 };
    let output = Output::Filed(bench.folder.to_owned());
    let programs = &bench.config.programs;
    bench.cores.go(Place::Server)?;
    let running = Running::start(Service::Gateway, programs, [any, any], &settings, &output).await;
    bench.cores.go(bench.place)?;
    let running = running?;
    let (url, admin_url) = (running.url, Some(running.admin_url));
    Ok(Peer { process: Process::One(running.child), url, admin_url })
}

/// Bare hyper, on the cores of a place.
pub async fn ideal(bench: &Bench<'_>, place: Place) -> Result<Peer> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["ideal", "--listen", "127.0.0.1:0"]);
    let output = Output::Filed(bench.folder.to_owned());
    let start = || Child::spawn("ideal", command, &output);
    let mut child = bench.cores.start(place, bench.place, start)?;
    let line: Value = serde_json::from_str(&child.listening(READY_WITHIN).await?)?;
    let address = line["public"].as_str().context("ideal does not tell its address")?;
    let url = format!("http://{address}");
    Ok(Peer { process: Process::One(child), url, admin_url: None })
}

/// nginx before an upstream.
pub async fn nginx(bench: &Bench<'_>, upstream: &str) -> Result<Peer> {
    let folder = bench.folder.join("nginx");
    fs::create_dir_all(&folder)?;
    let address = loopback(free()?).to_string();
    let template = bench.config.peers.join("nginx.conf");
    let text = fs::read_to_string(&template)
        .with_context(|| format!("cannot read {}", template.display()))?;
    let text = text
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@LISTEN@", &address)
        .replace("@UPSTREAM@", upstream.trim_start_matches("http://"));
    let file = folder.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(&bench.config.nginx);
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("nginx-error.log"));
    command.arg("-c").arg(&file);
    let server = start(bench, "nginx", command)?;
    Peer::once_it_answers(server, address, "/").await
}

/// How much of podinfo is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Podinfo {
    /// As it comes: metrics; no line for a request, no traces.
    AsItComes,
    /// A line for each request, and 1 % of traces sampled.
    AllOn,
}

/// podinfo.
pub async fn podinfo(bench: &Bench<'_>, program: &Path, on: Podinfo) -> Result<Peer> {
    let port = free()?;
    let mut command = Command::new(program);
    command.args(["--host=127.0.0.1", &format!("--port={port}")]).current_dir(bench.folder);
    if on == Podinfo::AllOn {
        command.args(["--level=debug", "--otel-service-name=podinfo"]);
        command.env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        command.env("OTEL_TRACES_SAMPLER_ARG", "0.01");
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", NO_COLLECTOR);
    }
    let server = start(bench, &format!("podinfo-{on:?}"), command)?;
    Peer::once_it_answers(server, loopback(port).to_string(), "/healthz").await
}

/// Flask behind gunicorn, by the Python that has both. One thread, as more of them answered fewer requests.
pub async fn flask(bench: &Bench<'_>, python: &Path) -> Result<Peer> {
    let address = loopback(free()?).to_string();
    let mut command = Command::new(python);
    command.args(["-m", "gunicorn", "--workers=1", "--worker-class=gthread", "--threads=1"]);
    command.args(["--keep-alive=75", &format!("--bind={address}")]);
    command.arg("--access-logfile").arg(bench.folder.join("flask-access.log"));
    command.arg("--chdir").arg(bench.config.peers.canonicalize()?).arg("flask_service:app");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", bench.sink.url());
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(bench.folder);
    let server = start(bench, "flask", command)?;
    Peer::once_it_answers(server, address, "/health").await
}

fn start(bench: &Bench<'_>, name: &str, command: Command) -> Result<Server> {
    let log = bench.folder.join(format!("{name}.log"));
    bench.cores.start(Place::Server, bench.place, || Server::spawn(name, command, &log))
}

/// Makes a peer where it is not made yet (`bench/peers/prepare.sh`); what it is started by.
pub async fn made(bench: &Bench<'_>, name: &str) -> Result<PathBuf> {
    let script = bench.config.peers.join("prepare.sh");
    ensure!(script.is_file(), "there is no {}: --peers names its folder", script.display());
    let mut command = Command::new("bash");
    command.arg(script).arg(name).arg(&bench.config.cache);
    let log = bench.folder.join(format!("{name}-made.log"));
    let mut server = Server::spawn(name, command, &log)?;
    match server.wait(MADE_WITHIN).await? {
        Some(status) if status.success() => Ok(server.last_line().into()),
        Some(_) => bail!("it could not be made: {}", server.last_line()),
        None => bail!("it was not made within {MADE_WITHIN:?}: {}", server.last_line()),
    }
}
