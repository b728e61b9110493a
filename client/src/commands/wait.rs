//! Waiting for the cluster: for its ring, and for its nodes to be healthy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

use super::{Console, Failure};
use crate::address::shortened;
use crate::membership::{Health, Membership, MembershipError};

/// How often health is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The ring, waited for.
///
/// # Errors
/// Where there is none when the time is over: what the operator can do about it.
pub fn for_ring(
    membership: &dyn Membership,
    console: &Console,
    patience: Duration,
) -> Result<Arc<Ring>, Failure> {
    let end = Instant::now() + patience;
    let mut said = false;
    let mut index = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let began = Instant::now();
        let seen = membership.ring(index, left.min(Duration::from_secs(1)))?;
        index = seen.index;
        if let Some(ring) = seen.value {
            return Ok(ring);
        }
        if left.is_zero() {
            return Err(Failure::failed(why_no_ring(membership)?));
        }
        if !std::mem::replace(&mut said, true) {
            console.say(&format!("waiting for a ring ({})", membership.place()));
        }
        // The first answer comes at once, whatever stands there, and others may come without need.
        std::thread::sleep(LOOK.saturating_sub(began.elapsed()).min(left));
    }
}

fn why_no_ring(membership: &dyn Membership) -> Result<String, MembershipError> {
    let place = membership.place();
    let key = membership.size_key();
    let Some(size) = membership.cluster_size()? else {
        return Ok(format!(
            "no cluster was founded ({place}): `consul kv put {key} 4`, then `server_consumer` founds one"
        ));
    };
    let Ok(size) = size.trim().parse::<u16>() else {
        return Ok(format!(
            "{key} is {:?} ({place}): it takes a number of nodes, as in `consul kv put {key} 4`",
            shortened(size.trim())
        ));
    };
    let health = membership.health()?;
    let missing: Vec<String> = (0..size).map(NodeName).filter_map(|n| complaint(n, &health)).collect();
    if missing.is_empty() {
        return Ok(format!(
            "all {size} nodes are healthy, and no ring was founded ({place}): does a launcher run?"
        ));
    }
    Ok(format!("no ring was founded yet ({place}): {}", missing.join(", ")))
}

/// What is wrong with a node, where something is.
pub(super) fn complaint(node: NodeName, health: &[Health]) -> Option<String> {
    match health.iter().find(|h| h.node == node) {
        None => Some(format!("{node} is not registered")),
        Some(h) if !h.healthy && h.note.is_empty() => Some(format!("{node} is not healthy")),
        Some(h) if !h.healthy => Some(format!("{node} is not healthy ({})", h.note)),
        Some(_) => None,
    }
}

/// Waits for all nodes of the ring to be healthy. When the time is over it names those that are not, and the caller
/// goes on without them: replicas stand in, and what cannot be done says so by itself.
///
/// # Errors
/// Where membership cannot be read.
pub fn for_nodes(
    membership: &dyn Membership,
    console: &Console,
    ring: &Ring,
    patience: Duration,
) -> Result<Vec<NodeName>, Failure> {
    let end = Instant::now() + patience;
    let mut said = false;
    loop {
        let health = membership.health()?;
        let ill = |n: &NodeName| complaint(*n, &health).is_some();
        let missing: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).filter(ill).collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        let complaints: Vec<String> = missing.iter().filter_map(|n| complaint(*n, &health)).collect();
        if Instant::now() >= end {
            console.say(&format!("going on, although {}", complaints.join(", ")));
            return Ok(missing);
        }
        if !std::mem::replace(&mut said, true) {
            console.say(&format!("waiting up to {} s: {}", patience.as_secs(), complaints.join(", ")));
        }
        std::thread::sleep(LOOK);
    }
}
