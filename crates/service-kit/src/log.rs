//! Log lines on their way out: gathered in memory and written by a thread of their own, so that no request waits for a
//! write, and many lines cost one.
//!
//! A line is written after [`PAUSE`] at the latest, a warning or an error at once. A reader that is too slow stalls
//! nobody: beyond [`ROOM`] lines are lost, and a line of its own tells how many.

mod timestamp;

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use self::timestamp::Clock;

/// How long a line waits for others at most.
const PAUSE: Duration = Duration::from_millis(50);
/// So many bytes are written without waiting for more.
const FULL: usize = 32 * 1024;
/// So many bytes wait at most, and as many again of warnings and errors: those that requests fill it with do not take
/// theirs.
const ROOM: usize = 1024 * 1024;
/// How long the process' end waits for its last lines to be written.
const LAST: Duration = Duration::from_secs(1);

/// The process' log.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Told to the thread: there is something to write.
    due: Condvar,
    /// Told by the thread: it has written.
    written: Condvar,
}

/// The lines that are not written yet.
#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    lost: u64,
    /// One of them must not wait.
    is_urgent: bool,
    /// How many times lines were taken to be written, and how many of those times they are.
    taken: u64,
    written: u64,
    clock: Clock,
}

impl Waiting {
    fn is_due(&self) -> bool {
        self.is_urgent || self.lines.len() >= FULL
    }

    /// Adds the line that tells how many were lost after those that are there.
    fn tell_lost(&mut self) {
        if self.lost > 0 {
            self.clock.begin(&mut self.lines);
            let rest = format!(
                "\"level\":\"WARN\",\"message\":\"log lines were lost: their reader is too slow\",\"lost\":{},\"target\":\"{}\"}}\n",
                mem::take(&mut self.lost),
                module_path!()
            );
            self.lines.extend_from_slice(rest.as_bytes());
        }
    }
}

impl Log {
    /// Starts the thread that writes.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self(Arc::default());
        let shared = Arc::clone(&log.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write(out))?;
        Ok(log)
    }

    /// Adds a line: `{"timestamp":"...",`, and what `rest` writes to its end.
    pub(crate) fn add(&self, rest: impl FnOnce(&mut Vec<u8>)) {
        self.add_by(false, |waiting| {
            waiting.clock.begin(&mut waiting.lines);
            rest(&mut waiting.lines);
        });
    }

    /// Adds a line if there is room.
    fn add_by(&self, is_urgent: bool, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.0.lock();
        if waiting.lines.len() >= if is_urgent { 2 * ROOM } else { ROOM } {
            waiting.lost += 1;
            return;
        }
        let (was_empty, was_due) = (waiting.lines.is_empty(), waiting.is_due());
        add(&mut waiting);
        waiting.is_urgent |= is_urgent;
        let wake = was_empty || (waiting.is_due() && !was_due);
        drop(waiting);
        if wake {
            self.0.due.notify_one();
        }
    }

    /// Has the lines that are there written now, without waiting for it.
    pub(crate) fn hurry(&self) {
        self.0.lock().is_urgent = true;
        self.0.due.notify_one();
    }

    /// Waits until every line that is there is written, for a second at most: for the process' end.
    pub(crate) fn flush(&self) {
        let mut waiting = self.0.lock();
        let last = waiting.taken + u64::from(!waiting.lines.is_empty());
        waiting.is_urgent = true;
        self.0.due.notify_one();
        let _written_or_too_slow =
            self.0.written.wait_timeout_while(waiting, LAST, |waiting| waiting.written < last);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic flushes on its way out, and so nothing may panic under the lock: its flush would wait for itself.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes for ever.
    fn write(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            self.next(&mut batch);
            // Without a reader there is nobody to tell.
            let _written = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            batch.shrink_to(2 * FULL);
        }
    }

    /// Waits for lines, and takes them into `batch`.
    fn next(&self, batch: &mut Vec<u8>) {
        let mut waiting = self.lock();
        waiting.written = waiting.taken;
        self.written.notify_all();
        waiting = self
            .due
            .wait_while(waiting, |waiting| waiting.lines.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        waiting = self
            .due
            .wait_timeout_while(waiting, PAUSE, |waiting| !waiting.is_due())
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        waiting.tell_lost();
        waiting.is_urgent = false;
        waiting.taken += 1;
        mem::swap(&mut waiting.lines, batch);
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: self, is_urgent: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { log: self, is_urgent: *metadata.level() <= Level::WARN }
    }
}

/// Takes one line.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    log: &'a Log,
    is_urgent: bool,
}

impl Write for Line<'_> {
    /// The subscriber writes a line by one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.log.add_by(self.is_urgent, |waiting| waiting.lines.extend_from_slice(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            OnceLock,
            mpsc::{Receiver, SyncSender, sync_channel},
        },
        time::Instant,
    };

    use super::*;

    /// Gives what is written to a receiver, and waits while that one has no room.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(room: usize) -> (Log, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(room);
        (Log::start(Pipe(sender)).unwrap(), receiver)
    }

    fn add(log: &Log, is_urgent: bool, line: &str) {
        Line { log, is_urgent }.write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_gathered_and_a_warning_takes_those_before_it_along_at_once() {
        let (log, written) = log(1);
        add(&log, false, "one\n");
        add(&log, false, "two\n");
        add(&log, true, "warning\n");
        let mut all = Vec::new();
        while all.len() < 16 {
            all.extend(written.recv().unwrap());
        }
        assert_eq!(all, b"one\ntwo\nwarning\n");
    }

    #[test]
    fn a_line_is_written_although_none_follows() {
        let (log, written) = log(1);
        add(&log, false, "one\n");
        assert_eq!(written.recv().unwrap(), b"one\n");
    }

    #[test]
    fn lines_in_a_hurry_do_not_wait_for_others() {
        const TIMES: u32 = 20;
        let (log, written) = log(1);
        let begin = Instant::now();
        for _ in 0..TIMES {
            add(&log, false, "one\n");
            log.hurry();
            assert_eq!(written.recv().unwrap(), b"one\n");
        }
        assert!(begin.elapsed() < TIMES * PAUSE / 2, "{:?}", begin.elapsed());
    }

    #[test]
    fn the_end_waits_for_the_last_lines() {
        let (log, written) = log(8);
        add(&log, false, "one\n");
        log.flush();
        assert_eq!(written.try_recv().unwrap(), b"one\n");
    }

    /// With each write there is a line more to be written.
    struct Talkative(Arc<OnceLock<Log>>);

    impl Write for Talkative {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            add(self.0.get().unwrap(), false, "more\n");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_does_not_wait_for_lines_that_others_go_on_to_add() {
        let own = Arc::<OnceLock<Log>>::default();
        let log = own.get_or_init(|| Log::start(Talkative(Arc::clone(&own))).unwrap());
        add(log, false, "last\n");
        let begin = Instant::now();
        log.flush();
        assert!(begin.elapsed() < LAST, "{:?}", begin.elapsed());
    }

    #[test]
    fn an_error_finds_room_where_other_lines_have_filled_it() {
        let (log, _written) = log(0);
        let line = "x".repeat(1023) + "\n";
        // The thread has its first line, and nobody takes it from there.
        add(&log, true, "first\n");
        while log.0.lock().taken == 0 {
            thread::yield_now();
        }
        for _ in 0..3 * ROOM / line.len() {
            add(&log, false, &line);
        }
        add(&log, true, "error\n");
        let waiting = log.0.lock();
        assert!(waiting.lost > 0 && waiting.lines.ends_with(b"error\n"));
    }

    #[test]
    fn a_reader_that_is_too_slow_stalls_nobody_and_is_told_what_it_lost() {
        let (log, written) = log(0);
        let line = "x".repeat(1023) + "\n";
        let all = 3 * ROOM / line.len();
        for _ in 0..all {
            add(&log, false, &line);
            let waiting = log.0.lock().lines.len();
            assert!(waiting < ROOM + 2 * line.len(), "{waiting}");
        }
        let (mut whole, mut lost) = (0, 0);
        while whole + lost < all {
            for text in String::from_utf8(written.recv().unwrap()).unwrap().lines() {
                if text == line.trim_end() {
                    whole += 1;
                } else {
                    let told: serde_json::Value = serde_json::from_str(text).unwrap();
                    assert_eq!(told["level"], "WARN");
                    lost += usize::try_from(told["lost"].as_u64().unwrap()).unwrap();
                }
            }
        }
        assert_eq!(whole + lost, all);
        assert!(lost > 0);
    }
}
