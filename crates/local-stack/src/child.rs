//! One child process: in a process group of its own, its output followed and its last lines kept.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child as Process, Command},
    sync::watch,
    time::{sleep, timeout},
};

use crate::Result;

/// How many of the last lines are kept for an error's message.
const TAIL_LINES: usize = 40;
/// Between two looks at the beginning of a file of output.
const LOOK: Duration = Duration::from_millis(1);

/// Where a child's standard output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Output {
    /// Nowhere; the last lines are kept.
    #[default]
    Kept,
    /// To standard output, each line with the name before it.
    Echoed,
    /// Into a new file of this folder, past this process, so that a busy child costs it nothing.
    Filed(PathBuf),
}

/// A running child process.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
    tail: Arc<Mutex<VecDeque<String>>>,
    file: Option<PathBuf>,
    listening: watch::Receiver<Option<String>>,
}

impl Child {
    /// Starts `command` as `name`.
    ///
    /// It has a process group of its own, so that the terminal's Ctrl-C reaches the stack alone, which then stops
    /// its parts in order. Dropping the value kills the process.
    pub fn spawn(name: &str, mut command: Command, output: &Output) -> Result<Self> {
        let (stdout, file) = match output {
            Output::Kept | Output::Echoed => (Stdio::piped(), None),
            Output::Filed(folder) => {
                let mut builder = tempfile::Builder::new();
                let file =
                    builder.prefix(&format!("{name}-")).suffix(".log").tempfile_in(folder)?;
                let (file, path) = file.keep()?;
                (file.into(), Some(path))
            }
        };
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut process =
            command.spawn().with_context(|| format!("cannot start {name} ({program})"))?;
        let (sender, listening) = watch::channel(None);
        let follower = Follower {
            prefix: (*output == Output::Echoed).then(|| format!("{name:<11} | ")),
            tail: Arc::new(Mutex::new(VecDeque::with_capacity(TAIL_LINES))),
            listening: Arc::new(sender),
        };
        let tail = Arc::clone(&follower.tail);
        if let Some(file) = file.clone() {
            tokio::spawn(follower.clone().await_listening(file));
        }
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(follower.clone().follow(stdout));
        }
        let stderr = process.stderr.take().expect("standard error is a pipe");
        tokio::spawn(follower.follow(stderr));
        Ok(Self { name: name.to_owned(), process, tail, file, listening })
    }

    /// The name that it was started by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id; none once it has ended and was waited for.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The last lines that it printed.
    pub fn tail(&self) -> String {
        let filed = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let filed: Vec<_> = filed.iter().flat_map(|text| text.lines()).collect();
        let tail = self.tail.lock().expect("no holder of this lock panics");
        let lines = filed.iter().skip(filed.len().saturating_sub(TAIL_LINES)).copied();
        let lines = lines.chain(tail.iter().map(String::as_str));
        lines.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }

    /// Waits for the JSON log line whose message is `listening`.
    pub async fn listening(&mut self, within: Duration) -> Result<String> {
        let mut listening = self.listening.clone();
        let line =
            async { listening.wait_for(Option::is_some).await.ok().and_then(|line| line.clone()) };
        let ended = tokio::select! {
            line = timeout(within, line) => match line {
                Ok(Some(line)) => return Ok(line),
                _ => None,
            },
            status = self.process.wait() => Some(status?),
        };
        // The last lines may still be on their way through the pipe.
        sleep(Duration::from_millis(50)).await;
        match ended {
            Some(status) => {
                bail!("{} ended at its start ({status}); it printed:\n{}", self.name, self.tail())
            }
            None => bail!(
                "{} did not listen within {within:?}; it printed:\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// Sends a signal; a process that has ended is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ended_already = kill_process(pid, signal);
        }
    }

    /// Sends a signal to it and to what it started, whatever group that is in.
    pub fn signal_family(&self, signal: Signal) {
        self.signal(signal);
        let Some(parent) = self.process.id() else { return };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes.filter(|process| parent_of(&process.path()) == Some(parent)) {
            let id = process.file_name().to_str().and_then(|id| Pid::from_raw(id.parse().ok()?));
            let _ended_already = id.map(|id| kill_process(id, signal));
        }
    }

    /// Waits until it ends.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.process.wait().await?)
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Signals it and waits for its end; after `within` it is killed, and that is an error.
    pub async fn stop(&mut self, signal: Signal, within: Duration) -> Result<ExitStatus> {
        self.signal(signal);
        if let Ok(status) = timeout(within, self.process.wait()).await {
            return Ok(status?);
        }
        self.process.kill().await?;
        bail!(
            "{} did not end within {within:?} and was killed; it printed:\n{}",
            self.name,
            self.tail()
        )
    }
}

/// Reads a child's output line by line.
#[derive(Clone)]
struct Follower {
    prefix: Option<String>,
    tail: Arc<Mutex<VecDeque<String>>>,
    listening: Arc<watch::Sender<Option<String>>>,
}

impl Follower {
    async fn follow(self, output: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(prefix) = &self.prefix {
                let _reader_is_gone =
                    tokio::io::stdout().write_all(format!("{prefix}{line}\n").as_bytes()).await;
            }
            if tells_listening(&line) {
                self.listening.send_replace(Some(line.clone()));
            }
            let mut tail = self.tail.lock().expect("no holder of this lock panics");
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }

    /// Looks for the line in a file that somebody writes, and at nothing after it.
    async fn await_listening(self, file: PathBuf) {
        while !self.listening.is_closed() {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let mut whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(line) = whole.find(|line| tells_listening(line)) {
                self.listening.send_replace(Some(line.to_owned()));
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// Is it the log line by which a service tells its addresses?
fn tells_listening(line: &str) -> bool {
    line.contains(r#""message":"listening""#)
}

/// The parent of the process that has this folder in /proc.
fn parent_of(folder: &Path) -> Option<u32> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name before may hold anything but this last bracket.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh"); // the only one in a sandbox of Nix
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_line_listening_is_found_in_a_pipe_and_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"echo first; echo '{"message":"listening","public":"a"}'; sleep 60"#;
        for output in [Output::Kept, Output::Filed(folder.path().to_owned())] {
            let mut child = Child::spawn("service", shell(script), &output).unwrap();
            let line = child.listening(Duration::from_secs(30)).await.unwrap();
            assert_eq!(line, r#"{"message":"listening","public":"a"}"#, "{output:?}");
        }
    }

    #[tokio::test]
    async fn what_ended_is_told_with_its_last_lines_wherever_they_went() {
        let folder = tempfile::tempdir().unwrap();
        for output in [Output::Kept, Output::Filed(folder.path().to_owned())] {
            let mut child = Child::spawn("service", shell("echo lost; exit 3"), &output).unwrap();
            let message = child.listening(Duration::from_secs(30)).await.unwrap_err().to_string();
            assert!(message.ends_with("it printed:\n  lost"), "{message}");
        }
    }
}
