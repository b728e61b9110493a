//! The hands of the orchestrator: a thread that tells the machine what Consul and the nodes say, and does what it
//! answers. All decisions are in `ringkv_common::ring::orchestrator`.

mod lock;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use consul::{Client, Entry, Query};
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::{Action, Config, Event, Orchestrator, Step};
use ringkv_common::ring::{ClusterId, Outcome, Ring};
use ringkv_common::time::Now;

use self::lock::Holder;
use super::ask::{Address, Asker};
use super::complaint::{Complaint, no_use};
use super::keys::Keys;
use super::logs;

/// Between two ticks: while a change runs or is prepared, and in quiet times.
const TICK: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));
/// Between two attempts to do what Consul did not let us do.
const RETRY: Duration = Duration::from_millis(500);
/// Events that may wait; beyond, who brings them waits.
const EVENTS_MAX: usize = 4096;

/// What only the launcher's main loop can do.
pub enum Wish {
    /// Start a node, unless it runs.
    Launch(NodeName),
    /// Stop a node that was started for nothing.
    Stop(NodeName),
}

/// A running orchestrator.
pub struct Hands {
    events: SyncSender<Event>,
    stop: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Hands {
    /// Starts the thread. `cluster_id` is the cluster's, where it is known.
    pub fn start(
        config: Config,
        client: Client,
        keys: Keys,
        cluster_id: Option<ClusterId>,
        hold_at: Option<Step>,
        complaint: Complaint,
        wish: impl Fn(Wish) + Send + 'static,
    ) -> anyhow::Result<Hands> {
        let (events, inbox) = sync_channel(EVENTS_MAX);
        let (stop, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let answers = events.clone();
        // The thread may have ended while an answer was on its way.
        let asker = Asker::start(move |event| drop(answers.send(event)))?;
        let mut thread = Thread {
            machine: Orchestrator::new(config),
            holder: Holder::new(client.clone(), keys.lock(), events.clone()),
            client,
            keys,
            cluster_id,
            asker,
            inbox,
            queue: VecDeque::new(),
            unfinished: VecDeque::new(),
            complaint,
            retry_due: Instant::now(),
            addresses: BTreeMap::new(),
            hold_at,
            stop: stop.clone(),
            go_on: go_on.clone(),
            wish: Box::new(wish),
            started: Instant::now(),
        };
        let work = move || thread.run();
        let thread = thread::Builder::new().name("orchestrator".into()).spawn(work).context("no thread")?;
        Ok(Hands { events, stop, go_on, thread })
    }

    /// Where events of Consul go.
    pub fn events(&self) -> SyncSender<Event> {
        self.events.clone()
    }

    /// Lets an orchestrator go on that holds at a step.
    pub fn go_on(&self) {
        self.go_on.store(true, Ordering::Relaxed);
    }

    /// Ends it and gives the lock back, for which Consul may take a while.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // It looks soon by itself; a full queue wakes it anyway.
        let _ = self.events.try_send(Event::Tick);
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Thread {
    machine: Orchestrator,
    client: Client,
    keys: Keys,
    /// The cluster's identity, once a ring of it was seen: another one's is never passed on.
    cluster_id: Option<ClusterId>,
    holder: Holder,
    asker: Asker,
    inbox: Receiver<Event>,
    /// What came of actions, to be told before anything else.
    queue: VecDeque<Event>,
    /// Actions that Consul did not take, to be tried again.
    unfinished: VecDeque<Action>,
    /// Of what stands in Consul for the ring: it is met anew with every attempt to write one.
    complaint: Complaint,
    retry_due: Instant,
    /// Where nodes answer, by the ring and by the catalog.
    addresses: BTreeMap<NodeName, Address>,
    hold_at: Option<Step>,
    stop: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
    wish: Box<dyn Fn(Wish) + Send>,
    started: Instant,
}

impl Thread {
    fn run(&mut self) {
        let mut tick_due = Instant::now();
        while !self.stopping() {
            let Some(event) = self.next(&mut tick_due) else { break };
            self.note(&event);
            for action in self.machine.step(self.now(), event) {
                self.hold(&action);
                if self.stopping() {
                    break;
                }
                self.perform(action);
            }
        }
        self.holder.unlock();
    }

    /// What comes next; `None` at the end. A tick is never crowded out.
    fn next(&mut self, tick_due: &mut Instant) -> Option<Event> {
        if let Some(event) = self.queue.pop_front() {
            return Some(event);
        }
        let now = Instant::now();
        if now < *tick_due {
            match self.inbox.recv_timeout(*tick_due - now) {
                Ok(event) => return Some(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        *tick_due = Instant::now() + if self.holder.holds() { TICK.0 } else { TICK.1 };
        self.finish();
        Some(Event::Tick)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_us: self.started.elapsed().as_micros() as u64, wall_ms: wall.as_millis() as u64 }
    }

    /// Where nodes are is for the hands alone; the machine knows them by name.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Ring(Some(ring), _) => {
                self.cluster_id = Some(ring.cluster_id);
                self.addresses.extend(ring.nodes.iter().map(|n| (n.name, (n.host.clone(), n.ports.client))));
            }
            Event::Candidates(found) => {
                let address = |node: &ringkv_common::ring::Node| (node.host.clone(), node.ports.client);
                self.addresses.extend(found.iter().map(|c| (c.node.name, address(&c.node))));
            }
            _ => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Lock => {
                let held = self.holder.lock();
                self.queue.push_back(Event::Lock(held));
            }
            Action::Unlock => {
                self.holder.unlock();
                self.queue.push_back(Event::Lock(false));
            }
            Action::Survey(node, ring) => match self.addresses.get(&node) {
                Some(to) => self.asker.survey(node, to.clone(), ring),
                None => self.queue.push_back(Event::Report(node, None)),
            },
            Action::Ask(node, token, question) => match self.addresses.get(&node) {
                Some(to) => self.asker.consent(node, to.clone(), token, &question),
                None => {
                    let nobody = Err("nobody knows where it is".to_owned());
                    self.queue.push_back(Event::Consent(node, token, nobody));
                }
            },
            Action::Launch(node) => (self.wish)(Wish::Launch(node)),
            Action::Stop(node) => (self.wish)(Wish::Stop(node)),
            Action::Write(ring, index) => self.write(&ring, index),
            Action::Forget(_) | Action::Answer(_) => {
                self.unfinished.push_back(action);
                self.finish();
            }
        }
    }

    /// Writes a ring, and reads what stands there now, whoever wrote it.
    fn write(&mut self, ring: &Ring, index: u64) {
        let json = match ring.to_json() {
            Ok(json) => json,
            Err(error) => {
                tracing::error!("a ring was not written: {error}");
                return self.queue.push_back(Event::Written(false));
            }
        };
        let won = self.client.put_if(&self.keys.ring(), json, index);
        if let Err(error) = &won {
            tracing::warn!("it is unknown whether the ring of epoch {} was written: {error}", ring.epoch);
        }
        while !self.stopping() {
            match self.client.get_with(&self.keys.ring(), &Query::consistent()) {
                Ok(read) => return self.read_back(ring, won, read.value),
                Err(error) => {
                    tracing::debug!("the ring cannot be read: {error}");
                    self.pause();
                }
            }
        }
    }

    /// What stands there after an attempt to write this ring.
    fn read_back(&mut self, ring: &Ring, won: Result<bool, consul::Error>, entry: Option<Entry>) {
        let Some(entry) = entry else { return self.written(None, 0, won.unwrap_or(false)) };
        let wrong = match Ring::from_json(&entry.value) {
            Ok(now) if self.cluster_id.is_none_or(|id| id == now.cluster_id) => {
                // After silence, what stands there tells.
                let won = won.unwrap_or_else(|_| now == *ring);
                if won {
                    announce(ring);
                }
                return self.written(Some(Arc::new(now)), entry.modify_index, won);
            }
            Ok(other) => format!(
                "another program wrote a ring of the cluster {} into Consul, ours is {}: it is left as it is",
                other.cluster_id,
                self.cluster_id.unwrap_or_default()
            ),
            Err(error) => no_use(&error),
        };
        self.complaint.say(&entry.value, &wrong);
        self.pause();
        self.queue.push_back(Event::Written(false));
    }

    fn written(&mut self, ring: Option<Arc<Ring>>, index: u64, won: bool) {
        let event = Event::Ring(ring, index);
        self.note(&event);
        self.queue.push_back(event);
        self.queue.push_back(Event::Written(won));
    }

    /// Does what Consul has not taken yet, in order.
    fn finish(&mut self) {
        if Instant::now() < self.retry_due {
            return;
        }
        while let Some(action) = self.unfinished.front() {
            let done = match action {
                Action::Forget(id) => self.client.delete_if(&self.keys.signal(&id.name), id.index).map(drop),
                Action::Answer(outcome) => answer(&self.client, &self.keys, outcome),
                other => unreachable!("{other:?} is done at once"),
            };
            match done {
                Ok(()) => {
                    if let Some(Action::Answer(o)) = self.unfinished.pop_front() {
                        tracing::info!(outcome = ?o.outcome, "{}: {}", o.op, o.message);
                    }
                }
                // What can never be done must not hold up the rest.
                Err(consul::Error::Invalid(why)) => {
                    tracing::warn!("left undone: {why}");
                    self.unfinished.pop_front();
                }
                Err(error) => {
                    tracing::debug!("will be tried again: {error}");
                    self.retry_due = Instant::now() + RETRY;
                    return;
                }
            }
        }
    }

    /// For tests and for teaching: stops before the first action of a step.
    fn hold(&mut self, action: &Action) {
        let Some(step) = self.hold_at.filter(|step| action.step() == Some(*step)) else { return };
        self.hold_at = None;
        logs::say(&format!("holding at {}", format!("{step:?}").to_lowercase()));
        while !self.go_on.load(Ordering::Relaxed) && !self.stopping() {
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn pause(&self) {
        let end = Instant::now() + RETRY;
        while Instant::now() < end && !self.stopping() {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Writes a result, unless it stands there already, or a later one does: a launcher that starts anew repeats the answer
/// to the last change, because it cannot know whether the one before it came that far.
fn answer(client: &Client, keys: &Keys, outcome: &Outcome) -> Result<(), consul::Error> {
    let key = keys.result(&outcome.signal.name);
    let json = serde_json::to_string(outcome).expect("plain data always serializes");
    loop {
        let there = client.get(&key)?;
        // A result is written after its signal. One that names a later index was written into another Consul's store.
        let stands = there.as_ref().is_some_and(|entry| {
            serde_json::from_slice::<Outcome>(&entry.value)
                .is_ok_and(|o| (outcome.signal.index..entry.modify_index).contains(&o.signal.index))
        });
        if stands || client.put_if(&key, &*json, there.map_or(0, |entry| entry.modify_index))? {
            return Ok(());
        }
    }
}

fn announce(ring: &Ring) {
    match &ring.change {
        Some(change) => tracing::info!(epoch = ring.epoch, "{}: phase {}", change.kind, change.phase),
        None => tracing::info!(epoch = ring.epoch, nodes = ring.nodes.len(), "wrote the ring"),
    }
}
