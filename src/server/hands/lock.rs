//! The lock that says who orchestrates. It spares double work; the compare-and-set on the ring decides.

use std::fs;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use consul::{Client, Lock, LockOptions};
use ringkv_common::ring::orchestrator::Event;
use serde::{Deserialize, Serialize};

use crate::server::process::command_line;

/// Who holds the lock: the value under its key, for people, and for the next one on the same machine.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// This machine since it was started, and the container in it.
    machine: String,
    pid: u32,
}

/// One side of the lock.
pub struct Holder {
    client: Client,
    key: String,
    events: SyncSender<Event>,
    lock: Option<Lock>,
    /// What was last said about it, so that it is said once.
    failing: bool,
}

impl Holder {
    /// Nobody's yet. A lock that is lost becomes an event.
    pub fn new(client: Client, key: String, events: SyncSender<Event>) -> Holder {
        Holder { client, key, events, lock: None, failing: false }
    }

    /// Whether it is held, as far as that can be known here.
    pub fn holds(&self) -> bool {
        self.lock.as_ref().is_some_and(Lock::is_held)
    }

    /// Tries to take it; true where it is held now.
    pub fn lock(&mut self) -> bool {
        if self.holds() {
            return true;
        }
        self.lock = None;
        let owner = Owner { machine: machine(), pid: std::process::id() };
        let options = LockOptions {
            name: format!("{} of pid {}", self.key, owner.pid),
            // All that its holder writes is fenced by the ring's index.
            lock_delay: Duration::ZERO,
            ..LockOptions::default()
        };
        let value = serde_json::to_string(&owner).expect("plain data always serializes");
        let events = self.events.clone();
        let lost = move |why| {
            tracing::warn!("the lock is lost: {why:?}");
            // Nobody listens any more only at the end.
            let _ = events.send(Event::Lock(false));
        };
        let attempt = self.client.try_lock(&self.key, value, &options, lost);
        match attempt {
            Ok(lock) => {
                self.failing = false;
                self.lock = lock;
                if self.lock.is_none() {
                    self.free_of_the_dead(&owner.machine);
                }
            }
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!("cannot try for the lock: {error}");
            }
            Err(_) => {}
        }
        self.lock.is_some()
    }

    /// Gives it back, where it is held.
    pub fn unlock(&mut self) {
        if let Some(lock) = self.lock.take()
            && let Err(error) = lock.release()
        {
            tracing::debug!("the lock was not given back, its session ends by itself: {error}");
        }
    }

    /// A launcher that was killed leaves its session for up to half a minute. Where we can see that it is dead, its
    /// session is ended now.
    fn free_of_the_dead(&self, machine: &str) {
        let Ok(Some(entry)) = self.client.get(&self.key) else { return };
        let (Some(session), Ok(owner)) = (entry.session, serde_json::from_slice::<Owner>(&entry.value))
        else {
            return;
        };
        let dead = i32::try_from(owner.pid).is_ok_and(|pid| command_line(pid).is_none());
        if owner.machine == machine && dead {
            tracing::info!("the holder of the lock, pid {}, is dead: ends its session", owner.pid);
            if let Err(error) = self.client.destroy_session(&session) {
                tracing::debug!("its session ends by itself: {error}");
            }
        }
    }
}

fn machine() -> String {
    let part = |file: &str| fs::read_to_string(file).map(|text| text.trim().to_owned()).unwrap_or_default();
    format!("{} {}", part("/proc/sys/kernel/random/boot_id"), part("/proc/sys/kernel/hostname"))
}
