//! One command: measures a raw libzmq echo, ringkv and Redis side by side and prints their rates, ratios, latencies,
//! CPU time and memory; and what a move costs clients beside how fast it is. Or what replication costs.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use ringkv_bench::counting::Counting;
use ringkv_bench::load::{Load, Peer, Shape};
use ringkv_bench::report::{self, Measured};
use ringkv_bench::rows::{Bed, FILLING, Plan, ROWS};
use ringkv_bench::traffic::Traffic;
use ringkv_bench::{cluster, copy, memory, moving, redis, replicated, serve};

/// Measures a raw libzmq ROUTER echo, ringkv and Redis side by side
///
/// Examples:
///   cargo run --release -p ringkv-bench -- --rows 1x512,memory
///   cargo run --release -p ringkv-bench -- --rows move --records 1000000 --foreground 10000
///   cargo run --release -p ringkv-bench -- --replicated --watch 600
#[derive(Parser)]
#[command(version, verbatim_doc_comment, after_help = MORE)]
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
    /// Measure replication instead: five nodes with three replicas beside five with one
    #[arg(long)]
    replicated: bool,
    /// Only these rows: 1x512, 50x16, 50x1, 1x1, batch, memory, move; of --replicated: 50x16, 50x1, waiting, detection
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    rows: Vec<String>,
    /// Records of the row about moves, half of which move
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    records: u64,
    /// Requests a second of the clients in the row about moves
    #[arg(long, default_value_t = 10_000.0, value_name = "N")]
    foreground: f64,
    /// Nodes that the row `detection` kills, one after the other
    #[arg(long, default_value_t = 10, value_name = "N", requires = "replicated")]
    kills: usize,
    /// Seconds of full load in which the row `detection` counts false suspicions
    #[arg(long, default_value_t = 60.0, value_name = "S", requires = "replicated")]
    watch: f64,
    /// Put the results into bench/RESULTS.md
    #[arg(long, conflicts_with_all = ["quick", "rows"])]
    write: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

const MORE: &str = "\
The row `move`: a cluster of one node, started by server_consumer with the embedded agent, gets requests at a fixed
rate from clients that do not wait for each other; each latency counts from when its request was due. node-1 is added,
then removed, again and again; p99 while a move runs is divided by p99 before and after it. Beside it the records that
moved are copied plainly, from one process's hash map into another's, over loopback. All processes share the machine's
CPUs.

With --replicated, the rows 50x16 and 50x1 send puts alone and gets alone to two clusters of five nodes in turns; each
connection asks one node for keys that it leads. The row `waiting` counts what a coordinator holds for a put whose
owners do not answer; the row `detection` kills nodes, and counts suspicions while none is killed.";

/// Puts that wait in the row about them: a node has so many under way at once, and the tables that hold them are neither full
/// nor just made larger.
const WAITING_PUTS: usize = 2_500;

/// The parts by themselves, for this program's own use and for a profiler.
#[derive(Subcommand)]
enum Part {
    /// Serve the echo
    #[command(hide = true)]
    ServeEcho { port: u16 },
    /// Receive the plain copy
    #[command(hide = true)]
    ServeCopy { port: u16 },
    /// Serve a node
    #[command(hide = true)]
    ServeNode {
        /// Its number
        node: u16,
        replicas: usize,
        /// Of each node of the cluster the client port and the peer port
        ports: Vec<u16>,
    },
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
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting(mimalloc::MiMalloc);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let part = arguments.nth(1).unwrap_or_default();
    // This program again, as the launcher that the row about moves starts, and as the nodes that the launcher starts.
    if part == cluster::LAUNCHER {
        cluster::terminate_with_parent();
        return ringkv::server::main([part].into_iter().chain(arguments));
    }
    if part == cluster::NODE {
        return ringkv::server::main(std::env::args_os());
    }
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringkv-bench: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    match &options.part {
        Some(Part::ServeEcho { port }) => serve::echo(*port),
        Some(Part::ServeCopy { port }) => copy::serve(*port),
        Some(Part::ServeNode { node, replicas, ports }) => serve::node(*node, *replicas, ports),
        Some(Part::Load { port, connections, in_flight, seconds, each }) => {
            let traffic = Traffic::batches(0..options.keys, *each);
            Load::connect(*port, FILLING, &traffic, Peer::Ringkv)?.fill()?;
            let shape = Shape { connections: *connections, in_flight: *in_flight };
            let mut load = Load::connect(*port, shape, &traffic, Peer::Ringkv)?;
            let sample = load.run(duration(*seconds)?)?;
            let operations = (sample.exchanges * each) as f64;
            println!("{:.0} operations/s", operations / sample.elapsed.as_secs_f64());
            Ok(())
        }
        None => compare(options),
    }
}

fn compare(options: &Options) -> Result<()> {
    ensure!(
        !(options.write && cfg!(debug_assertions)),
        "figures of a debug build are not worth writing down: cargo run --release -p ringkv-bench -- --write"
    );
    let names: Vec<&str> = if options.replicated {
        replicated::names().collect()
    } else {
        ROWS.iter().map(|row| row.name).chain([memory::NAME, moving::NAME]).collect()
    };
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
    let mut results = String::new();
    let mut say = |part: String| {
        println!("{part}");
        results.push_str(&part);
        results.push('\n');
    };
    say(report::circumstances(&plan));
    let section = if options.replicated {
        replicated::measure(replicated_plan(options, plan)?, |name| options.wants(name), say)?;
        report::REPLICATED
    } else {
        measure(options, plan, say)?;
        report::PEERS
    };
    if options.write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
        report::write(&path, &section, &results)?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| row == name)
    }
}

fn replicated_plan(options: &Options, turns: Plan) -> Result<replicated::Plan> {
    ensure!(options.kills > 0, "0 kills measure nothing: give --kills 1 or more");
    let (kills, watch) =
        if options.quick { (options.kills.min(2), 2.0) } else { (options.kills, options.watch) };
    Ok(replicated::Plan { turns, puts: WAITING_PUTS, kills, watch: duration(watch)? })
}

/// Measures ringkv beside its peers, and says each table as soon as it is known.
fn measure(options: &Options, plan: Plan, mut say: impl FnMut(String)) -> Result<()> {
    if redis::version().is_none() {
        eprintln!("Redis is missing, so what is measured by it is skipped: install {}", redis::PACKAGES);
    }
    let wanted = |name: &str| options.wants(name);
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
    let mut moves = None;
    if wanted(moving::NAME) {
        let records = if options.quick { options.records.min(100_000) } else { options.records };
        let plan =
            moving::Plan { rounds: plan.rounds, quiet: plan.time, records, per_second: options.foreground };
        let moves = moves.insert(moving::measure(plan)?);
        say(moves.table());
    }
    say(report::goals(&measured, bytes.as_ref(), moves.as_ref()));
    Ok(())
}

fn duration(seconds: f64) -> Result<Duration> {
    ensure!((0.01..=3_600.0).contains(&seconds), "{seconds} seconds: give 0.01 to 3600");
    Ok(Duration::from_secs_f64(seconds))
}
