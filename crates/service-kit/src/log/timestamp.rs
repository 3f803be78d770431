//! The time of a log line.

use std::time::Duration;

use crate::epoch;

/// Where a line begins; the digits are put in.
const BEGIN: &[u8; 43] = b"{\"timestamp\":\"0000-00-00T00:00:00.000000Z\",";
/// Where the year begins.
const YEAR: usize = 14;

/// Begins lines with the time that it is.
#[derive(Debug)]
pub(super) struct Clock {
    /// Whole seconds since the Unix epoch, which most lines share with the one before.
    seconds: u64,
    /// A line's begin in that second.
    begin: [u8; BEGIN.len()],
}

impl Default for Clock {
    fn default() -> Self {
        Self { seconds: u64::MAX, begin: *BEGIN }
    }
}

impl Clock {
    /// Begins a line: `{"timestamp":"2026-11-25T14:05:09.000123Z",`.
    pub(super) fn begin(&mut self, lines: &mut Vec<u8>) {
        lines.extend_from_slice(self.at(epoch::now()));
    }

    fn at(&mut self, since_epoch: Duration) -> &[u8] {
        let seconds = since_epoch.as_secs();
        if seconds != self.seconds {
            self.seconds = seconds;
            let (year, month, day) = date(seconds / 86400);
            self.put(0, 4, year);
            self.put(5, 2, month);
            self.put(8, 2, day);
            self.put(11, 2, seconds / 3600 % 24);
            self.put(14, 2, seconds / 60 % 60);
            self.put(17, 2, seconds % 60);
        }
        self.put(20, 6, since_epoch.subsec_micros().into());
        &self.begin
    }

    /// Puts digits at a place of the time.
    fn put(&mut self, at: usize, digits: usize, mut value: u64) {
        for digit in self.begin[YEAR + at..][..digits].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
}

/// Year, month and day of a day after 1970-01-01. Years begin in March here, so that a leap day ends one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097); // of 400 years
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_has_it() {
        let mut clock = Clock::default();
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1, "1970-01-01T00:00:00.000001Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (1_735_689_599_000_000, "2024-12-31T23:59:59.000000Z"),
            (1_735_689_600_000_000, "2025-01-01T00:00:00.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            let line = std::str::from_utf8(clock.at(Duration::from_micros(micros))).unwrap();
            assert_eq!(line, format!("{{\"timestamp\":\"{expected}\","));
        }
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = date(0);
        for day in 1..200_000 {
            let (year, month, day) = date(day);
            let next_day = (year, month, day) == (last.0, last.1, last.2 + 1);
            let next_month = (year, month, day) == (last.0, last.1 + 1, 1) && last.2 >= 28;
            let next_year =
                (year, month, day) == (last.0 + 1, 1, 1) && (last.1, last.2) == (12, 31);
            assert!(next_day || next_month || next_year, "{last:?} {:?}", (year, month, day));
            last = (year, month, day);
        }
    }
}
