//! Steps that disturb the cluster: what goes wrong, what ends again, what is asked of it, and time that passes.

use ringkv_common::name::NodeName;

use super::words::Words;
use crate::cluster::Cluster;
use crate::faults::{Fault, NODES};

/// For as long as any script runs, in milliseconds.
const FOREVER_MS: u64 = 7 * 24 * 3_600_000;

/// What a step does to the cluster.
#[derive(Clone, Debug)]
pub enum Disturbance {
    Fault(Fault),
    Heal,
    Start(NodeName),
    Wait(u64),
}

impl Disturbance {
    /// The first words of such steps.
    pub const VERBS: [&'static str; 13] = [
        "cut",
        "cut-one-way",
        "split",
        "heal",
        "pause",
        "kill",
        "start",
        "clock",
        "consul-away",
        "wait",
        "add",
        "remove",
        "migrate",
    ];

    /// Reads what follows one of them.
    pub fn parse(verb: &str, words: &mut Words) -> Result<Disturbance, String> {
        let fault = match verb {
            "heal" => return Ok(Disturbance::Heal),
            "start" => return Ok(Disturbance::Start(words.node()?)),
            "wait" => return Ok(Disturbance::Wait(words.ms()?)),
            "cut" | "cut-one-way" => {
                let (from, to) = (words.node()?, words.node()?);
                if from == to {
                    return Err(format!("{from} has no connection to itself: {verb} needs two nodes"));
                }
                let ms = words.maybe_ms()?.unwrap_or(FOREVER_MS);
                if verb == "cut" { Fault::Cut(from, to, ms) } else { Fault::CutOneWay(from, to, ms) }
            }
            "split" => {
                let side = words.nodes()?;
                Fault::Split(side, words.maybe_ms()?.unwrap_or(FOREVER_MS))
            }
            "pause" => Fault::Pause(words.node()?, words.ms()?),
            "kill" => Fault::Kill(words.node()?, FOREVER_MS),
            "clock" => Fault::Skew(words.node()?, words.signed_ms()?),
            "consul-away" => Fault::ConsulAway(words.ms()?),
            "migrate" => Fault::Migrate(words.one_of(&[("consistent", false), ("hrw", true)])?),
            _ => Fault::Signal(words.node()?, verb == "add"),
        };
        Ok(Disturbance::Fault(fault))
    }

    /// Does it; an error says why that cannot be.
    pub fn happen(&self, cluster: &mut Cluster) -> Result<(), String> {
        match self {
            Disturbance::Wait(ms) => cluster.run_ms(*ms),
            Disturbance::Heal => cluster.heal(),
            Disturbance::Start(node) => {
                known(*node)?;
                if cluster.running().contains(node) {
                    return Err(format!("{node} runs already"));
                }
                cluster.start(*node);
            }
            Disturbance::Fault(fault) => {
                for node in meets(fault) {
                    known(node)?;
                    let runs = cluster.running().contains(&node);
                    if !runs && matches!(fault, Fault::Kill(..) | Fault::Pause(..) | Fault::Skew(..)) {
                        return Err(format!("{node} does not run: {:?} do", cluster.running()));
                    }
                }
                cluster.on_fault(fault.clone());
            }
        }
        Ok(())
    }
}

fn known(node: NodeName) -> Result<(), String> {
    let last = NodeName(NODES - 1);
    (node <= last).then_some(()).ok_or_else(|| format!("the simulator has node-0 to {last}, and no {node}"))
}

/// The nodes that a fault names.
fn meets(fault: &Fault) -> Vec<NodeName> {
    match fault {
        Fault::Kill(a, _) | Fault::Pause(a, _) | Fault::Skew(a, _) | Fault::Signal(a, _) => vec![*a],
        Fault::Cut(a, b, _) | Fault::CutOneWay(a, b, _) | Fault::Reset(a, b) => vec![*a, *b],
        Fault::Split(side, _) => side.clone(),
        _ => Vec::new(),
    }
}
