//! The end of an operation: whoever asked is told, once.

use ringkv_common::key::Key;
use ringkv_common::message::peer::Message;
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::{Code, Failure, Frames, Outcome, Receipt, Terms};
use ringkv_common::name::NodeName;

use super::Node;
use super::effect::{Client, Effect, Token};
use super::quorums::Row;
use super::task::{Op, OpStage, Origin, Task};

/// Replies of so many bytes are counted until the client has read them, and find no room where too many wait.
pub const LARGE_BYTES: usize = 1 << 10;
/// An `id` up to so many bytes comes back also where its reply found no room.
const ID_BYTES: usize = 512;

impl Node {
    /// Ends an operation.
    pub(super) fn finish(&mut self, token: Token, outcome: Outcome) {
        if let Some(Task::Op(op)) = self.tasks.take(token) {
            self.tell_end(op, outcome);
        }
    }

    /// Ends an operation with an error.
    pub(super) fn fail(&mut self, token: Token, failure: Failure) {
        self.finish(token, Outcome::Failed(failure));
    }

    /// Ends an operation whose time is up. Where it waits in its key's line a mark stays in its place: whoever is behind
    /// it has to have its turn. A write that is under way goes on, for nobody: what it wrote is in the key's state, which
    /// may be shown only when all owners that it needs have it.
    pub(super) fn give_up(&mut self, token: Token, failure: Failure) {
        let Some(op) = self.tasks.op(token) else { return };
        let ended = match &op.stage {
            OpStage::Writing(writing) => {
                let nodes = writing.nodes.clone();
                let (key, terms) = (op.op.key().clone(), op.terms);
                let origin = std::mem::replace(&mut op.origin, Origin::Nobody);
                self.window.leave(op);
                op.deadline_us = u64::MAX;
                self.unsettled += 1;
                self.conclude(origin, terms, Some(&key), Outcome::Failed(failure), &nodes, false);
                return self.resend(token);
            }
            OpStage::Waiting => {
                let key = op.op.key().clone();
                self.tasks.replace(token, Task::GivenUp(key))
            }
            _ => self.tasks.take(token),
        };
        if let Some(Task::Op(op)) = ended {
            self.tell_end(op, Outcome::Failed(failure));
        }
    }

    pub(super) fn tell_end(&mut self, mut op: Op, mut outcome: Outcome) {
        self.waiting_bytes -= op.bytes;
        self.window.leave(&mut op);
        if let Outcome::Failed(failure) = &mut outcome
            && op.is_write()
        {
            // Whatever this owner says, the one that was asked before may have done it, or do it yet: what another one
            // found there or not is true of its own attempt alone.
            let of_this_attempt = matches!(
                failure.code,
                Code::NotReady
                    | Code::Overloaded
                    | Code::Timeout
                    | Code::QuorumFailed
                    | Code::KeyNotFound
                    | Code::KeyExists
            );
            failure.indeterminate |= op.attempts.maybe_done && of_this_attempt;
        }
        let (nodes, hinted) = match op.stage {
            OpStage::Ended { nodes, hinted } => (nodes, hinted),
            OpStage::Forwarded { to } => (Row::from_slice(&[to]), false),
            _ => (Row::from_slice(&[self.id.name]), false),
        };
        self.conclude(op.origin, op.terms, Some(op.op.key()), outcome, &nodes, hinted);
    }

    /// Tells whoever asked how it ended.
    pub(super) fn conclude(
        &mut self,
        origin: Origin,
        terms: Terms,
        key: Option<&Key>,
        outcome: Outcome,
        nodes: &[NodeName],
        hinted: bool,
    ) {
        match origin {
            Origin::Peer { from, id, .. } => {
                self.open.remove(&(from, id));
                let (nodes, beat) = (nodes.to_vec(), self.beat());
                self.send(from, Message::Forwarded { id, outcome, nodes, hinted, beat })
            }
            Origin::Nobody => self.unsettled -= 1,
            Origin::Many { gather, slot } => self.gathered(gather, Some((slot, outcome))),
            Origin::Client { client, id } => {
                let receipt = terms.want.receipt.then(|| Receipt {
                    nodes: nodes.to_vec(),
                    epoch: self.epoch(),
                    hinted,
                });
                let write = |envelope: Envelope| match (&outcome, key) {
                    (Outcome::Failed(failure), _) => reply::failure(failure, &envelope),
                    (outcome, Some(key)) => reply::one(key, outcome, &envelope),
                    (_, None) => reply::ok(&envelope),
                };
                self.reply(client, write, id.as_deref(), terms, receipt.as_ref());
            }
        }
    }

    /// Answers a client.
    pub(super) fn reply(
        &mut self,
        client: Client,
        write: impl FnOnce(Envelope) -> Frames,
        id: Option<&str>,
        terms: Terms,
        receipt: Option<&Receipt>,
    ) {
        let epoch = self.epoch();
        let newer_epoch = terms.epoch.is_some_and(|e| e < epoch).then_some(epoch);
        let frames = write(Envelope { id, want: terms.want, newer_epoch, receipt });
        let mut frames = self.within_limit(frames, id);
        frames.instead = instead_of(frames.bytes(), id);
        self.out.push(Effect::Reply { client, frames });
    }

    fn within_limit(&self, frames: Frames, id: Option<&str>) -> Frames {
        let max = self.id.limits.message_bytes_max;
        let bytes = frames.body.len();
        if bytes <= max {
            return frames;
        }
        let text = format!(
            "the reply would have {bytes} bytes, {max} are allowed: ask for fewer keys, or with limit"
        );
        reply::failure(&Failure::new(Code::TooLarge, text), &Envelope { id, ..Envelope::default() })
    }

    pub(super) fn refuse(&mut self, client: Client, id: Option<&str>, failure: &Failure) {
        let frames = reply::failure(failure, &Envelope { id, ..Envelope::default() });
        self.out.push(Effect::Reply { client, frames });
    }
}

/// What a client gets that asks for more than it reads: every request has an answer, and this one is short.
fn instead_of(bytes: usize, id: Option<&str>) -> Option<Vec<u8>> {
    if bytes < LARGE_BYTES || id.is_some_and(|id| id.len() > ID_BYTES) {
        return None;
    }
    let text = format!(
        "the reply has {bytes} bytes, and too much of earlier replies waits to be read: read them, then ask again"
    );
    let mut failure = Failure::new(Code::Overloaded, text);
    // It was done, whatever it was; of an MPUT this says that nobody was told how.
    failure.indeterminate = true;
    Some(reply::failure(&failure, &Envelope { id, ..Envelope::default() }).body)
}
