//! What became of the requests.

use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::StatusCode;

/// The longest latency that is told apart, in microseconds.
const LONGEST: u64 = 600_000_000;
/// To how many digits.
const DIGITS: u8 = 3;

/// How one request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Admitted,
    /// 503.
    Shed,
    /// With another status.
    Other(u16),
    /// Not.
    Failed,
}

impl Answer {
    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Self::Shed,
            status if status.is_success() => Self::Admitted,
            status => Self::Other(status.as_u16()),
        }
    }

    /// Its class.
    pub fn class(self) -> Class {
        match self {
            Self::Admitted => Class::Admitted,
            Self::Shed => Class::Shed,
            Self::Other(_) => Class::Other,
            Self::Failed => Class::Failed,
        }
    }
}

/// Answers of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 2xx.
    Admitted,
    /// 503.
    Shed,
    /// Any other status.
    Other,
    /// No answer.
    Failed,
}

/// One request's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// When it was due, or in a closed loop sent; from the start of the load.
    pub due: Duration,
    /// From then until the answer's last byte.
    pub took: Duration,
    /// The answer.
    pub answer: Answer,
}

/// What became of a load.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Each request that came to an end, in the order of their ends.
    pub outcomes: Vec<Outcome>,
    /// Requests that came to none within the time for it; they have failed too.
    pub unanswered: u64,
    /// How long requests were sent.
    pub window: Duration,
    /// What the first request that went wrong (neither 2xx nor 503) did so by.
    pub fault: Option<String>,
    /// The share of a core that the load's thread used; near 1 the load itself may have been the limit.
    pub busy: Option<f64>,
    /// How long that thread waited for a core in the mean, each time it had something to do.
    pub waited: Option<Duration>,
}

impl Load {
    /// How many of that class there are.
    pub fn count(&self, class: Class) -> u64 {
        let ended = self.of_class(class).count() as u64;
        if class == Class::Failed { ended + self.unanswered } else { ended }
    }

    /// Answers with 2xx a second, of those that came within the window.
    pub fn rate(&self) -> f64 {
        let within = |outcome: &&Outcome| outcome.due + outcome.took <= self.window;
        let count = self.of_class(Class::Admitted).filter(within).count();
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / self.window.as_secs_f64()
    }

    /// The latencies of that class.
    pub fn latencies(&self, class: Class) -> Latencies {
        let mut latencies = Latencies::default();
        self.of_class(class).for_each(|outcome| latencies.record(outcome.took));
        latencies
    }

    fn of_class(&self, class: Class) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |outcome| outcome.answer.class() == class)
    }
}

/// Latencies, exact to a microsecond or three digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    microseconds: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self { microseconds: histogram.expect("the bounds are in order") }
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(LONGEST);
        self.microseconds.saturating_record(microseconds.max(1));
    }

    /// Adds those of another load.
    pub fn add(&mut self, others: &Self) {
        self.microseconds.add(&others.microseconds).expect("all have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.microseconds.len()
    }

    /// The one that `percent` of 100 do not exceed; none when there is none.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let value = self.microseconds.value_at_percentile(percent);
        (self.count() > 0).then(|| Duration::from_micros(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(answers: &[(Answer, u64)]) -> Load {
        let due = Duration::ZERO;
        let outcome = |(answer, millis): &_| Outcome {
            due,
            took: Duration::from_millis(*millis),
            answer: *answer,
        };
        let outcomes = answers.iter().map(outcome).collect();
        Load { outcomes, unanswered: 1, window: Duration::from_secs(2), ..Load::default() }
    }

    #[test]
    fn classes_are_counted_apart_and_what_has_no_answer_failed() {
        let all = [
            (Answer::Admitted, 1),
            (Answer::Admitted, 3000),
            (Answer::Shed, 2),
            (Answer::Other(404), 3),
            (Answer::Failed, 4),
        ];
        let load = load(&all);
        let counts = [Class::Admitted, Class::Shed, Class::Other, Class::Failed]
            .map(|class| load.count(class));
        assert_eq!(counts, [2, 1, 1, 2]);
        assert!((load.rate() - 0.5).abs() < 1e-9, "one of them came after the window");
        let shed = load.latencies(Class::Shed);
        assert_eq!((shed.count(), shed.percentile(99.0)), (1, Some(Duration::from_millis(2))));
    }

    #[test]
    fn percentiles_are_of_all_that_was_added() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50.0), None);
        let mut others = Latencies::default();
        for millis in 1..=50 {
            latencies.record(Duration::from_millis(millis));
            others.record(Duration::from_millis(50 + millis));
        }
        latencies.add(&others);
        let exact = |percent, millis: u64| {
            let value = latencies.percentile(percent).unwrap();
            value.abs_diff(Duration::from_millis(millis)) <= Duration::from_micros(millis)
        };
        assert!(exact(50.0, 50) && exact(99.0, 99) && exact(100.0, 100), "{latencies:?}");
    }
}
