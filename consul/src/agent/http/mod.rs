//! The agent's HTTP side: connections, the one lock, blocking queries.

mod catalog;
mod kv;
mod register;
mod request;
mod sessions;

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, oneshot, watch};

use super::journal::Journal;
use super::state::{Refusal, State};
use super::stream::Stream;
use super::{AgentError, HEADER_BYTES_MAX, HEADER_PATIENCE};
use request::{Asked, Reply};

/// Consul's longest wait.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// And what it takes where none is asked for.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    pub addr: SocketAddr,
    /// The machine's name, as Consul calls its node.
    pub node: String,
    pub node_id: String,
    inner: Mutex<Inner>,
    /// Counts the changes, and wakes those who wait for one.
    changes: watch::Sender<u64>,
    waiting: Semaphore,
    waiting_max: usize,
    chance: RandomState,
    drawn: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    state: State,
    journal: Option<Journal>,
    /// Taken when the disk failed: from then on nothing is answered.
    broken: Option<oneshot::Sender<AgentError>>,
}

impl Shared {
    /// Also gives what becomes ready with the error after which the agent must not go on.
    pub fn new(
        addr: SocketAddr,
        waiting_max: usize,
        state: State,
        journal: Option<Journal>,
    ) -> (Self, Broken) {
        let (broken, error) = oneshot::channel();
        let mut shared = Shared {
            addr,
            node: std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned()),
            node_id: String::new(),
            inner: Mutex::new(Inner { state, journal, broken: Some(broken) }),
            changes: watch::Sender::new(0),
            waiting: Semaphore::new(waiting_max),
            waiting_max,
            chance: RandomState::new(),
            drawn: AtomicU64::new(0),
        };
        shared.node_id = shared.uuid();
        (shared, Broken(error))
    }

    /// The node's address: ours, or where we listen on all of them, the one that is sure to reach us.
    pub fn ip(&self) -> IpAddr {
        if self.addr.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { self.addr.ip() }
    }

    /// A random number from the keys that the system gave this process for its hash tables.
    fn draw(&self) -> u64 {
        self.chance.hash_one((self.drawn.fetch_add(1, Ordering::Relaxed), std::process::id()))
    }

    pub fn uuid(&self) -> String {
        let (a, b) = (self.draw(), self.draw());
        let [a0, a1, a2] = [a >> 32, (a >> 16) & 0xffff, a & 0xffff];
        format!("{a0:08x}-{a1:04x}-{a2:04x}-{:04x}-{:012x}", b >> 48, b & 0xffff_ffff_ffff)
    }

    /// A change: when this returns, it is on disk and those who wait have been woken.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&mut State, Instant) -> Result<T, Refusal>,
    ) -> Result<T, Reply> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.check()?;
        let done = change(&mut inner.state, Instant::now());
        let rows = inner.state.take_rows();
        if !rows.is_empty() {
            inner.persist(&rows)?;
        }
        drop(inner);
        // Timers may have moved even where no row was left.
        self.changes.send_modify(|count| *count += 1);
        done.map_err(Reply::from)
    }

    fn look<T>(&self, view: impl FnOnce(&State) -> T) -> Result<T, Reply> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.check()?;
        Ok(view(&inner.state))
    }

    /// Answers a read, where asked only once the index has passed the one the asker knows or its time is up.
    pub async fn read(
        &self,
        asked: &Asked,
        index_of: impl Fn(&State) -> u64,
        answer: impl Fn(&State) -> Reply,
    ) -> Result<Reply, Reply> {
        let (known, wait) = self.blocking(asked)?;
        // An index is at least 1, because 0 would make the next query return at once.
        let answer = |state: &State| answer(state).index(index_of(state).max(1));
        if known == 0 {
            return self.look(answer);
        }
        let mut changes = self.changes.subscribe();
        let passed = |state: &State| (index_of(state).max(1) > known).then(|| answer(state));
        if let Some(reply) = self.look(passed)? {
            return Ok(reply);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            let limit = self.waiting_max;
            let why =
                format!("{limit} blocking queries wait already, the embedded agent's limit; try again later");
            return Err(Reply::text(429, why));
        };
        let end = tokio::time::Instant::now() + wait;
        loop {
            match tokio::time::timeout_at(end, changes.changed()).await {
                Ok(_) => {
                    if let Some(reply) = self.look(passed)? {
                        return Ok(reply);
                    }
                }
                Err(_) => return self.look(answer),
            }
        }
    }

    /// The index that the asker knows and how long it waits, with the chance that Consul adds so that not all come back
    /// together.
    fn blocking(&self, asked: &Asked) -> Result<(u64, Duration), Reply> {
        if asked.has("stale") && asked.has("consistent") {
            return Err(Reply::text(400, "Cannot specify ?stale with ?consistent, conflicting semantics."));
        }
        if asked.param("dc").is_some_and(|dc| !dc.is_empty() && dc != "dc1") {
            return Err(Reply::text(500, "No path to datacenter"));
        }
        let known = match asked.param("index") {
            None | Some("") => 0,
            Some(text) => text.parse().map_err(|_| Reply::text(400, "Invalid index"))?,
        };
        let wait = match asked.param("wait") {
            None | Some("") => Duration::ZERO,
            Some(text) => super::go::duration(text).ok_or_else(|| Reply::text(400, "Invalid wait time"))?,
        };
        let wait = if wait.is_zero() { WAIT_DEFAULT } else { wait.min(WAIT_MAX) };
        Ok((known, wait + (wait / 16).mul_f64(self.draw() as f64 / u64::MAX as f64)))
    }
}

impl Inner {
    fn check(&self) -> Result<(), Reply> {
        match self.broken {
            Some(_) => Ok(()),
            None => Err(Reply::text(500, "the embedded agent cannot write its state and is stopping")),
        }
    }

    fn persist(&mut self, rows: &[super::state::Row]) -> Result<(), Reply> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut written = journal.append(rows);
        if written.is_ok() && journal.wants_rewrite() {
            written = journal.rewrite(&self.state.rows());
        }
        if let Err(error) = written
            && let Some(broken) = self.broken.take()
        {
            // Fails only where the agent is stopping already.
            let _ = broken.send(error);
        }
        self.check()
    }
}

/// Ready when the agent must not go on.
pub struct Broken(oneshot::Receiver<AgentError>);

impl Future for Broken {
    type Output = Option<AgentError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

/// Lets sessions and checks end on time.
pub async fn keep_time(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    while let Ok(next) = shared.look(State::next_tick) {
        let far = Instant::now() + Duration::from_secs(3600);
        let next = tokio::time::Instant::from_std(next.unwrap_or(far));
        if tokio::time::timeout_at(next, changes.changed()).await.is_ok() {
            continue;
        }
        let ticked = shared.write(|state, now| {
            state.tick(now);
            Ok(())
        });
        if ticked.is_err() {
            return;
        }
        changes.mark_unchanged();
    }
}

/// Serves one connection to its end, whatever comes over it.
pub async fn connection(shared: Arc<Shared>, stream: tokio::net::TcpStream) {
    // Answers are small: they must not wait for a full packet.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(&shared, request));
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(Stream::new(stream)), service);
    // Garbage, a reset, a time-out: the connection is over, nothing else.
    let _ = serving.await;
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply = match Asked::from(request).await {
        Ok(asked) => route(shared, &asked).await.unwrap_or_else(|refusal| refusal),
        Err(refusal) => refusal,
    };
    Ok(reply.into_response())
}

async fn route(shared: &Shared, asked: &Asked) -> Result<Reply, Reply> {
    if let Some(key) = asked.path.strip_prefix("/v1/kv/") {
        return kv::answer(shared, asked, key).await;
    }
    let segments: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    match segments[..] {
        ["v1", "session", verb] => sessions::answer(shared, asked, verb, "").await,
        ["v1", "session", verb, id] => sessions::answer(shared, asked, verb, id).await,
        ["v1", "agent", "service", verb, ..] | ["v1", "agent", "check", verb, ..] => {
            register::answer(shared, asked, segments[2], verb, &segments[4..].join("/"))
        }
        ["v1", area @ ("agent" | "catalog" | "health" | "status"), ..] => {
            catalog::answer(shared, asked, area, &segments[2..].join("/")).await
        }
        [""] => {
            asked.must_be("GET")?;
            Ok(Reply::text(
                200,
                "This is an embedded Consul agent for development. It has no pages; its API is under /v1/.\n",
            ))
        }
        _ => Err(asked.unknown()),
    }
}
