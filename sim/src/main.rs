//! Runs seeds: `ringkv-sim --seeds N [--from S]`, or one with `--seed S`. Exit 1 where one fails, 2 for wrong options.

use std::process::ExitCode;

use ringkv_sim::seeds;

const USAGE: &str = "usage: ringkv-sim --seeds N [--from S] | --seed S\n\
    runs random histories of a simulated cluster; RINGKV_SIM_TRACE=1 prints what happens in them";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((from, count)) = range(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut failed = 0;
    let (mut operations, mut faults) = (0, 0);
    for seed in from..from.saturating_add(count) {
        let report = seeds::run(seed);
        (operations, faults) = (operations + report.operations, faults + report.faults);
        if !report.wrong.is_empty() {
            failed += 1;
            report.wrong.iter().for_each(|line| println!("  {line}"));
            println!("  replay: {}", report.replay());
        }
        println!("{}", report.line());
    }
    if count > 1 {
        println!("{count} seeds from {from}: {operations} operations, {faults} faults, {failed} failed");
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn range(arguments: &[String]) -> Option<(u64, u64)> {
    let number = |text: &String| text.parse().ok();
    match arguments {
        [seed, s] if seed == "--seed" => Some((number(s)?, 1)),
        [seeds, n] if seeds == "--seeds" => Some((0, number(n)?)),
        [seeds, n, from, s] if seeds == "--seeds" && from == "--from" => Some((number(s)?, number(n)?)),
        _ => None,
    }
}
