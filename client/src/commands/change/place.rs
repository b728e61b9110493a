//! Writing the signal, once nobody else's is in the way.

use std::time::{Duration, Instant};

use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::MODE;
use ringkv_common::ring::{Kind, Outcome as Answer, Ring, SignalId, plan};
use serde_json::json;

use super::{Change, Wish};
use crate::address::with_port;
use crate::commands::plan::Newcomer;
use crate::commands::{Console, Failure};
use crate::membership::Membership;
use crate::retry::Chance;
use crate::{Client, Options};

/// The first pause after a refusal and the longest; between half of it and all of it, at random.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Why a signal was not written this time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A change is in progress.
    #[error("a change runs ({0})")]
    ChangeRuns(String),
    /// Somebody's signal of this name waits for its answer.
    #[error("another signal for {0} stands ({1:?})")]
    SignalStands(String, String),
    /// Somebody was faster by a moment.
    #[error("somebody else signalled {0} at the same moment")]
    Overtaken(String),
}

/// A signal of ours.
#[derive(Debug)]
pub(super) struct Ours {
    pub name: String,
    pub kind: Kind,
    /// It was written after this index.
    after: u64,
    /// Its ModifyIndex; unknown where it was taken up before it could be read again.
    index: Option<u64>,
}

impl Ours {
    /// Whether this names our signal.
    pub fn is(&self, id: &SignalId) -> bool {
        let right = self.index.map_or(id.index > self.after, |index| index == id.index);
        id.name == self.name && right
    }

    /// Whether this is its answer.
    pub fn answered_by(&self, answer: &Answer) -> bool {
        self.is(&answer.signal)
    }
}

/// What became of the wish.
pub(super) enum Placed {
    /// It stands as a signal.
    Signal(Ours),
    /// There is nothing to do, and why.
    Needless(String),
}

/// Writes the signal; refused, it tries again until the patience is over.
pub(super) fn place(
    client: &mut Client,
    membership: &dyn Membership,
    console: &Console,
    change: &Change,
) -> Result<Placed, Failure> {
    let end = Instant::now() + change.patience;
    let wish = settle(&change.wish, client, membership)?;
    let mut chance = Chance::new();
    for attempt in 0u32.. {
        let refused = match attempt_once(membership, &wish)? {
            Ok(placed) => return Ok(placed),
            Err(refused) => refused,
        };
        let whole = PAUSE.0.saturating_mul(1 << attempt.min(10)).min(PAUSE.1);
        let pause = whole / 2 + whole.mul_f64((chance.draw() % 1000) as f64 / 2000.0);
        if Instant::now() + pause > end {
            let s = change.patience.as_secs();
            return Err(Failure::failed(format!("refused for {s} s (--wait-change): {refused}")));
        }
        console.say(&format!("refused: {refused}; trying again in {:.1} s", pause.as_secs_f64()));
        std::thread::sleep(pause);
    }
    unreachable!("attempts end by time")
}

/// A wish with all that is asked of others only once.
enum Settled {
    Add(Option<NodeName>, Newcomer),
    AddAt(NodeName, String, u16),
    Remove(NodeName),
    Migrate(ringkv_common::placement::Strategy),
}

fn settle(wish: &Wish, client: &Client, membership: &dyn Membership) -> Result<Settled, Failure> {
    Ok(match wish {
        Wish::Add { node, newcomer } => Settled::Add(*node, newcomer.clone()),
        Wish::Remove(node) => Settled::Remove(*node),
        Wish::Migrate(mode) => Settled::Migrate(*mode),
        Wish::AddRunning(address) => {
            let address = &with_port(address).map_err(|e| Failure::usage(e.to_string()))?;
            let options = Options { timeout: Duration::from_secs(5), ..client.options().clone() };
            let status = Client::pinned_with(address, options)?.status(None)?;
            let name = status
                .node
                .ok_or_else(|| Failure::failed(format!("what answers at {address} does not say its name")))?;
            let health = membership.health()?;
            let registered = health.iter().find(|h| h.node == name).ok_or_else(|| {
                Failure::failed(format!(
                    "{name} answers at {address} and is not registered at {}",
                    membership.place()
                ))
            })?;
            Settled::AddAt(name, registered.host.clone(), registered.port)
        }
    })
}

/// One attempt; the inner error may pass, the outer one does not.
fn attempt_once(membership: &dyn Membership, wish: &Settled) -> Result<Result<Placed, Refused>, Failure> {
    let ring = membership.ring(0, Duration::ZERO)?.value;
    let ring = ring.ok_or_else(|| Failure::failed(format!("there is no ring ({})", membership.place())))?;
    let signals = membership.signals()?;
    let (name, kind, value) = signal(wish, &ring);
    if let Some(running) = &ring.change {
        return Ok(Err(Refused::ChangeRuns(format!("{}, phase {}", running.kind, running.phase))));
    }
    if let Some(done) = needless(&ring, kind) {
        return Ok(Ok(Placed::Needless(done)));
    }
    // Whoever takes any number lets others go first: theirs may be the same.
    let any = matches!(wish, Settled::Add(None, _));
    if let Some(other) = signals.value.iter().find(|s| any || s.id.name == name) {
        return Ok(Err(Refused::SignalStands(other.id.name.clone(), other.text())));
    }
    possible(&ring, kind)?;
    if !membership.create_signal(&name, &value)? {
        return Ok(Err(Refused::Overtaken(name)));
    }
    let stands =
        membership.signals()?.value.into_iter().find(|s| s.id.name == name && s.id.index > signals.index);
    let index = stands.filter(|s| s.value == value.as_bytes()).map(|s| s.id.index);
    Ok(Ok(Placed::Signal(Ours { name, kind, after: signals.index, index })))
}

/// The signal's name, what it asks for, and its text.
fn signal(wish: &Settled, ring: &Ring) -> (String, Kind, String) {
    match wish {
        Settled::Add(node, newcomer) => {
            let node = node.unwrap_or_else(|| lowest_free(ring));
            let mut object = serde_json::Map::new();
            newcomer.zone.iter().for_each(|zone| drop(object.insert("zone".into(), json!(zone))));
            newcomer.weight.iter().for_each(|weight| drop(object.insert("weight".into(), json!(weight))));
            let plain = object.is_empty();
            object.insert("op".into(), json!("add"));
            let value = if plain { "add".to_owned() } else { json!(object).to_string() };
            (node.to_string(), Kind::Add { node }, value)
        }
        Settled::AddAt(node, host, port) => {
            let value = json!({"op": "add", "host": host, "port": port}).to_string();
            (node.to_string(), Kind::Add { node: *node }, value)
        }
        Settled::Remove(node) => (node.to_string(), Kind::Remove { node: *node }, "remove".to_owned()),
        Settled::Migrate(mode) => (MODE.to_owned(), Kind::Migrate { mode: *mode }, mode.to_string()),
    }
}

/// The name of the lowest number that no node has.
pub fn lowest_free(ring: &Ring) -> NodeName {
    let free = |n: &NodeName| ring.node_named(*n).is_none();
    (0..=u16::MAX).map(NodeName).find(free).expect("a ring has far fewer nodes than there are numbers")
}

fn needless(ring: &Ring, kind: Kind) -> Option<String> {
    match kind {
        Kind::Migrate { mode } if ring.chosen && ring.strategy == mode => {
            Some(format!("the ring is {mode} already, and chosen: nothing moves"))
        }
        _ => None,
    }
}

/// What a launcher would refuse for good is refused at once.
fn possible(ring: &Ring, kind: Kind) -> Result<(), Failure> {
    let checked = match kind {
        Kind::Add { node } => plan::check_add(ring, node),
        Kind::Remove { node } => plan::check_remove(ring, node),
        Kind::Migrate { .. } => Ok(()),
    };
    checked.map_err(|refusal| Failure::failed(refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_by_its_index_or_by_what_was_before_it() {
        let kind = Kind::Remove { node: NodeName(1) };
        let mut ours = Ours { name: "node-1".into(), kind, after: 10, index: None };
        let id = |index| SignalId { name: "node-1".into(), index };
        assert!(!ours.is(&id(10)) && ours.is(&id(11)));
        ours.index = Some(12);
        assert!(!ours.is(&id(11)) && ours.is(&id(12)));
        assert!(!ours.is(&SignalId { name: "node-2".into(), index: 12 }));
    }
}
