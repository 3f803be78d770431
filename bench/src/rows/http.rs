//! The rows of HTTP alone: the cheapest route (1), passing through (2), passing through at half load (5), and the memory
//! of those that are measured so (7).

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::{Request, header::HOST};
use tokio::time::sleep;

use super::{Row, Sample, Unit, database::throughput, median, megabytes, milliseconds, order};
use crate::{
    hindrance::{CoreTime, Stolen},
    load::{self, Schedule, Target},
    machine::first_line,
    peers::{self, Peer, Podinfo},
    process::{self, Place},
    progress,
    run::Bench,
    wrk,
};

/// How long after the start memory is idle.
const IDLE: Duration = Duration::from_secs(3);
/// The most connections of an open loop; it begins with wrk's number.
const MOST_CONNECTIONS: usize = 256;

/// The names of the sides.
const SCRIPT: &str = "api-gateway GET /assets/live.js";
const HEALTH: &str = "api-gateway GET /health";
const GATEWAY: &str = "api-gateway";
const IDEAL: &str = "bare hyper";
const NGINX: &str = "nginx";
const PODINFO: &str = "podinfo";
const PODINFO_ALL_ON: &str = "podinfo, all on";
const FLASK: &str = "Flask";

/// Tells the versions of Flask's parts in one line.
const PYTHON_VERSIONS: &str = "\
import sys, importlib.metadata as m
print(*(f'{p} {m.version(p)}' for p in ('flask', 'gunicorn', 'prometheus_client', 'opentelemetry-sdk')), f'Python {sys.version.split()[0]}', sep=', ')";

/// A route that passes through.
const ITEM: &str = "/api/v1/items/BOLT-M8";

/// What was measured here.
#[derive(Debug, Default)]
pub struct Measured {
    /// The rows 1, 2 and 5.
    pub rows: Vec<Row>,
    /// Who was measured, in which version.
    pub versions: Vec<(String, String)>,
}

/// Everybody who is measured here.
#[derive(Debug)]
struct Peers {
    /// Each by the name of its side, or why there is none.
    all: Vec<(&'static str, Result<Peer, String>)>,
    /// podinfo's program, and the Python that has Flask.
    programs: [Result<PathBuf, String>; 2],
}

impl Peers {
    /// Starts them. Ours have to start; of the others it is kept why they do not.
    async fn start(bench: &Bench<'_>) -> Result<Self> {
        let programs = [made(bench, "podinfo").await, made(bench, "flask").await];
        let [podinfo, flask] = &programs;
        let upstream = peers::ideal(bench, Place::Generator).await?;
        let ideal = peers::ideal(bench, Place::Server).await?;
        let gateway = peers::gateway(bench, &upstream.url).await?;
        let nginx = told(peers::nginx(bench, &upstream.url).await);
        let mut all = vec![
            (GATEWAY, Ok(gateway)),
            (IDEAL, Ok(ideal)),
            ("upstream", Ok(upstream)),
            (NGINX, nginx),
        ];
        for (side, on) in [(PODINFO, Podinfo::AsItComes), (PODINFO_ALL_ON, Podinfo::AllOn)] {
            let peer = match podinfo {
                Ok(program) => told(peers::podinfo(bench, program, on).await),
                Err(reason) => Err(reason.clone()),
            };
            all.push((side, peer));
        }
        let peer = match flask {
            Ok(python) => told(peers::flask(bench, python).await),
            Err(reason) => Err(reason.clone()),
        };
        all.push((FLASK, peer));
        Ok(Self { all, programs })
    }

    fn get(&self, side: &str) -> Result<&Peer, String> {
        let known = self.all.iter().find(|(name, _)| *name == side);
        let (_, peer) = known.ok_or("it was not started")?;
        peer.as_ref().map_err(Clone::clone)
    }

    /// Adds what each holds of memory, by a look of that kind.
    fn memory(&self, row: &mut Row, look: impl Fn(&Peer) -> Result<u64>) {
        for side in [IDEAL, NGINX, PODINFO, PODINFO_ALL_ON, FLASK] {
            match self.get(side).and_then(|peer| told(look(peer))) {
                Ok(kb) => row.add(side, Sample::of(megabytes(kb))),
                Err(reason) => row.add_missing(side, reason),
            }
        }
    }

    /// Who is measured, in which version.
    async fn versions(&self, gateway: &Peer) -> Vec<(String, String)> {
        let [podinfo, flask] = &self.programs;
        let ours = gateway.version().await;
        let mut versions = vec![("api-gateway".to_owned(), ours)];
        for (name, program, arguments) in
            [("podinfo", podinfo, &["--version"][..]), ("Flask", flask, &["-c", PYTHON_VERSIONS])]
        {
            if let Ok(program) = program {
                versions.push((name.to_owned(), first_line(program, arguments).await));
            }
        }
        versions
            .iter()
            .map(|(name, version)| {
                (name.clone(), version.clone().unwrap_or_else(|| "not known".to_owned()))
            })
            .collect()
    }

    async fn stop(self) -> Result<()> {
        for (_, peer) in self.all {
            if let Ok(peer) = peer {
                peer.stop().await?;
            }
        }
        Ok(())
    }
}

async fn made(bench: &Bench<'_>, name: &str) -> Result<PathBuf, String> {
    progress(&format!("{name} is made, where it is not made yet"));
    told(peers::made(bench, name).await)
}

/// The reason why something is missing, as text.
fn told<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{error:#}"))
}

/// Measures; adds to row 7's memory, idle and under load, what the peers hold.
///
/// # Errors
/// When the gateway or bare hyper cannot be measured.
pub async fn measure(bench: &Bench<'_>, [idle, peak]: &mut [Row; 2]) -> Result<Measured> {
    let peers = Peers::start(bench).await?;
    sleep(IDLE).await;
    peers.memory(idle, |peer| process::resident_kb(&peer.processes()?));
    let mut rows = Vec::new();
    if bench.config.measures(1) || bench.config.measures(7) {
        rows.push(cheapest(bench, &peers).await?);
    }
    if bench.config.measures(2) || bench.config.measures(5) {
        rows.extend(pass_through(bench, &peers).await?);
    }
    peers.memory(peak, Peer::peak_kb);
    let gateway = peers.get(GATEWAY).map_err(anyhow::Error::msg)?;
    for process in gateway.processes()? {
        bench.peaks.keep(GATEWAY, process)?;
    }
    let versions = peers.versions(gateway).await;
    peers.stop().await?;
    ensure!(bench.sink.exports() > 0, "no span came to the sink: tracing was not on");
    Ok(Measured { rows, versions })
}

/// A side and what is asked of it.
#[derive(Debug, Clone, Copy)]
struct Contender {
    side: &'static str,
    peer: &'static str,
    path: &'static str,
}

const CHEAPEST: [Contender; 6] = [
    Contender { side: SCRIPT, peer: GATEWAY, path: "/assets/live.js" },
    Contender { side: HEALTH, peer: GATEWAY, path: "/health" },
    Contender { side: IDEAL, peer: IDEAL, path: "/health" },
    Contender { side: PODINFO, peer: PODINFO, path: "/healthz" },
    Contender { side: PODINFO_ALL_ON, peer: PODINFO_ALL_ON, path: "/healthz" },
    Contender { side: FLASK, peer: FLASK, path: "/health" },
];

const PASSING: [Contender; 2] = [
    Contender { side: GATEWAY, peer: GATEWAY, path: ITEM },
    Contender { side: NGINX, peer: NGINX, path: ITEM },
];

/// Row 1.
async fn cheapest(bench: &Bench<'_>, peers: &Peers) -> Result<Row> {
    let mut row = Row::new("1", "the cheapest route", Unit::PerCore)
        .note("/assets/live.js goes through the whole pipeline: routing, access log, metrics, tracing; /health is a probe, which is not logged and not traced")
        .note("podinfo as it comes writes no line for a request and traces nothing; podinfo, all on, has --level=debug and traces, which its exporter (gRPC) finds no collector for");
    for ours in [SCRIPT, HEALTH] {
        for (factor, reference) in [(0.75, IDEAL), (3.0, PODINFO), (40.0, FLASK)] {
            row = row.at_least(ours, factor, reference);
        }
    }
    rounds(bench, peers, &mut row, &CHEAPEST, None).await?;
    Ok(row)
}

/// Rows 2 and 5: at the maximum, then at fixed rates that follow from it.
async fn pass_through(bench: &Bench<'_>, peers: &Peers) -> Result<Vec<Row>> {
    let mut maximum =
        Row::new("2", "passing a request through", Unit::PerCore).at_least(GATEWAY, 1.0, NGINX);
    maximum = maximum.note("the upstream is bare hyper, on the generator's cores with the load");
    rounds(bench, peers, &mut maximum, &PASSING, None).await?;
    let rate = |side| maximum.side(side).and_then(|side| side.median_of(|sample| sample.rate));
    let own = rate(GATEWAY).context("the gateway's rate is not known")?;
    let lower = rate(NGINX).map_or(own, |rate| rate.min(own));

    let title = "p99 of passing through, both at half of the lower maximum";
    let mut same =
        Row::new("2", title, Unit::Milliseconds).at_most_times(GATEWAY, 1.0, NGINX).note(format!(
            "open loop at {} requests/s: latency counts from when a request was due",
            Unit::Rate.show(lower / 2.0)
        ));
    rounds(bench, peers, &mut same, &PASSING, Some(lower / 2.0)).await?;

    let title = "p99 of passing through at half of its maximum";
    let mut half = Row::new("5", title, Unit::Milliseconds).at_most(GATEWAY, 2.0).note(format!(
        "open loop at {} requests/s, half of what row 2 came to",
        Unit::Rate.show(own / 2.0)
    ));
    if bench.config.measures(5) {
        rounds(bench, peers, &mut half, &PASSING[..1], Some(own / 2.0)).await?;
    }
    Ok(vec![maximum, same, half])
}

/// Measures all in turn, in rounds: as much as comes through, or at a fixed rate.
async fn rounds(
    bench: &Bench<'_>,
    peers: &Peers,
    row: &mut Row,
    contenders: &[Contender],
    rate: Option<f64>,
) -> Result<()> {
    let mut busy = Vec::new();
    for round in 0..bench.config.rounds {
        for Contender { side, peer, path } in
            order(round, contenders.len()).map(|at| contenders[at])
        {
            if row.side(side).is_some_and(|side| side.missing.is_some()) {
                continue;
            }
            progress(&format!("row {}, round {}: {side}", row.number, round + 1));
            let measured = match peers.get(peer) {
                Ok(peer) => told(sample(bench, peer, path, rate).await),
                Err(reason) => Err(reason),
            };
            match measured {
                Ok((sample, share)) => {
                    row.add(side, sample);
                    busy.extend(share);
                }
                Err(reason) => {
                    ensure!(![GATEWAY, IDEAL].contains(&peer), "{side}: {reason}");
                    row.add_missing(side, reason);
                }
            }
        }
    }
    let [least, most] = [f64::min, f64::max].map(|end| busy.iter().copied().reduce(end));
    if let (Some(least), Some(median), Some(most)) = (least, median(&busy), most) {
        let [least, median, most] = [least, median, most].map(|share| share * 100.0);
        row.notes.push(format!(
            "the cores of the load and the upstream had work for {median:.0} % of the time, {least:.0} to {most:.0} % by round and side"
        ));
    }
    Ok(())
}

/// Warms a side up, and measures it once; and the share of the load's cores that was used.
async fn sample(
    bench: &Bench<'_>,
    peer: &Peer,
    path: &str,
    rate: Option<f64>,
) -> Result<(Sample, Option<f64>)> {
    let load = async |time| match rate {
        None => unpaced(bench, &format!("{}{path}", peer.url), time).await,
        Some(rate) => paced(&peer.url, path, rate, time).await,
    };
    load(bench.config.warm_up).await?;
    let before = process::cpu_seconds(&peer.processes()?)?;
    let start = Instant::now();
    let of_load = || CoreTime::of(bench.cores.of(Place::Generator));
    let (stolen, before_load) = (Stolen::from_now(), of_load());
    let sample = load(bench.config.window).await?;
    let busy = of_load().zip(before_load).map(|(now, before)| now.busy_since(before));
    let took = start.elapsed().as_secs_f64();
    let stolen = stolen.and_then(Stolen::by_now);
    let used = process::cpu_seconds(&peer.processes()?)? - before;
    ensure!(used > 0.0, "it used no CPU time");
    let value = if rate.is_none() { sample.value / used } else { sample.value };
    Ok((Sample { value, utilisation: Some(used / took), stolen, ..sample }, busy))
}

/// As many requests as come through, by wrk; the figure is their number.
async fn unpaced(bench: &Bench<'_>, url: &str, time: Duration) -> Result<Sample> {
    let figures = wrk::run(&bench.config.wrk, url, time).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let value = figures.requests as f64;
    let (p50, p99) = (Some(figures.p50), Some(figures.p99));
    Ok(Sample { value, rate: Some(value / figures.seconds), p50, p99, ..Sample::default() })
}

/// So many requests a second, whatever the answers do; the figure is the p99 in milliseconds.
async fn paced(url: &str, path: &str, rate: f64, time: Duration) -> Result<Sample> {
    let address: SocketAddr = url.trim_start_matches("http://").parse()?;
    let (path, host) = (path.to_owned(), address.to_string());
    let request = move |_| {
        let request = Request::get(path.as_str()).header(HOST, host.as_str());
        request.body(Full::default()).expect("path and host are valid")
    };
    let target = Target { address, request: Arc::new(request), place: None };
    let schedule = Schedule::constant(rate, time);
    let load = load::open(&target, &schedule, wrk::CONNECTIONS, MOST_CONNECTIONS).await?;
    let answered = throughput(&load)?;
    let value = milliseconds(answered.p99.context("no request was answered")?);
    Ok(Sample { value, rate: Some(answered.value), ..answered })
}
