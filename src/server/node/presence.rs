//! The node's service in Consul: registered at the start, kept alive by heartbeats, registered again when the agent
//! forgot it, removed at the end. Nothing here ever ends the node.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use consul::{CheckStatus, Client, Config, Error, Registration, TtlCheck, TtlUpdate};
use ringkv_server::shell::Handle;
use tracing::Span;

use super::Args;
use crate::server::keys::Keys;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long a heartbeat counts. Shorter ones flap on a busy machine.
const TTL: Duration = Duration::from_secs(10);
/// How long the last words to Consul may take.
const FAREWELL: Duration = Duration::from_secs(2);

enum Word {
    Nudge,
    End,
}

/// A node that Consul is told about.
pub struct Presence {
    words: Sender<Word>,
    /// Says that the thread has ended, by being cut off.
    ended: Receiver<()>,
    id: String,
}

impl Presence {
    /// Starts the thread, which registers the node after the first [`Presence::nudge`].
    pub fn start(
        client: Client,
        keys: &Keys,
        args: &Args,
        handle: Handle,
        span: &Span,
    ) -> anyhow::Result<Presence> {
        let (words, word) = channel();
        let id = keys.service_id(args.name);
        let service = registration(keys, args)?;
        let mut teller = Teller { client, service, handle, epoch: None, away: false };
        let span = span.clone();
        let (running, ended) = channel();
        let work = move || {
            span.in_scope(|| teller.run(&word));
            drop(running);
        };
        thread::Builder::new().name("presence".into()).spawn(work).context("no thread")?;
        Ok(Presence { words, ended, id })
    }

    /// Says that Consul's ring was read. The first time it lets the node be registered, later it lets others know at
    /// once that there is news; without it they learn with the next heartbeat.
    pub fn nudge(&self) -> impl Fn() + Send + 'static {
        let words = self.words.clone();
        move || drop(words.send(Word::Nudge))
    }

    /// Removes the service. Where Consul does not answer, the check turns critical by itself.
    pub fn end(self, config: Config) {
        let _ = self.words.send(Word::End);
        // A heartbeat under way must not register it once more.
        let _ = self.ended.recv_timeout(FAREWELL);
        let farewell = Client::new(Config { timeout: FAREWELL, ..config })
            .and_then(|client| client.deregister(&self.id));
        if let Err(error) = farewell {
            tracing::warn!("could not be deregistered: {error}");
        }
    }
}

fn registration(keys: &Keys, args: &Args) -> anyhow::Result<Registration> {
    let ports = args.ports()?;
    let id = keys.service_id(args.name);
    let meta = [
        ("http_port", ports.http.to_string()),
        ("peer_port", ports.peer.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("weight", args.weight.to_string()),
        ("zone", args.zone.clone()),
    ];
    Ok(Registration {
        name: keys.cluster().to_owned(),
        address: args.host.clone(),
        port: ports.client,
        tags: vec![args.name.to_string(), format!("zone-{}", args.zone)],
        meta: meta.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        check: Some(TtlCheck {
            id: format!("{id}-alive"),
            name: format!("{} answers", args.name),
            ttl: TTL,
            status: CheckStatus::Passing,
            // Suspicion never removes anything.
            deregister_critical_service_after: None,
        }),
        id,
    })
}

struct Teller {
    client: Client,
    service: Registration,
    handle: Handle,
    /// The ring's epoch that is registered; `None` before the first registration.
    epoch: Option<u64>,
    away: bool,
}

impl Teller {
    fn run(&mut self, word: &Receiver<Word>) {
        // Nobody may count on the node before it knows what Consul says of the ring: a ring that were founded with it
        // first would look to it like one that it had been in before, and lost its data of.
        if !matches!(word.recv(), Ok(Word::Nudge)) {
            return;
        }
        loop {
            let told = self.beat();
            if told.is_ok() && std::mem::take(&mut self.away) {
                tracing::info!("is registered with Consul again");
            } else if let Err(error) = told
                && !std::mem::replace(&mut self.away, true)
            {
                tracing::warn!("serves on, but cannot say so: {error}");
            }
            if !self.wait(word) {
                return;
            }
        }
    }

    /// Until the next heartbeat is due; false at the end.
    fn wait(&self, word: &Receiver<Word>) -> bool {
        let due = Instant::now() + HEARTBEAT;
        loop {
            match word.recv_timeout(due.saturating_duration_since(Instant::now())) {
                // The first ring makes the node one of the cluster's; later epochs can wait for the next heartbeat.
                Ok(Word::Nudge) if self.epoch == Some(0) => return true,
                Ok(Word::Nudge) => {}
                Ok(Word::End) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    fn beat(&mut self) -> Result<(), Error> {
        // Only a node that answers is called alive.
        let Some(status) = self.handle.status() else {
            self.client.update_check(&self.check_id(), CheckStatus::Critical, "the node does not answer")?;
            return Ok(());
        };
        if self.epoch != Some(status.epoch) {
            return self.register(status.epoch);
        }
        let note = format!("epoch {}, {} keys", status.epoch, status.keys);
        match self.client.update_check(&self.check_id(), CheckStatus::Passing, &note)? {
            TtlUpdate::Taken => Ok(()),
            TtlUpdate::Forgotten => self.register(status.epoch),
        }
    }

    fn register(&mut self, epoch: u64) -> Result<(), Error> {
        self.service.meta.insert("epoch".to_owned(), epoch.to_string());
        self.client.register(&self.service)?;
        // The check keeps the status it had, which may be an old critical one.
        self.client.update_check(&self.check_id(), CheckStatus::Passing, "registered")?;
        self.epoch = Some(epoch);
        Ok(())
    }

    fn check_id(&self) -> String {
        self.service.check.as_ref().map_or(String::new(), |check| check.id.clone())
    }
}
