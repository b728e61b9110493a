//! `fault` and `repair`: what nodes are told one by one.

use ringkv_common::message::fault::Fault;
use ringkv_common::name::NodeName;
use serde_json::json;

use super::{Console, Failure, Outcome};
use crate::Client;

/// Tells nodes of faults, or of their end, one after the other.
///
/// # Errors
/// Where a node refuses or does not answer; the others were told all the same.
pub fn fault(client: &mut Client, console: &mut Console, told: &[(NodeName, Fault)]) -> Outcome {
    let mut failed = 0;
    for (node, fault) in told {
        let outcome = client.fault(*node, fault);
        failed += u32::from(outcome.is_err());
        let said = outcome.as_ref().map_or_else(ToString::to_string, |()| "told".to_owned());
        console
            .either(&json!({"node": node, "fault": fault, "ok": outcome.is_ok(), "message": said}), || {
                format!("{node}: {said}")
            })?;
    }
    if failed > 0 { Err(Failure::told(format!("{failed} nodes were not told"))) } else { Ok(()) }
}

/// The nodes of the cluster, or the one that was named.
///
/// # Errors
/// Where the ring cannot be had.
pub fn nodes(client: &mut Client, node: Option<NodeName>) -> Result<Vec<NodeName>, Failure> {
    if let Some(node) = node {
        return Ok(vec![node]);
    }
    let ring = match client.ring() {
        Some(ring) => ring.clone(),
        None => client.fetch_ring()?,
    };
    Ok(ring.nodes.iter().map(|n| n.name).collect())
}

/// Has nodes compare what they hold with the other owners, and take what they lack.
///
/// # Errors
/// Where a node refuses or does not answer; the others were told all the same.
pub fn repair(client: &mut Client, console: &mut Console, node: Option<NodeName>) -> Outcome {
    let mut failed = 0;
    for node in nodes(client, node)? {
        match client.repair(node) {
            Ok(with) => {
                let names: Vec<String> = with.iter().map(ToString::to_string).collect();
                let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                console.either(&json!({"node": node, "ok": true, "compares_with": with}), || {
                    format!("{node} compares with {names}")
                })?;
            }
            Err(error) => {
                failed += 1;
                console.either(&json!({"node": node, "ok": false, "message": error.to_string()}), || {
                    format!("{node}: {error}")
                })?;
            }
        }
    }
    if failed > 0 { Err(Failure::told(format!("{failed} nodes were not told"))) } else { Ok(()) }
}
