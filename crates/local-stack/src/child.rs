//! One child process: in a process group of its own, its output followed and its last lines kept.

use std::{
    collections::VecDeque,
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
    time::timeout,
};

use crate::Result;

/// How many of the last lines are kept for an error's message.
const TAIL_LINES: usize = 40;

/// A running child process.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
    tail: Arc<Mutex<VecDeque<String>>>,
    listening: watch::Receiver<Option<String>>,
}

impl Child {
    /// Starts `command` as `name`. With `echo` its output goes to standard output, each line with the name before it.
    ///
    /// It has a process group of its own, so that the terminal's Ctrl-C reaches the stack alone, which then stops
    /// its parts in order. Dropping the value kills the process.
    pub fn spawn(name: &str, mut command: Command, echo: bool) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut process =
            command.spawn().with_context(|| format!("cannot start {name} ({program})"))?;
        let (sender, listening) = watch::channel(None);
        let follower = Follower {
            prefix: echo.then(|| format!("{name:<11} | ")),
            tail: Arc::new(Mutex::new(VecDeque::with_capacity(TAIL_LINES))),
            listening: Arc::new(sender),
        };
        let tail = Arc::clone(&follower.tail);
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        tokio::spawn(follower.clone().follow(stdout.expect("standard output is a pipe")));
        tokio::spawn(follower.follow(stderr.expect("standard error is a pipe")));
        Ok(Self { name: name.to_owned(), process, tail, listening })
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
        let tail = self.tail.lock().expect("no holder of this lock panics");
        tail.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join(
            "
",
        )
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
        tokio::time::sleep(Duration::from_millis(50)).await;
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
            if line.contains(r#""message":"listening""#) {
                self.listening.send_replace(Some(line.clone()));
            }
            let mut tail = self.tail.lock().expect("no holder of this lock panics");
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }
}
