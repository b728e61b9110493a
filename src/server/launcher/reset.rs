//! `--reset`: forgets a cluster none of whose nodes runs.

use consul::{CheckStatus, Client};
use ringkv_common::name::NodeName;

use super::nodes::Nodes;
use crate::server::settings::Settings;
use crate::server::{kept, logs, refused};

/// Removes the ring, all signals and results, and services that are not healthy; says what it removed. The size stays:
/// it is the operator's.
pub fn run(client: &Client, settings: &Settings) -> anyhow::Result<()> {
    let keys = &settings.keys;
    let instances = client.instances(keys.cluster(), false)?;
    let names = |i: &consul::Instance| keys.node_of(&i.service.id);
    let live: Vec<String> = instances
        .iter()
        .filter(|i| i.status() == CheckStatus::Passing)
        .filter_map(|i| Some(format!("{} at {}:{}", names(i)?, i.address(), i.service.port)))
        .collect();
    if !live.is_empty() {
        return Err(refused(format!(
            "--reset: nodes run: {}; end them first. Nothing was removed",
            live.join(", ")
        )));
    }
    check_processes(settings, &mut instances.iter().filter_map(names))?;

    let mut removed = Vec::new();
    if client.get(&keys.ring())?.is_some() {
        client.delete(&keys.ring())?;
        removed.push(keys.ring());
    }
    for prefix in [keys.signals(), keys.results()] {
        removed.extend(client.keys(&prefix, None)?);
        client.delete_prefix(&prefix)?;
    }
    for id in instances.iter().filter(|i| names(i).is_some()).map(|i| &i.service.id) {
        client.deregister(id)?;
        removed.push(format!("service {id}"));
    }
    let rings = kept::forget_all(&settings.data_dir).map_err(|e| {
        refused(format!("--reset: rings in {} cannot be removed: {e}", settings.data_dir.display()))
    })?;
    match removed.len() {
        0 => logs::say(&format!("nothing to forget: Consul holds nothing of {}", keys.cluster())),
        _ => logs::say(&format!("forgot {}", removed.join(", "))),
    }
    if rings > 0 {
        logs::say(&format!(
            "forgot the ring in the folders of nodes in {}: {rings}",
            settings.data_dir.display()
        ));
    }
    logs::say(&format!("{} was left as it is", keys.size()));
    Ok(())
}

/// A node that runs although its check is not healthy runs all the same.
fn check_processes(settings: &Settings, nodes: &mut dyn Iterator<Item = NodeName>) -> anyhow::Result<()> {
    let mut found = Nodes::new(settings.clone(), None)?;
    for node in nodes {
        if settings.place(node).is_ok() {
            found.adopt_stray(node);
        }
    }
    match found.running_now().first() {
        Some((name, pid)) => {
            Err(refused(format!("--reset: {name} runs, pid {pid}; end it first. Nothing was removed")))
        }
        None => Ok(()),
    }
}
