//! What the services hold and how soon they are ready, with nothing asked of them: the idle part of row 7, and row 8.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use local_stack::{Service, Settings, child::Output, measure};

use super::{Bound, Row, Sample, Side, Target, Unit, megabytes, milliseconds};
use crate::run::Bench;

/// Starts of each service.
const STARTS: u32 = 5;
/// How long after the start memory is idle.
const IDLE: Duration = Duration::from_secs(3);

/// The most that a service may hold while it is idle, and under load, in MB.
const MOST: [f64; 2] = [8.0, 32.0];
/// How long a service may take until it is ready, in milliseconds.
const READY: f64 = 50.0;

/// Row 7, still without figures: idle, and under load.
pub fn memory() -> [Row; 2] {
    let shared = "of several processes (nginx, Flask) what they share counts once (PSS)";
    let idle = format!(
        "{} s after the start, of ours the most of {STARTS} starts; {shared}",
        IDLE.as_secs()
    );
    let peak = format!("VmHWM after all loads of this run; {shared}, at that moment");
    let mut rows = [
        Row::new("7", "resident memory, idle", Unit::Megabytes).note(idle),
        Row::new("7", "resident memory, the most under load", Unit::Megabytes).note(peak),
    ];
    for (row, most) in rows.iter_mut().zip(MOST) {
        for service in Service::ALL.map(Service::name) {
            row.sides.push(Side::new(service));
            row.targets.push(Target { side: service.to_owned(), bound: Bound::AtMost(most) });
        }
    }
    rows
}

/// Measures row 8, and what the services hold while they are idle.
pub async fn measure(bench: &Bench<'_>, [idle, _]: &mut [Row; 2]) -> Result<Row> {
    let state = bench.folder.join("resources");
    std::fs::create_dir_all(&state)?;
    let exporter = ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), bench.sink.url());
    let settings = Settings {
        durable: true,
        output: Output::Filed(bench.folder.to_owned()),
        environment: BTreeMap::from([exporter]),
        ..Settings::new(&bench.config.programs, &bench.config.postgres, &state)
    };
    let mut ready = Row::new("8", "start to ready, with the database up", Unit::Milliseconds)
        .note(format!("the median of {STARTS} starts, from exec until /ready answers 200"));
    for measured in measure::measure(settings, STARTS, IDLE).await? {
        let name = measured.service.name();
        ready.add(name, Sample::of(milliseconds(measured.ready)));
        ready = ready.at_most(name, READY);
        idle.add(name, Sample::of(megabytes(measured.idle.resident)));
    }
    Ok(ready)
}

/// Row 7 with what the services held under load.
pub fn complete(bench: &Bench<'_>, [idle, mut peak]: [Row; 2]) -> [Row; 2] {
    for (service, kb) in bench.peaks.all() {
        peak.add(service, Sample::of(megabytes(kb)));
    }
    [idle, peak]
}
