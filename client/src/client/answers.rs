//! What comes of a request: its reply, a refusal after which it is tried again, the end. And newer rings that replies tell of.

use std::time::{Duration, Instant};

use ringkv_common::message::Code;

use super::flight::{LinkId, Purpose, Stage, Target};
use super::{Client, Completion, Ticket};
use crate::op::Op;
use crate::reply::{self, Reply};
use crate::retry::{self, Next};
use crate::{Error, Refusal};

impl Client {
    /// Takes a reply.
    pub(super) fn answered(&mut self, link: LinkId, body: &[u8], value: Option<&[u8]>) {
        let Some(id) = reply::id(body) else {
            tracing::warn!(bytes = body.len(), "a reply without our id is left alone");
            return;
        };
        // A second reply to what was repeated finds nobody waiting.
        let Some(flight) = self.flights.get(&id) else { return };
        let Some(from) = self.links[link].as_ref().map(|l| l.address.clone()) else { return };
        let reply::Read { outcome, epoch } = reply::read(&flight.op, body, value, &from);
        if let Some(epoch) = epoch {
            self.heard_of(epoch, link);
        }
        let current = self.flights.get(&id).is_some_and(|f| f.stage.link() == Some(link));
        match outcome {
            Err(Error::Refused(refusal)) => self.refused(id, refusal, current),
            Ok(Reply::Many(results)) if current => self.many_answered(id, results),
            outcome => self.end(id, outcome),
        }
    }

    fn refused(&mut self, id: u64, mut refusal: Refusal, current: bool) {
        let draw = self.chance.draw();
        let Some(flight) = self.flights.get_mut(&id) else { return };
        match retry::next(refusal.code, flight.refusals, draw) {
            Next::Final => {
                // These codes tell nothing about what an earlier attempt did.
                let silent = matches!(refusal.code, Code::QuorumFailed | Code::Internal);
                refusal.indeterminate |= silent && flight.unknown && flight.op.is_write();
                self.end(id, Err(Error::Refused(refusal)));
            }
            Next::Again(_) if !current => {}
            Next::Again(pause) => {
                flight.unknown |= refusal.indeterminate;
                flight.refusal = Some(refusal);
                self.pause(id, pause);
            }
        }
    }

    /// Where a part's reply has keys that should be tried again, the whole part is: its request id makes that harmless.
    fn many_answered(&mut self, id: u64, results: Vec<Result<Reply, Error>>) {
        let draw = self.chance.draw();
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let refusals = flight.refusals;
        let again = results.iter().filter_map(|result| match result {
            Err(Error::Refused(refusal)) => match retry::next(refusal.code, refusals, draw) {
                Next::Again(pause) => Some(pause),
                Next::Final => None,
            },
            _ => None,
        });
        match again.max() {
            None => self.end(id, Ok(Reply::Many(results))),
            Some(pause) => {
                flight.partial = Some(Reply::Many(results));
                self.pause(id, pause);
            }
        }
    }

    fn pause(&mut self, id: u64, pause: Duration) {
        self.leave_link(id);
        let now = Instant::now();
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.refusals += 1;
        flight.attempts += 1;
        flight.stage = Stage::Pausing(now + pause);
        if pause.is_zero() {
            self.dispatch(id, now);
        }
    }

    /// Ends a request.
    pub(super) fn end(&mut self, id: u64, outcome: Result<Reply, Error>) {
        self.leave_link(id);
        let Some(flight) = self.flights.remove(&id) else { return };
        self.bytes -= flight.bytes;
        match flight.purpose {
            Purpose::Caller => {
                if let Ok(Reply::Document(_, Some(ring))) = &outcome
                    && self.pin.is_some()
                    && let Err(error) = self.adopt(ring.clone(), "the pinned node")
                {
                    tracing::warn!(%error);
                }
                self.complete(Ticket(id), outcome);
            }
            Purpose::Part(part) => self.part_ended(part, outcome),
            Purpose::Ring => self.ring_fetched(outcome),
        }
    }

    pub(super) fn complete(&mut self, ticket: Ticket, outcome: Result<Reply, Error>) {
        self.done.push_back(Completion { ticket, outcome });
    }

    /// A node's ring is newer than ours: it is fetched from there, once.
    fn heard_of(&mut self, epoch: u64, link: LinkId) {
        let ours = self.ring().map_or(0, |ring| ring.epoch);
        if self.pin.is_some() || epoch <= ours || self.ring_fetch.is_some() {
            return;
        }
        self.epoch_heard = epoch;
        let id = self.launch(Op::status(true), Target::Link(link), Purpose::Ring, Instant::now());
        // Where it could not even be launched it has ended by now, and the next reply tells of the epoch again.
        self.ring_fetch = self.flights.contains_key(&id).then_some(id);
    }

    fn ring_fetched(&mut self, outcome: Result<Reply, Error>) {
        self.ring_fetch = None;
        let adopted = match outcome {
            Ok(Reply::Document(_, Some(ring))) => self.adopt(ring, "a node").map(drop),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = adopted {
            tracing::warn!(%error, epoch = self.epoch_heard, "the newer ring was not taken");
        }
    }
}
