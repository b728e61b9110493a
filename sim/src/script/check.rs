//! Steps that look at the cluster from outside, and disturb nothing.

use std::collections::BTreeSet;

use ringkv_common::key::Key;
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::MODE;
use ringkv_common::ring::{Phase, Verdict};
use ringkv_common::version::Siblings;
use ringkv_server::core::View;
use ringkv_server::store::Storage;

use super::words::Words;
use crate::cluster::Cluster;

/// Something that must be so.
#[derive(Clone, Debug)]
pub enum Check {
    Siblings { key: Key, at: Option<NodeName>, held: Held },
    Hints { at: Option<NodeName>, records: u64 },
    View { of: NodeName, at: Option<NodeName>, view: View },
    Owners { key: Key, names: Vec<NodeName> },
    Members { names: BTreeSet<NodeName> },
    Phase { phase: Option<Phase> },
    Result { name: String, verdict: Verdict },
    Equal,
}

/// What a node holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    Values(BTreeSet<String>),
    /// Nothing but tombstones.
    Deleted,
    /// It never heard of the key.
    Unknown,
}

impl Check {
    /// The first words of such steps.
    pub const VERBS: [&'static str; 8] =
        ["siblings", "hints", "view", "owners", "members", "phase", "result", "all"];

    /// Reads what follows one of them.
    pub fn parse(verb: &str, words: &mut Words) -> Result<Check, String> {
        match verb {
            "siblings" => {
                let (key, at) = (key(words)?, words.maybe_at_node()?);
                words.keyword("expect")?;
                Ok(Check::Siblings { key, at, held: Held::parse(words)? })
            }
            "hints" => {
                let at = words.maybe_at_node()?;
                words.keyword("expect")?;
                Ok(Check::Hints { at, records: words.number("records", 0, 1_000_000)? })
            }
            "view" => {
                let (of, at) = (words.node()?, words.maybe_at_node()?);
                words.keyword("expect")?;
                let views = [
                    ("alive", View::Alive),
                    ("suspect", View::Suspect),
                    ("down", View::Down),
                    ("unknown", View::Unknown),
                ];
                Ok(Check::View { of, at, view: words.one_of(&views)? })
            }
            "owners" => {
                let key = key(words)?;
                words.keyword("expect")?;
                Ok(Check::Owners { key, names: words.nodes()? })
            }
            "members" => {
                words.keyword("expect")?;
                Ok(Check::Members { names: words.nodes()?.into_iter().collect() })
            }
            "phase" => {
                words.keyword("expect")?;
                let phases = [
                    ("none", None),
                    ("copy", Some(Phase::Copy)),
                    ("both", Some(Phase::Both)),
                    ("switch", Some(Phase::Switch)),
                ];
                Ok(Check::Phase { phase: words.one_of(&phases)? })
            }
            "result" => {
                let name = words.next("a signal's name: node-4, or mode")?.to_owned();
                if name != MODE && name.parse::<NodeName>().is_err() {
                    return Err(format!("\"{name}\" is no signal's name: there are node-<n> and {MODE}"));
                }
                words.keyword("expect")?;
                let verdicts =
                    [("done", Verdict::Done), ("aborted", Verdict::Aborted), ("refused", Verdict::Refused)];
                Ok(Check::Result { name, verdict: words.one_of(&verdicts)? })
            }
            _ => words.keyword("equal").map(|()| Check::Equal),
        }
    }

    /// Whether it is so; an error says what is so instead. `keys` are those that the script wrote.
    pub fn look(&self, cluster: &Cluster, keys: &[String]) -> Result<(), String> {
        match self {
            Check::Siblings { key, at, held } => {
                let nodes = at.map_or_else(|| owners(cluster, key), |node| vec![node]);
                nodes.into_iter().try_for_each(|node| same(&held_by(cluster, node, key)?, held, node))
            }
            Check::Hints { at, records } => {
                let nodes = at.map_or_else(|| cluster.running(), |node| vec![node]);
                let hints = |node| process(cluster, node).map(|_| cluster.records_of_others(node));
                let all = nodes.into_iter().map(hints).sum::<Result<u64, String>>()?;
                same(&all, records, "hints")
            }
            Check::View { of, at, view } => {
                let others = || cluster.running().into_iter().filter(|node| node != of).collect();
                let nodes: Vec<NodeName> = at.map_or_else(others, |node| vec![node]);
                nodes.into_iter().try_for_each(|node| same(&view_of(cluster, *of, node)?, view, node))
            }
            Check::Owners { key, names } => same(&owners(cluster, key), names, "owners"),
            Check::Members { names } => {
                let ring = cluster.newest.iter();
                let members: BTreeSet<NodeName> = ring.flat_map(|r| r.nodes.iter().map(|n| n.name)).collect();
                same(&members, names, "members")
            }
            Check::Phase { phase } => {
                let change = cluster.newest.as_ref().and_then(|ring| ring.change.as_ref());
                same(&change.map(|change| change.phase), phase, "phase")
            }
            Check::Result { name, verdict } => match cluster.consul.result(name) {
                Some(result) if result.outcome == *verdict => Ok(()),
                Some(result) => Err(format!("{name} was answered {:?}: {}", result.outcome, result.message)),
                None => Err(format!("{name} is not answered yet")),
            },
            Check::Equal => {
                let mut wrong = Vec::new();
                wrong.extend(cluster.differing(keys));
                if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
            }
        }
    }
}

impl Held {
    fn parse(words: &mut Words) -> Result<Held, String> {
        let word = words.next("values, deleted or unknown")?;
        Ok(match word {
            "deleted" => Held::Deleted,
            "unknown" => Held::Unknown,
            value => {
                let mut values = BTreeSet::from([value.to_owned()]);
                while let Some(value) = words.peek().filter(|word| *word != "within") {
                    words.next("a value")?;
                    values.insert(value.to_owned());
                }
                Held::Values(values)
            }
        })
    }

    fn of(state: &Siblings) -> Held {
        if state.is_empty() {
            return Held::Unknown;
        }
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            serde_json::from_str(&text).unwrap_or(text)
        };
        let values: BTreeSet<String> = state.values().iter().map(|v| text(v.content.bytes())).collect();
        if values.is_empty() { Held::Deleted } else { Held::Values(values) }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    is: &T,
    expected: &T,
    whose: impl std::fmt::Display,
) -> Result<(), String> {
    (is == expected).then_some(()).ok_or_else(|| format!("{whose}: it was {is:?}, not {expected:?}"))
}

fn key(words: &mut Words) -> Result<Key, String> {
    Key::new(words.next("a key")?).map_err(|error| error.to_string())
}

fn process(cluster: &Cluster, node: NodeName) -> Result<&crate::process::Process, String> {
    let running = || format!("{node} does not run: {:?} do", cluster.running());
    cluster.processes.get(&node).ok_or_else(running)
}

fn owners(cluster: &Cluster, key: &Key) -> Vec<NodeName> {
    let Some(ring) = &cluster.newest else { return Vec::new() };
    ring.names(ring.readers(key.partition(ring.partitions))).collect()
}

fn held_by(cluster: &Cluster, node: NodeName, key: &Key) -> Result<Held, String> {
    process(cluster, node).map(|process| Held::of(&process.store.read(key)))
}

fn view_of(cluster: &Cluster, of: NodeName, at: NodeName) -> Result<View, String> {
    process(cluster, at)?;
    let peers = cluster.status(at).map(|status| status.peers).unwrap_or_default();
    let peer = peers.into_iter().find(|peer| peer.node == of).map(|peer| peer.view);
    peer.ok_or_else(|| format!("{at} knows no {of}"))
}
