//! Two clusters of five nodes on one machine, with one replica and with three, that take turns.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::REPLICAS;
use super::members::Members;
use crate::load::Shape;
use crate::rows::{Figures, Plan, calmest, loaded, noise};
use crate::traffic::Mix;
use crate::upkeep::Upkeep;

/// A shape of load.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// How it is asked for and printed.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
}

/// What goals are measured with.
pub const BUSY: Row = Row { name: "50x16", shape: Shape { connections: 50, in_flight: 16 } };
/// All of them.
pub const ROWS: [Row; 2] = [BUSY, Row { name: "50x1", shape: Shape { connections: 50, in_flight: 1 } }];

/// What is measured in a round, in the order of the turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Puts to one replica.
    PutOne,
    /// Puts to three, of which two have to have it.
    Put,
    /// Gets of one replica where there is one.
    GetOne,
    /// Gets of one replica where there are three.
    GetOneOfThree,
    /// Gets of two of three.
    Get,
}

impl Turn {
    /// All of them.
    pub const ALL: [Turn; 5] = [Turn::PutOne, Turn::Put, Turn::GetOne, Turn::GetOneOfThree, Turn::Get];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Turn::PutOne => "put, N = 1",
            Turn::Put => "put, N = 3, W = 2",
            Turn::GetOne => "get, N = 1",
            Turn::GetOneOfThree => "get, N = 3, R = 1",
            Turn::Get => "get, N = 3, R = 2",
        }
    }

    fn mix(self) -> Mix {
        match self {
            Turn::PutOne | Turn::Put => Mix::Puts,
            Turn::GetOne | Turn::GetOneOfThree => Mix::GetsOfOne,
            Turn::Get => Mix::Gets,
        }
    }
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// In the order of [`Turn::ALL`].
    pub turns: [Figures; 5],
    /// How many requests were answered by an error.
    pub errors: u64,
    /// Microseconds of a put that a store takes to keep its sums.
    pub upkeep_us: f64,
}

impl Round {
    /// How much it was disturbed. Where CPUs are short, owners may be silent for so long that requests fail: such a round
    /// counts as wholly disturbed.
    pub fn noise(&self) -> f64 {
        if self.errors > 0 { 1.0 } else { noise(&self.turns) }
    }
}

/// What a long load over three replicas came to.
#[derive(Clone, Copy, Debug)]
pub struct Suspicions {
    /// How long it ran.
    pub time: Duration,
    /// The load.
    pub figures: Figures,
    /// How many requests were answered by an error.
    pub errors: u64,
    /// How often a node suspected another.
    pub suspected: u64,
    /// How often it called it down.
    pub down: u64,
}

/// Members, and the keys that each of them leads.
struct Cluster {
    members: Members,
    led: Vec<Arc<[u64]>>,
}

impl Cluster {
    fn start(replicas: usize, keys: u64) -> Result<Cluster> {
        let members = Members::start(replicas)?;
        let led = members.led(keys)?;
        members.fill(&led)?;
        Ok(Cluster { members, led })
    }

    /// The figures, and how many requests were answered by an error.
    fn measure(&self, shape: Shape, mix: Mix, warm_up: Duration, time: Duration) -> Result<(Figures, u64)> {
        self.members.with_load(&self.led, mix, shape, |load| {
            load.let_errors_pass();
            load.run(warm_up)?;
            Ok((loaded(load, time, 1, &self.members.servers)?, load.errors()))
        })
    }
}

/// Both clusters, filled with the same keys.
pub struct Bed {
    plan: Plan,
    one: Cluster,
    three: Cluster,
    upkeep: Upkeep,
}

impl Bed {
    /// Starts and fills them.
    pub fn start(plan: Plan) -> Result<Bed> {
        let cluster = |replicas| Cluster::start(replicas, plan.keys);
        Ok(Bed { plan, one: cluster(1)?, three: cluster(REPLICAS)?, upkeep: Upkeep::new()? })
    }

    /// Measures a row in rounds, and says how many requests failed, in rounds that were repeated, too.
    pub fn measure(&mut self, row: &Row) -> Result<(Vec<Round>, u64)> {
        let mut errors = 0;
        let rounds = calmest(self.plan.rounds, Round::noise, || {
            let round = self.round(row)?;
            errors += round.errors;
            Ok(round)
        })?;
        Ok((rounds, errors))
    }

    fn round(&mut self, row: &Row) -> Result<Round> {
        let mut errors = 0;
        let mut measure = |turn: Turn| -> Result<Figures> {
            let one = matches!(turn, Turn::PutOne | Turn::GetOne);
            let cluster = if one { &self.one } else { &self.three };
            let (figures, failed) =
                cluster.measure(row.shape, turn.mix(), self.plan.warm_up, self.plan.time)?;
            errors += failed;
            Ok(figures)
        };
        let [a, b, c, d, e] = Turn::ALL.map(&mut measure);
        let turns = [a?, b?, c?, d?, e?];
        Ok(Round { turns, errors, upkeep_us: self.upkeep.measure() })
    }

    /// Loads three replicas for so long, and counts who is suspected though all live.
    pub fn suspicions(&self, time: Duration) -> Result<Suspicions> {
        let [suspected, down] = self.suspected()?;
        let (figures, errors) = self.three.measure(BUSY.shape, Mix::Both, self.plan.warm_up, time)?;
        let after = self.suspected()?;
        Ok(Suspicions { time, figures, errors, suspected: after[0] - suspected, down: after[1] - down })
    }

    /// How often any node suspected another, and called it down, since they began.
    fn suspected(&self) -> Result<[u64; 2]> {
        let mut counts = [0; 2];
        for asker in self.three.members.askers()? {
            let gossip = asker.status()?.gossip;
            counts = [counts[0] + gossip.suspicions, counts[1] + gossip.downs];
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicated::members::NODES;

    #[test]
    fn every_node_gets_connections_and_as_many_as_the_others() {
        for row in ROWS {
            assert_eq!(row.shape.connections % usize::from(NODES), 0, "{}", row.name);
        }
    }
}
