//! A pull: stretch by stretch through a partition, the receiver says what it has, and takes what the giver sends.

use super::effect::{Effect, Token};
use super::requests::Done;
use super::task::{Attempts, Task};
use super::{FETCH_AGAIN_MS, Node};
use crate::store::{LOOKED_BYTES_MAX, Measure, Slice};
use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::Failure;
use ringkv_common::message::peer::{Buckets, Message, Purpose, Record, Stretch};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Phase;

/// Bytes of one answer: small enough for a giver to serve others in between.
const FETCH_BYTES: u32 = 64 << 10;
/// Records whose digests go into one question.
const DIGESTS_MAX: usize = 2048;

/// A pull under way.
#[derive(Debug)]
pub struct Pull {
    partition: u32,
    from: NodeName,
    purpose: Purpose,
    /// Whether the receiver says what it has.
    compares: bool,
    phase: Option<Phase>,
    after: Option<Key>,
    /// Where the stretch in question ends.
    until: Option<Key>,
    known: Vec<(u64, u64)>,
    fetching: bool,
    attempts: Attempts,
    /// Whether one of the records could not be taken.
    incomplete: bool,
    next: Option<Key>,
    /// What the giver remembered of requests when the pull began.
    requests: Vec<Done>,
    /// Whether the giver had lost nothing, each time.
    whole: bool,
    /// Only these buckets.
    buckets: Option<Buckets>,
}

impl Node {
    pub(super) fn pull(&mut self, pull: Pull) {
        let purpose = pull.purpose;
        let partition = pull.partition;
        let token = self.tasks.add(Task::Pull(Box::new(pull)));
        if matches!(purpose, Purpose::Handover { .. }) {
            self.transfers.handed_over.insert(partition, token);
        }
        self.ask_stretch(token);
    }

    /// Asks for what follows, after a look at what is here where the pull compares.
    fn ask_stretch(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        if !pull.compares {
            return self.fetch(token);
        }
        let stretch = Stretch {
            partition: pull.partition,
            after: pull.after.clone(),
            until: None,
            buckets: pull.buckets,
        };
        let slice = Slice { bytes_max: 0, records_max: DIGESTS_MAX, looked_bytes_max: LOOKED_BYTES_MAX };
        self.out.push(Effect::Digest { token, stretch, slice });
    }

    pub(super) fn on_digested(&mut self, token: Token, digests: Vec<(u64, u64)>, next: Option<Key>) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        pull.known = digests;
        pull.until = next;
        self.fetch(token);
    }

    fn fetch(&mut self, token: Token) {
        let epoch = self.epoch();
        // A fresh number for every question: a late answer to an earlier one must not pass for this one's.
        let Some(Task::Pull(mut pull)) = self.tasks.take(token) else { return };
        pull.fetching = true;
        let patience_us = pull.attempts.patience_from_us(FETCH_AGAIN_MS * 1000);
        let stretch = Stretch {
            partition: pull.partition,
            after: pull.after.clone(),
            until: pull.until.clone(),
            buckets: pull.buckets,
        };
        let (to, purpose, partition, known) = (pull.from, pull.purpose, pull.partition, pull.known.clone());
        let token = self.tasks.add(Task::Pull(pull));
        if matches!(purpose, Purpose::Handover { .. }) {
            self.transfers.handed_over.insert(partition, token);
        }
        self.send(to, Message::Fetch { id: token, epoch, purpose, stretch, known, bytes_max: FETCH_BYTES });
        self.tasks.alarm(token, self.now.mono_us + patience_us);
    }

    /// The giver was silent, or behind: it is asked again.
    pub(super) fn fetch_again(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        if !pull.fetching {
            return;
        }
        let partition = pull.partition;
        if pull.purpose == Purpose::Repair {
            // The next round finds it again.
            self.tasks.take(token);
            return self.repaired();
        }
        if matches!(pull.purpose, Purpose::Handover { .. }) {
            // Whoever still has something to hand over offers it again; one that is gone must not block others.
            self.tasks.take(token);
            self.transfers.handed_over.remove(&partition);
            return;
        }
        let purpose = pull.purpose;
        let incoming = match purpose {
            Purpose::Fill => self.transfers.fills.get(&partition),
            _ => self.transfers.incoming.get(&partition),
        };
        if incoming.is_some_and(|incoming| incoming.from.len() > 1) {
            self.transfers.stuck.get_or_insert_with(|| format!("{} does not answer", pull.from));
            self.tasks.take(token);
            return self.give_up_source(partition, purpose);
        }
        self.transfers.stuck.get_or_insert_with(|| format!("{} does not answer", pull.from));
        self.fetch(token);
    }

    /// The giver refused, being behind: it is asked again at once, and where it refuses that too with the alarm.
    pub(super) fn fetch_refused(&mut self, token: Token) {
        if let Some(Task::Pull(pull)) = self.tasks.get(token)
            && !std::mem::replace(&mut pull.attempts.hurried, true)
        {
            self.fetch_again(token);
        }
    }

    /// The giver cannot give; the alarm of the question asks again.
    pub(super) fn pull_refused(&mut self, token: Token, failure: Failure) {
        if let Some(Task::Pull(_)) = self.tasks.get(token) {
            self.transfers.stuck = Some(failure.message);
        }
    }

    pub(super) fn on_fetched(
        &mut self,
        token: Token,
        records: Vec<Record>,
        next: Option<Key>,
        requests: Vec<Done>,
        whole: bool,
    ) {
        match self.tasks.get(token) {
            Some(Task::Pull(pull)) if pull.fetching => {
                pull.fetching = false;
                pull.whole &= whole;
                pull.attempts.anew();
                pull.next = next;
                if pull.after.is_none() {
                    bug::on(Bug::LearnsRequestsFirst)
                        .then(|| self.requests.learn(self.now, requests.clone()));
                    pull.requests = requests;
                }
            }
            Some(Task::Listing(_)) => return self.on_listed(token, records, next),
            _ => return,
        }
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        if pull.purpose == Purpose::Repair {
            self.anti_entropy.counts.repaired += records.len() as u64;
        } else {
            self.transfers.stuck = None;
            self.transfers.keys_moved += records.len() as u64;
            let bytes: u64 = records.iter().map(|(key, siblings)| Measure::of(key, siblings).bytes).sum();
            self.transfers.bytes_moved += bytes;
        }
        self.absorb(token, records);
    }

    /// A record could not be taken: the stretch is asked for again.
    pub(super) fn not_pulled(&mut self, token: Token) {
        if let Some(Task::Pull(pull)) = self.tasks.get(token) {
            pull.incomplete = true;
        }
    }

    /// What was fetched is durable here: the pull goes on.
    pub(super) fn pull_step(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        if std::mem::take(&mut pull.incomplete) {
            return self.ask_stretch(token);
        }
        // The giver stopped within the stretch, or the stretch ended before the partition does.
        let Some(after) = pull.next.take().or_else(|| pull.until.take()) else { return self.pulled(token) };
        pull.after = Some(after);
        pull.until = None;
        self.ask_stretch(token);
    }

    /// Whether a pull brings back what an accepted loss had taken.
    pub(super) fn returns_after_loss(&mut self, pull: Token) -> bool {
        match self.tasks.get(pull) {
            Some(Task::Pull(pull)) if matches!(pull.purpose, Purpose::Handover { .. }) => {
                self.membership.was_lost(pull.partition)
            }
            _ => false,
        }
    }

    fn pulled(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.take(token) else { return };
        // Now that all records are here: one whose request is known before it comes would pass for a late twin.
        self.requests.learn(self.now, pull.requests);
        let (partition, from) = (pull.partition, pull.from);
        match pull.purpose {
            Purpose::Handover { held } => {
                self.transfers.handed_over.remove(&partition);
                let epoch = self.epoch();
                return self.send(from, Message::Released { epoch, partition, held });
            }
            Purpose::Repair => return self.repaired(),
            Purpose::Fill => return self.filled(partition, from, pull.whole),
            Purpose::Move | Purpose::List => {}
        }
        if let Some(incoming) = self.transfers.incoming.get_mut(&partition) {
            incoming.active = false;
            incoming.copied = true;
            if pull.phase != Some(Phase::Copy) && !incoming.compared.contains(&from) {
                incoming.compared.push(from);
            }
            if incoming.verified() {
                self.transfers.fills.remove(&partition);
            }
        }
        self.pull_on();
    }
}

impl Pull {
    pub(super) fn new(
        partition: u32,
        from: NodeName,
        purpose: Purpose,
        compares: bool,
        phase: Option<Phase>,
    ) -> Pull {
        Pull {
            partition,
            from,
            purpose,
            compares,
            phase,
            after: None,
            until: None,
            known: Vec::new(),
            fetching: false,
            attempts: Attempts::default(),
            incomplete: false,
            next: None,
            requests: Vec::new(),
            whole: true,
            buckets: None,
        }
    }

    /// A pull of what another owner holds otherwise.
    pub(super) fn repair(partition: u32, from: NodeName, buckets: Buckets) -> Pull {
        Pull { buckets: Some(buckets), ..Pull::new(partition, from, Purpose::Repair, true, None) }
    }

    /// A pull of what a node holds and does not own.
    pub(super) fn handover(partition: u32, from: NodeName, held: u64) -> Pull {
        Pull::new(partition, from, Purpose::Handover { held }, true, None)
    }
}
