//! The end of a history: everything comes to rest, and is looked at as a whole.

use std::collections::{BTreeMap, BTreeSet};

use ringkv_common::name::NodeName;

use crate::cluster::Cluster;
use crate::hostile;
use crate::rounds::Shared;

/// Messages under way in one direction at most: what a few clients cause, with all repetitions.
const UNDER_WAY_MAX: usize = 20_000;

impl Cluster {
    /// Ends the work, waits for rest, accepts what was lost, reads everything, and says what is wrong.
    pub fn verdict(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.end_work() {
            wrong.push("some client's operation did not end within a minute".to_owned());
        }
        // A change whose data was lost on both sides waits for the operator.
        if !self.run_until(150_000, |c| c.at_rest()) && !self.said_lost().is_empty() {
            self.accept_loss();
        }
        if !self.run_until(250_000, |c| c.at_rest()) {
            let change = self.newest.as_ref().and_then(|r| r.change.as_ref()).map(|c| (c.kind, c.phase));
            wrong.push(format!("no rest: change {change:?}, signals {:?}", self.consul.signals()));
            return wrong;
        }
        self.say_lost(&mut wrong);
        let keys = self.keys_read();
        self.settle(&keys, &mut wrong);
        self.history.weak = false;
        self.read_all();
        // Who lacked something is told behind the answers.
        self.run_ms(5_000);
        wrong.extend(self.differing(&keys).into_iter().map(|what| format!("read by all {what}")));
        self.compare_collections(&mut wrong);
        // The longest time that any request may take.
        self.run_ms(31_000);
        // Launchers go on asking how nodes stand: there is a moment when all that is answered too.
        self.run_until(2_000, |c| c.unanswered().is_empty() && c.idle());
        for (ask, node) in self.unanswered() {
            wrong.push(format!("{node} never answered request {ask}"));
        }
        for name in self.running() {
            if let Some(status) = self.status(name)
                && (status.tasks > 0 || status.waiting_bytes > 0)
            {
                let bytes = status.waiting_bytes;
                wrong.push(format!("{name} at rest has {} tasks and {bytes} waiting bytes", status.tasks));
            }
        }
        if self.network.fullest() > UNDER_WAY_MAX {
            wrong.push(format!("{} messages wait in one direction", self.network.fullest()));
        }
        wrong.append(&mut self.history.violations);
        wrong
    }

    /// Reads all keys while losses are still to be said, then accepts them.
    fn say_lost(&mut self, wrong: &mut Vec<String>) {
        let said = self.said_lost();
        for (node, partition) in said.iter().filter(|(_, p)| !self.lost.contains(p)) {
            wrong.push(format!("{node} says that partition {partition} is lost, and another node had it"));
        }
        if said.is_empty() {
            return;
        }
        self.read_all();
        self.accept_loss();
        if !self.said_lost().is_empty() {
            wrong.push(format!("after ACCEPT_LOSS there still are {:?}", self.said_lost()));
        }
    }

    /// The operator accepts what nodes say is lost.
    fn accept_loss(&mut self) {
        let nodes: BTreeSet<NodeName> = self.said_lost().into_iter().map(|(node, _)| node).collect();
        for node in nodes {
            self.ask_now(node, r#"{"op":"ACCEPT_LOSS"}"#);
        }
        self.lost.clear();
        self.history.accept_loss();
    }

    /// What nodes say they lost with their memory, as STATUS shows it.
    pub fn said_lost(&self) -> Vec<(NodeName, u32)> {
        let of = |name: NodeName| {
            let lost = self.status(name).map(|s| s.report.lost_partitions).unwrap_or_default();
            lost.into_iter().map(move |p| (name, p))
        };
        self.running().into_iter().flat_map(of).collect()
    }

    /// Keys that are read at rest.
    fn keys_read(&self) -> Vec<String> {
        let judged = self.history.keys().into_iter().chain(self.history.shared.keys());
        judged.chain(hostile::own_keys()).chain(self.scripted.iter().cloned()).collect()
    }

    /// Reads every key once, from all of its owners.
    fn read_all(&mut self) {
        let Some(ring) = self.newest.clone() else { return };
        let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
        let unjudged = hostile::own_keys().chain(self.scripted.iter().cloned());
        for key in self.history.shared.keys().chain(unjudged).collect::<Vec<String>>() {
            let Some(node) = self.random.pick(&names) else { return };
            let reply = self.ask_now(node, &read_all_owners(&key));
            if Shared::has(&key) && !self.scripted.contains(&key) {
                self.check_shared(&key, &reply);
            }
        }
        for key in self.history.keys() {
            let Some(node) = self.random.pick(&names) else { return };
            let read = self.history.begin_read(&key, true);
            let reply = self.ask_now(node, &read_all_owners(&key));
            match (reply["value"].as_u64(), reply["code"].as_str()) {
                (Some(value), _) => self.history.end_read(read, Some(value), false),
                (None, Some("KEY_NOT_FOUND")) => self.history.end_read(read, None, reply["lost"] == true),
                _ => self.history.violations.push(format!("at rest {node} answers for {key}: {reply}")),
            }
        }
    }

    /// All nodes' collections together hold each key once.
    fn compare_collections(&mut self, wrong: &mut Vec<String>) {
        let Some(ring) = self.newest.clone() else { return };
        let mut holders: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
        for node in ring.nodes.iter().map(|n| n.name) {
            let reply = self.ask_now(node, r#"{"op":"GET_ALL"}"#);
            let Some(records) = reply["collection"].as_array() else {
                wrong.push(format!("at rest {node} answers GET_ALL: {reply}"));
                continue;
            };
            let keys = records.iter().filter_map(|r| r["key"].as_str());
            let judged = |key: &&str| {
                !key.starts_with(hostile::OWN) && !Shared::has(key) && !self.scripted.contains(*key)
            };
            for key in keys.filter(judged) {
                holders.entry(key.to_owned()).or_default().push(node);
            }
        }
        for (key, nodes) in holders.iter().filter(|(_, nodes)| nodes.len() != 1) {
            wrong.push(format!("{key} is in the collections of {nodes:?}"));
        }
        let shown: BTreeSet<String> = holders.into_keys().collect();
        let (must, may) = self.history.present();
        for key in must.difference(&shown) {
            wrong.push(format!("{key} is in no collection"));
        }
        for key in shown.difference(&may) {
            wrong.push(format!("{key} is in a collection and was deleted or never written"));
        }
    }

    fn idle(&self) -> bool {
        let statuses = self.running().into_iter().filter_map(|n| self.status(n));
        statuses.into_iter().all(|s| s.tasks == 0 && s.waiting_bytes == 0)
    }
}

fn read_all_owners(key: &str) -> String {
    format!(r#"{{"op":"GET_ONE","key":"{key}","level":"ALL"}}"#)
}
