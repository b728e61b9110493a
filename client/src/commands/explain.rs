//! Explain: where a key lives, and why.

use ringkv_common::name::NodeName;
use serde::Deserialize;

use super::records::usage;
use super::table::{bytes, table};
use super::{Console, Failure, Outcome};
use crate::{Client, Op, Reply};

#[derive(Deserialize)]
struct Explanation {
    hash: String,
    partition: u32,
    partitions: u32,
    strategy: String,
    #[serde(default)]
    order: Vec<Preferred>,
    #[serde(default)]
    owners: Vec<NodeName>,
    #[serde(default)]
    readers: Vec<NodeName>,
    #[serde(default)]
    moved_by_balance: bool,
    next_owners: Option<Vec<NodeName>>,
    change: Option<String>,
    #[serde(default)]
    hints: u64,
    epoch: u64,
}

#[derive(Deserialize)]
struct Preferred {
    node: NodeName,
    score: Option<f64>,
    position: Option<String>,
}

/// Says where a key lives, and why.
///
/// # Errors
/// The operation's own.
pub fn explain(client: &mut Client, console: &mut Console, key: &str) -> Outcome {
    let Reply::Document(document, _) = client.call(Op::explain(key).map_err(usage)?)? else {
        return Err(Failure::failed("the node answered no explanation"));
    };
    if console.json() {
        return console.object(&document);
    }
    let Ok(e) = document.read::<Explanation>() else {
        // A newer node may tell it in other fields.
        let lines: Vec<String> = document.fields().map(|(name, text)| format!("{name}: {text}")).collect();
        return console.line(&lines.join("\n"));
    };
    console.line(&explanation(key, &e))
}

fn explanation(key: &str, e: &Explanation) -> String {
    let names = |nodes: &[NodeName]| nodes.iter().map(NodeName::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "{key:?} has the hash {}, whose upper bits are partition {} of {}.\n",
        e.hash, e.partition, e.partitions
    );
    text +=
        &format!("It lives on {} (ring of epoch {}, strategy {}).\n", names(&e.owners), e.epoch, e.strategy);
    let measure = if e.order.iter().any(|p| p.score.is_some()) { "score" } else { "place on the ring" };
    let rows: Vec<Vec<String>> = e
        .order
        .iter()
        .map(|p| {
            let value = p.score.map(|s| format!("{s:.6}")).or(p.position.clone()).unwrap_or_default();
            let owner = if e.owners.contains(&p.node) { "owner" } else { "" };
            vec![p.node.to_string(), value, owner.to_owned()]
        })
        .collect();
    text += &format!("The strategy's own order:\n{}", table(&["node", measure, ""], &[], &rows));
    text += if e.moved_by_balance {
        "Balancing gave it to others than the strategy's first choice, so that no node is too full.\n"
    } else {
        "Balancing left it where the strategy wants it.\n"
    };
    if let Some(change) = &e.change {
        text += &format!("A change runs ({change}): reads ask {}", names(&e.readers));
        text += &match &e.next_owners {
            Some(next) if *next == e.owners => "; the key does not move.\n".to_owned(),
            Some(next) => format!("; it will live on {}.\n", names(next)),
            None => ".\n".to_owned(),
        };
    }
    if e.hints > 0 {
        text += &format!("Hints of {} wait here for an owner that was away.\n", bytes(e.hints));
    }
    text.trim_end().to_owned()
}
