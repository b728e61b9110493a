//! Requests under way: sent, answered, repeated, given up. One turn of the loop serves all connections.
//!
//! ```text
//!   submit ─► aim at a node ─► Held (dialing) ─► Sent ─► reply ─► completion
//!               ▲                 │ refused        │ silence, connection lost, or an error reply
//!               └── the next node ┴── Pausing ◄────┘ that may pass: the same request id again
//! ```
//!
//! A reply is taken from whichever node it comes, also from one that was given up: the same request id makes it the
//! answer to the same write. Only an *error* of a node that was given up counts nothing while another is asked.

use std::time::{Duration, Instant};

use super::flight::{Flight, LinkId, Purpose, Stage, Target};
use super::{Client, Completion, Ticket};
use crate::Error;
use crate::error::socket;
use crate::link::{Happened, Sent, State};
use crate::op::{self, Kind, Op, Terms};

/// What a node's answer may take beyond the time it was given.
const MARGIN: Duration = Duration::from_millis(250);
/// How long a request waits for a connection before the next node is tried.
const DIALING_MAX: Duration = Duration::from_millis(500);
/// Deadlines and connections are looked after so often while replies come.
const TICK: Duration = Duration::from_millis(5);
/// Replies taken from one connection before the others have their turn.
const REPLIES_A_TURN: usize = 256;

impl Client {
    /// Requests under way, and completions that wait to be polled.
    pub fn in_flight(&self) -> usize {
        self.flights.len() + self.done.len()
    }

    /// Whether [`Client::submit`] takes another operation now.
    pub fn has_room(&self) -> bool {
        self.in_flight() < self.options.in_flight_max && self.bytes < self.options.bytes_in_flight_max
    }

    /// Begins an operation; its completion comes out of [`Client::poll`]. Writes get their request id here.
    ///
    /// # Errors
    /// [`Error::Full`]; poll first, then submit again. [`Error::NoRing`], [`Error::Socket`].
    pub fn submit(&mut self, op: Op) -> Result<Ticket, Error> {
        if !self.has_room() {
            return Err(Error::Full { in_flight: self.in_flight(), bytes: self.bytes });
        }
        let now = Instant::now();
        if matches!(op.kind, Kind::Mput(_) | Kind::Mget(_)) {
            return self.submit_parts(op, now);
        }
        let target = self.target(&op)?;
        if let (Target::Node(name), Some(routing)) = (&target, &self.routing) {
            super::index_of(routing.ring(), *name)?;
        }
        Ok(Ticket(self.launch(op, target, Purpose::Caller, now)))
    }

    /// What has ended, after waiting up to `patience` for it where nothing has. Returns at once where nothing is
    /// under way.
    ///
    /// # Errors
    /// [`Error::Socket`]; an operation's own error is in its completion.
    pub fn poll(&mut self, patience: Duration) -> Result<Vec<Completion>, Error> {
        let end = Instant::now() + patience;
        loop {
            self.turn(end.saturating_duration_since(Instant::now()))?;
            if !self.done.is_empty() || self.flights.is_empty() || Instant::now() >= end {
                return Ok(self.done.drain(..).collect());
            }
        }
    }

    /// Puts a request on its way and returns its id.
    pub(super) fn launch(&mut self, op: Op, target: Target, purpose: Purpose, now: Instant) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let attempt = self.attempt_time(&op);
        let bytes = op.bytes();
        self.bytes += bytes;
        let flight = Flight {
            // An operation with patience of its own has it, though the client's be shorter.
            deadline: now
                + self.options.timeout.max(op.timeout_ms.map_or(Duration::ZERO, |_| attempt + MARGIN)),
            op,
            target,
            purpose,
            stage: Stage::Pausing(now),
            attempts: 0,
            refusals: 0,
            began: now,
            unknown: false,
            asked: Vec::new(),
            unreached: Vec::new(),
            refusal: None,
            partial: None,
            bytes,
        };
        self.flights.insert(id, flight);
        self.dispatch(id, now);
        id
    }

    fn attempt_time(&self, op: &Op) -> Duration {
        op.timeout_ms.map_or(self.options.attempt, |ms| Duration::from_millis(u64::from(ms)))
    }

    /// One turn: takes what came, waits up to `patience` where nothing did, looks after deadlines and connections.
    pub(super) fn turn(&mut self, patience: Duration) -> Result<(), Error> {
        let mut came = self.receive_all()?;
        let mut waited = false;
        if came == 0 && self.done.is_empty() && !self.flights.is_empty() {
            self.wait(patience)?;
            waited = true;
            came = self.receive_all()?;
        }
        let now = Instant::now();
        if (waited && came == 0) || now.duration_since(self.ticked) >= TICK {
            self.ticked = now;
            self.look_after_links(now);
            self.look_after_deadlines(now);
        }
        Ok(())
    }

    fn receive_all(&mut self) -> Result<usize, Error> {
        let mut came = 0;
        for id in 0..self.links.len() {
            for _ in 0..REPLIES_A_TURN {
                // From where nothing is awaited only a second reply can come: it may wait.
                let Some(link) = self.links[id].as_ref().filter(|l| l.flights > 0) else { break };
                let Some((body, value)) = link.receive()? else { break };
                came += 1;
                self.answered(id, &body, value.as_deref());
            }
        }
        Ok(came)
    }

    /// Sleeps until something may be done: a reply, news of a connection, a deadline.
    fn wait(&self, patience: Duration) -> Result<(), Error> {
        let now = Instant::now();
        let due = self.flights.values().map(|f| f.stage.until().min(f.deadline)).min();
        let patience = due.map_or(patience, |due| patience.min(due.saturating_duration_since(now)));
        let mut items = Vec::with_capacity(2 * self.links.len());
        for link in self.links.iter().flatten() {
            let events = if link.held.is_empty() { zmq::POLLIN } else { zmq::POLLIN | zmq::POLLOUT };
            if link.flights > 0 {
                items.push(link.socket.as_poll_item(events));
            }
            items.push(link.monitor.as_poll_item(zmq::POLLIN));
        }
        // Rounded up, so that the deadline has passed when the wait ends.
        let ms = i64::try_from(patience.as_micros().div_ceil(1000)).unwrap_or(i64::MAX);
        match zmq::poll(&mut items, ms) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(socket("waiting for replies")(error)),
        }
    }

    fn look_after_links(&mut self, now: Instant) {
        for id in 0..self.links.len() {
            while let Some(happened) = self.links[id].as_mut().and_then(|l| l.news()) {
                match happened {
                    Happened::Connected => {}
                    Happened::Refused => self.move_on(id, false, now),
                    Happened::Lost => self.move_on(id, true, now),
                }
            }
            self.send_held(id, now);
        }
    }

    /// The connection takes messages again: what was held goes out, in order.
    fn send_held(&mut self, link: LinkId, now: Instant) {
        let ready = |l: &crate::link::Link| !l.held.is_empty() && l.state != State::Down && l.attend();
        if !self.links[link].as_ref().is_some_and(ready) {
            return;
        }
        while let Some(id) = self.links[link].as_mut().and_then(|l| l.held.pop_front()) {
            if !self.flights.get(&id).is_some_and(|f| matches!(f.stage, Stage::Held(at, _) if at == link)) {
                continue;
            }
            if self.send(id, link, now) == Some(Sent::NotNow) {
                if let Some(l) = self.links[link].as_mut() {
                    l.held.push_front(id);
                }
                return;
            }
        }
    }

    /// Requests that wait for this connection, and where it broke those that were sent over it, go elsewhere.
    fn move_on(&mut self, link: LinkId, sent_too: bool, now: Instant) {
        let here = |f: &Flight| match f.stage {
            Stage::Held(at, _) => at == link,
            Stage::Sent(at, _) => sent_too && at == link,
            Stage::Pausing(_) => false,
        };
        let ids: Vec<u64> = self.flights.iter().filter(|(_, f)| here(f)).map(|(id, _)| *id).collect();
        for id in ids {
            self.try_next(id, now);
        }
    }

    fn look_after_deadlines(&mut self, now: Instant) {
        let due = |f: &Flight| now >= f.stage.until().min(f.deadline);
        let ids: Vec<u64> = self.flights.iter().filter(|(_, f)| due(f)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            if now >= flight.deadline {
                let outcome = flight.give_up(now);
                self.end(id, outcome);
            } else if matches!(flight.stage, Stage::Pausing(_)) {
                self.dispatch(id, now);
            } else {
                self.try_next(id, now);
            }
        }
    }

    /// Gives up the present attempt and asks the next node.
    fn try_next(&mut self, id: u64, now: Instant) {
        self.leave_link(id);
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.unknown |= matches!(flight.stage, Stage::Sent(..));
        flight.attempts += 1;
        // A node that is away is not asked again at once, or the others would be asked in a circle.
        let lone = matches!(flight.target, Target::Node(_) | Target::Link(_));
        let again = if lone || flight.attempts >= 2 { TICK * 4 } else { Duration::ZERO };
        flight.stage = Stage::Pausing(now + again);
        if again.is_zero() {
            self.dispatch(id, now);
        }
    }

    /// A request's link no longer waits for it.
    pub(super) fn leave_link(&mut self, id: u64) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let Some(link) = flight.stage.link() else { return };
        let Some(l) = self.links[link].as_mut() else { return };
        l.flights -= 1;
        if matches!(flight.stage, Stage::Held(..)) {
            Flight::note(&mut flight.unreached, &l.address);
            l.held.retain(|held| *held != id);
        }
    }

    /// Sends a request, or holds it until its connection stands.
    pub(super) fn dispatch(&mut self, id: u64, now: Instant) {
        let Some(flight) = self.flights.get(&id) else { return };
        let (target, attempts) = (flight.target.clone(), flight.attempts);
        let link = match self.choose(&target, attempts) {
            Ok(link) => link,
            Err(error) => return self.end(id, Err(error)),
        };
        if let Some(l) = self.links[link].as_mut() {
            l.flights += 1;
        }
        let free = self.links[link].as_ref().is_some_and(|l| l.held.is_empty() && l.state == State::Up);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.stage = Stage::Held(link, now + DIALING_MAX);
        }
        // What came before goes out before, so that no request waits for ever behind later ones.
        if (!free || self.send(id, link, now) == Some(Sent::NotNow))
            && let Some(l) = self.links[link].as_mut()
        {
            l.held.push_back(id);
        }
    }

    fn send(&mut self, id: u64, link: LinkId, now: Instant) -> Option<Sent> {
        let attempt = self.attempt_time(&self.flights.get(&id)?.op);
        let epoch = self.ring().filter(|_| self.pin.is_none()).map(|r| r.epoch);
        let flight = self.flights.get_mut(&id)?;
        let left = flight.deadline.saturating_duration_since(now).min(attempt);
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        let terms = Terms { id, client: &self.name, epoch, quorum: self.options.quorum, timeout_ms };
        op::encode(&flight.op, &terms, &mut self.buffer);
        let value = op::second_frame(&flight.op);
        let l = self.links[link].as_ref()?;
        let mut sent = l.send(&self.buffer, value);
        if sent == Ok(Sent::NotNow) && l.attend() {
            sent = l.send(&self.buffer, value);
        }
        match sent {
            Ok(Sent::Yes) => {
                flight.stage = Stage::Sent(link, now + left + MARGIN);
                Flight::note(&mut flight.asked, &l.address);
                Some(Sent::Yes)
            }
            Ok(Sent::NotNow) => Some(Sent::NotNow),
            Err(error) => {
                self.end(id, Err(error));
                None
            }
        }
    }
}
