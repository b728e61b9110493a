//! Logs: to standard error, as text or JSON.

use std::io::{self, Write};

use tracing_subscriber::filter::LevelFilter;

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

/// Standard error, whose end is nobody's failure: a node outlives the terminal of its launcher.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the logs of this process. `RINGKV_LOG` may be error, warn, info (the default), debug or trace.
pub fn start(format: Format) {
    let level = std::env::var("RINGKV_LOG").ok().and_then(|text| text.parse().ok());
    let logs = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_target(false)
        .with_writer(|| Stderr);
    match format {
        Format::Text => logs.with_ansi(false).init(),
        Format::Json => logs.json().init(),
    }
}

/// Writes a line to standard output, where programs wait for it; that nobody reads it any more is no failure.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
