//! Questions to nodes and their answers: those of clients, of launchers and of the scenario.

use ringkv_common::name::NodeName;
use ringkv_server::core::{Client, Event};
use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::happening::{Asker, Happening};

/// The longest time that an answer is awaited, in milliseconds: what asks hears silence before.
const ANSWER_MS: u64 = 60_000;

impl Cluster {
    pub(crate) fn on_asked(&mut self, node: NodeName, ask: u64, body: Vec<u8>) {
        let Some(process) = self.processes.get(&node) else {
            // A request waits in the client's socket, and may reach the node's next life.
            if self.asks.contains_key(&ask) && self.random.chance(3, 4) {
                self.after(300_000, Happening::Asked { node, ask, body });
            }
            return;
        };
        self.trace.add(self.now_us, "asked", &body);
        self.trace.say(self.now_us, || format!("{node} is asked {ask}: {}", String::from_utf8_lossy(&body)));
        self.owed.insert(ask, (node, process.life));
        self.tell_node(node, Event::Request { client: Client(ask), body: &body, value: None });
    }

    /// A node's reply leaves it.
    pub(crate) fn on_reply(&mut self, node: NodeName, life: u64, ask: u64, body: Vec<u8>) {
        if self.owed.remove(&ask).is_none() {
            self.history.violations.push(format!("{node} answered request {ask} twice"));
        }
        self.check_held(node, ask, &body);
        let after_us = self.delay();
        self.after(after_us, Happening::Answered { node, life, ask, body });
    }

    pub(crate) fn on_answered(&mut self, node: NodeName, life: u64, ask: u64, body: Vec<u8>) {
        // What was under way from a process that died may be lost.
        let alive = self.processes.get(&node).is_some_and(|p| p.life == life);
        if !alive && self.random.chance(1, 2) {
            return;
        }
        self.trace.add(self.now_us, "answered", &body);
        self.trace.say(self.now_us, || {
            let text: String = String::from_utf8_lossy(&body).into_owned();
            format!("{node} answers {ask}: {text}")
        });
        match self.asks.remove(&ask) {
            None => {}
            Some(Asker::Worker { worker, turn }) => self.worker_answered(worker, turn, Some(&body)),
            Some(Asker::Scenario) => drop(self.replies.insert(ask, Some(body))),
            Some(asker) => self.launcher_answered(asker, Some(&body)),
        }
    }

    pub(crate) fn on_silence(&mut self, ask: u64) {
        match self.asks.remove(&ask) {
            None => {}
            Some(Asker::Scenario) => drop(self.replies.insert(ask, None)),
            Some(Asker::Worker { worker, turn }) => self.worker_answered(worker, turn, None),
            Some(asker) => self.launcher_answered(asker, None),
        }
    }

    /// Asks a node as any client does; the asker hears an answer, or silence after so many milliseconds. The number
    /// returned is the question's.
    pub(crate) fn ask(&mut self, node: NodeName, body: String, asker: Asker, silence_ms: u64) -> u64 {
        self.asked += 1;
        let ask = self.asked;
        self.asks.insert(ask, asker);
        let after_us = self.delay();
        self.after(after_us, Happening::Asked { node, ask, body: body.into_bytes() });
        self.after(silence_ms * 1000, Happening::Silence { ask });
        ask
    }

    /// Asks a node on the scenario's behalf and waits for the answer.
    ///
    /// # Panics
    /// Without an answer within 10 s.
    pub fn ask_now(&mut self, node: NodeName, body: &str) -> Json {
        let ask = self.ask(node, body.to_owned(), Asker::Scenario, 10_000);
        let reply = self.answer_to(ask);
        reply.unwrap_or_else(|| panic!("seed {}: {node} did not answer {body}", self.settings.seed))
    }

    /// Waits for the answer to one of the scenario's questions; `None`: there was silence.
    pub(crate) fn answer_to(&mut self, ask: u64) -> Option<Json> {
        self.run_until(ANSWER_MS, |c| c.replies.contains_key(&ask));
        let reply = self.replies.remove(&ask).flatten()?;
        Some(serde_json::from_slice(&reply).expect("replies are JSON"))
    }

    /// Requests that living nodes took and have not answered.
    pub fn unanswered(&self) -> Vec<(u64, NodeName)> {
        let lives =
            |(node, life): &(NodeName, u64)| self.processes.get(node).is_some_and(|p| p.life == *life);
        self.owed.iter().filter(|(_, at)| lives(at)).map(|(ask, (node, _))| (*ask, *node)).collect()
    }
}
