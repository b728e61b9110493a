//! Logs: to standard error, as text or JSON.
//!
//! A line goes into a queue, and a thread writes it. So a pipe that nobody reads holds up that thread and nobody else:
//! what does not fit into the queue is dropped and counted.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const LINES_MAX: usize = 4096;
/// How long a program that ends waits for its last lines to be taken.
const LAST: Duration = Duration::from_millis(500);

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: an object a line.
    Json,
}

impl Format {
    /// As it is written on a command line.
    pub fn text(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
        }
    }
}

enum Message {
    Line(Vec<u8>),
    /// All before it was written when this is dropped.
    Until(SyncSender<()>),
}

/// Where lines wait.
#[derive(Clone)]
struct Queue(SyncSender<Message>);

/// Lines that found no room, in this process.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// The queue of this process, once logs were started.
static QUEUE: OnceLock<Queue> = OnceLock::new();

impl Queue {
    /// Starts the thread that writes. That nobody listens any more is no failure: a node outlives the terminal of its
    /// launcher.
    fn start(to: impl Write + Send + 'static) -> io::Result<Queue> {
        let (sender, lines) = sync_channel(LINES_MAX);
        thread::Builder::new().name("logs".into()).spawn(move || write(to, &lines))?;
        Ok(Queue(sender))
    }

    /// Waits until all that was said is written; not for long.
    fn flush(&self) {
        let end = Instant::now() + LAST;
        let (until, written) = sync_channel(0);
        let mut message = Message::Until(until);
        while let Err(TrySendError::Full(again)) = self.0.try_send(message) {
            if Instant::now() >= end {
                return;
            }
            message = again;
            thread::sleep(Duration::from_millis(5));
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn write(mut to: impl Write, lines: &Receiver<Message>) {
    let mut told = 0;
    for message in lines {
        let line = match message {
            Message::Line(line) => line,
            Message::Until(until) => {
                drop(until);
                continue;
            }
        };
        let _ = to.write_all(&line).and_then(|()| to.flush());
        let dropped = DROPPED.load(Ordering::Relaxed);
        if dropped > told {
            tracing::warn!(total = dropped, "{} log lines were dropped: nobody read them", dropped - told);
            told = dropped;
        }
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.0.try_send(Message::Line(line.to_vec())) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Queue;

    fn make_writer(&'a self) -> Queue {
        self.clone()
    }
}

/// Starts the logs of this process. `RINGKV_LOG` may be error, warn, info (the default), debug or trace.
pub fn start(format: Format) -> anyhow::Result<()> {
    let level = std::env::var("RINGKV_LOG").ok().and_then(|text| text.parse().ok());
    let queue = Queue::start(io::stderr()).context("no thread for the logs")?;
    let logs = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_target(false)
        .with_writer(QUEUE.get_or_init(|| queue).clone());
    match format {
        Format::Text => logs.with_ansi(false).init(),
        Format::Json => logs.json().init(),
    }
    Ok(())
}

/// Lines that were dropped so far, because nobody read them.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The last line on standard error before this process ends, behind all that the logs have.
pub fn last_words(line: &str) {
    let Some(queue) = QUEUE.get() else {
        // Standard error may be a closed pipe: then nobody wants to know.
        let _ = writeln!(io::stderr(), "{line}");
        return;
    };
    let _ = queue.clone().write(format!("{line}\n").as_bytes());
    queue.flush();
}

/// Waits, not for long, until what the logs have is written: before this process ends.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush();
    }
}

/// Writes a line to standard output, where programs wait for it; that nobody reads it any more is no failure.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// A pipe that takes nothing until it is told to, and then shows what came.
    struct Stuck {
        go: Receiver<()>,
        lines: std::sync::mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the other end is gone it takes everything.
            let _ = self.go.recv();
            let _ = self.lines.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_dropped_is_counted() {
        let (go, stop) = channel();
        let (lines, written) = channel();
        let mut queue = Queue::start(Stuck { go: stop, lines }).expect("a thread");
        let before = dropped();
        let more = 100;
        for n in 0..LINES_MAX + more {
            queue.write_all(format!("{n}\n").as_bytes()).expect("never fails");
        }
        let began = Instant::now();
        queue.flush();
        assert!(began.elapsed() < Duration::from_secs(5), "the end is not held up either");
        // The thread has one in its hands, or none yet.
        let lost = dropped() - before;
        assert!((more as u64 - 1..=more as u64).contains(&lost), "{lost} dropped");
        drop(go);
        queue.flush();
        let kept: Vec<Vec<u8>> = written.try_iter().collect();
        assert_eq!(kept.len() as u64 + lost, (LINES_MAX + more) as u64);
        assert_eq!(kept.first().map(Vec::as_slice), Some(&b"0\n"[..]), "the oldest are kept, in order");
    }
}
