//! The rows that read and write PostgreSQL: items (3), orders (4), orders at half of their maximum (5), and at five times
//! of it (6).
//!
//! The services and pgbench use one server, with the same settings, in turn. Nothing is bound to a core: both sides use
//! the whole machine, and the load takes its share of it.

mod overload;
mod system;

use std::time::Duration;

use anyhow::{Result, ensure};
use local_stack::Service;

use self::{
    overload::{Hindrance, Overload},
    system::{Script, System},
};
use crate::{
    hindrance::{Stolen, Turns},
    load::{self, Class, Load, Schedule, Target},
    pgbench::Pgbench,
    process::Place,
    progress,
    rows::{Row, Sample, Side, Unit, median, milliseconds, order},
    run::Bench,
};

/// Readers at a time, of both sides; as many as inventory has connections to its database.
const READERS: usize = 10;
/// Orders at work at a time, of both sides.
const PLACERS: usize = 16;
/// Connections that an open loop begins with.
const CONNECTIONS: usize = 64;
/// And the most of them: fewer than a service takes (`MAX_CONNECTIONS`).
const MOST_CONNECTIONS: usize = 1000;
/// What is offered beyond the capacity.
const TIMES: f64 = 5.0;

/// The names of the sides.
const INVENTORY: &str = "inventory";
const SERVICES: &str = "the services";
const PGBENCH: &str = "pgbench";

/// Measures the rows of the database.
pub async fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    if !(3..=6).any(|row| bench.config.measures(row)) {
        return Ok(Vec::new());
    }
    bench.cores.go(Place::Anywhere)?;
    let rows = on_all_cores(bench).await;
    bench.cores.go(bench.place)?;
    rows
}

async fn on_all_cores(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut system = System::start(bench).await?;
    let mut rows = Vec::new();
    if bench.config.measures(3) {
        rows.push(items(bench, &mut system).await?);
    }
    if (4..=6).any(|row| bench.config.measures(row)) {
        rows.extend(placing(bench, &mut system).await?);
    }
    system.keep_peaks(bench.peaks)?;
    system.hold_laws().await?;
    system.stop().await?;
    ensure!(bench.sink.exports() > 0, "no span came to the sink: tracing was not on");
    Ok(rows)
}

/// Row 3.
async fn items(bench: &Bench<'_>, system: &mut System) -> Result<Row> {
    let row = Row::new("3", "read one of 1000 items", Unit::Rate).at_least(INVENTORY, 0.7, PGBENCH);
    let row = row.note(format!(
        "{READERS} connections of either side; DATABASE_POOL={READERS}; pgbench -M prepared runs bench/statements/item.sql"
    ));
    let pair = Pair {
        ours: INVENTORY,
        target: System::items,
        pgbench: Some(system.pgbench(Script::Item, READERS)),
        connections: READERS,
    };
    side_by_side(bench, system, row, pair).await
}

/// Rows 4 to 6: each needs what the one before it measures.
async fn placing(bench: &Bench<'_>, system: &mut System) -> Result<Vec<Row>> {
    let measured = |row| bench.config.measures(row);
    let mut rows = Vec::new();
    let orders = orders(bench, system, measured(4)).await?;
    let capacity = orders.side(SERVICES).and_then(Side::median).unwrap_or_default();
    ensure!(capacity > 0.0, "no order was placed");
    if measured(4) {
        rows.push(orders);
    }
    if measured(5) || measured(6) {
        let half = half_load(bench, system, capacity / 2.0).await?;
        let p99 = half.side(SERVICES).and_then(Side::median);
        if measured(5) {
            rows.push(half);
        }
        if measured(6) {
            let normal = p99.map(|p99| Duration::from_secs_f64(2.0 * p99 / 1e3));
            rows.extend(overload(bench, system, capacity, normal).await?);
        }
    }
    Ok(rows)
}

/// Row 4; without pgbench for those rows that need the capacity alone.
async fn orders(bench: &Bench<'_>, system: &mut System, with_pgbench: bool) -> Result<Row> {
    let row = Row::new("4", "place an order, durable", Unit::Rate).at_least(SERVICES, 0.5, PGBENCH);
    let row = row.note(format!(
        "{PLACERS} orders at a time of either side, each of one line, of any of 1000 items; fsync and synchronous_commit on; pgbench -M prepared runs bench/statements/order.sql: the same statements in the same transactions"
    ));
    let pair = Pair {
        ours: SERVICES,
        target: System::orders,
        pgbench: with_pgbench.then(|| system.pgbench(Script::Order, PLACERS)),
        connections: PLACERS,
    };
    side_by_side(bench, system, row, pair).await
}

/// One of ours, and pgbench with the same statements.
struct Pair {
    ours: &'static str,
    target: fn(&mut System) -> Target,
    pgbench: Option<Pgbench>,
    connections: usize,
}

/// Measures both in turn, in rounds.
async fn side_by_side(
    bench: &Bench<'_>,
    system: &mut System,
    mut row: Row,
    pair: Pair,
) -> Result<Row> {
    let Pair { ours, target, pgbench, connections } = pair;
    let [warm_up, window] = [bench.config.warm_up, bench.config.window];
    let mut shares = Vec::new();
    for round in 0..bench.config.rounds {
        for is_pgbench in order(round, 2).map(|side| side == 1) {
            let side = if is_pgbench { PGBENCH } else { ours };
            progress(&format!("row {}, round {}: {side}", row.number, round + 1));
            system.settle().await?;
            if !is_pgbench {
                load::closed(&target(system), connections, warm_up).await?;
                let stolen = Stolen::from_now();
                let load = load::closed(&target(system), connections, window).await?;
                let stolen = stolen.and_then(Stolen::by_now);
                shares.extend(load.busy);
                row.add(ours, Sample { stolen, ..throughput(&load)? });
            } else if let Some(pgbench) = &pgbench {
                let measured = async {
                    system.run(pgbench, warm_up).await?;
                    let stolen = Stolen::from_now();
                    let sample = system.run(pgbench, window).await?;
                    anyhow::Ok(Sample { stolen: stolen.and_then(Stolen::by_now), ..sample })
                };
                match measured.await {
                    Ok(sample) => row.add(PGBENCH, sample),
                    Err(error) => row.add_missing(PGBENCH, format!("{error:#}")),
                }
            }
        }
    }
    let share = median(&shares).unwrap_or(f64::NAN) * 100.0;
    Ok(row.note(format!("our load took {share:.0} % of a core, beside what is measured")))
}

/// Row 5, for orders.
async fn half_load(bench: &Bench<'_>, system: &mut System, rate: f64) -> Result<Row> {
    let mut row = Row::new("5", "p99 of placing an order at half load", Unit::Milliseconds)
        .at_most(SERVICES, 10.0)
        .note("open loop at half of row 4's median: latency counts from when a request was due");
    let schedule = |time| Schedule::constant(rate, time);
    for round in 0..bench.config.rounds {
        progress(&format!("row 5, round {}: {SERVICES}", round + 1));
        system.settle().await?;
        let warm_up = schedule(bench.config.warm_up);
        load::open(&system.orders(), &warm_up, CONNECTIONS, MOST_CONNECTIONS).await?;
        let window = schedule(bench.config.window);
        let stolen = Stolen::from_now();
        let load = load::open(&system.orders(), &window, CONNECTIONS, MOST_CONNECTIONS).await?;
        let stolen = stolen.and_then(Stolen::by_now);
        match throughput(&load) {
            Ok(Sample { p50, p99: Some(p99), .. }) => {
                let (value, rate, p99) = (milliseconds(p99), Some(rate), Some(p99));
                let sample = Sample { value, rate, p50, p99, stolen, ..Sample::default() };
                row.add(SERVICES, sample);
            }
            Ok(_) => row.add_missing(SERVICES, "nothing was answered"),
            Err(error) => row.add_missing(SERVICES, error.to_string()),
        }
    }
    Ok(row)
}

/// Row 6. Answers within `normal` are as before.
async fn overload(
    bench: &Bench<'_>,
    system: &mut System,
    capacity: f64,
    normal: Option<Duration>,
) -> Result<Vec<Row>> {
    let mut seen = Vec::new();
    for round in 0..bench.config.rounds {
        progress(&format!("row 6, round {}: {SERVICES}", round + 1));
        system.settle().await?;
        let schedule = Overload::schedule(capacity * TIMES);
        let target = system.orders();
        let gateway = system.process(Service::Gateway)?;
        let (stolen, turns) = (Stolen::from_now(), Turns::of_process(gateway)?);
        let load = load::open(&target, &schedule, CONNECTIONS, MOST_CONNECTIONS).await?;
        let hindrance = Hindrance {
            stolen: stolen.and_then(Stolen::by_now),
            gateway: (Turns::of_process(gateway)? - turns).mean_wait(),
            load: load.waited,
        };
        seen.push(Overload::of(&load, normal, hindrance));
    }
    Ok(overload::rows(&seen, capacity, normal, SERVICES))
}

/// A load as a sample of its rate.
///
/// # Errors
/// When a request was answered otherwise than by 2xx: then it was another load than the one that is told of.
pub(super) fn throughput(load: &Load) -> Result<Sample> {
    let [shed, other, failed] =
        [Class::Shed, Class::Other, Class::Failed].map(|class| load.count(class));
    ensure!(
        shed + other + failed == 0,
        "of {} requests {shed} were answered by 503, {other} by another status and {failed} not; the first of these: {}",
        shed + other + failed + load.count(Class::Admitted),
        load.fault.as_deref().unwrap_or("a 503, or no answer in time"),
    );
    let latencies = load.latencies(Class::Admitted);
    Ok(Sample {
        value: load.rate(),
        p50: latencies.percentile(50.0),
        p99: latencies.percentile(99.0),
        ..Sample::default()
    })
}
