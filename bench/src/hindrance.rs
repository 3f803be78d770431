//! What keeps threads that could run from it: the machine's host, which takes cores away, and whoever else is on a core.
//! A latency that either made is not the measured program's own.

use std::{fs, ops::Sub, time::Duration};

use anyhow::{Context, Result};

use crate::process::TICKS_PER_SECOND;

/// The time for which the host kept cores from this machine though they had work (`steal` of `/proc/stat`), of all cores
/// together, since some moment.
#[derive(Debug, Clone, Copy)]
pub struct Stolen(Duration);

impl Stolen {
    /// From now on; none where the kernel does not tell.
    pub fn from_now() -> Option<Self> {
        parse_steal(&fs::read_to_string("/proc/stat").ok()?).map(Self)
    }

    /// How much it is by now.
    pub fn by_now(self) -> Option<Duration> {
        Some(Self::from_now()?.0.saturating_sub(self.0))
    }
}

/// The eighth figure of the line of all cores, in ticks.
fn parse_steal(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: f64 = line.split_ascii_whitespace().nth(7)?.parse().ok()?;
    Some(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

/// How often threads took turns on this machine's cores since it began (`ctxt` of `/proc/stat`).
pub fn context_switches() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse_switches(&stat).context("/proc/stat tells no context switches")
}

fn parse_switches(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("ctxt "))?.parse().ok()
}

/// The time of some cores since the machine began, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreTime {
    all: u64,
    idle: u64,
}

impl CoreTime {
    /// By now; none where the kernel does not tell.
    pub fn of(cores: &[usize]) -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, cores)
    }

    /// The share of it in which they had work, since `before`.
    pub fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle);
        #[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^52")]
        let share = all.saturating_sub(idle) as f64 / all.max(1) as f64;
        share
    }

    /// Idle is the fourth figure of a core's line, and the fifth while it waits for a disk.
    fn parse(stat: &str, cores: &[usize]) -> Option<Self> {
        let mut sum = Self { all: 0, idle: 0 };
        for core in cores {
            let name = format!("cpu{core} ");
            let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
            let figures = line.split_ascii_whitespace().map(|figure| figure.parse::<u64>().ok());
            let figures: Vec<_> = figures.collect::<Option<_>>()?;
            sum.idle += figures.get(3)? + figures.get(4)?;
            // The last two, guests, are in the first two too.
            sum.all += figures.iter().take(8).sum::<u64>();
        }
        Some(sum)
    }
}

/// What the kernel's `schedstat` tells of threads: nothing but zeros where it is built without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// For how long they were on a core.
    pub ran: Duration,
    /// For how long they could have been, and others were.
    pub waited: Duration,
    /// How often they got one.
    pub count: u32,
}

impl Turns {
    /// Those of the calling thread, since it began.
    pub fn of_this_thread() -> Result<Self> {
        Self::read("/proc/thread-self/schedstat")
    }

    /// Those of a process, of all its threads since they began.
    pub fn of_process(process: u32) -> Result<Self> {
        let mut all = Self::default();
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let file = thread?.path().join("schedstat");
            // One that ended meanwhile counts no more.
            let turns = file.to_str().and_then(|file| Self::read(file).ok()).unwrap_or_default();
            all.ran += turns.ran;
            all.waited += turns.waited;
            all.count += turns.count;
        }
        Ok(all)
    }

    /// How long a turn was waited for in the mean; none without one.
    pub fn mean_wait(self) -> Option<Duration> {
        self.waited.checked_div(self.count)
    }

    fn read(file: &str) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        Self::parse(&text).with_context(|| format!("{file} has another form"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut figures = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || figures.next()?.ok();
        let [ran, waited] = [next()?, next()?].map(Duration::from_nanos);
        Some(Self { ran, waited, count: u32::try_from(next()?).ok()? })
    }
}

impl Sub for Turns {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
            count: self.count.saturating_sub(before.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_figure_of_all_cores() {
        let stat = "cpu  2456 365 2168 26809 513 0 59 20 3 4\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(parse_steal(stat), Some(Duration::from_millis(200)));
        assert_eq!(parse_steal("cpu  1 2 3\n"), None);
        assert_eq!(parse_steal("cpu0 1 2 3 4 5 6 7 8\n"), None);
    }

    #[test]
    fn context_switches_are_those_of_all_cores() {
        assert_eq!(parse_switches("cpu  1 2 3\nintr 5 0\nctxt 115315\nbtime 1\n"), Some(115_315));
        assert_eq!(parse_switches("cpu  1 2 3\n"), None);
    }

    #[test]
    fn a_core_is_busy_when_it_is_neither_idle_nor_waits_for_a_disk() {
        let of = |stat: &str, cores: &[usize]| CoreTime::parse(stat, cores);
        let before = of("cpu0 1 1 1 10 5 1 1 0 0 0\ncpu1 9 9 9 9 9 9 9 9 9 9\n", &[0]).unwrap();
        let after = of("cpu0 31 1 21 60 5 1 1 10 7 7\n", &[0]).unwrap();
        assert!((after.busy_since(before) - 60.0 / 110.0).abs() < 1e-9);
        assert!(after.busy_since(after).abs() < 1e-9);
        assert_eq!(of("cpu0 1 1 1 10 5 1 1 0 0 0\n", &[0, 1]), None);
    }

    #[test]
    fn turns_are_time_on_a_core_time_before_it_and_their_number() {
        let turns = Turns::parse("3000000 1000000 4\n").unwrap();
        assert_eq!((turns.ran, turns.count), (Duration::from_millis(3), 4));
        assert_eq!(turns.mean_wait(), Some(Duration::from_micros(250)));
        assert_eq!(Turns::default().mean_wait(), None);
        assert_eq!(turns - turns, Turns::default());
        assert_eq!(Turns::parse("3000000"), None);
    }

    #[test]
    fn a_process_has_had_the_turns_of_its_threads() {
        let own = Turns::of_this_thread().unwrap_or_default();
        let all = Turns::of_process(std::process::id()).unwrap();
        assert!(all.count >= own.count, "{own:?} {all:?}");
    }
}
