//! Watches: a key, a prefix or a service, followed by blocking queries on a thread of their own.

mod follow;

use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use follow::{Bucket, next_index};

use crate::{Client, Entry, Error, Indexed, Instance, Query};
use follow::Follow;

/// What a watch tells its consumer.
#[derive(Debug)]
pub enum Event<T> {
    /// The first content, absence included; from then on every content that differs from the one delivered last.
    /// Contents in between may be skipped.
    Changed {
        /// Consul's index of the answer.
        index: u64,
        /// The content.
        value: T,
    },
    /// An attempt failed. The watch goes on by itself; the last content stays the best that is known.
    Unreachable {
        /// Why.
        error: Error,
        /// How long ago the first failure in a row was.
        lasting: Duration,
        /// How many attempts in a row have failed.
        attempts: u32,
    },
    /// Consul answers again. Where the content changed meanwhile, `Changed` follows.
    Reachable {
        /// How long it did not.
        after: Duration,
    },
}

/// How often a watch may ask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Calls that may be made in a row without a pause. More lets a burst of changes through at once. Default: 10.
    pub burst: u32,
    /// Calls a second beyond the burst. More follows a busy key more closely and loads Consul more. Default: 5.
    pub per_second: f64,
    /// The pause after the first failure; it doubles with each further one, less up to half by chance. Default: 250 ms.
    pub pause_first: Duration,
    /// The longest pause. Shorter notices sooner that Consul is back. Default: 15 s.
    pub pause_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            burst: 10,
            per_second: 5.0,
            pause_first: Duration::from_millis(250),
            pause_max: Duration::from_secs(15),
        }
    }
}

/// How a watch asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchOptions {
    /// How long Consul holds a query that has nothing new: up to 10 minutes. Shorter notices a silently broken
    /// connection sooner, longer costs fewer calls. Default: 1 minute.
    pub wait: Duration,
    /// See [`Query::consistent`].
    pub consistent: bool,
    /// How often.
    pub pace: Pace,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions { wait: Duration::from_secs(60), consistent: false, pace: Pace::default() }
    }
}

type Fetch<T> = Box<dyn Fn(&Client, &Query) -> Result<Indexed<T>, Error> + Send>;

/// A watch that is set up and not started yet.
#[must_use = "a watch does nothing until `each` or `events` starts it"]
pub struct Watching<T> {
    client: Client,
    fetch: Fetch<T>,
    options: WatchOptions,
}

impl Client {
    /// Watches one key.
    pub fn watch_key(&self, key: &str) -> Watching<Option<Entry>> {
        let key = key.to_owned();
        self.watching(move |client, query| client.get_with(&key, query))
    }

    /// Watches all keys under a prefix.
    pub fn watch_prefix(&self, prefix: &str) -> Watching<Vec<Entry>> {
        let prefix = prefix.to_owned();
        self.watching(move |client, query| client.list_with(&prefix, query))
    }

    /// Watches the instances of a service, or only those whose every check passes.
    pub fn watch_instances(&self, service: &str, passing_only: bool) -> Watching<Vec<Instance>> {
        let service = service.to_owned();
        self.watching(move |client, query| client.instances_with(&service, passing_only, query))
    }

    fn watching<T>(
        &self,
        fetch: impl Fn(&Client, &Query) -> Result<Indexed<T>, Error> + Send + 'static,
    ) -> Watching<T> {
        let client = self.separate(self.timeout());
        Watching { client, fetch: Box::new(fetch), options: WatchOptions::default() }
    }
}

impl<T: PartialEq + Clone + Send + 'static> Watching<T> {
    /// Other than the default options.
    pub fn options(mut self, options: WatchOptions) -> Self {
        self.options = options;
        self
    }

    /// Starts the watch; its thread calls `deliver` with each event, and makes no further call to Consul until it
    /// returns. The watch ends when the handle is dropped; a call of `deliver` under way is not waited for. It also ends
    /// where `deliver` panics.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn each(self, mut deliver: impl FnMut(Event<T>) + Send + 'static) -> Result<Watch, Error> {
        let Watching { client, fetch, options } = self;
        let (alive, ended) = mpsc::channel();
        let watch = Watch { alive: Some(alive), client: client.clone() };
        let work = move || {
            let mut follow = Follow::new(Instant::now(), options.pace);
            let chance = RandomState::new();
            for call in 0_u64.. {
                let query =
                    Query { consistent: options.consistent, index: follow.index(), wait: options.wait };
                let outcome = fetch(&client, &query);
                // A request that the handle's end cut off is no failure to be told.
                if has_ended(&ended) {
                    return;
                }
                let jitter = chance.hash_one(call) as f64 / u64::MAX as f64;
                let step = follow.step(Instant::now(), outcome, jitter);
                for event in step.events {
                    deliver(event);
                }
                if sleep(&ended, step.pause) {
                    return;
                }
            }
        };
        thread::Builder::new().name("consul-watch".to_owned()).spawn(work).map_err(Error::Thread)?;
        Ok(watch)
    }

    /// Starts the watch; its events wait in a channel of one, and no further call is made to Consul while it is full:
    /// a slow consumer misses contents in between, never the last one.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn events(self) -> Result<Events<T>, Error> {
        let (sender, events) = mpsc::sync_channel(1);
        // Nobody listens any more only while `Events` is being dropped, which ends the watch.
        let watch = self.each(move |event| drop(sender.send(event)))?;
        Ok(Events { events, _watch: watch })
    }
}

/// Waits; true where the handle was dropped meanwhile.
pub(crate) fn sleep(ended: &mpsc::Receiver<()>, pause: Duration) -> bool {
    ended.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout)
}

/// Whether the handle was dropped.
pub(crate) fn has_ended(ended: &mpsc::Receiver<()>) -> bool {
    ended.try_recv() != Err(mpsc::TryRecvError::Empty)
}

/// A running watch. Dropping it ends it: at once, without waiting for its thread.
#[must_use = "dropping it ends the watch"]
#[derive(Debug)]
pub struct Watch {
    /// Its end is the signal to stop.
    alive: Option<mpsc::Sender<()>>,
    client: Client,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // First the word, then the cut, so that the thread knows why its request failed.
        self.alive = None;
        self.client.cut();
    }
}

/// A running watch with a channel.
pub struct Events<T> {
    /// Dropped first, so that a thread that waits in `send` goes on and sees the end.
    events: mpsc::Receiver<Event<T>>,
    _watch: Watch,
}

impl<T> Events<T> {
    /// The next event, or `None` where there is none within this time.
    pub fn next_within(&self, patience: Duration) -> Option<Event<T>> {
        self.events.recv_timeout(patience).ok()
    }

    /// The next event if there is one already.
    pub fn next_now(&self) -> Option<Event<T>> {
        self.events.try_recv().ok()
    }
}
