//! What is explored: how large the world is, how requests meet a new ring, and which bug was put in on purpose.

use std::fmt;

/// What an operator asks for; signals are served in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A node joins.
    Add(u16),
    /// A node leaves.
    Remove(u16),
}

/// What a node does with its own requests when it adopts a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// They go on under the new ring at once, so adopting confirms: what `ringkv-server` does.
    Restamps,
    /// They go on under the earlier ring until they end or are repeated; the node confirms after the last of them,
    /// and gives nothing to others before that.
    Finishes,
}

/// What the next phase waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// What `ring::orchestrator::standing` says: all old and new owners.
    Standing,
    /// The least that is safe: new owners have the data, and of the old owners neither R nor W lag behind.
    Quorums,
}

/// A bug, put in on purpose to show that a property catches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A former owner drops its data as soon as the ring says that it owns nothing.
    DropsUnconfirmed,
    /// Writes need W of the old owners alone, in all phases.
    CountsOldOnly,
    /// Replicas serve requests of any epoch.
    IgnoresEpoch,
    /// A change is taken back after `switch` too.
    AbortsAfterSwitch,
    /// A node confirms while its own requests of the earlier epoch are under way.
    ConfirmsEarly,
    /// A node gives data before it has confirmed the epoch.
    GivesUnconfirmed,
    /// The ring is written without compare-and-set.
    WritesBlindly,
    /// The next phase is written without asking anybody.
    AsksNobody,
    /// The next phase comes when the new owners have the data, wherever the old ones are.
    IgnoresLaggards,
    /// A partition that was copied passes for compared.
    SkipsComparison,
    /// A new owner compares with one old owner, however many are needed.
    ComparesWithOne,
    /// Where owners become fewer, those who stay compare with nobody. A write that one of them and the leaving owner
    /// hold has less than W owners then, and after the next such change none. `Ring::incoming` names gainers alone.
    StayersDoNotCompare,
    /// A write that goes on under another ring counts answers to what was sent under earlier ones, and the coordinator
    /// itself. Who answered may have handed over and dropped it since. `ringkv-server` counts them.
    CountsLateAnswers,
    /// Reads follow the new owners from `both` on.
    ReadsNewInBoth,
    /// A node that crashed comes back with an earlier ring than it had confirmed.
    ForgetsRing,
    /// A new owner that crashed does not pull again what it had not compared.
    NeverPullsAgain,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 16] = [
        Bug::DropsUnconfirmed,
        Bug::CountsOldOnly,
        Bug::IgnoresEpoch,
        Bug::AbortsAfterSwitch,
        Bug::ConfirmsEarly,
        Bug::GivesUnconfirmed,
        Bug::WritesBlindly,
        Bug::AsksNobody,
        Bug::IgnoresLaggards,
        Bug::SkipsComparison,
        Bug::ComparesWithOne,
        Bug::StayersDoNotCompare,
        Bug::CountsLateAnswers,
        Bug::ReadsNewInBoth,
        Bug::ForgetsRing,
        Bug::NeverPullsAgain,
    ];
}

/// One world to explore.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// For people.
    pub name: &'static str,
    /// Nodes that found the ring: `node-0` and on.
    pub founders: u16,
    /// Replicas wanted, and replicas that a read and a write need.
    pub quorum: (usize, usize, usize),
    /// Changes asked for.
    pub signals: Vec<Signal>,
    /// Writes to the key, 1 or 2.
    pub writes: usize,
    /// Reads that gather their answers one by one.
    pub reads: u8,
    /// Crashes of nodes or orchestrators, all told.
    pub crashes: u8,
    /// Orchestrators, 1 or 2.
    pub launchers: usize,
    /// See there.
    pub adoption: Adoption,
    /// See there.
    pub gate: Gate,
    /// Whether everybody has to consent before a change begins.
    pub consent: bool,
    /// At most one.
    pub bug: Option<Bug>,
}

impl Config {
    /// Nodes that ever take part.
    pub fn nodes(&self) -> usize {
        let of = |s: &Signal| match s {
            Signal::Add(n) | Signal::Remove(n) => *n + 1,
        };
        usize::from(self.signals.iter().map(of).max().unwrap_or(0).max(self.founders))
    }

    /// The same with a bug.
    pub fn with(&self, bug: Bug) -> Config {
        Config { bug: Some(bug), ..self.clone() }
    }

    /// Whether this bug was put in.
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Old owners that a new one has to compare with, so that it meets every write: any W of them overlap. An old
    /// owner that stays counts itself.
    pub fn compared_min(&self, owners: usize) -> u32 {
        if self.has(Bug::ComparesWithOne) { 1 } else { (owners + 1 - self.quorum.2.min(owners)) as u32 }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, r, w) = self.quorum;
        write!(
            f,
            "{}: {} nodes, N={n} R={r} W={w}, {:?}, {} writes, {} gathered reads, {} crashes, {} orchestrators, {:?}, {:?}{}",
            self.name,
            self.nodes(),
            self.signals,
            self.writes,
            self.reads,
            self.crashes,
            self.launchers,
            self.adoption,
            self.gate,
            if self.consent { "" } else { ", nobody asked" }
        )?;
        self.bug.map_or(Ok(()), |bug| write!(f, ", bug {bug:?}"))
    }
}
