//! A lock on a key, held by a session that a thread keeps alive.
//!
//! Consul's locks are advisory: nothing stops a holder that was asleep from writing after it lost the lock. What it
//! writes must therefore be fenced, by a compare-and-set or by the index that the lock gives.

mod lease;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::watch::{Bucket, has_ended, next_index, sleep};
use crate::{Behavior, Client, Error, NewSession, Query, Renewal, SESSION_TTL_MIN};
use lease::Lease;

/// How a lock is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOptions {
    /// The session's name, for people who list sessions.
    pub name: String,
    /// How long the lock outlives its holder's silence: at least 10 s, and Consul may take twice as long. Shorter lets
    /// others go on sooner after a crash, longer rides out more trouble. Default: 15 s.
    pub ttl: Duration,
    /// How long nobody gets the lock after a holder was lost. It gives a former holder time to notice; 0 where all its
    /// writes are fenced. Default: 1 s.
    pub lock_delay: Duration,
}

impl Default for LockOptions {
    fn default() -> Self {
        LockOptions { name: String::new(), ttl: Duration::from_secs(15), lock_delay: Duration::from_secs(1) }
    }
}

/// Why a lock was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The session ended: it expired, or somebody destroyed it.
    SessionGone,
    /// The key is gone, unlocked, or locked by another session.
    KeyTaken,
    /// No renewal succeeded for a whole TTL: the session may have ended.
    Unconfirmed,
}

impl Client {
    /// Locks the key if it is free now; `None` where somebody holds it or its lock delay has not passed.
    /// `on_lost` is called from another thread, once, when the lock is lost, and not when it is given up.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn try_lock(
        &self,
        key: &str,
        value: impl AsRef<[u8]>,
        options: &LockOptions,
        on_lost: impl FnOnce(Lost) + Send + 'static,
    ) -> Result<Option<Lock>, Error> {
        if self.get(key)?.is_some_and(|entry| entry.session.is_some()) {
            return Ok(None);
        }
        match Taken::take(self, key, value.as_ref(), options)? {
            None => Ok(None),
            Some(taken) => taken.keep(on_lost).map(Some),
        }
    }

    /// [`Client::try_lock`], again whenever the key becomes free, until it succeeds or this time has passed.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn lock_within(
        &self,
        patience: Duration,
        key: &str,
        value: impl AsRef<[u8]>,
        options: &LockOptions,
        on_lost: impl FnOnce(Lost) + Send + 'static,
    ) -> Result<Option<Lock>, Error> {
        let now = Instant::now();
        let end = now.checked_add(patience).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
        let mut bucket = Bucket::new(Instant::now(), 3, 4.0);
        let mut index = 0;
        loop {
            // Not longer, so that a connection that broke silently is noticed; not 0, which means a default to Consul.
            let wait = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(60));
            let query = Query { consistent: true, index, wait: wait.max(Duration::from_millis(1)) };
            let seen = self.get_with(key, &query)?;
            index = next_index(index, seen.index);
            if seen.value.is_none_or(|entry| entry.session.is_none()) {
                if let Some(taken) = Taken::take(self, key, value.as_ref(), options)? {
                    return taken.keep(on_lost).map(Some);
                }
                // A lock delay shows nowhere and wakes nobody when it ends: look again soon.
                index = 0;
            }
            let now = Instant::now();
            if now >= end {
                return Ok(None);
            }
            thread::sleep(bucket.take(now).min(end - now));
        }
    }
}

/// A lock that is held. Dropping it gives the key back, from another thread; [`Lock::release`] waits for that.
///
/// At a process's end only `release` is sure to have happened; without it the session ends by its TTL.
#[must_use = "dropping it gives the lock back"]
#[derive(Debug)]
pub struct Lock {
    /// `None` once given back.
    taken: Option<Taken>,
    /// The keeper's client, whose requests under way are cut off at the end.
    keeper: Client,
    /// Its end is the signal to stop.
    alive: Option<mpsc::Sender<()>>,
    state: Arc<Mutex<State>>,
    modify_index: u64,
    lock_index: u64,
}

impl Lock {
    /// Whether the lock may still be believed in, judged by our own clock: a TTL has not passed since the last renewal
    /// that succeeded was sent, and nobody was seen to have taken it.
    pub fn is_held(&self) -> bool {
        let state = locked(&self.state);
        state.lost.is_none() && Instant::now() < state.lease.ends()
    }

    /// Why it was lost, once that is known.
    pub fn lost(&self) -> Option<Lost> {
        locked(&self.state).lost
    }

    /// The key's `modify_index` when it was locked: the fence. It grows with every change of the key.
    pub fn modify_index(&self) -> u64 {
        self.modify_index
    }

    /// How often the key had been locked when we got it. See [`Entry::lock_index`](crate::Entry::lock_index) for when that is reliable.
    pub fn lock_index(&self) -> u64 {
        self.lock_index
    }

    /// The session that holds it.
    pub fn session(&self) -> &str {
        self.taken.as_ref().map_or("", |taken| &taken.session)
    }

    /// Gives the key back, so that the next one gets it at once. Returns whether we held it to the end.
    ///
    /// # Errors
    /// See [`Error`]; the session then ends by its TTL.
    pub fn release(mut self) -> Result<bool, Error> {
        self.stop();
        self.taken.take().map_or(Ok(false), |taken| taken.give_back())
    }

    fn stop(&mut self) {
        self.alive = None;
        self.keeper.cut();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.stop();
        if let Some(taken) = self.taken.take() {
            // Nobody is left to hear of a failure; the session's TTL does the same, later.
            let work = move || drop(taken.give_back());
            drop(thread::Builder::new().name("consul-unlock".to_owned()).spawn(work));
        }
    }
}

#[derive(Debug)]
struct State {
    lease: Lease,
    lost: Option<Lost>,
}

/// The state is plain data, whole at every moment: a panic elsewhere has not broken it.
fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session with the key locked, on Consul's side.
#[derive(Debug)]
struct Taken {
    client: Client,
    key: String,
    value: Vec<u8>,
    session: String,
    ttl: Duration,
    /// When the session was asked for.
    sent: Instant,
    modify_index: u64,
    lock_index: u64,
}

impl Taken {
    fn take(client: &Client, key: &str, value: &[u8], options: &LockOptions) -> Result<Option<Self>, Error> {
        let sent = Instant::now();
        let ttl = options.ttl.max(SESSION_TTL_MIN);
        let session = client.create_session(&NewSession {
            name: options.name.clone(),
            ttl: Some(ttl),
            lock_delay: options.lock_delay,
            behavior: Behavior::Release,
        })?;
        let mut taken = Taken {
            client: client.clone(),
            key: key.to_owned(),
            value: value.to_vec(),
            session,
            ttl,
            sent,
            modify_index: 0,
            lock_index: 0,
        };
        // From here on, whatever fails, the session must not be left behind. Of two errors the first is told; where
        // the session cannot be destroyed, its TTL ends it.
        match taken.acquire() {
            Ok(true) => Ok(Some(taken)),
            Ok(false) => client.destroy_session(&taken.session).map(|()| None),
            Err(error) => {
                let _ = taken.give_back();
                Err(error)
            }
        }
    }

    fn acquire(&mut self) -> Result<bool, Error> {
        if !self.client.acquire(&self.key, &self.value, &self.session)? {
            return Ok(false);
        }
        let entry = self.client.get_with(&self.key, &Query::consistent())?.value;
        let Some(entry) = entry.filter(|entry| entry.session.as_ref() == Some(&self.session)) else {
            return Ok(false);
        };
        (self.modify_index, self.lock_index) = (entry.modify_index, entry.lock_index);
        Ok(true)
    }

    /// Starts the thread that keeps it.
    fn keep(self, on_lost: impl FnOnce(Lost) + Send + 'static) -> Result<Lock, Error> {
        let client = self.client.separate(self.client.timeout().min(self.ttl / 3));
        let state = Arc::new(Mutex::new(State { lease: Lease::new(self.ttl, self.sent), lost: None }));
        let (alive, ended) = mpsc::channel();
        let keeper = Keeper {
            client: client.clone(),
            key: self.key.clone(),
            session: self.session.clone(),
            state: state.clone(),
            ended,
        };
        let (modify_index, lock_index) = (self.modify_index, self.lock_index);
        let lock =
            Lock { taken: Some(self), keeper: client, alive: Some(alive), state, modify_index, lock_index };
        let work = move || {
            if let Some(lost) = keeper.keep() {
                on_lost(lost);
            }
        };
        thread::Builder::new().name("consul-lock".to_owned()).spawn(work).map_err(Error::Thread)?;
        Ok(lock)
    }

    /// Unlocks first, because a session that is destroyed with locks leaves a lock delay.
    fn give_back(&self) -> Result<bool, Error> {
        let released = self.client.release(&self.key, &self.value, &self.session);
        self.client.destroy_session(&self.session)?;
        released
    }
}

/// The thread's part: renews the session, and watches the key between renewals.
struct Keeper {
    client: Client,
    key: String,
    session: String,
    state: Arc<Mutex<State>>,
    ended: mpsc::Receiver<()>,
}

impl Keeper {
    /// Returns when the lock is lost, or with `None` when it was given up.
    fn keep(self) -> Option<Lost> {
        let mut bucket = Bucket::new(Instant::now(), 5, 5.0);
        let mut index = 0;
        loop {
            let lease = locked(&self.state).lease;
            let now = Instant::now();
            let lost = if now >= lease.ends() {
                Some(Lost::Unconfirmed)
            } else if now >= lease.renewal_due() {
                self.renew(now)
            } else {
                self.look(&mut index, lease.renewal_due() - now)
            };
            if has_ended(&self.ended) {
                return None;
            }
            if let Some(lost) = lost {
                locked(&self.state).lost = Some(lost);
                return Some(lost);
            }
            let left = lease.ends().saturating_duration_since(Instant::now());
            if sleep(&self.ended, bucket.take(Instant::now()).min(left)) {
                return None;
            }
        }
    }

    fn renew(&self, sent: Instant) -> Option<Lost> {
        let outcome = self.client.renew_session(&self.session);
        let lease = &mut locked(&self.state).lease;
        match outcome {
            Ok(Renewal::Renewed(_)) => lease.renewed(sent),
            Ok(Renewal::Gone) => return Some(Lost::SessionGone),
            Err(_) => lease.failed(sent),
        }
        None
    }

    /// Watches the key until the next renewal is due. A failure says nothing: the lease decides.
    fn look(&self, index: &mut u64, wait: Duration) -> Option<Lost> {
        let query = Query { consistent: true, index: *index, wait: wait.max(Duration::from_millis(1)) };
        let Ok(seen) = self.client.get_with(&self.key, &query) else {
            *index = 0;
            return None;
        };
        *index = next_index(*index, seen.index);
        let ours = seen.value.is_some_and(|entry| entry.session.as_ref() == Some(&self.session));
        (!ours).then_some(Lost::KeyTaken)
    }
}
