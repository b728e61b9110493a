//! Runs seeds and scripts. Exit 1 where one fails, 2 for wrong options and scripts that cannot be read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{ArgGroup, Parser};
use ringkv_sim::script::Script;
use ringkv_sim::seeds::{self, Report};
use ringkv_sim::shrink;

const EXAMPLE: &str = "Example:\n  ringkv-sim --seeds 200 --from 1000\n  \
    ringkv-sim --seed 1042 --trace 1042.txt\n  \
    ringkv-sim --script sim/scripts/hinted-handoff.txt\n\n\
    A seed that fails is run again with ever fewer faults, and those that still fail it are printed.\n\n\
    With cargo's --features bugs:\n  ringkv-sim --bugs\n  ringkv-sim --bug drops-hints --seed 7";

/// Runs histories of a simulated cluster: random ones, each decided by its seed, and those that scripts tell.
#[derive(Debug, Parser)]
#[command(name = "ringkv-sim", after_help = EXAMPLE)]
#[command(group = ArgGroup::new("which").required(true).args(["seed", "seeds", "script", "bugs"]))]
struct Options {
    /// Run this seed alone.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run so many seeds, one after the other.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "S", conflicts_with_all = ["seed", "script", "bugs"], default_value_t = 0)]
    from: u64,
    /// Play this script; sim/scripts has some.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Put in one bug after the other, and print which seed catches it.
    #[arg(long)]
    bugs: bool,
    /// Seeds at most for each of them.
    #[arg(long, value_name = "N", requires = "bugs", default_value_t = 300)]
    seeds_max: u64,
    /// Run with this bug put in; with --bugs: look for this one alone.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Write to this file what happens; RINGKV_SIM_TRACE=1 prints it.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.bugs {
        return bugs::hunt_all(options.bug.as_deref(), options.seeds_max);
    }
    if let Some(name) = &options.bug
        && let Err(why) = bugs::put_in(name)
    {
        eprintln!("{why}");
        return ExitCode::from(2);
    }
    let trace = match options.trace.as_ref().map(File::create).transpose() {
        Ok(trace) => trace,
        Err(error) => {
            let path = options.trace.unwrap_or_default();
            eprintln!("cannot write the trace to {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    match &options.script {
        Some(path) => play(path, trace.as_ref()),
        None => run(&options, trace.as_ref()),
    }
}

fn play(path: &Path, trace: Option<&File>) -> ExitCode {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("cannot read {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let script = match Script::parse(&path.display().to_string(), &text) {
        Ok(script) => script,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let played = script.play(trace);
    played.wrong.iter().for_each(|line| println!("  {line}"));
    println!("{}", pace(played.virtual_ms, start));
    println!("{}", played.line());
    if played.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(options: &Options, trace: Option<&File>) -> ExitCode {
    let (from, count) = options.seed.map_or((options.from, options.seeds.unwrap_or(1)), |seed| (seed, 1));
    let start = Instant::now();
    let (mut failed, mut virtual_ms) = (0, 0);
    let (mut operations, mut acknowledged, mut faults) = (0, 0, 0);
    for seed in from..from.saturating_add(count) {
        let report = seeds::run_with(seed, None, trace);
        operations += report.operations;
        acknowledged += report.acknowledged;
        faults += report.faults;
        virtual_ms += report.virtual_ms;
        if !report.wrong.is_empty() {
            failed += 1;
            explain(&report);
        }
        if count == 1 {
            println!("{}", pace(virtual_ms, start));
        }
        println!("{}", report.line());
    }
    if count > 1 {
        println!("{}", pace(virtual_ms, start));
        println!(
            "{count} seeds from {from}: {operations} operations, {acknowledged} acknowledged, {faults} faults, {failed} failed"
        );
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Bugs put in on purpose.
#[cfg(feature = "bugs")]
mod bugs {
    use std::process::ExitCode;

    use ringkv_sim::bugs::{self, Bug};

    pub fn put_in(name: &str) -> Result<(), String> {
        let names = || Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
        let bug =
            bugs::named(name).ok_or_else(|| format!("no bug is called {name}; there are {}", names()))?;
        eprintln!("{name}: {}", bug.text());
        bugs::put_in(Some(bug));
        Ok(())
    }

    /// Prints the table of docs/bugs.md.
    pub fn hunt_all(only: Option<&str>, seeds_max: u64) -> ExitCode {
        let bugs = Bug::ALL.iter().copied().filter(|bug| only.is_none_or(|name| name == bug.name()));
        let bugs: Vec<Bug> = bugs.collect();
        // A bug may break an assertion: that is how it is caught, and no news.
        std::panic::set_hook(Box::new(|_| {}));
        let mut escaped = 0;
        println!("| bug | what it does | caught | by seed | after seeds | by |");
        println!("|---|---|---|---|---|---|");
        for bug in &bugs {
            let (name, text) = (bug.name(), bug.text());
            match bugs::hunt(*bug, seeds_max) {
                Some(caught) => {
                    let (seed, seeds, by) = (caught.seed, caught.seeds, caught.invariants.join("; "));
                    println!("| `{name}` | {text} | yes | {seed} | {seeds} | {by} |");
                }
                None => {
                    escaped += 1;
                    println!("| `{name}` | {text} | **no** | | {seeds_max} | |");
                }
            }
        }
        let all = bugs.len();
        println!("\n{} of {all} bugs are caught.", all - escaped);
        if escaped > 0 || all == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Without the feature there are none.
#[cfg(not(feature = "bugs"))]
mod bugs {
    use std::process::ExitCode;

    const WHY: &str = "this build has no bugs to put in: cargo run -p ringkv-sim --features bugs -- followed by the same options";

    pub fn put_in(_: &str) -> Result<(), String> {
        Err(WHY.to_owned())
    }

    pub fn hunt_all(_: Option<&str>, _: u64) -> ExitCode {
        eprintln!("{WHY}");
        ExitCode::from(2)
    }
}

/// What is wrong with a seed, how to see it again, and what it takes.
fn explain(report: &Report) {
    report.wrong.iter().for_each(|line| println!("  {line}"));
    println!("  replay: {}", report.replay());
    match shrink(report) {
        None => println!("  its faults alone do not fail it again"),
        Some(least) => {
            println!("  {} of {} faults fail it too:", least.storm.len(), report.storm.len());
            for (at_us, fault) in &least.storm {
                println!("    {:>10.6} s {fault:?}", *at_us as f64 / 1e6);
            }
            least.wrong.iter().take(1).for_each(|line| println!("    then {line}"));
        }
    }
}

/// How much faster than the world's the time of the simulation goes.
fn pace(virtual_ms: u64, start: Instant) -> String {
    let (simulated, real) = (virtual_ms as f64 / 1e3, start.elapsed().as_secs_f64());
    format!(
        "{simulated:.0} s of virtual time in {real:.1} s, {:.0} times as fast",
        simulated / real.max(1e-6)
    )
}
