//! A random history from a seed: clients at work, changes asked for, and everything that can go wrong going wrong.

use ringkv_common::name::NodeName;

use crate::cluster::Cluster;
use crate::faults::Fault;
use crate::random::Random;
use crate::settings::Settings;

/// How long faults are injected, in milliseconds of virtual time.
const STORM_MS: u64 = 20_000;

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// Operations of clients that ended.
    pub operations: u64,
    /// Things that went wrong on purpose.
    pub faults: u64,
    /// Changes that were answered: done, taken back, refused.
    pub changes: usize,
    /// Identifies the history.
    pub trace: u64,
    /// What must not have happened.
    pub wrong: Vec<String>,
}

impl Report {
    /// The line that says it all, and the command that replays a failure.
    pub fn line(&self) -> String {
        let Report { seed, operations, faults, changes, trace, wrong } = self;
        let verdict = if wrong.is_empty() { "ok" } else { "FAILED" };
        format!(
            "seed {seed}: {operations} operations, {faults} faults, {changes} signals answered, trace {trace:016x}, {verdict}"
        )
    }

    /// The command that replays it.
    pub fn replay(&self) -> String {
        format!("RINGKV_SIM_TRACE=1 cargo run -p ringkv-sim -- --seed {}", self.seed)
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
    // Where a write may not meet the one before it, clocks alone decide which is the later one.
    let skew_ms = if settings.weak() { 0 } else { settings.skew_ms };
    Settings { skew_ms, ..settings }
}

/// Runs one seed from the founding to the verdict.
pub fn run(seed: u64) -> Report {
    // Its own stream: what the storm brings does not depend on what the cluster does.
    let mut dice = Random::new(seed ^ 0x5707);
    let settings = settings(seed, &mut dice);
    // Where nobody is killed nothing at all may be lost; where somebody is, it must be said.
    let kills = dice.chance(1, 2);
    let mut cluster = Cluster::founded(settings);
    let end = cluster.now_us + STORM_MS * 1000;
    while cluster.now_us < end {
        let pause_ms = dice.between(50, 1_500);
        cluster.run_ms(pause_ms);
        if let Some(fault) = pick(&mut dice, &mut cluster, kills) {
            cluster.fault(0, fault);
        }
    }
    // The last pause and the last cut end.
    cluster.run_ms(5_000);
    let wrong = cluster.verdict();
    Report {
        seed,
        operations: cluster.operations,
        faults: cluster.faults,
        changes: cluster.outcomes.len(),
        trace: cluster.trace.hash(),
        wrong,
    }
}

fn pick(dice: &mut Random, cluster: &mut Cluster, kills: bool) -> Option<Fault> {
    let running = cluster.running();
    let (one, other) = (dice.pick(&running)?, dice.pick(&running)?);
    let launcher = dice.below(cluster.settings.launchers as u64) as usize;
    let members: Vec<NodeName> = cluster.newest.iter().flat_map(|r| r.nodes.iter().map(|n| n.name)).collect();
    Some(match dice.below(100) {
        0..14 => {
            let absent: Vec<NodeName> = (0..9).map(NodeName).filter(|n| !members.contains(n)).collect();
            Fault::Signal(dice.pick(&absent)?, true)
        }
        14..24 if members.len() > 2 => Fault::Signal(dice.pick(&members)?, false),
        24..30 => Fault::Migrate(dice.chance(1, 2)),
        // One at a time, and only when the others hold a ring: with the last copy of the ring the cluster would go.
        30..38 if kills && members.len() > 1 && cluster.may_kill() => Fault::Kill(
            one,
            if dice.chance(1, 4) { dice.between(9_000, 20_000) } else { dice.between(10, 2_000) },
        ),
        38..48 => Fault::KillLauncher(launcher, dice.between(10, 6_000)),
        48..58 => Fault::Pause(one, dice.between(10, 4_000)),
        58..62 => Fault::PauseLauncher(launcher, dice.between(100, 15_000)),
        62..76 if one != other => Fault::Reset(one, other),
        76..82 if one != other => Fault::Cut(one, other, dice.between(50, 3_000)),
        82..88 => Fault::ConsulAway(dice.between(100, 12_000)),
        88..90 => Fault::ConsulWiped,
        // Not after a wipe: who restarts between a wipe and a return to the founding's snapshot takes that for the
        // founding, and cannot know what it lost.
        90..92 if cluster.consul.ring().0.is_some() => Fault::ConsulSetBack,
        92..94 => {
            cluster.consul.back_up();
            return None;
        }
        94..100 if cluster.settings.skew_ms > 0 => Fault::Skew(one, dice.between(0, 2_000) as i64 - 1_000),
        _ => return None,
    })
}
