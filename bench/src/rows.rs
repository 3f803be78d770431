//! What the rows of the table are made of: sides, measured round by round in turn, and targets for their medians.

pub mod database;
pub mod http;
pub mod resources;

use std::{fmt::Display, time::Duration};

/// What a row's figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests a second of one core: requests answered by CPU seconds used, of all the side's processes.
    PerCore,
    /// Answers (or transactions) a second.
    Rate,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Megabytes (10^6 bytes).
    Megabytes,
}

impl Unit {
    /// What stands at the head of a column.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerCore => "requests/s per core",
            Self::Rate => "per second",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Megabytes => "MB",
        }
    }

    /// A figure without the unit; of one that is not large the first three digits.
    pub fn show(self, value: f64) -> String {
        let decimals = match value.abs() {
            large if large >= 100.0 => 0,
            middle if middle >= 10.0 => 1,
            _ => 2,
        };
        let text = format!("{value:.decimals$}");
        if decimals > 0 { text } else { thousands(text) }
    }
}

/// What one round measured of one side.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The row's figure, in its unit.
    pub value: f64,
    /// Answers a second as they came, where the figure is another.
    pub rate: Option<f64>,
    /// The share of one core that the side used; above 1 when it used several.
    pub utilisation: Option<f64>,
    /// The median latency.
    pub p50: Option<Duration>,
    /// The latency that one in a hundred exceeds.
    pub p99: Option<Duration>,
    /// What the machine's host kept from its cores meanwhile, of all of them together.
    pub stolen: Option<Duration>,
}

impl Sample {
    /// One of which nothing but the figure is known.
    pub fn of(value: f64) -> Self {
        Self { value, ..Self::default() }
    }
}

/// One of those that a row compares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// What it is called, in the table and by targets.
    pub name: String,
    /// What was measured, a sample a round.
    pub samples: Vec<Sample>,
    /// Why it is missing, when it is.
    pub missing: Option<String>,
}

impl Side {
    /// One that is to be measured.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// One that cannot be had, and why: what fits into a table's cell.
    pub fn missing(name: impl Into<String>, reason: &str) -> Self {
        let words: Vec<_> = reason.split_whitespace().collect();
        Self { missing: Some(words.join(" ").replace('|', "/")), ..Self::new(name) }
    }

    /// The median of its figures; none when it is missing.
    pub fn median(&self) -> Option<f64> {
        self.median_of(|sample| Some(sample.value))
    }

    /// The median of what the samples have of something; none when none has it, or the side is missing.
    pub fn median_of(&self, part: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        if self.missing.is_some() {
            return None;
        }
        median(&self.samples.iter().filter_map(part).collect::<Vec<_>>())
    }

    /// (largest - smallest) / median of its figures.
    pub fn spread(&self) -> Option<f64> {
        let median = self.median()?;
        let values = self.samples.iter().map(|sample| sample.value);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (median != 0.0).then(|| (high - low) / median)
    }
}

/// What a side's median has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// At least so many times the median of another side.
    AtLeastTimes(f64, String),
    /// At most so many times the median of another side.
    AtMostTimes(f64, String),
    /// At most so much, in the row's unit.
    AtMost(f64),
}

/// A target: whose median, and what it has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The side that is held against it.
    pub side: String,
    /// The bound.
    pub bound: Bound,
}

/// How a target was held.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Met, with the ratio to the bound's reference: another side's median, or the limit.
    Met(f64),
    /// Missed, with the same ratio.
    Missed(f64),
    /// Not known, and why.
    Unknown(String),
}

/// One figure, of several sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The row of bench/README.md's table that it belongs to, e.g. "1".
    pub number: &'static str,
    /// What is measured.
    pub title: String,
    /// The figures' unit.
    pub unit: Unit,
    /// Ours first.
    pub sides: Vec<Side>,
    /// What the medians have to be.
    pub targets: Vec<Target>,
    /// What one has to know to read it: a sentence each.
    pub notes: Vec<String>,
}

impl Row {
    /// An empty row.
    pub fn new(number: &'static str, title: impl Into<String>, unit: Unit) -> Self {
        let title = title.into();
        Self { number, title, unit, sides: Vec::new(), targets: Vec::new(), notes: Vec::new() }
    }

    /// With a target: `side` has at least `factor` times the median of `reference`.
    #[must_use]
    pub fn at_least(mut self, side: &str, factor: f64, reference: &str) -> Self {
        let bound = Bound::AtLeastTimes(factor, reference.to_owned());
        self.targets.push(Target { side: side.to_owned(), bound });
        self
    }

    /// With a target: `side` has at most `factor` times the median of `reference`.
    #[must_use]
    pub fn at_most_times(mut self, side: &str, factor: f64, reference: &str) -> Self {
        let bound = Bound::AtMostTimes(factor, reference.to_owned());
        self.targets.push(Target { side: side.to_owned(), bound });
        self
    }

    /// With a target: `side` has at most so much, in the row's unit.
    #[must_use]
    pub fn at_most(mut self, side: &str, limit: f64) -> Self {
        self.targets.push(Target { side: side.to_owned(), bound: Bound::AtMost(limit) });
        self
    }

    /// With a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds what a round measured of a side, which is made where it is new.
    pub fn add(&mut self, side: &str, sample: Sample) {
        if let Some(known) = self.sides.iter_mut().find(|known| known.name == side) {
            known.samples.push(sample);
        } else {
            self.sides.push(Side { samples: vec![sample], ..Side::new(side) });
        }
    }

    /// Says that a side is missing, and why; what was measured of it counts no more.
    pub fn add_missing(&mut self, side: &str, reason: impl AsRef<str>) {
        self.sides.retain(|known| known.name != side);
        self.sides.push(Side::missing(side, reason.as_ref()));
    }

    /// A side by its name.
    pub fn side(&self, name: &str) -> Option<&Side> {
        self.sides.iter().find(|side| side.name == name)
    }

    /// How a target was held.
    pub fn verdict(&self, target: &Target) -> Verdict {
        let median = |name: &str| match self.side(name) {
            Some(Side { missing: Some(reason), .. }) => Err(format!("{name} is missing: {reason}")),
            side => side.and_then(Side::median).ok_or_else(|| format!("{name} was not measured")),
        };
        let ratio = |reference: f64| Ok::<_, String>(median(&target.side)? / reference);
        let held = match &target.bound {
            Bound::AtLeastTimes(factor, reference) => {
                median(reference).and_then(ratio).map(|ratio| (ratio >= *factor, ratio))
            }
            Bound::AtMostTimes(factor, reference) => {
                median(reference).and_then(ratio).map(|ratio| (ratio <= *factor, ratio))
            }
            Bound::AtMost(limit) => ratio(*limit).map(|ratio| (ratio <= 1.0, ratio)),
        };
        match held {
            Ok((true, ratio)) => Verdict::Met(ratio),
            Ok((false, ratio)) => Verdict::Missed(ratio),
            Err(reason) => Verdict::Unknown(reason),
        }
    }
}

impl Bound {
    /// As a text, e.g. `at most 50 ms`.
    pub fn show(&self, unit: Unit) -> String {
        match self {
            Self::AtLeastTimes(factor, reference) => format!("at least {factor} x {reference}"),
            Self::AtMostTimes(factor, reference) => format!("at most {factor} x {reference}"),
            Self::AtMost(limit) => {
                let text = unit.show(*limit);
                let whole = text.trim_end_matches('0').trim_end_matches('.');
                let text = if text.contains('.') { whole } else { &text };
                format!("at most {text} {}", unit.name())
            }
        }
    }
}

/// A whole number with a comma before every three digits.
pub fn thousands(number: impl Display) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// Megabytes (10^6 bytes) of the kernel's kB, which are of 1024 bytes.
pub fn megabytes(kb: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "memory in kB is far below 2^52")]
    let kb = kb as f64;
    kb * 1024.0 / 1e6
}

/// Milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The order in which a round measures its sides: rotated from round to round, so that none is always the first.
pub fn order(round: u32, sides: usize) -> impl Iterator<Item = usize> {
    let first = usize::try_from(round).expect("there are at least 32 bits") % sides.max(1);
    (0..sides).map(move |place| (first + place) % sides)
}

/// The median; of an even count the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: &[f64], theirs: &[f64]) -> Row {
        let mut row = Row::new("1", "cheapest route", Unit::PerCore);
        for (side, values) in [("ours", ours), ("theirs", theirs)] {
            for value in values {
                row.add(side, Sample::of(*value));
            }
        }
        row
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_there() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn the_spread_is_relative_to_the_median() {
        let row = row(&[90.0, 110.0, 100.0], &[0.0]);
        assert_eq!(row.side("ours").unwrap().spread(), Some(0.2));
        assert_eq!(row.side("theirs").unwrap().spread(), None, "nothing to be relative to");
    }

    #[test]
    fn a_target_is_held_by_the_ratio_of_medians() {
        let row = row(&[70.0, 80.0, 75.0], &[100.0]).at_least("ours", 0.75, "theirs");
        assert_eq!(row.verdict(&row.targets[0]), Verdict::Met(0.75));
        let row = row
            .at_least("ours", 0.8, "theirs")
            .at_most_times("ours", 0.7, "theirs")
            .at_most("ours", 150.0);
        assert_eq!(row.verdict(&row.targets[1]), Verdict::Missed(0.75));
        assert_eq!(row.verdict(&row.targets[2]), Verdict::Missed(0.75));
        assert_eq!(row.verdict(&row.targets[3]), Verdict::Met(0.5));
    }

    #[test]
    fn a_target_against_what_is_missing_is_not_known() {
        let mut row =
            row(&[1.0], &[1.0]).at_least("ours", 1.0, "theirs").at_least("ours", 1.0, "nginx");
        row.add_missing("theirs", "no network");
        let reasons = ["theirs is missing: no network", "nginx was not measured"];
        for (target, reason) in row.targets.iter().zip(reasons) {
            assert_eq!(row.verdict(target), Verdict::Unknown(reason.to_owned()));
        }
    }

    #[test]
    fn a_reason_fits_into_a_tables_cell() {
        let side = Side::missing("nginx", "it ended:\n  a | b\n");
        assert_eq!(side.missing.as_deref(), Some("it ended: a / b"));
    }

    #[test]
    fn limits_are_shown_without_needless_digits() {
        let shown =
            [8.0, 50.0, 2.5, 100.0, 3930.9].map(|limit| Bound::AtMost(limit).show(Unit::Seconds));
        let expected = ["8", "50", "2.5", "100", "3,931"].map(|limit| format!("at most {limit} s"));
        assert_eq!(shown, expected);
        let bound = Bound::AtLeastTimes(0.75, "bare hyper".to_owned());
        assert_eq!(bound.show(Unit::PerCore), "at least 0.75 x bare hyper");
    }

    #[test]
    fn each_round_begins_with_another_side() {
        let orders: Vec<Vec<_>> = (0..4).map(|round| order(round, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(order(1, 0).count(), 0);
    }

    #[test]
    fn a_kb_of_the_kernels_has_1024_bytes() {
        assert!((megabytes(9000) - 9.216).abs() < 1e-9);
    }

    #[test]
    fn large_numbers_have_commas() {
        let shown = [7, 1_000, 12_345, 1_000_000].map(thousands);
        assert_eq!(shown, ["7", "1,000", "12,345", "1,000,000"]);
    }

    #[test]
    fn figures_are_shown_by_their_first_digits_and_large_ones_in_groups() {
        let shown = [1_234_567.8, 123.4, 12.34, 1.234, 0.0].map(|value| Unit::Rate.show(value));
        assert_eq!(shown, ["1,234,568", "123", "12.3", "1.23", "0.00"]);
    }
}
