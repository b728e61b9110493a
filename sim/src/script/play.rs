//! A script is played: step by step, then to the verdict.

use std::collections::BTreeMap;
use std::fs::File;

use serde_json::Value as Json;

use super::ask::Ask;
use super::{Line, Script, Step, Wrong};
use crate::cluster::Cluster;
use crate::happening::Asker;
use crate::seeds::caught;

/// How long a client waits for an answer, in milliseconds: longer than what any script pauses.
const SILENCE_MS: u64 = 15_000;

/// How a script ended.
#[derive(Clone, Debug)]
pub struct Played {
    /// Which.
    pub name: String,
    /// Requests that were sent.
    pub operations: u64,
    /// Those that a node answered by doing what was asked, or by showing what is there.
    pub acknowledged: u64,
    /// How long it took in the cluster's time, in milliseconds.
    pub virtual_ms: u64,
    /// Things that went wrong on purpose.
    pub faults: u64,
    /// Identifies the history.
    pub trace: u64,
    /// What was not as it must be.
    pub wrong: Vec<String>,
}

impl Played {
    /// The line that says it all.
    pub fn line(&self) -> String {
        let Played { name, operations, acknowledged, faults, trace, wrong, .. } = self;
        let verdict = if wrong.is_empty() { "ok" } else { "FAILED" };
        format!(
            "script {name}: {operations} operations, {acknowledged} acknowledged, {faults} faults, trace {trace:016x}, {verdict}"
        )
    }
}

impl Script {
    /// Plays it from the founding to the verdict; with a trace, writing there what happens.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn play(&self, trace: Option<&File>) -> Played {
        let mut cluster = Cluster::new(self.settings.clone());
        if let Some(file) = trace {
            cluster.trace.write_to(file.try_clone().expect("a file that is open"));
        }
        let mut cluster = cluster.found();
        let wrong = caught(|| {
            let mut player =
                Player { cluster: &mut cluster, contexts: BTreeMap::new(), open: BTreeMap::new() };
            // What follows a step that went wrong follows from that.
            match self.steps.iter().try_for_each(|line| player.play(line).map_err(|what| (line, what))) {
                Ok(()) => player.end(),
                Err((line, what)) => {
                    let what = format!("{}: {what}", line.text);
                    vec![Wrong { script: self.name.clone(), line: line.number, what }.to_string()]
                }
            }
        });
        Played {
            name: self.name.clone(),
            operations: cluster.operations,
            acknowledged: cluster.acknowledged,
            virtual_ms: cluster.now_us / 1000,
            faults: cluster.faults,
            trace: cluster.trace.hash(),
            wrong,
        }
    }
}

/// A cluster, and what the script's client remembers.
struct Player<'a> {
    cluster: &'a mut Cluster,
    /// The context that each key was last shown with.
    contexts: BTreeMap<String, Json>,
    /// Requests whose answers are taken later.
    open: BTreeMap<String, (u64, String)>,
}

impl Player<'_> {
    fn play(&mut self, line: &Line) -> Result<(), String> {
        self.cluster.trace.say(self.cluster.now_us, || format!("line {}: {}", line.number, line.text));
        match &line.step {
            Step::Ask(ask) => self.ask(ask),
            Step::Answer(awaited) => {
                let (number, key) =
                    self.open.remove(&awaited.name).expect("the parser pairs answers with requests");
                awaited.expected.judge(self.answer(number, &key).as_ref())
            }
            Step::Consent(consent) => {
                let base = self.cluster.newest.as_ref().map_or(0, |ring| ring.epoch);
                let body = consent.body(base);
                let number = self.cluster.ask(consent.node, body, Asker::Scenario, SILENCE_MS);
                consent.judge(self.cluster.answer_to(number).as_ref())
            }
            Step::Fault(disturbance) => disturbance.happen(self.cluster),
            Step::Check { check, within_ms } => {
                let keys: Vec<String> = self.cluster.scripted.iter().cloned().collect();
                self.cluster.run_until(*within_ms, |cluster| check.look(cluster, &keys).is_ok());
                check.look(self.cluster, &keys)
            }
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), String> {
        let key = &ask.key;
        let context = if ask.returned {
            let shown = self.contexts.get(key);
            Some(shown.ok_or_else(|| format!("no get of {key} was answered with a context before"))?)
        } else {
            None
        };
        let body = ask.body(context);
        self.cluster.scripted.insert(key.clone());
        let number = self.cluster.ask(ask.node, body, Asker::Scenario, SILENCE_MS);
        match &ask.later {
            Some(name) => {
                self.open.insert(name.clone(), (number, key.clone()));
                Ok(())
            }
            None => ask.judge(self.answer(number, key).as_ref()),
        }
    }

    fn answer(&mut self, number: u64, key: &str) -> Option<Json> {
        let reply = self.cluster.answer_to(number);
        self.cluster.operations += 1;
        let done = |r: &Json| r["status"] != "ERROR" || r["code"] == "KEY_NOT_FOUND";
        self.cluster.acknowledged += u64::from(reply.as_ref().is_some_and(done));
        let context = reply.as_ref().map(|r| &r["context"]).filter(|context| context.is_object());
        self.contexts.extend(context.map(|context| (key.to_owned(), context.clone())));
        reply
    }

    /// Ends all faults, and says what is wrong when the cluster has come to rest.
    fn end(self) -> Vec<String> {
        let cluster = self.cluster;
        cluster.heal();
        let members = cluster.newest.iter().flat_map(|ring| ring.nodes.iter().map(|node| node.name));
        members.collect::<Vec<_>>().into_iter().for_each(|node| cluster.start(node));
        // The last pause ends.
        cluster.run_ms(5_000);
        cluster.verdict()
    }
}
