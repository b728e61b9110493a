//! Membership without Consul: signals, results and health in memory, and a launcher that goes a step further
//! whenever somebody looks at the ring.
#![allow(clippy::unwrap_used, dead_code)]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use ringkv_client::membership::{Health, Membership, MembershipError, Seen};
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::Signal;
use ringkv_common::ring::{Kind, Node, Outcome, Ring, SignalId, Verdict, plan};

use super::FakeCluster;

#[derive(Default)]
pub struct State {
    signals: Vec<Signal>,
    outcomes: Vec<Outcome>,
    index: u64,
    /// Names whose signal is overtaken by somebody else's, so many times.
    overtaken: u32,
    /// What somebody else does once this ring is looked at.
    at_begin: Option<Box<dyn FnOnce()>>,
}

pub struct FakeMembership<'a> {
    pub cluster: &'a FakeCluster,
    pub state: RefCell<State>,
    /// Who joins when an add is signalled.
    pub newcomer: Option<Node>,
    /// Whether a launcher runs.
    pub launcher: bool,
    /// Nodes whose checks fail.
    pub ill: RefCell<Vec<NodeName>>,
    pub size: Option<String>,
    /// Whether there is a ring.
    pub founded: bool,
}

impl<'a> FakeMembership<'a> {
    pub fn new(cluster: &'a FakeCluster) -> FakeMembership<'a> {
        FakeMembership {
            cluster,
            state: RefCell::default(),
            newcomer: None,
            launcher: true,
            ill: RefCell::default(),
            size: None,
            founded: true,
        }
    }

    /// Somebody writes a signal by hand.
    pub fn signal(&self, name: &str, value: &str) {
        let mut state = self.state.borrow_mut();
        state.index += 1;
        let id = SignalId { name: name.into(), index: state.index };
        state.signals.push(Signal { id, value: value.into() });
    }

    /// The next attempts to create a signal lose against somebody else, who is done with it at once.
    pub fn overtake(&self, times: u32) {
        self.state.borrow_mut().overtaken = times;
    }

    /// Does this as soon as a change begins.
    pub fn at_begin(&self, action: impl FnOnce() + 'static) {
        self.state.borrow_mut().at_begin = Some(Box::new(action));
    }

    pub fn signals_now(&self) -> usize {
        self.state.borrow().signals.len()
    }

    /// The launcher: one step of whatever is due.
    fn step(&self) {
        let ring = self.cluster.ring();
        let mut state = self.state.borrow_mut();
        if ring.change.is_some() {
            let next = ring.advanced();
            if next.change.is_none() {
                let outcome = next.last.clone().unwrap();
                state.outcomes.retain(|o| o.signal.name != outcome.signal.name);
                state.outcomes.push(outcome);
            }
            return self.cluster.set_ring(next);
        }
        if !self.launcher || state.signals.is_empty() {
            return;
        }
        let signal = state.signals.remove(0);
        match self.begun(&ring, &signal) {
            Ok(next) => {
                self.cluster.set_ring(next);
                if let Some(action) = state.at_begin.take() {
                    action();
                }
            }
            Err(message) => state.outcomes.push(Outcome {
                op: signal.text(),
                outcome: Verdict::Refused,
                message,
                epoch: ring.epoch,
                moved: 0,
                signal: signal.id,
            }),
        }
    }

    fn begun(&self, ring: &Ring, signal: &Signal) -> Result<Ring, String> {
        let wanted = signal.wanted().map_err(|e| e.to_string())?;
        let id = signal.id.clone();
        let begun = match wanted.kind {
            Kind::Add { .. } => plan::add(ring, self.newcomer.clone().ok_or("nobody joins")?, id),
            Kind::Remove { node } => plan::remove(ring, node, id),
            Kind::Migrate { mode } => plan::migrate(ring, mode, id),
        };
        begun.map_err(|e| e.to_string())
    }
}

impl Membership for FakeMembership<'_> {
    fn ring(&self, after: u64, _: Duration) -> Result<Seen<Option<Arc<Ring>>>, MembershipError> {
        if after > 0 {
            self.step();
        }
        let ring = self.cluster.ring();
        Ok(Seen { index: ring.epoch, value: self.founded.then_some(ring) })
    }

    fn signals(&self) -> Result<Seen<Vec<Signal>>, MembershipError> {
        let state = self.state.borrow();
        Ok(Seen { index: state.index, value: state.signals.clone() })
    }

    fn create_signal(&self, name: &str, value: &str) -> Result<bool, MembershipError> {
        let mut state = self.state.borrow_mut();
        if state.overtaken > 0 {
            state.overtaken -= 1;
            return Ok(false);
        }
        if state.signals.iter().any(|s| s.id.name == name) {
            return Ok(false);
        }
        drop(state);
        self.signal(name, value);
        Ok(true)
    }

    fn withdraw_signal(&self, signal: &SignalId) -> Result<bool, MembershipError> {
        self.state.borrow_mut().signals.retain(|s| s.id != *signal);
        Ok(true)
    }

    fn outcomes(&self) -> Result<Vec<Outcome>, MembershipError> {
        Ok(self.state.borrow().outcomes.clone())
    }

    fn health(&self) -> Result<Vec<Health>, MembershipError> {
        let health = |n: &super::FakeNode| Health {
            node: n.name,
            host: "127.0.0.1".into(),
            port: n.port,
            healthy: !self.ill.borrow().contains(&n.name),
            note: String::new(),
        };
        Ok(self.cluster.nodes.iter().map(health).collect())
    }

    fn cluster_size(&self) -> Result<Option<String>, MembershipError> {
        Ok(self.size.clone())
    }

    fn size_key(&self) -> String {
        "cluster_size".into()
    }

    fn lock_holder(&self) -> Result<Option<String>, MembershipError> {
        Ok(self.launcher.then(|| "a launcher".to_owned()))
    }

    fn place(&self) -> String {
        "memory".into()
    }
}
