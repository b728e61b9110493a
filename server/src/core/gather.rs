//! A read that needs several owners: each says what it holds, the answers are joined, and the outcome is shown when so
//! many owners hold it that no later read can show less.
//!
//! ```text
//!   own state ─► Query to the others ─► R have answered ─► joined: who differs? ─┬─ nobody needed ─► answer
//!                                                                               └─ told ─► enough have it ─► answer
//! ```
//!
//! An INSERT or UPDATE asks the same question first, and goes by what was joined.
//!
//! Whoever differs is told what it lacks: that is read repair (*Dynamo* §5). Telling before answering, where it is
//! needed for the quorum, makes reads of one level monotonic (Attiya, Bar-Noy, Dolev, *Sharing memory robustly in
//! message-passing systems*, 1995); all others are told behind the answer.

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::peer::{Message, Taken};
use ringkv_common::message::{Code, Condition, Failure, KeyOp, Outcome};
use ringkv_common::name::NodeName;
use ringkv_common::quorum::{Quorum, Verdict};
use ringkv_common::ring::Ring;
use ringkv_common::version::Siblings;
use smallvec::SmallVec;

use super::Node;
use super::effect::Token;
use super::join::Sender;
use super::quorums::{Row, others};
use super::read::found;
use super::shortfall::{Reasons, shortfall};
use super::spread::Spread;
use super::task::{Join, Op, OpStage, Task};
use super::write::Learned;

/// A read under way.
#[derive(Debug)]
pub struct Gathering {
    /// Owners that have to answer.
    answers: Quorum,
    /// Owners that have to hold what is shown.
    shown: Quorum,
    /// The question's count.
    round: u32,
    /// Whether somebody knows that the request was done.
    knows: bool,
    /// All that was heard, joined.
    state: Siblings,
    /// The digest of what this node held when it asked: who holds the same says only that.
    mine: u64,
    durable_here: bool,
    /// What each owner that answered holds, as a digest.
    held: SmallVec<[(NodeName, u64); 3]>,
    /// Owners that were asked and have not answered.
    asked: Row,
    /// Who stands in for an owner that is down, and has not answered: it is waited for once, and counts for nobody.
    standing_in: Row,
    /// Enough have answered: the digest of what will be shown, and whom it was told.
    chosen: Option<u64>,
    told: Row,
    /// Why somebody's answer does not count.
    reasons: Reasons,
}

impl Node {
    /// Asks the other owners what they hold. The own state is known to `keys`.
    pub(super) fn gather(&mut self, token: Token, key: &Key, ring: &Ring) {
        let partition = key.partition(ring.partitions);
        let (route, readers) = (ring.route(partition), ring.readers(partition));
        let counts = self.is_whole(partition);
        let busy = self.keys.get(key).expect("the caller has seen to it");
        let state = busy.state.clone().expect("the caller has seen to it");
        let durable_here = busy.shows_settled(token);
        let Some(Op { terms, .. }) = self.tasks.op(token) else { return };
        let terms = *terms;
        let needed = self.read_needs(readers, terms.read);
        let mut gathering = Gathering {
            answers: Quorum::new(ring.names(readers), needed),
            shown: self.shown_quorum(ring, &route, terms.read),
            mine: state.digest(),
            round: 0,
            knows: false,
            state,
            durable_here,
            held: SmallVec::new(),
            asked: Row::new(),
            standing_in: Row::new(),
            chosen: None,
            told: Row::new(),
            reasons: Vec::new(),
        };
        // In `copy` the new owners know nothing that counts.
        let counted = route.also.is_some_and(|(_, counted)| counted);
        let owners =
            if counted { others(ring, &route, self.id.name) } else { self.readers_elsewhere(ring, readers) };
        // One that seems to be down may be only slow: it is asked, and given time.
        gathering.asked.extend(owners);
        let digest = gathering.mine;
        let mut asked: SmallVec<[NodeName; 6]> = gathering.asked.iter().copied().collect();
        // What was written while an owner was away may be with whoever stood in for it.
        let mut used: SmallVec<[(NodeName, NodeName); 3]> = SmallVec::new();
        if self.may_hint(&route, &terms) {
            for absent in gathering.asked.iter().filter(|owner| self.is_away(**owner)) {
                used.extend(self.stand_in(ring, partition, &used).map(|name| (name, *absent)));
            }
            gathering.standing_in = used.iter().map(|(name, _)| *name).collect();
            asked.extend(gathering.standing_in.iter().copied());
        }
        if counts {
            gathering.answers.yes(self.id.name);
        } else {
            gathering.answers.no(self.id.name);
            gathering.reasons.push((self.id.name, "has lost what it held".into()));
        }
        gathering.held.push((self.id.name, digest));
        let told = self.pace.tell();
        let Some(op) = self.tasks.op(token) else { return };
        let at = (self.now.mono_us + op.attempts.patience_us()).min(op.deadline_us);
        // Answers to an earlier question were about another digest.
        op.attempts.round += 1;
        op.attempts.told = told;
        let (request, round) = (op.op.request(), op.attempts.round);
        gathering.round = round;
        op.stage = OpStage::Gathering(Box::new(gathering));
        let epoch = self.epoch();
        for name in asked {
            self.send(name, Message::Query { id: token, epoch, key: key.clone(), digest, request, round });
        }
        self.tasks.alarm(token, at);
        self.gather_on(token);
    }

    fn readers_elsewhere(&self, ring: &Ring, readers: &[u8]) -> Row {
        ring.names(readers).filter(|name| *name != self.id.name).collect()
    }

    /// Another node says what it holds.
    pub(super) fn on_held(
        &mut self,
        token: Token,
        from: NodeName,
        siblings: Option<Siblings>,
        counts: bool,
        (knows, round): (bool, u32),
    ) {
        // Whatever it is about, it is a sign of life.
        self.pace.answered(self.now, from, 0);
        let Some(Op { stage: OpStage::Gathering(gathering), attempts, .. }) = self.tasks.op(token) else {
            return self.spread_heard(token, from, siblings);
        };
        if gathering.round != round {
            return;
        }
        self.pace.answered(self.now, from, attempts.told);
        let digest = siblings.as_ref().map_or(gathering.mine, Siblings::digest);
        let was_asked = gathering.asked.contains(&from);
        gathering.knows |= knows;
        gathering.standing_in.retain(|name| *name != from);
        gathering.asked.retain(|name| *name != from);
        if gathering.chosen.is_none()
            && let Some(siblings) = &siblings
        {
            gathering.state.join(siblings);
        }
        // Whoever merely stands in is no owner: what it holds was joined, and that is all.
        if !was_asked {
            return self.gather_on(token);
        }
        gathering.held.push((from, digest));
        if counts {
            gathering.answers.yes(from);
        } else {
            gathering.answers.no(from);
            gathering.reasons.push((from, "has lost what it held".into()));
        }
        if gathering.chosen.is_some() {
            return self.gather_repair(token);
        }
        self.gather_on(token);
    }

    /// Another node does not say what it holds, and why.
    pub(super) fn not_held(&mut self, token: Token, from: NodeName, why: String) {
        let Some(Op { stage: OpStage::Gathering(gathering), .. }) = self.tasks.op(token) else { return };
        gathering.standing_in.retain(|name| *name != from);
        if !gathering.asked.contains(&from) {
            return self.gather_on(token);
        }
        gathering.asked.retain(|name| *name != from);
        gathering.answers.no(from);
        gathering.reasons.push((from, why));
        self.gather_on(token);
    }

    /// The own state, which was not durable when the others were asked, is by now.
    pub(super) fn gather_durable(&mut self, token: Token) {
        let Some(Op { stage: OpStage::Gathering(gathering), .. }) = self.tasks.op(token) else { return };
        gathering.durable_here = true;
        if gathering.chosen.is_some() {
            self.gather_repair(token);
        }
    }

    /// Chooses what to show when enough have answered.
    fn gather_on(&mut self, token: Token) {
        let Some(Op { op, stage: OpStage::Gathering(gathering), .. }) = self.tasks.op(token) else { return };
        let is_write = matches!(op, KeyOp::Write(_));
        // Then the question was only whether it was done before. What can be asked must do where hints may stand in for the
        // rest; but where a write was missed it may have been this one, and what came after it would go.
        let writes_anyway = matches!(op, KeyOp::Write(write)
            if write.condition == Condition::Always && !self.requests.misses(&write.key));
        match gathering.answers.verdict() {
            Verdict::Waiting => {}
            Verdict::Impossible if writes_anyway => {
                let (state, knows) = (std::mem::take(&mut gathering.state), gathering.knows);
                self.write_on(token, state, knows);
            }
            Verdict::Impossible => {
                let failure = gathering.failure(None);
                self.fail(token, failure);
            }
            Verdict::Enough if !gathering.standing_in.is_empty() => {}
            Verdict::Enough if is_write => {
                let (state, knows) = (std::mem::take(&mut gathering.state), gathering.knows);
                self.write_on(token, state, knows);
            }
            Verdict::Enough if gathering.chosen.is_none() => {
                gathering.chosen = Some(gathering.state.digest());
                self.gather_repair(token);
            }
            Verdict::Enough => {}
        }
    }

    /// What a write asked for is known: it has another turn in its key's line.
    fn write_on(&mut self, token: Token, state: Siblings, knows: bool) {
        let Some(op) = self.tasks.op(token) else { return };
        op.learned = Some(Box::new(Learned::Held(state, knows)));
        op.stage = OpStage::Waiting;
        let key = op.op.key().clone();
        self.enter(token, key);
    }

    /// Tells whoever is known to lack what was chosen; answers when enough hold it.
    fn gather_repair(&mut self, token: Token) {
        let (epoch, me) = (self.epoch(), self.id.name);
        let Some(Op { op, stage: OpStage::Gathering(gathering), attempts, .. }) = self.tasks.op(token) else {
            return;
        };
        let Some(chosen) = gathering.chosen else { return };
        let mut lacking = Row::new();
        for (owner, digest) in &gathering.held {
            if *digest == chosen {
                if *owner != me || gathering.durable_here {
                    gathering.shown.yes(*owner);
                }
            } else if !gathering.told.contains(owner) {
                lacking.push(*owner);
            }
        }
        lacking.retain(|_| !bug::on(Bug::RepairsNobody));
        gathering.told.extend(lacking.iter().copied());
        if !lacking.is_empty() {
            attempts.told = self.pace.tell();
        }
        let (key, state, round) = (op.key().clone(), gathering.state.clone(), attempts.round);
        for owner in lacking {
            let (key, siblings) = (key.clone(), state.clone());
            if owner == me {
                let bytes = crate::store::Measure::of(&key, &siblings).bytes as usize;
                self.join(Join {
                    key,
                    siblings,
                    bytes,
                    from: Sender::Own { token, round },
                    base: 0,
                    request: 0,
                    taken: Taken::All,
                });
            } else {
                self.send(
                    owner,
                    Message::Replicate { id: token, epoch, key, siblings, base: 0, request: 0, round },
                );
            }
        }
        self.gather_end(token);
    }

    /// An owner has taken what it was told. Where that shows a write that was done before and is superseded, something
    /// else is to be shown.
    pub(super) fn gather_told(&mut self, token: Token, by: NodeName, taken: Taken) {
        let Some(Op { stage: OpStage::Gathering(gathering), .. }) = self.tasks.op(token) else { return };
        gathering.told.retain(|name| *name != by);
        if let Taken::Late(theirs) = taken
            && gathering.state.join(&theirs)
        {
            gathering.held.retain(|(name, _)| *name != by);
            gathering.held.push((by, theirs.digest()));
            return self.choose_anew(token);
        }
        if let Some(chosen) = gathering.chosen
            && let Some(held) = gathering.held.iter_mut().find(|(name, _)| *name == by)
        {
            held.1 = chosen;
            gathering.shown.yes(by);
        }
        self.gather_end(token);
    }

    fn choose_anew(&mut self, token: Token) {
        let Some(ring) = self.ring.clone() else { return };
        let Some(Op { op, terms, .. }) = self.tasks.op(token) else { return };
        let (route, level) = (ring.route(op.key().partition(ring.partitions)), terms.read);
        let shown = self.shown_quorum(&ring, &route, level);
        let Some(Op { stage: OpStage::Gathering(gathering), attempts, .. }) = self.tasks.op(token) else {
            return;
        };
        attempts.round += 1;
        gathering.shown = shown;
        gathering.chosen = Some(gathering.state.digest());
        gathering.told.clear();
        self.gather_repair(token);
    }

    fn gather_end(&mut self, token: Token) {
        let Some(Op { op: KeyOp::Read(key), terms, stage: OpStage::Gathering(gathering), attempts, .. }) =
            self.tasks.op(token)
        else {
            return;
        };
        let enough = gathering.shown.verdict() == Verdict::Enough || bug::on(Bug::RepairsNobody);
        if gathering.chosen.is_none() || !enough {
            return;
        }
        let (key, context) = (key.clone(), terms.want.context);
        let state = std::mem::take(&mut gathering.state);
        let nodes: Row = gathering.held.iter().map(|(name, _)| *name).collect();
        let (mut waiting, asked) = (gathering.told.clone(), gathering.asked.clone());
        let (round, told) = (attempts.round, attempts.told);
        waiting.retain(|name| *name != self.id.name);
        let outcome = match found(&state, context) {
            Some(found) => Outcome::Found(found),
            None => Outcome::Failed(self.not_found(&key)),
        };
        let spread = Spread {
            key,
            state,
            base: 0,
            request: 0,
            round,
            told,
            waiting,
            asked,
            stand_ins: SmallVec::new(),
            hints: false,
            tries: 0,
        };
        if let Some(Task::Op(mut op)) = self.spread(token, spread) {
            op.stage = OpStage::Ended { nodes, hinted: false };
            self.tell_end(op, outcome);
        }
    }

    /// Somebody was silent: it is asked, or told, again.
    pub(super) fn gather_again(&mut self, token: Token) {
        let Some(Op { stage: OpStage::Gathering(gathering), .. }) = self.tasks.op(token) else { return };
        gathering.standing_in.clear();
        let silent = gathering.asked.clone();
        for owner in silent {
            if self.is_away(owner) {
                self.not_held(token, owner, "is down".into());
            }
        }
        self.gather_on(token);
        let (epoch, now_us, me) = (self.epoch(), self.now.mono_us, self.id.name);
        let Some(Op { op, stage: OpStage::Gathering(gathering), deadline_us, attempts, .. }) =
            self.tasks.op(token)
        else {
            return;
        };
        let at = (now_us + attempts.patience_us()).min(*deadline_us);
        let (key, digest, request) = (op.key().clone(), gathering.mine, op.request());
        let question = gathering.round;
        let state = gathering.state.clone();
        let (mut asked, mut told) = (gathering.asked.clone(), gathering.told.clone());
        let (round, number) = (attempts.round, attempts.told);
        let silent = |name: &mut NodeName| !self.pace.comes_to(self.now, *name, number);
        asked.retain(silent);
        told.retain(silent);
        for name in asked {
            self.send(
                name,
                Message::Query { id: token, epoch, key: key.clone(), digest, request, round: question },
            );
        }
        for name in told.into_iter().filter(|name| *name != me) {
            let (key, siblings) = (key.clone(), state.clone());
            self.send(
                name,
                Message::Replicate { id: token, epoch, key, siblings, base: 0, request: 0, round },
            );
        }
        self.tasks.alarm(token, at);
    }
}

impl Gathering {
    /// The quorum that it needs next.
    pub(super) fn waits_for(&self) -> &Quorum {
        if self.answers.verdict() == Verdict::Enough { &self.shown } else { &self.answers }
    }

    /// Why it cannot succeed; after so many milliseconds whoever has not answered is named too.
    pub(super) fn failure(&self, after_ms: Option<u32>) -> Failure {
        let quorum = self.waits_for();
        let silent = self.asked.iter().chain(&self.told).copied();
        let text = shortfall(quorum, &self.reasons, silent, after_ms);
        Failure::new(Code::QuorumFailed, text)
    }
}
