//! The faults of a seed: chosen as it goes, for what may go wrong depends on what there is, and kept as a list that can
//! be let loose again, whole or with some left out.

use ringkv_common::name::NodeName;

use crate::cluster::Cluster;
use crate::faults::{Fault, NODES};
use crate::random::Random;

/// How long faults are injected, in milliseconds of virtual time.
const STORM_MS: u64 = 20_000;

/// A fault, and at which virtual microsecond.
pub type Gust = (u64, Fault);

/// Lets faults loose as the dice fall, and notes which.
pub fn rage(cluster: &mut Cluster, dice: &mut Random, done: &mut Vec<Gust>) {
    // Where nobody is killed nothing at all may be lost; where somebody is, it must be said.
    let kills = dice.chance(1, 2);
    let end = cluster.now_us + STORM_MS * 1000;
    // Their dice are their own, as with clients: see `seeds`.
    let mut pairs = Random::new(cluster.settings.seed ^ 0x2A1B);
    while cluster.now_us < end {
        let left_ms = (end - cluster.now_us) / 1000;
        cluster.run_ms(dice.between(50, 1_500).min(left_ms));
        let fault = two_away(&mut pairs, cluster).or_else(|| pick(dice, cluster, kills));
        if let Some(fault) = fault.filter(|fault| cluster.allows(fault)) {
            done.push((cluster.now_us, fault.clone()));
            cluster.fault(0, fault);
        }
    }
}

/// Lets these loose, each at its moment, and notes which were. Where some were left out others may not be allowed.
pub fn replay(cluster: &mut Cluster, storm: &[Gust], done: &mut Vec<Gust>) {
    let end = cluster.now_us + STORM_MS * 1000;
    for (at_us, fault) in storm {
        cluster.run_ms(at_us.saturating_sub(cluster.now_us) / 1000);
        if cluster.allows(fault) {
            done.push((*at_us, fault.clone()));
            cluster.fault(0, fault.clone());
        }
    }
    cluster.run_ms(end.saturating_sub(cluster.now_us) / 1000);
}

/// Two nodes that are away for long enough to be called down: of three owners a write then needs a hint, where somebody
/// may stand in. One that is away costs no write its quorum.
fn two_away(dice: &mut Random, cluster: &Cluster) -> Option<Fault> {
    if !cluster.settings.weak() || !dice.chance(1, 8) {
        return None;
    }
    let mut running = cluster.running();
    let one = dice.pick(&running)?;
    running.retain(|name| *name != one);
    let other = dice.pick(&running)?;
    Some(Fault::Split(vec![one, other], dice.between(2_000, 5_000)))
}

fn pick(dice: &mut Random, cluster: &Cluster, kills: bool) -> Option<Fault> {
    let running = cluster.running();
    let (one, other) = (dice.pick(&running)?, dice.pick(&running)?);
    let launcher = dice.below(cluster.settings.launchers as u64) as usize;
    let members: Vec<NodeName> = cluster.newest.iter().flat_map(|r| r.nodes.iter().map(|n| n.name)).collect();
    Some(match dice.below(114) {
        0..14 => {
            let absent: Vec<NodeName> = (0..NODES).map(NodeName).filter(|n| !members.contains(n)).collect();
            Fault::Signal(dice.pick(&absent)?, true)
        }
        14..24 => Fault::Signal(dice.pick(&members)?, false),
        24..30 => Fault::Migrate(dice.chance(1, 2)),
        30..38 if kills => Fault::Kill(one, away_ms(dice)),
        38..48 => Fault::KillLauncher(launcher, dice.between(10, 6_000)),
        48..58 => Fault::Pause(one, dice.between(10, 4_000)),
        58..62 => Fault::PauseLauncher(launcher, dice.between(100, 15_000)),
        62..76 if one != other => Fault::Reset(one, other),
        76..82 if one != other => Fault::Cut(one, other, dice.between(50, 3_000)),
        82..88 => Fault::ConsulAway(dice.between(100, 12_000)),
        88..90 => Fault::ConsulWiped,
        90..92 => Fault::ConsulSetBack,
        92..94 => Fault::ConsulBackedUp,
        94..100 if cluster.settings.skew_ms > 0 => {
            let half_ms = cluster.settings.skew_ms / 2;
            Fault::Skew(one, dice.between(0, 2 * half_ms) as i64 - half_ms as i64)
        }
        100..104 if one != other => Fault::CutOneWay(one, other, dice.between(50, 4_000)),
        104..107 => {
            let side = running.into_iter().filter(|_| dice.chance(1, 2)).collect();
            Fault::Split(side, dice.between(100, 4_000))
        }
        107..110 => Fault::Split(vec![one], dice.between(100, 4_000)),
        110..114 if one != other => Fault::Stall(one, other, dice.between(100, 6_000)),
        _ => return None,
    })
}

/// How long a killed node stays away: a moment, or long enough to be seen to be critical.
fn away_ms(dice: &mut Random) -> u64 {
    if dice.chance(1, 4) { dice.between(9_000, 20_000) } else { dice.between(10, 2_000) }
}
