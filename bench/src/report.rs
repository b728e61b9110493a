//! The results as text: the same tables on the terminal and in RESULTS.md.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::memory::{self, Bytes};
use crate::moving::{self, Moves};
use crate::redis;
use crate::rows::{CALM, Figures, Goal, Plan, Quotient, Round, Row, System, noise};
use crate::stats::{Spread, short};

/// A part of RESULTS.md that a command writes: how it begins. It ends with `END`.
pub struct Section(&'static str);

/// The results beside the peers.
pub const PEERS: Section = Section(
    "<!-- what stands from here on is written by `cargo run --release -p ringkv-bench -- --write` -->",
);
/// Those of replication.
pub const REPLICATED: Section = Section(
    "<!-- what stands from here on is written by `cargo run --release -p ringkv-bench -- --replicated --write` -->",
);
const END: &str = "<!-- up to here -->";

/// A row that was measured, round by round.
pub struct Measured {
    /// Which.
    pub row: &'static Row,
    /// In the order of [`System::ALL`].
    pub rounds: Vec<Round>,
}

impl Measured {
    /// ringkv by another system, each round by itself: neighbours in time share their noise.
    fn ratio(&self, other: System, figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
        let of = |round: &Round, system: System| round[system as usize].as_ref().map(&figure);
        Spread::of(
            self.rounds.iter().filter_map(|round| Some(of(round, System::Ringkv)? / of(round, other)?)),
        )
    }

    fn quotient(&self) -> Option<Spread> {
        match self.row.goal.quotient {
            Quotient::RateOfEcho => self.ratio(System::Echo, |f| f.per_second),
            Quotient::LatencyOfEcho => self.ratio(System::Echo, |f| f.p50_us),
            Quotient::RateOfRedis => self.ratio(System::Redis, |f| f.per_second),
            _ => None,
        }
    }

    /// Rounds in which others had so much of the CPUs that the figures say little.
    fn disturbed(&self) -> usize {
        self.rounds.iter().filter(|round| noise(round.iter().flatten()) > CALM).count()
    }

    /// Its table of systems.
    pub fn table(&self) -> String {
        let lines = System::ALL.map(|system| {
            let figures = self.rounds.iter().filter_map(|round| round[system as usize].as_ref());
            (system.name(), figures.collect())
        });
        let ratios = [(System::Echo, "the echo's"), (System::Redis, "that of Redis")];
        let ratios = ratios.map(|(system, whose)| {
            self.ratio(system, |f| f.per_second).map(|spread| format!("{spread} of {whose}"))
        });
        let ratios = ratios.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let table = figures_table(self.row.name, &lines);
        format!("{}\n\n{table}\n\nringkv's rate: {ratios}.\n", self.row.what)
    }
}

/// A table of what was measured in turns: who, with its figures of all rounds.
pub fn figures_table(name: &str, measured: &[(&str, Vec<&Figures>)]) -> String {
    let mut lines = vec![
        cells([name, "operations/s", "p50 µs", "p99 µs", "p99.9 µs", "server CPU µs/op", "CPU of others"]),
        cells(["---"; 7]),
    ];
    for (who, rounds) in measured {
        let spread =
            |figure: fn(&Figures) -> Option<f64>| Spread::of(rounds.iter().copied().filter_map(figure));
        let show = |figure| spread(figure).map_or("–".into(), |s| short(s.median));
        let rate = spread(|f| Some(f.per_second));
        let others = spread(|f| Some(100.0 * f.others));
        lines.push(cells([
            who,
            &rate.map_or("not installed".into(), |s| s.to_string()),
            &show(|f| Some(f.p50_us)),
            &show(|f| Some(f.p99_us)),
            &show(|f| f.p999_us),
            &show(|f| Some(f.cpu_us)),
            &others.map_or("–".into(), |s| format!("{:.0} %", s.median)),
        ]));
    }
    lines.join("\n")
}

/// The row about memory.
pub fn memory_table(bytes: &Bytes) -> String {
    let mut text = format!(
        "{} keys of 16 bytes, values of 64 bytes, one replica\n\n| memory | bytes a key |\n| --- | --- |\n",
        bytes.keys
    );
    let mut line = |name: &str, figure: f64| {
        writeln!(text, "| {name} | {figure:.0} |").expect("a String takes all that is written");
    };
    line("ringkv, resident", bytes.ringkv);
    if let Some((resident, used)) = bytes.redis {
        line("Redis, resident", resident);
        line("Redis, `used_memory`", used);
    }
    text
}

/// Which goals are reached.
pub fn goals(measured: &[Measured], bytes: Option<&Bytes>, moves: Option<&Moves>) -> String {
    let mut lines = Vec::new();
    for row in measured {
        let note = disturbance(row.disturbed(), row.rounds.len(), "rounds");
        lines.push(goal(row.row.name, row.row.goal, row.quotient(), &note));
    }
    if let Some(bytes) = bytes {
        let quotient = bytes.redis.and_then(|(resident, _)| Spread::of([bytes.ringkv / resident]));
        lines.push(goal(memory::NAME, memory::GOAL, quotient, ""));
    }
    if let Some(moves) = moves {
        let note = disturbance(moves.disturbed(), moves.count(), "moves");
        lines.push(goal(moving::NAME, moving::GOAL_LATENCY, moves.latency(), &note));
        lines.push(goal(moving::NAME, moving::GOAL_RATE, moves.rate(), &note));
    }
    goal_table(&lines)
}

/// The table of such lines as [`goal`] makes.
pub fn goal_table(lines: &[String]) -> String {
    let head = [cells(["row", "ringkv by", "measured", "reach", "aim", ""]), cells(["---"; 6])];
    [&head, lines].concat().join("\n") + "\n"
}

/// What is said beside a verdict where so many of all were disturbed.
pub fn disturbance(disturbed: usize, all: usize, what: &str) -> String {
    if disturbed == 0 { String::new() } else { format!(", {disturbed} of {all} {what} disturbed") }
}

/// Whether a goal is reached, as a line.
pub fn goal(name: &str, goal: Goal, measured: Option<Spread>, note: &str) -> String {
    let (by, more) = match goal.quotient {
        Quotient::RateOfEcho => ("the echo's rate", true),
        Quotient::LatencyOfEcho => ("the echo's median latency", false),
        Quotient::RateOfRedis => ("the keys per second of Redis", true),
        Quotient::BytesOfRedis => ("the resident bytes of Redis", false),
        Quotient::LatencyOfQuiet => ("its clients' p99 without a move", false),
        Quotient::RateOfCopy => ("a plain copy's rate", true),
        Quotient::CpuOfOneReplica => ("the CPU time of a put to one replica", false),
        Quotient::RateOfOneReplica => ("the rate of gets of one replica", true),
        Quotient::PartOfPut => ("the CPU time of whole puts", false),
        Quotient::BytesOfWaiting => ("puts that wait: bytes of each", false),
        Quotient::SecondsToNotice => ("kills: seconds until all know", false),
    };
    let verdict = measured.map_or("skipped", |Spread { median, .. }| {
        let meets = |wanted: f64| if more { median >= wanted } else { median <= wanted };
        match (meets(goal.aim), meets(goal.reach)) {
            (true, _) => "aim",
            (false, true) => "reached",
            (false, false) => "**missed**",
        }
    });
    let measured = measured.map_or("–".into(), |spread| spread.to_string());
    cells([name, by, &measured, &goal.reach.to_string(), &goal.aim.to_string(), &format!("{verdict}{note}")])
}

/// A line of a table.
pub fn cells<const N: usize>(cells: [&str; N]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// When, where and of what.
pub fn circumstances(plan: &Plan) -> String {
    let command = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success());
        output.map_or("unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let file = |path: &str, field: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.map_or("unknown".into(), |line| line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let changed = command("git", &["status", "--porcelain", "--untracked-files=no"]);
    let dirty = if changed.is_empty() { "" } else { ", with uncommitted changes" };
    let (major, minor, patch) = zmq::version();
    format!(
        "{date}; commit {commit}{dirty}\n\n\
         {cpu}, {cpus} CPUs, {memory}; Linux {kernel}; libzmq {major}.{minor}.{patch}; Redis {redis}\n\n\
         {rounds} rounds of {time:?} for each system, {warm:?} of warming up before each; {keys} keys; a round in \
         which others had more than {calm:.0} % of the CPUs is repeated, up to a limit\n",
        date = command("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        commit = command("git", &["rev-parse", "--short", "HEAD"]),
        cpu = file("/proc/cpuinfo", "model name"),
        cpus = std::thread::available_parallelism().map_or(0, usize::from),
        memory = file("/proc/meminfo", "MemTotal"),
        kernel = file("/proc/sys/kernel/osrelease", ""),
        redis = redis::version().unwrap_or("missing".into()),
        rounds = plan.rounds,
        time = plan.time,
        warm = plan.warm_up,
        keys = plan.keys,
        calm = 100.0 * CALM,
    )
}

/// Puts the results into the file, between the marks of their section; what stands around them stays.
pub fn write(path: &Path, section: &Section, results: &str) -> Result<()> {
    let old = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        old => old.with_context(|| format!("cannot read {}", path.display()))?,
    };
    std::fs::write(path, placed(&old, section, results))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn placed(old: &str, Section(begin): &Section, results: &str) -> String {
    let (before, rest) = old.split_once(begin).unwrap_or((old, ""));
    let after = rest.split_once(END).map_or("\n", |(_, after)| after);
    format!("{before}{begin}\n\n{}\n\n{END}{after}", results.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn figures(per_second: f64) -> Option<Figures> {
        let p50_us = 1e6 / per_second;
        Some(Figures { per_second, p50_us, p99_us: 9.0, p999_us: None, cpu_us: 1.0, others: 0.05 })
    }

    #[test]
    fn a_disturbed_row_says_so() {
        let mut row = measured(&ROWS[0], 0.5);
        row.rounds[1][2] = Some(Figures { others: 0.4, ..row.rounds[1][0].expect("an echo") });
        let text = goals(&[row], None, None);
        assert!(text.ends_with("| reached, 1 of 3 rounds disturbed |\n"), "{text}");
    }

    fn measured(row: &'static Row, ringkv: f64) -> Measured {
        let round = |noise: f64| [figures(noise), figures(ringkv * noise), None];
        Measured { row, rounds: vec![round(1e6), round(5e5), round(2e6)] }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let ratio = measured(&ROWS[0], 0.5).quotient().expect("an echo");
        assert_eq!((ratio.median, ratio.min, ratio.max), (0.5, 0.5, 0.5));
    }

    #[test]
    fn goals_say_what_is_missed_reached_and_skipped() {
        let goals_of = |row, ringkv| goals(&[measured(row, ringkv)], None, None);
        assert!(goals_of(&ROWS[0], 0.44).ends_with("| **missed** |\n"));
        assert!(goals_of(&ROWS[0], 0.45).ends_with("| reached |\n"));
        assert!(goals_of(&ROWS[0], 0.71).ends_with("| aim |\n"));
        // One by one: half the rate is twice the latency.
        assert!(goals_of(&ROWS[3], 0.5).ends_with("| **missed** |\n"));
        assert!(goals_of(&ROWS[4], 1.0).ends_with("| skipped |\n"), "without Redis");
    }

    #[test]
    fn a_table_names_every_system_and_what_is_missing() {
        let table = measured(&ROWS[0], 0.5).table();
        assert!(table.contains("| libzmq echo | 1.00 M (500 k–2.00 M) |"), "{table}");
        assert!(table.contains("| Redis | not installed |"), "{table}");
        assert!(table.contains("ringkv's rate: 0.500 (0.500–0.500) of the echo's.\n"), "{table}");
    }

    #[test]
    fn results_replace_results_and_nothing_else() {
        let first = placed("# Title\n", &PEERS, "old");
        let other = placed(&(first + "more\n"), &REPLICATED, "other");
        let second = placed(&(other + "end\n"), &PEERS, "new");
        assert!(second.starts_with("# Title\n") && second.ends_with("end\n"), "{second}");
        assert!(second.contains("new") && !second.contains("old"), "{second}");
        assert!(second.contains("more\n") && second.contains("\n\nother\n\n"), "{second}");
    }
}
