//! Processes under measurement: the cores they run on, the CPU seconds they use, the memory they hold, their end.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    process::{Pid, Signal, kill_process_group},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tokio::{
    process::{Child, Command},
    runtime::{Builder, Runtime},
    time::timeout,
};

/// How long a peer may take to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The ticks in a second of the times in `/proc` (`USER_HZ`): the same on every architecture that this is built for.
pub const TICKS_PER_SECOND: f64 = 100.0;

/// Which part of the machine a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The core of what is measured.
    Server,
    /// The cores of what makes the load.
    Generator,
    /// All cores.
    Anywhere,
}

/// The cores that this process was given, and how they are shared out.
#[derive(Debug, Clone)]
pub struct Cores {
    all: Vec<usize>,
}

impl Cores {
    /// Reads them from the affinity of the calling thread.
    pub fn read() -> Result<Self> {
        let set = sched_getaffinity(None)?;
        let all: Vec<_> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
        ensure!(!all.is_empty(), "this process may run nowhere");
        Ok(Self { all })
    }

    /// Them, where there is one for what is measured and another one for the load.
    ///
    /// # Errors
    /// When there is one only: then the load takes from what is measured.
    pub fn for_both(self) -> Result<Self> {
        let is_enough = self.all.len() > 1;
        ensure!(is_enough, "two cores are needed: one for what is measured, one for the load");
        Ok(self)
    }

    /// The numbers of the cores of a place.
    pub fn of(&self, place: Place) -> &[usize] {
        match place {
            Place::Server => &self.all[..1],
            Place::Generator => &self.all[1..],
            Place::Anywhere => &self.all,
        }
    }

    /// Moves the calling thread there. Processes and threads that it starts begin there too.
    pub fn go(&self, place: Place) -> Result<()> {
        let mut set = CpuSet::new();
        self.of(place).iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).context("cannot choose the cores to run on")
    }

    /// Starts something in one place, and comes back to another.
    ///
    /// What is started by a future has to be started before its first await.
    pub fn start<T>(
        &self,
        place: Place,
        back: Place,
        start: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.go(place)?;
        let started = start();
        self.go(back)?;
        started
    }

    /// A runtime whose threads, and the calling one, are in that place.
    pub fn runtime(&self, place: Place) -> Result<Runtime> {
        self.go(place)?;
        let threads = self.of(place).len();
        Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
    }
}

/// A server under measurement, or a part of the load: a process group of its own, which ends with the value.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it, both outputs into a file.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        command.process_group(0).kill_on_drop(true);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {name} ({program})"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its first process and all that come from it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let ended = || format!("{} has ended: {}", self.name, self.last_line());
        tree(self.child.id().with_context(ended)?)
    }

    /// The last line that it printed.
    pub fn last_line(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it printed nothing")
            .to_owned()
    }

    /// Waits for its end; none when that does not come in time.
    pub async fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        Ok(timeout(within, self.child.wait()).await.ok().transpose()?)
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, and kills it when it does not.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let _killed_by_the_drop = timeout(STOP_WITHIN, self.child.wait()).await;
    }

    fn signal(&self, signal: Signal) {
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ended_already = kill_process_group(group, signal);
        }
    }
}

impl Drop for Server {
    /// Killing the first process alone would leave its workers.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A process and all that come from it.
pub fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // One that ended meanwhile is no part of it.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        parents.extend(Stat::parse(&stat).map(|stat| (process, stat.parent)));
    }
    let mut tree: Vec<u32> = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        at += 1;
    }
    Ok(tree)
}

/// The CPU seconds that processes have used since they began, user and system together.
pub fn cpu_seconds(processes: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        ticks += Stat::parse(&stat).context("the kernel's stat file has another form")?.ticks;
    }
    #[expect(clippy::cast_precision_loss, reason = "ticks of hundredths are far below 2^52")]
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// What `/proc/PID/stat` tells.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// utime + stime.
    ticks: u64,
}

impl Stat {
    /// The name, which may hold anything, stands in brackets before the figures.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |field: &str| field.parse::<u64>().ok();
        let ticks = number(fields.get(11)?)? + number(fields.get(12)?)?;
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks })
    }
}

/// The most memory that services have held, for whoever loads them to keep before they end.
#[derive(Debug, Default)]
pub struct Peaks {
    kb: Mutex<BTreeMap<&'static str, u64>>,
}

impl Peaks {
    /// Keeps what a service's process has held at most, unless another of it has held more.
    pub fn keep(&self, service: &'static str, process: u32) -> Result<()> {
        let peak = peak_kb(process)?;
        let mut all = self.kb.lock().expect("no holder of this lock panics");
        let kept = all.entry(service).or_default();
        *kept = peak.max(*kept);
        Ok(())
    }

    /// What was kept, in kB.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.kb.lock().expect("no holder of this lock panics").clone()
    }
}

/// The resident memory of a side in kB: of one process all of it; of several what they share counts once.
pub fn resident_kb(processes: &[u32]) -> Result<u64> {
    match processes {
        [one] => kb(&format!("/proc/{one}/status"), "VmRSS"),
        several => several.iter().map(|one| kb(&format!("/proc/{one}/smaps_rollup"), "Pss")).sum(),
    }
}

/// The most that a process has held so far, in kB.
pub fn peak_kb(process: u32) -> Result<u64> {
    kb(&format!("/proc/{process}/status"), "VmHWM")
}

/// The line `NAME: N kB` of a file.
fn kb(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    parse_kb(&text, name).with_context(|| format!("{file} has no {name}"))
}

fn parse_kb(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_and_parent_are_read_whatever_the_name() {
        let stat =
            "4711 (a) b (c) S 17 4711 4711 0 -1 4194560 1234 0 0 0 321 79 5 6 20 0 3 0 100 1 2 3";
        assert_eq!(Stat::parse(stat), Some(Stat { parent: 17, ticks: 400 }));
        assert_eq!(Stat::parse("4711 (short) S 17"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let status = "VmHWM:\t    9000 kB\nVmRSS:\t    6700 kB\nThreads:\t3\n";
        assert_eq!(parse_kb(status, "VmRSS"), Some(6700));
        assert_eq!(parse_kb(status, "Threads"), None);
        assert_eq!(parse_kb(status, "Vm"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let own = std::process::id();
        assert!(cpu_seconds(&[own]).unwrap() >= 0.0);
        assert!(resident_kb(&[own]).unwrap() > 0 && peak_kb(own).unwrap() > 0);
        assert!(resident_kb(&[own, own]).unwrap() > 0, "of several by their shares");
    }

    #[tokio::test]
    async fn a_servers_processes_end_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 60 & sleep 60 & wait"]);
        let server = Server::spawn("sleeper", command, &folder.path().join("log")).unwrap();
        let mut processes = Vec::new();
        for _ in 0..2000 {
            if processes.len() == 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            processes = server.processes().unwrap();
        }
        assert_eq!(processes.len(), 3);
        drop(server);
        for process in processes {
            // Ended ones that nobody has waited for yet are still listed, as zombies.
            let ended = || {
                let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            };
            for _ in 0..1000 {
                if ended() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(ended(), "{process} lives on");
        }
    }
}
