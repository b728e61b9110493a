//! Questions to nodes, over their client ports: how they stand, and whether a change may begin.
//!
//! One thread owns a DEALER per node. Each question has a deadline; silence is an answer too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ringkv_common::message::request::consent_json;
use ringkv_common::name::{NodeName, host_with_port, is_host};
use ringkv_common::ring::Ring;
use ringkv_common::ring::orchestrator::{Event, Question, Report};
use ringkv_server::core::Status;
use ringkv_server::shell::only_ipv6;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How long a node may take to say how it stands.
const SURVEY_PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to say yes or no: a newcomer tries to reach everybody first.
const CONSENT_PATIENCE: Duration = Duration::from_secs(6);
/// A connection that nobody used for this long is closed: its node may be gone for good.
const IDLE: Duration = Duration::from_secs(60);
/// How often the thread looks around when nothing comes.
const POLL_MS: i64 = 500;
/// The longest reply that is read: a ring with its status is far shorter.
const REPLY_BYTES_MAX: i64 = 4 << 20;

/// Where a node answers clients.
pub type Address = (String, u16);

/// What is asked.
enum About {
    Survey,
    Consent(u64),
}

struct Asked {
    node: NodeName,
    to: Address,
    about: About,
    body: String,
}

/// Asks nodes from a thread of its own.
pub struct Asker {
    questions: Sender<Asked>,
    wake: zmq::Socket,
}

impl Asker {
    /// Starts the thread, which calls `deliver` with each answer, or with silence.
    pub fn start(deliver: impl Fn(Event) + Send + 'static) -> anyhow::Result<Asker> {
        let context = zmq::Context::new();
        let (wake, woken) = (context.socket(zmq::PAIR)?, context.socket(zmq::PAIR)?);
        wake.bind("inproc://wake")?;
        woken.connect("inproc://wake")?;
        let (questions, asked) = channel();
        let mut thread = Thread {
            context,
            woken,
            asked,
            links: HashMap::new(),
            pending: HashMap::new(),
            next_id: 0,
            deliver: Box::new(deliver),
        };
        thread::Builder::new().name("asker".into()).spawn(move || thread.run()).context("no thread")?;
        Ok(Asker { questions, wake })
    }

    /// Asks a node how it stands, and for its ring. One that has not answered yet is not asked again.
    pub fn survey(&self, node: NodeName, to: Address, ring: bool) {
        // Without the list of all others, which would make a survey of many nodes grow with their square.
        let body = if ring {
            r#"{"op":"STATUS","want":["report","ring"]}"#
        } else {
            r#"{"op":"STATUS","want":["report"]}"#
        };
        self.ask(Asked { node, to, about: About::Survey, body: body.to_owned() });
    }

    /// Asks a node whether a change may begin.
    pub fn consent(&self, node: NodeName, to: Address, token: u64, question: &Question) {
        self.ask(Asked { node, to, about: About::Consent(token), body: consent_json(question) });
    }

    fn ask(&self, asked: Asked) {
        // The thread ends only with us; and a wake that finds its queue full will be read all the same.
        let _ = self.questions.send(asked);
        let _ = self.wake.send("", zmq::DONTWAIT);
    }
}

struct Pending {
    node: NodeName,
    about: About,
    until: Instant,
}

struct Link {
    socket: zmq::Socket,
    /// What waits for the connection.
    outbox: Vec<(u64, String)>,
    used: Instant,
}

struct Thread {
    context: zmq::Context,
    woken: zmq::Socket,
    asked: Receiver<Asked>,
    links: HashMap<Address, Link>,
    pending: HashMap<u64, Pending>,
    next_id: u64,
    deliver: Box<dyn Fn(Event) + Send>,
}

impl Thread {
    fn run(&mut self) {
        loop {
            self.poll();
            while self.woken.recv_bytes(zmq::DONTWAIT).is_ok() {}
            loop {
                match self.asked.try_recv() {
                    Ok(asked) => self.take(asked),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.exchange();
            self.expire();
        }
    }

    fn poll(&mut self) {
        let now = Instant::now();
        let first = self.pending.values().map(|p| p.until.saturating_duration_since(now)).min();
        let timeout = first.map_or(POLL_MS, |left| (left.as_millis() as i64 + 1).min(POLL_MS));
        let mut items = vec![self.woken.as_poll_item(zmq::POLLIN)];
        for link in self.links.values() {
            let out = if link.outbox.is_empty() { zmq::PollEvents::empty() } else { zmq::POLLOUT };
            items.push(link.socket.as_poll_item(zmq::POLLIN | out));
        }
        // An interrupted poll is a short one.
        let _ = zmq::poll(&mut items, timeout);
    }

    fn take(&mut self, asked: Asked) {
        let Asked { node, to, about, body } = asked;
        let surveyed = |p: &Pending| p.node == node && matches!(p.about, About::Survey);
        if matches!(about, About::Survey) && self.pending.values().any(surveyed) {
            return;
        }
        self.next_id += 1;
        let id = self.next_id;
        let patience = if matches!(about, About::Survey) { SURVEY_PATIENCE } else { CONSENT_PATIENCE };
        self.pending.insert(id, Pending { node, about, until: Instant::now() + patience });
        // Every body is an object of ours with at least one field.
        let body = format!("{{\"id\":{id},{}", &body[1..]);
        let link = match self.links.remove(&to) {
            Some(link) => link,
            None => match connect(&self.context, &to) {
                Ok(socket) => Link { socket, outbox: Vec::new(), used: Instant::now() },
                Err(error) => {
                    tracing::debug!("{node} at {}:{} cannot be asked: {error}", to.0, to.1);
                    return;
                }
            },
        };
        let link = self.links.entry(to).or_insert(link);
        link.used = Instant::now();
        link.outbox.push((id, body));
    }

    fn exchange(&mut self) {
        let mut replies = Vec::new();
        for link in self.links.values_mut() {
            // Without a connection a send is refused and tried again; what expired meanwhile is not sent at all.
            link.outbox.retain(|(id, _)| self.pending.contains_key(id));
            link.outbox.retain(|(_, body)| link.socket.send(body, zmq::DONTWAIT).is_err());
            while let Ok(frames) = link.socket.recv_multipart(zmq::DONTWAIT) {
                replies.extend(frames.into_iter().find(|frame| !frame.is_empty()));
            }
        }
        for reply in replies {
            self.answered(&reply);
        }
    }

    fn answered(&mut self, reply: &[u8]) {
        #[derive(Deserialize)]
        struct Head {
            id: u64,
        }
        let Ok(Head { id }) = serde_json::from_slice(reply) else { return };
        let Some(Pending { node, about, .. }) = self.pending.remove(&id) else { return };
        (self.deliver)(match about {
            About::Survey => Event::Report(node, stand(reply)),
            About::Consent(token) => Event::Consent(node, token, verdict(reply)),
        });
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> = self.pending.iter().filter(|(_, p)| p.until <= now).map(|(id, _)| *id).collect();
        for id in late {
            let Some(Pending { node, about, .. }) = self.pending.remove(&id) else { continue };
            (self.deliver)(match about {
                About::Survey => Event::Report(node, None),
                About::Consent(token) => Event::Consent(node, token, Err("no answer".to_owned())),
            });
        }
        self.links.retain(|_, link| now.duration_since(link.used) < IDLE);
    }
}

/// What a node's STATUS says, and the ring in it; `None` for anything else.
fn stand(reply: &[u8]) -> Option<(Report, Option<Arc<Ring>>)> {
    let status: Status = serde_json::from_slice(reply).ok()?;
    let ring = status.ring.as_deref().and_then(ring_in);
    Some((status.report, ring))
}

fn ring_in(raw: &RawValue) -> Option<Arc<Ring>> {
    Ring::from_json(raw.get().as_bytes()).ok().map(Arc::new)
}

fn verdict(reply: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Verdict {
        #[serde(default)]
        consent: bool,
        reason: Option<String>,
        message: Option<String>,
    }
    let verdict: Verdict = serde_json::from_slice(reply).map_err(|e| format!("an answer of no use: {e}"))?;
    if verdict.consent {
        return Ok(());
    }
    Err(verdict.reason.or(verdict.message).unwrap_or_else(|| "it said no".to_owned()))
}

fn connect(context: &zmq::Context, (host, port): &Address) -> zmq::Result<zmq::Socket> {
    // The binding panics at a NUL.
    if !is_host(host) {
        return Err(zmq::Error::EINVAL);
    }
    let socket = context.socket(zmq::DEALER)?;
    socket.set_linger(0)?;
    socket.set_immediate(true)?;
    socket.set_ipv6(only_ipv6(host))?;
    socket.set_handshake_ivl(3_000)?;
    socket.set_heartbeat_ivl(1_000)?;
    socket.set_heartbeat_timeout(3_000)?;
    socket.set_heartbeat_ttl(3_000)?;
    socket.set_maxmsgsize(REPLY_BYTES_MAX)?;
    socket.connect(&format!("tcp://{}", host_with_port(host, *port)))?;
    Ok(socket)
}

/// One node's STATUS with its ring, asked and awaited here; `None` where nobody answers like a node.
pub fn status(to: &Address, patience: Duration) -> Option<(Status, Option<Arc<Ring>>)> {
    let context = zmq::Context::new();
    let socket = connect(&context, to).ok()?;
    let until = Instant::now() + patience;
    let wait = |events| {
        let left = until.saturating_duration_since(Instant::now()).as_millis() as i64;
        socket.poll(events, left).is_ok_and(|ready| ready > 0)
    };
    if !wait(zmq::POLLOUT) {
        return None;
    }
    socket.send(r#"{"op":"STATUS","want":["ring"]}"#, zmq::DONTWAIT).ok()?;
    if !wait(zmq::POLLIN) {
        return None;
    }
    let reply = socket.recv_bytes(zmq::DONTWAIT).ok()?;
    let mut status: Status = serde_json::from_slice(&reply).ok()?;
    let ring = status.ring.take().as_deref().and_then(ring_in);
    Some((status, ring))
}
