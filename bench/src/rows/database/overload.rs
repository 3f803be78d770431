//! More than the capacity offered: what is admitted, what is shed, and how soon all is as before.

use std::time::Duration;

use super::TIMES;
use crate::{
    load::{Answer, Class, Latencies, Load, Outcome, Phase, Schedule},
    rows::{Row, Sample, Unit, median, milliseconds},
};

/// How long too much is offered.
const OFFERED: Duration = Duration::from_secs(5);
/// How long and at what rate it is looked at then.
const LOOKED_AT: Duration = Duration::from_secs(4);
const LOOKS_PER_SECOND: f64 = 50.0;
/// So many good answers in a row, and it is as before.
const IN_A_ROW: usize = 10;
/// What a service has at work at most: the default of `MAX_IN_FLIGHT`.
const MAX_IN_FLIGHT: f64 = 256.0;

/// One round.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overload {
    /// How many requests were offered.
    offered: u64,
    /// Of them, those answered by 2xx.
    admitted: Latencies,
    /// By 503.
    shed: Latencies,
    /// By another status, or not at all.
    wrong: u64,
    /// What the first of these was.
    fault: Option<String>,
    /// From the end of the overload until the first of the answers that were as before; none when they never were.
    normal_after: Option<Duration>,
    hindrance: Hindrance,
}

/// What kept answers from coming, beside the services' own work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Hindrance {
    /// What the host took from all cores together.
    pub(super) stolen: Option<Duration>,
    /// How long the gateway's threads waited for a core in the mean, each time they had work.
    pub(super) gateway: Option<Duration>,
    /// The same of the load's thread.
    pub(super) load: Option<Duration>,
}

impl Overload {
    /// What is sent: so many requests a second, then one now and then.
    pub(super) fn schedule(rate: f64) -> Schedule {
        let looks = Phase { rate: LOOKS_PER_SECOND, lasts: LOOKED_AT };
        Schedule::new([Phase { rate, lasts: OFFERED }, looks])
    }

    /// What came of it; an answer by 2xx within `normal` is one as before.
    pub(super) fn of(load: &Load, normal: Option<Duration>, hindrance: Hindrance) -> Self {
        let (during, mut after): (Vec<Outcome>, Vec<Outcome>) =
            load.outcomes.iter().partition(|outcome| outcome.due < OFFERED);
        after.sort_by_key(|outcome| outcome.due);
        let offered = during.len() as u64 + load.unanswered;
        let during = Load { outcomes: during, ..Load::default() };
        Self {
            offered,
            admitted: during.latencies(Class::Admitted),
            shed: during.latencies(Class::Shed),
            wrong: load.count(Class::Other) + load.count(Class::Failed),
            fault: load.fault.clone(),
            normal_after: normal.and_then(|normal| normal_after(&after, normal)),
            hindrance,
        }
    }
}

/// From the end of the overload until the first of some answers in a row that are as before.
fn normal_after(looks: &[Outcome], normal: Duration) -> Option<Duration> {
    let is_normal = |look: &Outcome| look.answer == Answer::Admitted && look.took <= normal;
    let first = looks.windows(IN_A_ROW).find(|looks| looks.iter().all(is_normal))?[0];
    Some(first.due.saturating_sub(OFFERED))
}

/// The rows of all rounds.
pub(super) fn rows(
    seen: &[Overload],
    capacity: f64,
    normal: Option<Duration>,
    side: &str,
) -> Vec<Row> {
    let bound = MAX_IN_FLIGHT / capacity * 1e3;
    let title = |what: &str| format!("{TIMES} times the capacity offered: {what}");
    let mut admitted = Row::new("6", title("p99 of the admitted"), Unit::Milliseconds)
        .at_most(side, (2.0 * bound).round())
        .note(format!(
            "the bound is Little's law: MAX_IN_FLIGHT / capacity = {MAX_IN_FLIGHT} / {capacity:.0} = {bound:.0} ms; the target twice that"
        ));
    let mut shed = Row::new("6", title("p99 of the 503"), Unit::Milliseconds).at_most(side, 5.0);
    for round in seen {
        for (row, latencies) in [(&mut admitted, &round.admitted), (&mut shed, &round.shed)] {
            if let Some(sample) = latency(latencies) {
                row.add(side, Sample { stolen: round.hindrance.stolen, ..sample });
            }
        }
        admitted.notes.push(format!(
            "offered {}: {} by 2xx, {} by 503, {} otherwise or not",
            round.offered,
            round.admitted.count(),
            round.shed.count(),
            round.wrong
        ));
    }
    shed.notes.extend(waits(seen));
    if let Some(wrong) = seen.iter().find(|round| round.wrong > 0) {
        let fault = wrong.fault.as_deref().unwrap_or("no answer");
        let reason =
            format!("{} answers were neither 2xx nor 503; the first: {fault}", wrong.wrong);
        admitted.add_missing(side, &reason);
        shed.add_missing(side, reason);
    }
    let mut back = Row::new("6", title("normal again after"), Unit::Seconds).at_most(side, 2.0);
    match normal {
        Some(normal) => add_returns(&mut back, seen, normal, side),
        None => back.add_missing(side, "what is normal, the p99 at half load, is not known"),
    }
    vec![admitted, shed, back]
}

/// How long was waited for a core.
fn waits(seen: &[Overload]) -> Option<String> {
    let of = |part: fn(&Hindrance) -> Option<Duration>| {
        let waits = seen.iter().filter_map(|round| Some(milliseconds(part(&round.hindrance)?)));
        Some(Unit::Milliseconds.show(median(&waits.collect::<Vec<_>>())?))
    };
    let (gateway, load) = (of(|hindrance| hindrance.gateway)?, of(|hindrance| hindrance.load)?);
    Some(format!(
        "each time they had something to do, in the looks after the overload too, the gateway's threads waited {gateway} ms for a core in the mean, the load's {load} ms: all share the machine's cores with PostgreSQL's processes"
    ))
}

/// Adds how soon all was as before.
fn add_returns(row: &mut Row, seen: &[Overload], normal: Duration, side: &str) {
    row.notes.push(format!(
        "the first of {IN_A_ROW} requests in a row, one every 20 ms, that were answered by 2xx within {:.1} ms: twice the p99 at half load",
        milliseconds(normal)
    ));
    for round in seen {
        match round.normal_after {
            Some(after) => row.add(side, Sample::of(after.as_secs_f64())),
            None => row.add_missing(side, format!("it was not within {LOOKED_AT:?}")),
        }
    }
}

/// The sample of a p99; none when there is no answer.
fn latency(latencies: &Latencies) -> Option<Sample> {
    let [p50, p99] = [50.0, 99.0].map(|percent| latencies.percentile(percent));
    Some(Sample { value: milliseconds(p99?), p50, p99, ..Sample::default() })
}

#[cfg(test)]
mod tests {
    use crate::rows::Verdict;

    use super::*;

    const NORMAL: Option<Duration> = Some(Duration::from_millis(10));
    const MILLI: Duration = Duration::from_millis(1);
    const HINDRANCE: Hindrance =
        Hindrance { stolen: None, gateway: Some(MILLI), load: Some(Duration::from_micros(2500)) };

    fn outcome(due: u32, took: u32, answer: Answer) -> Outcome {
        Outcome { due: due * MILLI, took: took * MILLI, answer }
    }

    /// An overload, and looks every 20 ms, of which those before `slow` ms after its end are slow.
    fn load(slow: u32, answer: Answer) -> Load {
        let mut outcomes = vec![
            outcome(0, 100, Answer::Admitted),
            outcome(1, 2, Answer::Shed),
            outcome(2, 3, answer),
        ];
        let looks = (0..200).map(|look| look * 20);
        outcomes.extend(
            looks.map(|at| outcome(5000 + at, if at < slow { 50 } else { 4 }, Answer::Admitted)),
        );
        Load { outcomes, fault: Some("status 500".to_owned()), ..Load::default() }
    }

    fn verdicts(load: &Load) -> [Verdict; 3] {
        let rows = rows(&[Overload::of(load, NORMAL, HINDRANCE)], 1000.0, NORMAL, "ours");
        [0, 1, 2].map(|row: usize| rows[row].verdict(&rows[row].targets[0]))
    }

    #[test]
    fn what_is_offered_first_is_told_from_the_looks_after_it() {
        let overload = Overload::of(&load(60, Answer::Shed), NORMAL, HINDRANCE);
        assert_eq!((overload.offered, overload.wrong), (3, 0));
        assert_eq!((overload.admitted.count(), overload.shed.count()), (1, 2));
        assert_eq!(overload.normal_after, Some(60 * MILLI));
        assert_eq!(
            Overload::of(&load(0, Answer::Shed), NORMAL, HINDRANCE).normal_after,
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn targets_are_held_against_the_bound() {
        let [admitted, shed, normal] = verdicts(&load(1000, Answer::Shed));
        // 2 * 256 / 1000/s = 512 ms.
        assert!(matches!(admitted, Verdict::Met(ratio) if (ratio - 100.0 / 512.0).abs() < 0.01));
        assert!(matches!(shed, Verdict::Met(ratio) if (ratio - 3.0 / 5.0).abs() < 0.01));
        assert_eq!(normal, Verdict::Met(0.5));
    }

    #[test]
    fn one_answer_that_is_neither_2xx_nor_503_is_no_figure() {
        let [admitted, ..] = verdicts(&load(0, Answer::Other(500)));
        let reason = "1 answers were neither 2xx nor 503; the first: status 500";
        assert_eq!(admitted, Verdict::Unknown(format!("ours is missing: {reason}")));
    }

    #[test]
    fn without_a_figure_of_what_is_normal_there_is_no_return_to_it() {
        let rows =
            rows(&[Overload::of(&load(0, Answer::Shed), None, HINDRANCE)], 1000.0, None, "ours");
        assert!(matches!(rows[2].verdict(&rows[2].targets[0]), Verdict::Unknown(_)));
    }

    #[test]
    fn waits_for_a_core_are_told_beside_the_503() {
        let rows = rows(
            &[Overload::of(&load(0, Answer::Shed), NORMAL, HINDRANCE)],
            1000.0,
            NORMAL,
            "ours",
        );
        let note = rows[1].notes.concat();
        assert!(
            note.contains("threads waited 1.00 ms for a core in the mean, the load's 2.50 ms"),
            "{note}"
        );
    }

    #[test]
    fn what_is_never_normal_again_is_told() {
        let [_, _, normal] = verdicts(&load(10_000, Answer::Shed));
        assert_eq!(normal, Verdict::Unknown("ours is missing: it was not within 4s".to_owned()));
    }
}
