//! What the launcher finds when it starts: the size, the ring, and which nodes are its own. Whatever does not fit
//! ends it with a word on what to do, and nothing is changed.

use std::sync::Arc;
use std::time::Duration;

use consul::{CheckStatus, Client, Instance, Query};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

use crate::server::settings::{SIZE_MAX, Settings, check_size, wrong_size};
use crate::server::{ask, kept, refused};

/// How long a node may take to give us its ring.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// What was found.
pub struct Found {
    /// The ring of Consul, or else the newest that a node holds.
    pub ring: Option<Arc<Ring>>,
    /// The nodes to look after.
    pub ours: Vec<NodeName>,
}

/// Reads Consul and decides what to look after. Where Consul is away the ring decides that nodes of this folder kept.
pub fn look(client: &Client, settings: &Settings) -> anyhow::Result<Found> {
    match in_consul(client, settings) {
        Err(error) if is_away(&error) && settings.join.is_none() && !settings.memory => {
            let Some(ring) = kept::newest(&settings.data_dir) else { return Err(error) };
            let ours: Vec<NodeName> =
                ring.nodes.iter().filter(|n| settings.is_ours(n)).map(|n| n.name).collect();
            if ours.is_empty() {
                return Err(error);
            }
            tracing::warn!(
                "goes by the ring of epoch {} that was kept in {}: {error}",
                ring.epoch,
                settings.data_dir.display()
            );
            Ok(Found { ring: Some(Arc::new(ring)), ours })
        }
        found => found,
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(consul::Error::Unreachable { .. }))
}

fn in_consul(client: &Client, settings: &Settings) -> anyhow::Result<Found> {
    let instances = client.instances(settings.keys.cluster(), false)?;
    let ring = match ring(client, settings)? {
        Some(ring) => Some(ring),
        None => held(settings, &instances),
    };
    let size = size(client, settings, ring.is_some())?;
    let ours: Vec<NodeName> = match &ring {
        Some(ring) => {
            if let Some(size) = size.filter(|size| usize::from(*size) != ring.nodes.len()) {
                let (key, n) = (settings.keys.size(), ring.nodes.len());
                tracing::info!(
                    "{key} is {size}, the ring has {n} nodes: once there is a ring it alone counts"
                );
            }
            warn_of_mode(settings, ring);
            // Who joins and names no node brings a new one, and leaves those that are there to their launchers.
            let others = settings.join.is_some() && settings.nodes.is_none();
            ring.nodes.iter().filter(|n| !others && settings.is_ours(n)).map(|n| n.name).collect()
        }
        None => settings.founders(size.unwrap_or(0)),
    };
    if ours.is_empty() && settings.nodes.is_none() && settings.join.is_none() {
        return Err(nothing_to_do(settings, ring.as_deref()));
    }
    for node in &ours {
        check_elsewhere(settings, *node, &instances)?;
    }
    Ok(Found { ring, ours })
}

/// The ring as it stands in Consul.
pub fn ring(client: &Client, settings: &Settings) -> anyhow::Result<Option<Arc<Ring>>> {
    let key = settings.keys.ring();
    let Some(entry) = client.get_with(&key, &Query::consistent())?.value else { return Ok(None) };
    let ring = Ring::from_json(&entry.value)
        .map_err(|e| refused(format!("{key} in Consul is of no use, and is left as it is: {e}")))?;
    Ok(Some(Arc::new(ring)))
}

/// Where Consul has no ring, nodes may: then the cluster is there, and will be restored.
fn held(settings: &Settings, instances: &[Instance]) -> Option<Arc<Ring>> {
    let live = instances.iter().filter(|i| i.status() == CheckStatus::Passing);
    let rings = live.filter_map(|i| {
        settings.keys.node_of(&i.service.id)?;
        ask::status(&(i.address().to_owned(), i.service.port), STATUS_PATIENCE)?.1
    });
    let newest = rings.max_by_key(|ring| ring.epoch)?;
    tracing::warn!("Consul has no ring, nodes hold that of epoch {}: it will be restored", newest.epoch);
    Some(newest)
}

/// The size in Consul, set where the operator said one and none was there.
fn size(client: &Client, settings: &Settings, founded: bool) -> anyhow::Result<Option<u16>> {
    let key = settings.keys.size();
    let wanted = settings.size.or(settings.dev);
    let mut entry = client.get_with(&key, &Query::consistent())?.value;
    if entry.is_none()
        && let Some(wanted) = wanted
    {
        // Whoever was faster has said it.
        client.put_if(&key, wanted.to_string(), 0)?;
        entry = client.get_with(&key, &Query::consistent())?.value;
    }
    let Some(entry) = entry else {
        if founded || settings.join.is_some() {
            return Ok(None);
        }
        return Err(refused(format!(
            "{key} is not set in Consul. To found a cluster of 4 nodes: consul kv put {key} 4"
        )));
    };
    let text = String::from_utf8_lossy(&entry.value).trim().to_owned();
    let size = match parse_size(&text) {
        Ok(size) => size,
        Err(why) if founded => {
            tracing::warn!("{key} is {:?}: {why}", shortened(&text));
            return Ok(None);
        }
        Err(why) => {
            return Err(refused(format!(
                "{key} is {:?} in Consul: {why}. For 4 nodes: consul kv put {key} 4",
                shortened(&text)
            )));
        }
    };
    match settings.size {
        Some(wanted) if wanted != size => Err(refused(format!(
            "{key} is {size} in Consul, the command line says {wanted}. To change it: consul kv put {key} {wanted}"
        ))),
        _ => Ok(Some(size)),
    }
}

/// Plain digits, as `consul kv put` writes them.
pub fn parse_size(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("it takes plain digits, 1 to {SIZE_MAX}"));
    }
    match text.parse() {
        Ok(size) => check_size(size),
        Err(_) => Err(wrong_size(shortened(text))),
    }
}

/// What stands in Consul, for a message: anybody may have written anything there.
pub fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

fn warn_of_mode(settings: &Settings, ring: &Ring) {
    if settings.founding.chosen && settings.founding.strategy != ring.strategy {
        let (wanted, is) = (settings.founding.strategy, ring.strategy);
        tracing::warn!(
            "--mode {wanted} only founds; the ring is {is}: client_producer migrate --mode {wanted}"
        );
    }
}

fn nothing_to_do(settings: &Settings, ring: Option<&Ring>) -> anyhow::Error {
    let at = |n: &ringkv_common::ring::Node| format!("{} at {}:{}", n.name, n.host, n.ports.client);
    let nodes: Vec<String> = ring.iter().flat_map(|r| r.nodes.iter().map(at)).take(8).collect();
    refused(format!(
        "none of the cluster's nodes is to be started here, at {}: they are {}. To add one: --join HOST:PORT of any \
         of them; to start these: the --port and --advertise they were started with",
        settings.host,
        nodes.join(", ")
    ))
}

/// A node that lives somewhere else must not be started a second time here.
fn check_elsewhere(settings: &Settings, node: NodeName, instances: &[Instance]) -> anyhow::Result<()> {
    let place = settings.place(node)?;
    let id = settings.keys.service_id(node);
    let here = |i: &&Instance| i.address() == place.host && i.service.port == place.ports.client;
    let alive = |i: &&Instance| i.service.id == id && i.status() == CheckStatus::Passing;
    match instances.iter().find(|i| alive(i) && !here(i)) {
        Some(i) => Err(refused(format!(
            "{node} is registered with Consul and healthy at {}:{}, here it would be at {}:{}; end that one first, or \
             use another --cluster",
            i.address(),
            i.service.port,
            place.host,
            place.ports.client
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_plain_digits_from_1_to_100() {
        assert_eq!((parse_size("4"), parse_size("100")), (Ok(4), Ok(100)));
        for text in ["", "four", "\"4\"", "-4", "4.0", "0", "101", "99999999999999999999999"] {
            assert!(parse_size(text).is_err_and(|why| why.contains("1 to 100")), "{text}");
        }
    }

    #[test]
    fn a_size_that_is_none_is_quoted_as_it_stands_there_and_not_at_any_length() {
        for text in ["99999999999999999999", "18446744073709551615", "101"] {
            let why = parse_size(text).expect_err(text);
            assert!(why.ends_with(&format!("not {text}")), "{why}");
        }
        let why = parse_size(&"9".repeat(500_000)).expect_err("too many");
        assert!(why.ends_with("999…") && why.len() < 200, "{why}");
        assert_eq!(shortened(&"ü".repeat(65)).chars().count(), 65);
    }
}
