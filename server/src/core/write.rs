//! PUT, INSERT, UPDATE and DELETE at the owner that coordinates: a new version, made durable here and elsewhere.
//!
//! A write without a context supersedes what its coordinator holds, and has to be above all that was acknowledged before
//! it, seen here or not. So an owner that holds, beside what it is told, such a version that the coordinator had not
//! seen, says so. Where that has the higher stamp the write is done once more above it; else it is told once more, and
//! supersedes that too. An acknowledged write and an earlier acknowledged one have an owner in common; so clocks that
//! disagree cost a round, and never a write. And where a write is repeated whose version is hidden, and no owner of a quorum
//! has taken it before what hides it, it was never acknowledged: then it is done above.

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::peer::Message;
use ringkv_common::message::{Code, Condition, Failure, KeyOp, Outcome, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::quorum::{Quorum, Verdict};
use ringkv_common::ring::Ring;
use ringkv_common::version::{Content, Dot, Siblings, Version};
use smallvec::SmallVec;

use super::Node;
use super::effect::{Effect, Token};
use super::quorums::{Recipient, Row};
use super::shortfall::Reasons;
use super::task::{Op, OpStage, Origin, Writing};
use super::twins::{join_without, take_late};

/// Writes at most that go on though their clients were told that time is up.
const UNSETTLED_MAX: usize = 4096;

/// What a write has learned of other owners, and goes by at its next turn.
#[derive(Debug)]
pub enum Learned {
    /// They hold this: what is done is decided by it too. And whether one knows that it was done before.
    Held(Siblings, bool),
    /// Beside the version of this dot, or beside what was told where the write had been done before, they hold what that
    /// had not seen.
    Beside(Option<Dot>, Siblings),
}

impl Node {
    pub(super) fn proceed_write(&mut self, token: Token, key: &Key) {
        let alone = self.reads_alone(key);
        let now_us = self.now.mono_us;
        let Some(Op { op: KeyOp::Write(write), origin, learned, .. }) = self.tasks.op(token) else { return };
        let (condition, request) = (write.condition, write.request);
        // By now whoever forwarded it may have had it done by another owner.
        let late = matches!(origin, Origin::Peer { fresh_until_us, .. } if *fresh_until_us < now_us);
        let theirs = match learned.take().map(|learned| *learned) {
            Some(Learned::Beside(dot, theirs)) => return self.write_over(token, key, dot, theirs),
            Some(Learned::Held(theirs, knows)) => Some((theirs, knows)),
            None => None,
        };
        if let Some(failure) = self.out_of_reach(token, key) {
            return self.fail(token, failure);
        }
        let hidden = request.is_some_and(|request| self.state_of(key).hides_request(request));
        // What the client has seen may be the twin of what this node holds, and goes with it.
        let lags = self.lags_behind_context(token, key);
        // While this node was stopped its client may have had it done elsewhere.
        let stale = now_us < self.catching_up_until_us || self.requests.misses(key);
        let doubtful = late || lags || request.is_some() && stale;
        if !alone && theirs.is_none() && (condition != Condition::Always || hidden || doubtful) {
            // What this node missed must not decide.
            let Some(ring) = self.ring.clone() else { return };
            return self.gather(token, key, &ring);
        }
        self.write(token, key, theirs)
    }

    /// Whether a write's context has seen what this node has not.
    fn lags_behind_context(&mut self, token: Token, key: &Key) -> bool {
        let Node { tasks, keys, .. } = self;
        let Some(Op { op: KeyOp::Write(write), .. }) = tasks.op(token) else { return false };
        let Some(context) = &write.context else { return false };
        let state = keys.get(key).and_then(|busy| busy.state.as_ref()).expect("the caller has seen to it");
        context.clock.entries().iter().any(|dot| !state.clock.covers(*dot))
    }

    /// The state of a key that an operation has its turn with.
    fn state_of(&mut self, key: &Key) -> &mut Siblings {
        let busy = self.keys.get(key).expect("the caller has seen to it");
        busy.state.as_mut().expect("the caller has seen to it")
    }

    /// The digest of a state, where there are others to compare it.
    pub(super) fn digest_for_others(&self, state: &Siblings) -> u64 {
        let alone = self.ring.as_ref().is_none_or(|ring| ring.owners.width() < 2);
        if alone { 0 } else { state.digest() }
    }

    /// Does a write, unless it was done before or is not to be done; by what others hold too, where they were asked.
    fn write(&mut self, token: Token, key: &Key, mut theirs: Option<(Siblings, bool)>) {
        let mut state = std::mem::take(self.state_of(key));
        let before = theirs.as_ref().map(|_| state.clone());
        let mut knows = false;
        if let Some((theirs, they_know)) = &mut theirs {
            let late = take_late(key, &state, theirs, &self.requests, None);
            join_without(&late, &mut state, theirs, &mut self.author);
            knows = *they_know;
        }
        let base = self.digest_for_others(&state);
        let done = self.write_into(token, key, &mut state, knows);
        *self.state_of(key) = if done.is_ok() { state } else { before.unwrap_or(state) };
        match done {
            Ok(dot) => {
                // Of what is not kept nothing is to be known: told later it would pass for a late twin.
                theirs.iter().for_each(|(theirs, _)| self.requests.saw(self.now, key, theirs));
                self.replicate(token, key, base, dot);
            }
            // That is what a read would show, and it is shown when one would show it.
            Err(failure) if matches!(failure.code, Code::KeyExists | Code::KeyNotFound) => {
                self.show(token, key, Outcome::Failed(failure));
            }
            Err(failure) => self.fail(token, failure),
        }
    }

    /// The version that a write goes by: new, or what it wrote before where that still is held. Or why there is none.
    fn write_into(
        &mut self,
        token: Token,
        key: &Key,
        state: &mut Siblings,
        knows: bool,
    ) -> Result<Option<Dot>, Failure> {
        let Some(Op { op: KeyOp::Write(write), .. }) = self.tasks.op(token) else { return Ok(None) };
        let (condition, request) = (write.condition, write.request.unwrap_or(0));
        let done = state.of_request(request).map(|version| version.dot);
        let under_way = done.is_none() && self.requests.knows(key, request);
        if knows || under_way || self.requests.vouches(key, request) {
            // What hides it came later; or it is gone, and written above what it went by by whoever does it.
            return Ok(None);
        }
        if let Some(dot) = done {
            return Ok(Some(self.above(state, dot)));
        }
        let exists = !state.values().is_empty();
        match condition {
            Condition::Absent if exists => {
                Err(Failure::new(Code::KeyExists, "the key has a value: UPDATE or PUT it"))
            }
            Condition::Present if !exists => Err(self.not_found(key)),
            _ => self.write_new(token, state).map(Some),
        }
    }

    /// Adds a write's version to a state. Its dot, or why it is not taken.
    fn write_new(&mut self, token: Token, state: &mut Siblings) -> Result<Dot, Failure> {
        if self.unsettled >= UNSETTLED_MAX {
            let text = format!(
                "{UNSETTLED_MAX} writes wait at {} for owners that do not answer, try again later",
                self.id.name
            );
            return Err(Failure::new(Code::Overloaded, text));
        }
        let bytes_max = self.id.limits.siblings_bytes_max();
        let Some(Op { op: KeyOp::Write(write), .. }) = self.tasks.op(token) else {
            unreachable!("the caller has seen to it")
        };
        let context = write.context.as_deref();
        self.author.outgrow(&state.clock);
        if let Some(context) = context {
            let room = state.room(context, write.content.bytes().len(), bytes_max);
            room.map_err(|error| Failure::new(Code::TooLarge, error.to_string()))?;
            self.author.outgrow(&context.clock);
        }
        let version = Version {
            dot: self.author.dot(),
            stamp: self.clock.stamp(self.now, state.stamp_max()),
            request: write.request.unwrap_or(0),
            contextual: context.is_some(),
            // The value goes into the state: the task needs it no more.
            content: std::mem::replace(&mut write.content, Content::Tombstone),
        };
        let dot = version.dot;
        state.write(context.filter(|_| !bug::on(Bug::DropsContext)), version);
        Ok(dot)
    }

    /// Whether a state has seen dots of this life that there have not been: a client made them up.
    pub(super) fn invented(&self, theirs: &Siblings) -> bool {
        theirs.clock.counter(self.author.actor) > self.author.dots
    }

    /// A write under way has heard of versions that it had not seen: it supersedes them too.
    fn write_over(&mut self, token: Token, key: &Key, dot: Option<Dot>, mut theirs: Siblings) {
        let mut state = std::mem::take(self.state_of(key));
        let invented = self.invented(&theirs);
        let late = take_late(key, &state, &mut theirs, &self.requests, None);
        // What they hold hidden by this write they had before it. That they hold the write itself says nothing of that.
        let own = self.tasks.op(token).map_or(0, |op| op.op.request());
        let others = theirs.versions.iter().filter(|version| version.request != own);
        others.for_each(|version| self.requests.told(self.now, key, version.request));
        join_without(&late, &mut state, &theirs, &mut self.author);
        self.forget_hidden(token, key, &state);
        let base = self.digest_for_others(&state);
        let dot = match dot {
            // Somebody named a dot that was none yet, and so it was taken for superseded: it is written as another one.
            Some(_) if invented => self.write_new(token, &mut state).ok(),
            dot => dot.map(|dot| self.above(&mut state, dot)),
        };
        *self.state_of(key) = state;
        self.replicate(token, key, base, dot);
    }

    /// A write that goes on for nobody is not done once more above what hides it: so it never was done, and nobody shall
    /// take it for that whom its client asks again.
    fn forget_hidden(&mut self, token: Token, key: &Key, state: &Siblings) {
        let Some(Op { op: KeyOp::Write(write), origin: Origin::Nobody, .. }) = self.tasks.op(token) else {
            return;
        };
        if write
            .request
            .is_some_and(|request| state.hides_request(request) && self.requests.gives_up(key, request))
        {
            write.request = None;
        }
    }

    /// Has a version without a context supersede all such ones. Where one of them hides it, and nothing took its place, it
    /// is given a new name above that. Returns the dot that the write goes by from now on.
    fn above(&mut self, state: &mut Siblings, dot: Dot) -> Dot {
        let Some(version) = state.versions.iter().find(|version| version.dot == dot && !version.contextual)
        else {
            return dot;
        };
        let twin = |other: &Version| version.request != 0 && version.request == other.request;
        if state.visible().iter().any(|other| other.dot == dot || twin(other)) {
            state.settle_plain();
            return dot;
        }
        let version = version.clone();
        self.author.outgrow(&state.clock);
        let stamp = self.clock.stamp(self.now, state.stamp_max());
        let version = Version { dot: self.author.dot(), stamp, ..version };
        let dot = version.dot;
        state.write_above(version);
        dot
    }

    /// The failure of a write that cannot have its quorum by what is known: then nothing is done.
    fn out_of_reach(&mut self, token: Token, key: &Key) -> Option<Failure> {
        let ring = self.ring.clone()?;
        let partition = key.partition(ring.partitions);
        let route = ring.route(partition);
        if route.writers.len() == 1 && route.also.is_none() {
            return None;
        }
        let terms = self.tasks.op(token)?.terms;
        let quorum = self.write_quorum(&ring, &route, terms.write);
        let told = self.recipients(&ring, &route, partition, self.may_hint(&route, &terms));
        let left = self.left_of(quorum, &told);
        if left.verdict() == Verdict::Enough {
            return None;
        }
        let (needed, got) = left.shortfall();
        let down: Vec<String> =
            left.silent().filter(|n| self.is_away(*n)).map(|n| format!("{n} is down")).collect();
        let text = format!("needed {needed} replicas, {got} can be reached: {}", down.join(", "));
        Some(Failure::new(Code::QuorumFailed, text))
    }

    /// Makes a key's new state durable here and tells the other owners. `dot`: of the version that is new.
    fn replicate(&mut self, token: Token, key: &Key, base: u64, dot: Option<Dot>) {
        let busy = self.keys.get(key).expect("the caller has seen to it");
        let siblings = busy.state.clone().expect("the caller has seen to it");
        // Who waits to show it waits on where the write was not settled yet.
        if !busy.writes.iter().any(|(write, _)| *write == token) {
            busy.writes.push((token, SmallVec::new()));
        }
        let Some(op) = self.tasks.op(token) else { return };
        let KeyOp::Write(write) = &op.op else { return };
        let request = write.request.unwrap_or(0);
        let context = op.terms.want.context.then(|| Box::new(siblings.context()));
        let (terms, deadline_us) = (op.terms, op.deadline_us);
        let writing = Writing {
            told: None,
            quorum: Quorum::default(),
            durable_here: false,
            elsewhere: false,
            context,
            nodes: SmallVec::new(),
            stand_ins: SmallVec::new(),
            kept: Row::new(),
            base,
            missed: Row::new(),
            reasons: Reasons::new(),
            hinted: false,
            dot,
        };
        op.stage = OpStage::Writing(Box::new(writing));
        op.attempts.persists = op.attempts.persists.saturating_add(1);
        let resend_us = self.now.mono_us + op.attempts.patience_us();
        self.requests.begun(self.now, key, request);
        if self.ask_owners(token, key, &terms) {
            self.tasks.alarm(token, resend_us.min(deadline_us));
        }
        self.membership.holds(key, self.ring.as_deref());
        self.out.push(Effect::Persist { token, key: key.clone(), siblings });
        bug::on(Bug::AcksBeforeDurable).then(|| self.on_persisted(token));
    }

    /// Counts the write's quorum anew under the ring as it is, and tells the owners elsewhere. Whether there are any.
    fn ask_owners(&mut self, token: Token, key: &Key, terms: &Terms) -> bool {
        let Some(ring) = self.ring.clone() else { return false };
        let partition = key.partition(ring.partitions);
        let (route, me) = (ring.route(partition), self.id.name);
        let quorum = self.write_quorum(&ring, &route, terms.write);
        let told = self.recipients(&ring, &route, partition, self.may_hint(&route, terms));
        let owns = self.me.is_some_and(|me| ring.holds(me, partition));
        let told_now = self.pace.tell();
        let Some(Op { op: KeyOp::Write(write), stage: OpStage::Writing(writing), attempts, .. }) =
            self.tasks.op(token)
        else {
            return false;
        };
        attempts.round += 1;
        attempts.told = told_now;
        writing.quorum = quorum;
        writing.nodes.clear();
        writing.kept.clear();
        writing.missed.clear();
        writing.reasons.clear();
        // Once it owns the key no more, what it holds of it may be gone when it owns it again.
        writing.elsewhere |= !owns;
        if writing.durable_here && !writing.elsewhere {
            writing.quorum.yes(me);
            writing.nodes.push(me);
        }
        writing.stand_ins = told.iter().filter(|(to, owner)| to != owner).copied().collect();
        let request = write.request.unwrap_or(0);
        let to: SmallVec<[NodeName; 3]> = told.iter().map(|(to, _)| *to).collect();
        self.tell_state(token, key, request, &to);
        route.writers.len() > 1 || route.also.is_some()
    }

    /// A write that is under way needs the new ring's quorum.
    pub(super) fn recount(&mut self, token: Token, key: &Key, terms: &Terms) {
        let told = self.ask_owners(token, key, terms);
        let now_us = self.now.mono_us;
        if let Some(op) = self.tasks.op(token)
            && told
        {
            op.attempts.anew();
            let at = (now_us + op.attempts.patience_us()).min(op.deadline_us);
            self.tasks.alarm(token, at);
        }
        self.settle(token);
    }

    /// Sends a key's state to other owners, and keeps it for whom it does not reach.
    fn tell_state(&mut self, token: Token, key: &Key, request: u64, to: &[NodeName]) {
        let Some(first) = to.first() else { return };
        debug_assert_ne!(*first, self.id.name);
        let epoch = self.epoch();
        // What is held now may include later writes, which change nothing. But what hides this one by its stamp may have
        // been acknowledged before it: then the owners shall say so.
        let held = self.keys.get(key).and_then(|b| b.state.clone());
        let Some(Op { stage: OpStage::Writing(writing), attempts, .. }) = self.tasks.op(token) else {
            return;
        };
        let (base, round) = (writing.base, attempts.round);
        let hidden = |held: &Siblings| writing.dot.is_some_and(|dot| held.hides(dot));
        if let Some(held) = held.filter(|held| writing.told.is_none() || !hidden(held)) {
            writing.told = Some(Box::new(held));
        }
        let Some(state) = writing.told.clone() else { return };
        for name in to {
            let (key, siblings) = (key.clone(), (*state).clone());
            self.send(*name, Message::Replicate { id: token, epoch, key, siblings, base, request, round });
        }
    }

    /// A silent owner may not have heard, or its answer was lost: the write is told again, it is idempotent; and who
    /// may stand in for the owner is told too.
    pub(super) fn resend(&mut self, token: Token) {
        let (now_us, me) = (self.now.mono_us, self.id.name);
        let Some(ring) = self.ring.clone() else { return };
        let Some(Op {
            op: KeyOp::Write(write),
            stage: OpStage::Writing(writing),
            deadline_us,
            attempts,
            terms,
            ..
        }) = self.tasks.op(token)
        else {
            return;
        };
        let silent: SmallVec<[NodeName; 3]> = writing.quorum.silent().filter(|n| *n != me).collect();
        let (key, request, terms) = (write.key.clone(), write.request.unwrap_or(0), *terms);
        let mut stand_ins = writing.stand_ins.clone();
        let at = (now_us + attempts.patience_us()).min(*deadline_us);
        attempts.hurried = false;
        let told = attempts.told;
        let partition = key.partition(ring.partitions);
        let route = ring.route(partition);
        let mut to = silent.clone();
        to.retain(|name| !self.pace.comes_to(self.now, *name, told));
        if self.may_hint(&route, &terms) {
            self.add_stand_ins(&ring, partition, &to, &mut stand_ins);
            let absent = stand_ins.iter().filter(|(_, owner)| silent.contains(owner));
            to.extend(
                absent.map(|(name, _)| *name).filter(|name| !self.pace.comes_to(self.now, *name, told)),
            );
        }
        if let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) {
            writing.stand_ins = stand_ins;
            writing.missed = silent;
        }
        self.tell_state(token, &key, request, &to);
        self.tasks.alarm(token, at);
        self.count_hints(token);
    }

    /// An owner cannot be told: nothing speaks for waiting longer before a hint counts in its place.
    pub(super) fn not_told(&mut self, token: Token, owner: NodeName) {
        if let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) {
            writing.missed.push(owner);
            writing.reasons.retain(|(by, _)| *by != owner);
            writing.reasons.push((owner, "cannot be reached".into()));
            self.count_hints(token);
        }
    }

    /// Finds somebody for each owner of a partition that is silent and has nobody yet.
    pub(super) fn add_stand_ins(
        &self,
        ring: &Ring,
        partition: u32,
        silent: &[NodeName],
        stand_ins: &mut SmallVec<[Recipient; 1]>,
    ) {
        let row = ring.route(partition).writers;
        for owner in silent.iter().filter(|owner| ring.names(row).any(|name| name == **owner)) {
            if !stand_ins.iter().any(|(_, absent)| absent == owner) {
                stand_ins.extend(self.stand_in(ring, partition, stand_ins).map(|name| (name, *owner)));
            }
        }
    }
}
