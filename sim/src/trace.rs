//! What happened, as one hash: two runs of a seed are the same run if it is the same.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};

/// A running FNV-1a hash over everything that happens.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Print each line too.
    pub shown: bool,
    /// Or write it there.
    file: Option<RefCell<BufWriter<File>>>,
}

/// Set in the environment, it has every simulation print what happens.
const SHOW: &str = "RINGKV_SIM_TRACE";

impl Default for Trace {
    fn default() -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, shown: std::env::var_os(SHOW).is_some(), file: None }
    }
}

impl Trace {
    /// Adds what happened: when, what, and the bytes that tell it from another of its kind.
    pub fn add(&mut self, now_us: u64, kind: &str, bytes: &[u8]) {
        self.bytes(&now_us.to_le_bytes());
        self.bytes(kind.as_bytes());
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    /// Writes to this file too what happens.
    pub fn write_to(&mut self, file: File) {
        self.file = Some(RefCell::new(BufWriter::new(file)));
    }

    /// Shows a line to whoever replays a seed: its beginning on the terminal, and all of it in the file.
    pub fn say(&self, now_us: u64, line: impl FnOnce() -> String) {
        if !self.shown && self.file.is_none() {
            return;
        }
        let line = format!("{:>12.6} {}", now_us as f64 / 1e6, line());
        if self.shown {
            let short: String = line.chars().take(200).collect();
            eprintln!("{short}");
        }
        if let Some(file) = &self.file {
            writeln!(file.borrow_mut(), "{line}").expect("the trace's file takes what is written");
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
