//! Tasks: whatever takes more than one event. A task's token names its place and, against late answers for a place
//! that was used again, its serial number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Id, Purpose, Taken};
use ringkv_common::message::{KeyOp, Outcome, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::quorum::Quorum;
use ringkv_common::version::{Context, Dot, Siblings};
use slab::Slab;
use smallvec::SmallVec;

use super::RESEND_MS;
use super::absorb::Absorb;
use super::anti_entropy::Exchange;
use super::collect::{Collect, Looking};
use super::effect::{Client, Token};
use super::gather::Gathering;
use super::join::Sender;
use super::listing::Listing;
use super::pace::Told;
use super::pull::Pull;
use super::quorums::{Recipient, Row};
use super::requests::Done;
use super::shortfall::Reasons;
use super::spread::Spread;
use super::status::StatusTask;
use super::surrender::Dropping;
use super::write::Learned;

/// Tasks at most; beyond it new work is refused.
pub const TASKS_MAX: usize = 1 << 16;
/// How often operations are looked at whose time may be up, in microseconds.
const SWEEP_US: u64 = 100_000;
/// Bits of a token that name the place; the rest is the serial number.
const PLACE_BITS: u32 = 20;

/// To whom the outcome of an operation on a key goes.
#[derive(Debug)]
pub enum Origin {
    /// A client of this node.
    Client {
        /// Who.
        client: Client,
        /// Its `id`.
        id: Option<Box<str>>,
    },
    /// A node that forwarded it.
    Peer {
        /// Who.
        from: NodeName,
        /// Its number there.
        id: Id,
        /// Until then it cannot have been given up there and done elsewhere.
        fresh_until_us: u64,
    },
    /// One of many in a message.
    Many {
        /// The task that gathers.
        gather: Token,
        /// Its place in the list.
        slot: usize,
    },
    /// Whoever asked was told that time is up.
    Nobody,
}

/// An operation on one key.
#[derive(Debug)]
pub struct Op {
    pub origin: Origin,
    pub op: KeyOp,
    pub terms: Terms,
    pub deadline_us: u64,
    /// Of its key and value, while it waits.
    pub bytes: usize,
    /// Since when it takes some of the window.
    pub placed_us: Option<NonZeroU64>,
    pub stage: OpStage,
    pub attempts: Attempts,
    /// What a write goes by at its next turn.
    pub learned: Option<Box<Learned>>,
}

impl Op {
    /// When it is given up: what is in line has to leave time to be done.
    fn ends_us(&self) -> u64 {
        match self.stage {
            OpStage::InLine => self.deadline_us - u64::from(self.terms.timeout_ms) * 500,
            _ => self.deadline_us,
        }
    }

    /// Whether it writes.
    pub fn is_write(&self) -> bool {
        matches!(self.op, KeyOp::Write(_))
    }
}

/// What was tried to have another node hear.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempts {
    /// How often it was met by silence, under this ring.
    silences: u8,
    /// It was repeated at once after a refusal: a second one waits, or two nodes would talk as fast as they can.
    pub hurried: bool,
    /// Some node that no longer is asked may have done it.
    pub maybe_done: bool,
    /// How often owners were asked to coordinate it, one after the other.
    pub asked: u8,
    /// Their places in the key's row: a bit each.
    pub asked_of: u32,
    /// How often owners were told anew: under another ring, or of another version.
    pub round: u32,
    /// The number of what they were told then.
    pub told: Told,
    /// How often the store makes durable what this wrote, and has not said so: what counts is the last.
    pub persists: u8,
}

impl Attempts {
    /// Microseconds of silence after which it is told again: each time twice as long, up to four times.
    pub fn patience_us(&mut self) -> u64 {
        self.patience_from_us(RESEND_MS * 1000)
    }

    /// The same, from another first time on.
    pub fn patience_from_us(&mut self, first_us: u64) -> u64 {
        let doubled = self.silences.min(2);
        self.silences = doubled + 1;
        first_us << doubled
    }

    /// A new ring or an answer: who is asked now has not been silent yet.
    pub fn anew(&mut self) {
        (self.silences, self.hurried, self.asked_of) = (0, false, 0);
    }
}

/// How far it is.
#[derive(Debug)]
pub enum OpStage {
    /// In line for a place in the window.
    InLine,
    /// In line for its key, or its key's state is being read.
    Waiting,
    /// Another node coordinates.
    Forwarded { to: NodeName },
    /// The new state is being made durable, here and elsewhere.
    Writing(Box<Writing>),
    /// The version to be shown is not settled yet.
    Reading { outcome: Outcome },
    /// Other owners are asked what they hold.
    Gathering(Box<Gathering>),
    /// Over; these nodes' answers counted.
    Ended { nodes: Row, hinted: bool },
}

/// A write that is under way.
#[derive(Debug)]
pub struct Writing {
    /// The state that other owners were told, where there are others.
    pub told: Option<Box<Siblings>>,
    pub quorum: Quorum,
    pub durable_here: bool,
    /// This node was no owner for a while since: its own answer counts no more.
    pub elsewhere: bool,
    /// The key's context after it, where it is wanted.
    pub context: Option<Box<Context>>,
    /// The nodes whose yes counted.
    pub nodes: Row,
    /// Who stands in for whom.
    pub stand_ins: SmallVec<[Recipient; 1]>,
    /// Those of them that have it.
    pub kept: Row,
    /// The digest of what the write followed.
    pub base: u64,
    /// Owners that were silent for a while, or could not be told.
    pub missed: Row,
    /// What nodes said instead of keeping it.
    pub reasons: Reasons,
    /// Whether a hint counted.
    pub hinted: bool,
    /// The version that it wrote; `None` where it had been done before.
    pub dot: Option<Dot>,
}

/// A state of a key that came from elsewhere and is to be joined and kept.
#[derive(Debug)]
pub struct Join {
    pub key: Key,
    pub siblings: Siblings,
    /// Of its key and values, while it waits.
    pub bytes: usize,
    /// Who is told when it is durable.
    pub from: Sender,
    /// The digest of what it followed at its writer.
    pub base: u64,
    pub request: u64,
    /// What came of it.
    pub taken: Taken,
}

/// A request for records that a peer made.
#[derive(Debug)]
pub struct Give {
    pub to: NodeName,
    pub id: Id,
    pub purpose: Purpose,
    /// The ring's epoch that it was asked under.
    pub epoch: u64,
    /// Of which they are.
    pub partition: u32,
    /// At a partition's beginning: what its new owner has to remember too.
    pub requests: Vec<Done>,
    /// Whether this node has lost nothing of the partition.
    pub whole: bool,
}

/// Several operations of one message.
#[derive(Debug)]
pub struct Gather {
    pub client: Client,
    pub id: Option<Box<str>>,
    pub terms: Terms,
    pub keys: Vec<Option<Key>>,
    pub outcomes: Vec<Outcome>,
    pub open: usize,
}

/// A SEARCH: what each replica holds.
#[derive(Debug)]
pub struct Search {
    pub client: Client,
    pub id: Option<Box<str>>,
    pub terms: Terms,
    pub key: Key,
    pub asked: Vec<NodeName>,
    pub answers: Vec<(NodeName, Result<Siblings, String>)>,
}

/// A look at a key that changes nothing.
#[derive(Debug)]
pub struct InspectKey {
    pub key: Key,
    pub asker: Asker,
}

/// Who looks.
#[derive(Debug)]
pub enum Asker {
    /// A SEARCH of this node.
    Here { search: Token },
    /// A SEARCH of another one.
    Search { from: NodeName, id: Id },
    /// A read that another one coordinates, and what that holds. `found`: what it is told when that is durable, and whether
    /// the request was done by then.
    Read {
        from: NodeName,
        id: Id,
        epoch: u64,
        digest: u64,
        request: u64,
        round: u32,
        found: Option<(Siblings, bool)>,
    },
}

/// A newcomer's question to all peers whether they hear it.
#[derive(Debug)]
pub struct Greeting {
    pub client: Client,
    pub id: Option<Box<str>>,
    pub silent: Vec<NodeName>,
    pub deadline_us: u64,
}

/// A task.
#[derive(Debug)]
pub enum Task {
    Op(Op),
    /// An operation that was given up, and whose key the store still works on.
    GivenUp(Key),
    Join(Box<Join>),
    Spread(Box<Spread>),
    Absorb(Box<Absorb>),
    Give(Give),
    Gather(Box<Gather>),
    Search(Box<Search>),
    Greeting(Box<Greeting>),
    Listing(Box<Listing>),
    Status(Box<StatusTask>),
    InspectKey(Box<InspectKey>),
    Pull(Box<Pull>),
    Dropping(Dropping),
    Exchange(Box<Exchange>),
    Looking(Box<Looking>),
    Collect(Box<Collect>),
}

#[derive(Debug)]
struct Placed {
    serial: u64,
    /// The alarm that counts: one that was set before it is stale.
    alarm_us: u64,
    task: Task,
}

/// All tasks, and when to look at which again.
#[derive(Debug, Default)]
pub struct Tasks {
    places: Slab<Placed>,
    serial: u64,
    alarms: BinaryHeap<Reverse<(u64, Token)>>,
    /// When the operations that have no alarm, since they only wait for the store, were last looked at.
    swept_us: u64,
}

impl Tasks {
    /// No tasks yet. A life numbers its tasks from a place of its own: an answer to an earlier life of the same name
    /// must not pass for one to this life's question.
    pub fn of_life(actor: u128) -> Tasks {
        Tasks { serial: ringkv_common::key::hash(&actor.to_le_bytes()) >> 24, ..Tasks::default() }
    }

    /// Whether new work must be refused.
    pub fn full(&self) -> bool {
        self.places.len() >= TASKS_MAX
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// A number that no task has: for questions whose answers are told apart by it.
    pub fn number(&mut self) -> Token {
        self.serial += 1;
        self.serial << PLACE_BITS | ((1 << PLACE_BITS) - 1)
    }

    /// Adds a task.
    pub fn add(&mut self, task: Task) -> Token {
        self.serial += 1;
        let place = self.places.insert(Placed { serial: self.serial, alarm_us: 0, task });
        assert!(place < 1 << PLACE_BITS, "tasks are refused before there are so many");
        self.serial << PLACE_BITS | place as u64
    }

    fn placed(&mut self, token: Token) -> Option<&mut Placed> {
        let placed = self.places.get_mut((token & ((1 << PLACE_BITS) - 1)) as usize)?;
        (placed.serial == token >> PLACE_BITS).then_some(placed)
    }

    /// The task of a token, if it still is there.
    pub fn get(&mut self, token: Token) -> Option<&mut Task> {
        self.placed(token).map(|placed| &mut placed.task)
    }

    /// Puts another task in the place of one.
    pub fn replace(&mut self, token: Token, task: Task) -> Option<Task> {
        self.get(token).map(|held| std::mem::replace(held, task))
    }

    /// Ends a task.
    pub fn take(&mut self, token: Token) -> Option<Task> {
        self.get(token)?;
        Some(self.places.remove((token & ((1 << PLACE_BITS) - 1)) as usize).task)
    }

    /// The operation of a token.
    pub fn op(&mut self, token: Token) -> Option<&mut Op> {
        match self.get(token)? {
            Task::Op(op) => Some(op),
            _ => None,
        }
    }

    /// All operations.
    pub fn ops(&mut self) -> impl Iterator<Item = &mut Op> {
        self.places.iter_mut().filter_map(|(_, placed)| match &mut placed.task {
            Task::Op(op) => Some(op),
            _ => None,
        })
    }

    /// Has the task looked at again at a monotonic moment, and not at one that was set before.
    pub fn alarm(&mut self, token: Token, at_us: u64) {
        if let Some(placed) = self.placed(token) {
            placed.alarm_us = at_us;
            self.alarms.push(Reverse((at_us, token)));
        }
    }

    /// When the first alarm is due, or the next sweep.
    pub fn wake_at(&self) -> Option<u64> {
        let sweep = (!self.places.is_empty()).then_some(self.swept_us + SWEEP_US);
        self.alarms.peek().map(|Reverse((at, _))| *at).into_iter().chain(sweep).min()
    }

    /// Operations whose time is up, once in a while. An alarm for each would cost every operation, and almost none
    /// ever waits so long.
    pub fn sweep(&mut self, now_us: u64) -> Option<Vec<Token>> {
        if now_us < self.swept_us + SWEEP_US {
            return None;
        }
        self.swept_us = now_us;
        let late = |task: &Task| matches!(task, Task::Op(op) if op.ends_us() <= now_us);
        let late = self.places.iter().filter(|(_, placed)| late(&placed.task));
        let mut tokens: Vec<Token> =
            late.map(|(place, placed)| placed.serial << PLACE_BITS | place as u64).collect();
        tokens.sort_unstable();
        Some(tokens)
    }

    /// The next task whose alarm is due.
    pub fn due(&mut self, now_us: u64) -> Option<Token> {
        while let Some(Reverse((at, token))) = self.alarms.peek().copied() {
            if at > now_us {
                return None;
            }
            self.alarms.pop();
            if self.placed(token).is_some_and(|placed| placed.alarm_us == at) {
                return Some(token);
            }
        }
        None
    }

    /// The tasks whose end somebody waits for.
    pub fn owed(&self) -> impl Iterator<Item = Token> {
        let owed = self.places.iter().filter(|(_, placed)| match &placed.task {
            Task::Op(op) => !matches!(op.origin, Origin::Nobody),
            Task::Gather(_) | Task::Search(_) | Task::Greeting(_) | Task::Listing(_) | Task::Status(_) => {
                true
            }
            Task::GivenUp(_)
            | Task::Join(_)
            | Task::Spread(_)
            | Task::Absorb(_)
            | Task::Give(_)
            | Task::InspectKey(_)
            | Task::Exchange(_)
            | Task::Looking(_)
            | Task::Collect(_)
            | Task::Pull(_) => false,
            Task::Dropping(_) => false,
        });
        owed.map(|(place, placed)| placed.serial << PLACE_BITS | place as u64)
    }

    /// The keys whose states are being made durable somewhere, or told.
    pub fn written(&self) -> impl Iterator<Item = &Key> {
        self.places.iter().flat_map(|(_, placed)| -> Box<dyn Iterator<Item = &Key>> {
            match &placed.task {
                Task::Op(op) if op.is_write() => Box::new(std::iter::once(op.op.key())),
                Task::Spread(spread) => Box::new(std::iter::once(&spread.key)),
                Task::Join(join) => Box::new(std::iter::once(&join.key)),
                Task::Absorb(absorb) => Box::new(absorb.keys()),
                _ => Box::new(std::iter::empty()),
            }
        })
    }

    /// All tokens, in no order that matters.
    pub fn tokens(&self) -> Vec<Token> {
        self.places.iter().map(|(place, placed)| placed.serial << PLACE_BITS | place as u64).collect()
    }
}
