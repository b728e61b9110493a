//! Before a change: the newcomer is launched, every live node is asked, and whoever is told no tries again later.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Orchestrator, Parties, Question, Signal, Wanted, parties};
use crate::name::NodeName;
use crate::ring::plan::Refusal;
use crate::ring::{Kind, Node, Outcome, Ring, SignalId, Verdict, plan};
use crate::time::Now;

/// How long a signal is tried before it is refused, in milliseconds.
const PATIENCE_MS: u64 = 30_000;
/// How long answers are awaited, in milliseconds: a newcomer needs time to reach everybody.
const ANSWER_MS: u64 = 5_000;
/// The pause after a first no, in milliseconds, doubled with each, and its bound; then half of it at random.
const PAUSE_MS: (u64, u64) = (100, 5_000);

/// The attempt to begin one change.
#[derive(Debug)]
pub(super) struct Negotiation {
    signal: SignalId,
    began_us: u64,
    attempts: u32,
    /// Whether the newcomer was launched here.
    launched: bool,
    pub(super) stage: Stage,
}

/// Where the attempt stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// The newcomer was launched and has not registered.
    Launching,
    /// It could not be launched.
    NotLaunched { why: String },
    /// Answers come in; `None` is awaited.
    Asking { token: u64, until_us: u64, answers: BTreeMap<NodeName, Option<Result<(), String>>> },
    /// Told no; the next attempt starts then.
    Pausing { until_us: u64 },
}

impl Negotiation {
    pub(super) fn not_launched(&mut self, node: NodeName, why: String) {
        if matches!(self.stage, Stage::Launching) && self.signal.name == node.to_string() {
            self.stage = Stage::NotLaunched { why };
        }
    }

    /// Whether nothing can be done now but wait.
    fn waits(&self, now: Now) -> bool {
        match &self.stage {
            Stage::Launching | Stage::NotLaunched { .. } => false,
            Stage::Pausing { until_us } => now.mono_us < *until_us,
            Stage::Asking { until_us, answers, .. } => {
                now.mono_us < *until_us && answers.values().any(Option::is_none)
            }
        }
    }

    pub(super) fn heard(&mut self, node: NodeName, token: u64, answer: Result<(), String>) {
        if let Stage::Asking { token: asked, answers, .. } = &mut self.stage
            && *asked == token
            && let Some(slot) = answers.get_mut(&node)
        {
            *slot = Some(answer);
        }
    }
}

impl Orchestrator {
    /// Takes the oldest signal a step further.
    pub(super) fn negotiate(&mut self, now: Now, ring: &Ring, actions: &mut Vec<Action>) {
        let Some(signal) = self.next_signal() else { return };
        let wanted = match signal.wanted() {
            Ok(wanted) => wanted,
            Err(error) => return self.refuse(ring, &signal, signal.text(), error.to_string(), actions),
        };
        let op = wanted.kind.to_string();
        if let Some(done) = nothing_to_do(ring, &signal, wanted.kind) {
            return self.answer_at_once(&signal, done, actions);
        }
        if let Err(refusal) = check(ring, wanted.kind) {
            return self.refuse(ring, &signal, op, refusal.to_string(), actions);
        }
        if self.negotiation.as_ref().is_none_or(|n| n.signal != signal.id) {
            let stage = Stage::Pausing { until_us: 0 };
            let (signal, began_us) = (signal.id.clone(), now.mono_us);
            self.negotiation = Some(Negotiation { signal, began_us, attempts: 0, launched: false, stage });
        }
        if let Some(newcomer) = wanted.kind.joins()
            && !self.candidates.get(&newcomer).is_some_and(|c| c.healthy)
        {
            return self.await_newcomer(now, ring, &signal, &wanted, newcomer, actions);
        }
        if self.negotiation.as_ref().is_some_and(|n| n.waits(now)) {
            return;
        }
        let plan = match self.plan(ring, &signal, &wanted) {
            Ok(plan) => plan,
            Err(refusal) => return self.refuse(ring, &signal, op, refusal, actions),
        };
        self.consult(now, ring, &signal, plan, actions);
    }

    /// All signals wait for the change to end but this one, which would undo it as soon as it is done.
    pub(super) fn refuse_removal_of_newcomer(
        &mut self,
        ring: &Ring,
        running: Kind,
        actions: &mut Vec<Action>,
    ) {
        let Some(newcomer) = running.joins() else { return };
        let removal = Kind::Remove { node: newcomer };
        let undoes = |s: &&Signal| s.wanted().is_ok_and(|w| w.kind == removal);
        if let Some(signal) = self.signals.iter().find(undoes).cloned() {
            let why = Refusal::BeingAdded(newcomer).to_string();
            self.refuse(ring, &signal, removal.to_string(), why, actions);
        }
    }

    fn next_signal(&self) -> Option<Signal> {
        self.signals.iter().find(|s| s.wanted().map_or(true, |w| self.can_serve(&w))).cloned()
    }

    fn await_newcomer(
        &mut self,
        now: Now,
        ring: &Ring,
        signal: &Signal,
        wanted: &Wanted,
        newcomer: NodeName,
        actions: &mut Vec<Action>,
    ) {
        let negotiation = self.negotiation.as_mut().expect("begun by the caller");
        if let Stage::NotLaunched { why } = &negotiation.stage {
            let why = format!("{newcomer} cannot be launched: {why}");
            return self.refuse(ring, signal, format!("add {newcomer}"), why, actions);
        }
        if now.mono_us >= negotiation.began_us + PATIENCE_MS * 1000 {
            let why = format!("{newcomer} did not become healthy within {} s", PATIENCE_MS / 1000);
            return self.refuse(ring, signal, format!("add {newcomer}"), why, actions);
        }
        if !matches!(negotiation.stage, Stage::Launching) {
            negotiation.stage = Stage::Launching;
            // A signal that says where the newcomer is speaks of a process that somebody else looks after.
            let launches = self.config.launches.as_ref().is_none_or(|l| l.contains(&newcomer));
            if launches && wanted.host.is_none() {
                negotiation.launched = true;
                actions.push(Action::Launch(newcomer));
            }
        }
    }

    /// The ring with which the change would begin, or why it cannot.
    fn plan(&self, ring: &Ring, signal: &Signal, wanted: &Wanted) -> Result<Ring, String> {
        let id = signal.id.clone();
        let plan = match wanted.kind {
            Kind::Add { node } => plan::add(ring, self.newcomer(node, wanted)?, id),
            Kind::Remove { node } => plan::remove(ring, node, id),
            Kind::Migrate { mode } => plan::migrate(ring, mode, id),
        };
        let plan = plan.map_err(|refusal| refusal.to_string())?;
        // Who would only give may be away where enough others of its rows are there.
        let Parties { rows, takers } = parties(&plan);
        let away = |row: &[NodeName]| row.iter().filter(|n| !self.healthy(**n)).copied().collect::<Vec<_>>();
        let few =
            rows.iter().map(|row| (row.len(), away(row))).filter(|(of, away)| away.len() > of - (of / 2 + 1));
        let mut suspects: BTreeSet<NodeName> = takers.into_iter().filter(|n| !self.healthy(*n)).collect();
        suspects.extend(few.flat_map(|(_, away)| away));
        if !suspects.is_empty() {
            let suspects: Vec<String> = suspects.iter().map(|n| n.to_string()).collect();
            return Err(format!(
                "{} would give or take data and cannot be reached: start it again first",
                suspects.join(", ")
            ));
        }
        Ok(plan)
    }

    fn newcomer(&self, name: NodeName, wanted: &Wanted) -> Result<Node, String> {
        let found = &self.candidates[&name].node;
        let elsewhere = wanted.host.as_ref().is_some_and(|h| *h != found.host)
            || wanted.port.is_some_and(|p| p != found.ports.client);
        if elsewhere {
            return Err(format!(
                "{name} is registered at {}:{}, not where the signal says",
                found.host, found.ports.client
            ));
        }
        let mut node = found.clone();
        node.zone = wanted.zone.clone().unwrap_or(node.zone);
        node.weight = wanted.weight.unwrap_or(node.weight);
        Ok(node)
    }

    fn healthy(&self, name: NodeName) -> bool {
        self.candidates.get(&name).is_some_and(|c| c.healthy)
    }

    fn consult(&mut self, now: Now, ring: &Ring, signal: &Signal, plan: Ring, actions: &mut Vec<Action>) {
        let kind = plan.change.as_ref().expect("a plan has a change").kind;
        let negotiation = self.negotiation.as_mut().expect("begun by the caller");
        match &negotiation.stage {
            Stage::Pausing { .. } | Stage::Launching | Stage::NotLaunched { .. } => {
                self.ask_all(now, &plan, actions)
            }
            Stage::Asking { answers, .. } => {
                let no = |(node, answer): (&NodeName, &Option<Result<(), String>>)| match answer {
                    Some(Ok(())) => None,
                    Some(Err(why)) => Some(format!("{node}: {why}")),
                    None => Some(format!("{node} gave no answer within {} s", ANSWER_MS / 1000)),
                };
                let mut nos: Vec<String> = answers.iter().filter_map(no).collect();
                // A few know too little: the ring may have been set back, and most may hold a newer one.
                let members = answers.keys().filter(|n| ring.node_named(**n).is_some()).count();
                let all = ring.nodes.len();
                if members * 2 <= all {
                    nos.push(format!(
                        "{members} of the ring's {all} nodes are healthy, a change needs most of them"
                    ));
                }
                if nos.is_empty() {
                    self.negotiation = None;
                    return self.write(plan, actions);
                }
                let why = nos.join("; ");
                if now.mono_us >= negotiation.began_us + PATIENCE_MS * 1000 {
                    let why = why + &what_to_do(answers);
                    return self.refuse(ring, signal, kind.to_string(), why, actions);
                }
                self.pause(now);
            }
        }
    }

    fn ask_all(&mut self, now: Now, plan: &Ring, actions: &mut Vec<Action>) {
        let kind = plan.change.as_ref().expect("a plan has a change").kind;
        let live: Vec<Node> = plan.nodes.iter().filter(|n| self.healthy(n.name)).cloned().collect();
        self.tokens += 1;
        let token = self.tokens;
        let base = plan.epoch - 1;
        for node in &live {
            let joins = kind.joins() == Some(node.name);
            let reach = live.iter().filter(|n| joins && n.name != node.name).cloned().collect();
            actions.push(Action::Ask(node.name, token, Question { kind, base, reach }));
        }
        let negotiation = self.negotiation.as_mut().expect("begun by the caller");
        let answers = live.iter().map(|n| (n.name, None)).collect();
        negotiation.stage = Stage::Asking { token, until_us: now.after_ms(ANSWER_MS), answers };
    }

    fn pause(&mut self, now: Now) {
        let attempts = self.negotiation.as_ref().map_or(0, |n| n.attempts);
        let pause = (PAUSE_MS.0 << attempts.min(16)).min(PAUSE_MS.1);
        let pause = pause / 2 + self.random_below(pause / 2 + 1);
        let negotiation = self.negotiation.as_mut().expect("begun by the caller");
        negotiation.attempts += 1;
        negotiation.stage = Stage::Pausing { until_us: now.after_ms(pause) };
    }

    fn refuse(
        &mut self,
        ring: &Ring,
        signal: &Signal,
        op: String,
        message: String,
        actions: &mut Vec<Action>,
    ) {
        let launched = signal.wanted().ok().and_then(|w| w.kind.joins());
        // One that goes by a newer ring is no newcomer: it may be a member of that, and hold data. So may one that has
        // not been heard, unless it was launched just now.
        let stranger = |n: &NodeName| {
            let launched = || self.negotiation.as_ref().is_some_and(|n| n.launched);
            let fresh = self.reports.get(n).map_or_else(launched, |r| r.epoch <= ring.epoch);
            ring.node_named(*n).is_none() && fresh
        };
        if let Some(newcomer) = launched.filter(stranger) {
            actions.push(Action::Stop(newcomer));
        }
        let signal_id = signal.id.clone();
        let outcome = Outcome {
            op,
            outcome: Verdict::Refused,
            message,
            epoch: ring.epoch,
            moved: 0,
            signal: signal_id,
        };
        self.answer_at_once(signal, outcome, actions);
    }

    /// Answers a signal that needs no change. The result goes first: a crash between the two repeats the answer.
    fn answer_at_once(&mut self, signal: &Signal, outcome: Outcome, actions: &mut Vec<Action>) {
        self.negotiation = None;
        actions.push(Action::Answer(outcome));
        self.forget(&signal.id, actions);
    }
}

/// What helps against silence of nodes that Consul calls healthy.
fn what_to_do(answers: &BTreeMap<NodeName, Option<Result<(), String>>>) -> String {
    let silent = answers.iter().filter(|(_, answer)| answer.is_none());
    let silent: Vec<String> = silent.map(|(node, _)| node.to_string()).collect();
    if silent.is_empty() {
        return String::new();
    }
    format!(
        ". All that Consul calls healthy have to agree: end the process of {}, its launcher starts it again",
        silent.join(", ")
    )
}

fn check(ring: &Ring, kind: Kind) -> Result<(), Refusal> {
    match kind {
        Kind::Add { node } => plan::check_add(ring, node),
        Kind::Remove { node } => plan::check_remove(ring, node),
        Kind::Migrate { .. } => Ok(()),
    }
}

/// A migration to the mode that is there and was chosen: done already.
fn nothing_to_do(ring: &Ring, signal: &Signal, kind: Kind) -> Option<Outcome> {
    let Kind::Migrate { mode } = kind else { return None };
    (ring.chosen && ring.strategy == mode).then(|| Outcome {
        op: kind.to_string(),
        outcome: Verdict::Done,
        message: format!("the ring is {mode} already: nothing moved"),
        epoch: ring.epoch,
        moved: 0,
        signal: signal.id.clone(),
    })
}
