//! One command: measures a raw libzmq echo, ringkv and Redis side by side and prints their rates, ratios, latencies,
//! CPU time and memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use ringkv_bench::load::{Load, Peer, Shape};
use ringkv_bench::report::{self, Measured};
use ringkv_bench::rows::{Bed, FILLING, Plan, ROWS};
use ringkv_bench::traffic::Traffic;
use ringkv_bench::{memory, redis, serve};

/// Measures a raw libzmq ROUTER echo, ringkv and Redis side by side
///
/// Example: cargo run --release -p ringkv-bench -- --rows 1x512,memory
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Half a second a measurement, two rounds, fewer keys: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    seconds: f64,
    /// Rounds in which the systems take turns
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// Keys that are written and read
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    keys: u64,
    /// Only these rows: 1x512, 50x16, 50x1, 1x1, batch, memory
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    rows: Vec<String>,
    /// Put the results into bench/RESULTS.md
    #[arg(long, conflicts_with_all = ["quick", "rows"])]
    write: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts by themselves, for this program's own use and for a profiler.
#[derive(Subcommand)]
enum Part {
    /// Serve the echo
    #[command(hide = true)]
    ServeEcho { port: u16 },
    /// Serve a node
    #[command(hide = true)]
    ServeNode { port: u16, peer: u16 },
    /// Load a node that runs already, and print the rate
    #[command(hide = true)]
    Load {
        port: u16,
        connections: usize,
        in_flight: usize,
        seconds: f64,
        /// Keys a message
        #[arg(default_value_t = 1)]
        each: u64,
    },
}

/// A node allocates and frees a record a write, on one thread: glibc's allocator took a fifth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let options = Options::parse();
    match options.part {
        Some(Part::ServeEcho { port }) => serve::echo(port),
        Some(Part::ServeNode { port, peer }) => serve::node(port, peer),
        Some(Part::Load { port, connections, in_flight, seconds, each }) => {
            let traffic = Traffic::batches(0..options.keys, each);
            Load::connect(port, FILLING, &traffic, Peer::Ringkv)?.fill()?;
            let mut load = Load::connect(port, Shape { connections, in_flight }, &traffic, Peer::Ringkv)?;
            let sample = load.run(duration(seconds)?)?;
            let operations = (sample.exchanges * each) as f64;
            println!("{:.0} operations/s", operations / sample.elapsed.as_secs_f64());
            Ok(())
        }
        None => compare(&options),
    }
}

fn compare(options: &Options) -> Result<()> {
    ensure!(
        !(options.write && cfg!(debug_assertions)),
        "figures of a debug build are not worth writing down: cargo run --release -p ringkv-bench -- --write"
    );
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).chain([memory::NAME]).collect();
    for wanted in &options.rows {
        ensure!(names.contains(&wanted.as_str()), "there is no row \"{wanted}\": {}", names.join(", "));
    }
    ensure!(options.rounds > 0, "0 rounds measure nothing: give --rounds 1 or more");
    let plan = Plan {
        rounds: if options.quick { 2 } else { options.rounds },
        time: duration(if options.quick { 0.5 } else { options.seconds })?,
        warm_up: duration(if options.quick { 0.1 } else { 0.5 })?,
        keys: if options.quick { options.keys.min(20_000) } else { options.keys },
    };
    if redis::version().is_none() {
        eprintln!("Redis is missing, so what is measured by it is skipped: install {}", redis::PACKAGES);
    }
    let results = measure(options, plan)?;
    if options.write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
        report::write(&path, &results)?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}

/// Measures, prints each table as soon as it is known, and returns all of it.
fn measure(options: &Options, plan: Plan) -> Result<String> {
    let wanted = |name: &str| options.rows.is_empty() || options.rows.iter().any(|row| row == name);
    let mut text = String::new();
    let mut say = |part: String| {
        println!("{part}");
        text.push_str(&part);
        text.push('\n');
    };
    say(report::circumstances(&plan));
    let mut measured = Vec::new();
    let rows: Vec<_> = ROWS.iter().filter(|row| wanted(row.name)).collect();
    if !rows.is_empty() {
        let bed = Bed::start(plan)?;
        for row in rows {
            let row = Measured { row, rounds: bed.measure(row)? };
            say(row.table());
            measured.push(row);
        }
    }
    let mut bytes = None;
    if wanted(memory::NAME) {
        let keys = if options.quick { memory::KEYS / 10 } else { memory::KEYS };
        let bytes = bytes.insert(memory::measure(keys)?);
        say(report::memory_table(bytes));
    }
    say(report::goals(&measured, bytes.as_ref()));
    Ok(text)
}

fn duration(seconds: f64) -> Result<Duration> {
    ensure!((0.01..=3_600.0).contains(&seconds), "{seconds} seconds: give 0.01 to 3600");
    Ok(Duration::from_secs_f64(seconds))
}
