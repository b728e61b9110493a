//! A random history from a seed: clients at work, changes asked for, and everything that can go wrong going wrong.

use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cluster::Cluster;
use crate::random::Random;
use crate::settings::Settings;
use crate::storm::{self, Gust};

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// Operations of clients that ended.
    pub operations: u64,
    /// Those that were done, and not given up.
    pub acknowledged: u64,
    /// How long it took in the cluster's time, in milliseconds.
    pub virtual_ms: u64,
    /// Things that went wrong on purpose.
    pub faults: u64,
    /// Changes that were answered: done, taken back, refused.
    pub changes: usize,
    /// Identifies the history.
    pub trace: u64,
    /// What was done to it, and when.
    pub storm: Vec<Gust>,
    /// What must not have happened.
    pub wrong: Vec<String>,
}

impl Report {
    /// The line that says it all, and the command that replays a failure.
    pub fn line(&self) -> String {
        let Report { seed, operations, acknowledged, faults, changes, trace, wrong, .. } = self;
        let verdict = if wrong.is_empty() { "ok" } else { "FAILED" };
        format!(
            "seed {seed}: {operations} operations, {acknowledged} acknowledged, {faults} faults, {changes} signals answered, trace {trace:016x}, {verdict}"
        )
    }

    /// The command that replays it.
    pub fn replay(&self) -> String {
        format!("cargo run -p ringkv-sim -- --seed {seed} --trace {seed}.txt", seed = self.seed)
    }
}

/// What a seed's cluster is made of.
fn settings(seed: u64, dice: &mut Random) -> Settings {
    let replicas = if dice.chance(1, 3) { 1 } else { 3 };
    let quiet = Settings::quiet(seed);
    let settings = Settings {
        nodes: dice.between(3, 5) as u16,
        replicas,
        strict: dice.chance(1, 2),
        strict_writers: seed % 2 == 1,
        launchers: dice.between(1, 2) as usize,
        workers: 3,
        keys: 12,
        listers: 1,
        hostile: dice.below(2) as usize,
        strays: true,
        slow_store: dice.chance(1, 2),
        delay_us: dice.between(300, 20_000),
        think_ms: dice.between(20, 80),
        ..quiet
    };
    let settings = with_narrow_windows(seed, with_shared_keys(seed, settings));
    // What contexts order no clock can spoil, and a strict quorum orders the rest. Else, where a write may not meet the
    // one before it, clocks alone decide which is the later one.
    match (dice.chance(1, 3), settings.weak()) {
        (true, weak) => {
            Settings { adders: 4, workers: if weak { 0 } else { 2 }, skew_ms: 3_600_000, ..settings }
        }
        (false, true) => Settings { skew_ms: 0, ..settings },
        (false, false) => settings,
    }
}

/// Clients that share counters, and keys that they delete and create again, in some seeds. Their dice are their own: a
/// seed without them is the history that it would be if nobody had thought of them.
fn with_shared_keys(seed: u64, settings: Settings) -> Settings {
    let mut dice = Random::new(seed ^ 0x5AED);
    let mut some = || if dice.chance(1, 3) { dice.between(2, 4) as usize } else { 0 };
    Settings { incrementers: some(), removers: some(), ..settings }
}

/// In some seeds so little is under way at once that most of what clients ask for waits in line.
fn with_narrow_windows(seed: u64, settings: Settings) -> Settings {
    let mut dice = Random::new(seed ^ 0x11AE);
    if dice.chance(1, 4) {
        Settings { window_bytes: dice.between(1, 4) as usize * 1024, ..settings }
    } else {
        settings
    }
}

/// Runs one seed from the founding to the verdict.
pub fn run(seed: u64) -> Report {
    run_with(seed, None, None)
}

/// Runs one seed; with a storm, that one instead of its own; with a trace, writing there what happens.
///
/// # Panics
/// Where the file cannot be written.
pub fn run_with(seed: u64, storm: Option<&[Gust]>, trace: Option<&File>) -> Report {
    // Its own stream: what the storm brings does not depend on what the cluster does.
    let mut dice = Random::new(seed ^ 0x5707);
    let settings = settings(seed, &mut dice);
    let mut cluster = Cluster::new(settings);
    if let Some(file) = trace {
        cluster.trace.write_to(file.try_clone().expect("a file that is open"));
    }
    let mut cluster = cluster.found();
    let mut done = Vec::new();
    let wrong = caught(|| {
        match storm {
            Some(storm) => storm::replay(&mut cluster, storm, &mut done),
            None => storm::rage(&mut cluster, &mut dice, &mut done),
        }
        // The last pause and the last cut end.
        cluster.run_ms(5_000);
        cluster.verdict()
    });
    Report {
        seed,
        operations: cluster.operations,
        acknowledged: cluster.acknowledged,
        virtual_ms: cluster.now_us / 1000,
        faults: cluster.faults,
        changes: cluster.outcomes.len(),
        trace: cluster.trace.hash(),
        storm: done,
        wrong,
    }
}

/// What is wrong; a core that panics fails its own history, and not those after it.
pub(crate) fn caught(history: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let wrong = catch_unwind(AssertUnwindSafe(history));
    wrong.unwrap_or_else(|panic| vec![format!("panicked: {}", text_of(&*panic))])
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
}
