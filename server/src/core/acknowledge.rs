//! What comes back of a write: its store's word and its owners', counted until it is done, or done once more.

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::peer::Taken;
use ringkv_common::message::{KeyOp, Outcome};
use ringkv_common::name::NodeName;
use ringkv_common::quorum::Verdict;
use ringkv_common::version::{Dot, Siblings};
use smallvec::SmallVec;

use super::Node;
use super::effect::Token;
use super::quorums::{Recipient, Row};
use super::spread::Spread;
use super::task::{Op, OpStage, Origin, Task};
use super::write::Learned;

impl Node {
    pub(super) fn on_persisted(&mut self, token: Token) {
        if let Some(Task::Absorb(_)) = self.tasks.get(token) {
            return self.absorbed(token);
        }
        let Some(key) = self.key_of(token) else { return self.on_dropped(token) };
        if let Some(Task::Join(_)) = self.tasks.get(token) {
            self.show_settled(token, &key);
            return self.joined(token);
        }
        if let Some(Task::Collect(_)) = self.tasks.get(token) {
            self.show_settled(token, &key);
            return drop(self.tasks.take(token));
        }
        let name = self.id.name;
        if let Some(Op { attempts, .. }) = self.tasks.op(token) {
            attempts.persists = attempts.persists.saturating_sub(1);
            if attempts.persists > 0 {
                return;
            }
        }
        if let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) {
            writing.durable_here = true;
        }
        if !self.reads_alone(&key) {
            // Reads ask other owners too, and see to it that enough of them hold what is shown.
            self.show_settled(token, &key);
        }
        self.counted(token, name);
    }

    /// Whether a read of the key asks this node alone: then it shows what enough owners hold, by itself.
    pub(super) fn reads_alone(&self, key: &Key) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.readers(key.partition(ring.partitions)).len() == 1)
    }

    /// A replica has made a write durable, or what a read told it.
    pub(super) fn acknowledged(&mut self, token: Token, by: NodeName, round: u32, taken: Taken) {
        self.pace.answered(self.now, by, 0);
        match self.tasks.get(token) {
            Some(Task::Op(Op { stage: OpStage::Writing(writing), attempts, .. })) => {
                // What was told before the ring changed, or before the write was done once more, counts no more.
                if attempts.round != round {
                    return;
                }
                let told = attempts.told;
                self.pace.answered(self.now, by, told);
                match taken {
                    _ if bug::on(Bug::LeavesHidden) => self.counted(token, by),
                    Taken::All => self.counted(token, by),
                    Taken::Beside(theirs) | Taken::Late(theirs) => {
                        let dot = writing.dot;
                        self.write_once_more(token, dot, *theirs);
                    }
                }
            }
            Some(Task::Op(Op { stage: OpStage::Gathering(_), attempts, .. })) if attempts.round == round => {
                let told = attempts.told;
                self.pace.answered(self.now, by, told);
                self.gather_told(token, by, taken);
            }
            Some(Task::Spread(_)) => self.spread_to(token, by, round),
            _ => {}
        }
    }

    /// Counts a yes: this node's own, or an owner's. That of who stands in for one is kept.
    fn counted(&mut self, token: Token, by: NodeName) {
        let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        if writing.stand_ins.iter().any(|(name, _)| *name == by) {
            writing.kept.push(by);
            return self.count_hints(token);
        }
        writing.quorum.yes(by);
        if !writing.nodes.contains(&by) {
            writing.nodes.push(by);
        }
        self.settle(token);
    }

    /// Counts the hints kept for owners that are away and were given time to answer: one that merely is slow has to say
    /// so itself, for a read may ask it, and not who stands in for it.
    pub(super) fn count_hints(&mut self, token: Token) {
        let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        let counts = |(by, owner): &&Recipient| writing.kept.contains(by) && writing.missed.contains(owner);
        let mut hints: SmallVec<[Recipient; 3]> = writing.stand_ins.iter().filter(counts).copied().collect();
        hints.retain(|(_, owner)| self.is_away(*owner) || bug::on(Bug::CountsHintsOfAnswering));
        let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        for (by, owner) in hints {
            writing.hinted = true;
            writing.quorum.yes(owner);
            if !writing.nodes.contains(&by) {
                writing.nodes.push(by);
            }
        }
        self.settle(token);
    }

    /// Does a write once more that had not seen all: in the key's line, like any operation.
    fn write_once_more(&mut self, token: Token, dot: Option<Dot>, theirs: Siblings) {
        // Seen there and not held, it was superseded, or done before: it need not come above anything.
        let invented = self.invented(&theirs);
        let there = |dot: &Dot| theirs.versions.iter().any(|version| version.dot == *dot);
        let dot = dot.filter(|dot| !theirs.clock.covers(*dot) || there(dot) || invented);
        let Some(op) = self.tasks.op(token) else { return };
        // Nobody waits for it to come above: two such writes would chase each other for ever.
        let dot = dot.filter(|_| !matches!(op.origin, Origin::Nobody));
        if let (KeyOp::Write(write), OpStage::Writing(writing)) = (&mut op.op, &op.stage)
            && let Some(told) = &writing.told
            && let Some(version) = told.versions.iter().find(|version| Some(version.dot) == dot)
        {
            // It may be another owner that does it.
            write.content = version.content.clone();
        }
        op.learned = Some(Box::new(Learned::Beside(dot, theirs)));
        op.attempts.maybe_done = true;
        op.stage = OpStage::Waiting;
        let key = op.op.key().clone();
        self.enter(token, key);
    }

    /// Ends what waited to show a write.
    pub(super) fn show_settled(&mut self, write: Token, key: &Key) {
        for reader in self.keys.settled(key, write) {
            match self.tasks.get(reader) {
                Some(Task::Op(Op { stage: OpStage::Reading { outcome }, .. })) => {
                    let outcome = std::mem::replace(outcome, Outcome::Stored { context: None });
                    self.finish(reader, outcome);
                }
                Some(Task::Op(_)) => self.gather_durable(reader),
                Some(Task::InspectKey(_)) => self.say_held(reader),
                _ => {}
            }
        }
    }

    /// Ends a write that has its quorums. Owners that have not answered are told on.
    pub(super) fn settle(&mut self, token: Token) {
        let Some(Op { op: KeyOp::Write(write), stage: OpStage::Writing(writing), terms, attempts, .. }) =
            self.tasks.op(token)
        else {
            return;
        };
        // Durable here first: else a later read here could show less than was acknowledged.
        let here = writing.durable_here || writing.elsewhere;
        if writing.quorum.verdict() != Verdict::Enough || !here {
            return;
        }
        let key = write.key.clone();
        let request = write.request.unwrap_or(0);
        let (context, state) = (writing.context.take(), writing.told.take());
        let (nodes, hinted) = (writing.nodes.clone(), writing.hinted);
        let (round, told) = (attempts.round, attempts.told);
        let base = writing.base;
        let waiting = writing.quorum.silent().collect();
        let (stand_ins, terms) = (writing.stand_ins.clone(), *terms);
        self.requests.durable(&key, request);
        self.show_settled(token, &key);
        let ended = match state {
            None => self.tasks.take(token),
            Some(state) => {
                let route = self.ring.clone();
                let hints = route
                    .is_some_and(|ring| self.may_hint(&ring.route(key.partition(ring.partitions)), &terms));
                let asked = Row::new();
                let state = *state;
                self.spread(
                    token,
                    Spread {
                        key,
                        state,
                        base,
                        request,
                        round,
                        told,
                        waiting,
                        asked,
                        stand_ins,
                        hints,
                        tries: 0,
                    },
                )
            }
        };
        if let Some(Task::Op(mut op)) = ended {
            op.stage = OpStage::Ended { nodes, hinted };
            self.tell_end(op, Outcome::Stored { context });
        }
    }
}
