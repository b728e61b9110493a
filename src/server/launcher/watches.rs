//! What Consul says, told to the orchestrator and to the launcher's main loop.

use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Duration;

use consul::{CheckStatus, Client, Entry, Event as Watched, Instance, Pace, Watch, WatchOptions};
use ringkv_common::name::Ports;
use ringkv_common::placement::WEIGHT_DEFAULT;
use ringkv_common::ring::orchestrator::{Candidate, Event, Signal};
use ringkv_common::ring::{ClusterId, Node, Ring, SignalId};

use super::Word;
use super::start::{parse_size, shortened};
use crate::server::complaint::{Complaint, no_use};
use crate::server::keys::Keys;

/// Four watches. They end when this is dropped.
pub struct Watches {
    _all: [Watch; 4],
}

impl Watches {
    /// Starts them. `cluster_id` is the cluster's, where it is known: another one's ring is never passed on.
    pub fn start(
        client: &Client,
        keys: &Keys,
        cluster_id: Option<ClusterId>,
        events: &SyncSender<Event>,
        words: &Sender<Word>,
        complaint: Complaint,
    ) -> anyhow::Result<Watches> {
        let pace = Pace { burst: 20, per_second: 10.0, pause_max: Duration::from_secs(2), ..Pace::default() };
        let options = WatchOptions { consistent: true, pace, ..WatchOptions::default() };
        let ring = RingReader { events: events.clone(), words: words.clone(), cluster_id, complaint };
        let signals = {
            let (events, keys) = (events.clone(), keys.clone());
            move |entries: Vec<Entry>| tell(&events, Event::Signals(signals(&keys, entries)))
        };
        let size = {
            let (events, key) = (events.clone(), keys.size());
            move |entry: Option<Entry>| tell(&events, Event::Size(size(&key, entry.as_ref())))
        };
        let instances = {
            let (events, words, keys) = (events.clone(), words.clone(), keys.clone());
            move |found: Vec<Instance>| {
                let found: Vec<Seen> = found.iter().filter_map(|i| seen(&keys, i)).collect();
                tell(&events, Event::Candidates(found.iter().map(|s| s.candidate.clone()).collect()));
                let _ = words.send(Word::Seen(found));
            }
        };
        Ok(Watches {
            _all: [
                client.watch_key(&keys.ring()).options(options).each(ring.deliver())?,
                client.watch_prefix(&keys.signals()).options(options).each(changed(signals))?,
                client.watch_key(&keys.size()).options(options).each(changed(size))?,
                client.watch_instances(keys.cluster(), false).options(options).each(changed(instances))?,
            ],
        })
    }
}

/// The orchestrator may have ended already.
fn tell(events: &SyncSender<Event>, event: Event) {
    let _ = events.send(event);
}

fn changed<T>(take: impl Fn(T) + Send + 'static) -> impl FnMut(Watched<T>) + Send + 'static {
    move |event| {
        if let Watched::Changed { value, .. } = event {
            take(value);
        }
    }
}

struct RingReader {
    events: SyncSender<Event>,
    words: Sender<Word>,
    cluster_id: Option<ClusterId>,
    complaint: Complaint,
}

impl RingReader {
    /// This watch speaks of Consul's absence, too; the others would only repeat it.
    fn deliver(mut self) -> impl FnMut(Watched<Option<Entry>>) + Send + 'static {
        let mut away = false;
        move |event| match event {
            Watched::Changed { value, .. } => self.take(value),
            Watched::Unreachable { error, .. } if !away => {
                away = true;
                tracing::warn!("the nodes serve on; changes of the ring wait for Consul: {error}");
            }
            Watched::Unreachable { .. } => {}
            Watched::Reachable { after } => {
                away = false;
                tracing::info!("Consul answers again after {after:.1?}");
            }
        }
    }

    fn take(&mut self, entry: Option<Entry>) {
        let Some(entry) = entry else {
            self.complaint.end();
            return tell(&self.events, Event::Ring(None, 0));
        };
        match Ring::from_json(&entry.value) {
            Err(error) => self.complaint.say(&entry.value, &no_use(&error)),
            Ok(ring) if self.cluster_id.is_some_and(|id| id != ring.cluster_id) => {
                let (id, ours) = (ring.cluster_id, self.cluster_id.unwrap_or_default());
                let wrong =
                    format!("the ring in Consul is of the cluster {id}, ours is {ours}: it is left as it is");
                self.complaint.say(&entry.value, &wrong);
            }
            Ok(ring) => {
                self.complaint.end();
                self.cluster_id = Some(ring.cluster_id);
                let ring = Arc::new(ring);
                tell(&self.events, Event::Ring(Some(ring.clone()), entry.modify_index));
                let _ = self.words.send(Word::Ring(ring));
            }
        }
    }
}

/// Signals as the machine wants them.
fn signals(keys: &Keys, entries: Vec<Entry>) -> Vec<Signal> {
    let one = |entry: Entry| {
        let name = keys.signal_name(&entry.key, &entry.value)?.to_owned();
        Some(Signal { id: SignalId { name, index: entry.modify_index }, value: entry.value })
    };
    entries.into_iter().filter_map(one).collect()
}

fn size(key: &str, entry: Option<&Entry>) -> Option<u16> {
    let text = String::from_utf8_lossy(&entry?.value).trim().to_owned();
    parse_size(&text).map_err(|why| tracing::warn!("{key} is {:?}: {why}", shortened(&text))).ok()
}

/// A node in the catalog.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As the machine sees it.
    pub candidate: Candidate,
    /// The epoch of its ring when it last said so; 0 without one.
    pub epoch: u64,
}

/// A node as it registered itself; `None` where something else uses the service's name.
fn seen(keys: &Keys, instance: &Instance) -> Option<Seen> {
    let meta = &instance.service.meta;
    let port = |name: &str| meta.get(name)?.parse().ok();
    let node = Node {
        name: keys.node_of(&instance.service.id)?,
        incarnation: 0,
        host: instance.address().to_owned(),
        ports: Ports { client: instance.service.port, peer: port("peer_port")?, http: port("http_port")? },
        zone: meta.get("zone").cloned().unwrap_or_default(),
        weight: meta.get("weight").and_then(|w| w.parse().ok()).unwrap_or(WEIGHT_DEFAULT),
    };
    let epoch = meta.get("epoch").and_then(|e| e.parse().ok()).unwrap_or(0);
    Some(Seen { candidate: Candidate { node, healthy: instance.status() == CheckStatus::Passing }, epoch })
}
