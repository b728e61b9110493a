//! An agent inside the process: the part of Consul's HTTP API that a small cluster uses, for development and tests.
//!
//! ```text
//!   HTTP (hyper)  ─►  http: a request, an answer      thin: parses, waits, writes JSON
//!                      │ under one lock
//!                      ▼
//!                     state: keys, sessions, catalog  pure: time comes in, rows come out
//!                      │ rows
//!                      ▼
//!                     journal: append, fsync          only then is anybody told
//! ```
//!
//! It behaves like a single Consul 1.8 server in `-dev` mode, and one contract suite runs against both. It has no access
//! control, no TLS, no other machines, no DNS: on a network, use Consul. What it does not know it answers with 501 and
//! the name of what was asked. After a restart sessions and TTL checks have their whole TTL again, and lock delays are
//! forgotten, as after Consul's own change of leader.

mod go;
mod http;
mod journal;
mod state;
mod stream;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use http::Shared;
use journal::Journal;
use state::State;

/// How long a connection may be idle, or take to send the head of a request. Clients commonly keep idle connections for
/// less, so that they do not use one just when it is closed.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// The head of a request, keys included.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// What an agent serves at a time. The defaults stay below the 1,024 descriptors that systems commonly grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections; further ones wait until one is free, and idle ones are closed after 30 s. Default: 700.
    pub connections: usize,
    /// Blocking queries that wait; further ones are answered 429. Consul's own limit is 200 connections an address.
    /// Default: 400.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 700, waiting: 400 }
    }
}

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The address cannot be listened on.
    #[error("the embedded Consul agent cannot listen on {addr}: {source}. Is another agent running there?")]
    Bind {
        /// As it was given.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// The state folder cannot be used. What was acknowledged before is on disk.
    #[error("the embedded Consul agent cannot {what} {}: {source}", folder.display())]
    Disk {
        /// What was tried.
        what: String,
        /// The state folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process writes there.
    #[error("another embedded Consul agent uses {}; stop it, or choose another folder", folder.display())]
    Locked {
        /// The state folder.
        folder: PathBuf,
    },
    /// The state was damaged. Nothing was changed.
    #[error(
        "the state of the embedded Consul agent in {} is damaged at line {line}: {why}. Restore the file from a copy, \
         or move it away to start with nothing",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What does not fit.
        why: String,
    },
    /// The system gave us no thread or no event loop.
    #[error("the embedded Consul agent cannot run: {0}")]
    Run(io::Error),
}

impl AgentError {
    fn disk(what: &str, folder: &Path, source: io::Error) -> Self {
        AgentError::Disk { what: what.to_owned(), folder: folder.to_owned(), source }
    }
}

/// An agent that listens and does not serve yet.
#[derive(Debug)]
pub struct Agent {
    listener: TcpListener,
    addr: SocketAddr,
    limits: Limits,
    state: State,
    journal: Option<Journal>,
}

impl Agent {
    /// Listens on an address, where port 0 lets the system choose, and reads the state in `folder`. Without a folder the
    /// state lives as long as the agent.
    ///
    /// # Errors
    /// [`AgentError`]: the address is taken, the folder is used by another agent, or its state is damaged.
    pub fn bind(
        addr: impl ToSocketAddrs + std::fmt::Display,
        folder: Option<PathBuf>,
    ) -> Result<Self, AgentError> {
        let failed = |source| AgentError::Bind { addr: addr.to_string(), source };
        let listener = TcpListener::bind(&addr).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let (journal, state) = match folder {
            None => (None, State::default()),
            Some(folder) => {
                let (mut journal, rows) = Journal::open(&folder)?;
                let state = State::restore(rows, Instant::now());
                // A start is a good moment to drop history, and proves that the folder can be written.
                journal.rewrite(&state.rows())?;
                (Some(journal), state)
            }
        };
        Ok(Agent { listener, addr: local, limits: Limits::default(), state, journal })
    }

    /// Other than the default limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens, for [`Config::parse`](crate::Config::parse).
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Serves until `shutdown` is ready; requests under way are then cut off. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`AgentError::Disk`]: the state could not be written any more. Nobody was told of what was not.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(AgentError::Run)?;
        let (shared, mut broken) = Shared::new(self.addr, self.limits.waiting, self.state, self.journal);
        let shared = Arc::new(shared);
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(http::keep_time(shared.clone()));
        let accept = async {
            loop {
                let Ok(place) = room.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let serving = http::connection(shared.clone(), stream);
                        tasks.spawn(async move {
                            serving.await;
                            drop(place);
                        });
                    }
                    // Out of descriptors, or the peer gave up: others may still be served.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
                while tasks.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accept => Ok(()),
            () = shutdown => Ok(()),
            error = &mut broken => error.map_or(Ok(()), Err),
        }
    }

    /// Serves on a thread of its own until the handle is dropped.
    ///
    /// # Errors
    /// [`AgentError::Run`].
    pub fn spawn_thread(self) -> Result<Handle, AgentError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::Run)?;
        let addr = self.addr;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(self.serve(async {
                // The handle's end is the signal too.
                let _ = stopped.await;
            }))
        };
        let thread =
            thread::Builder::new().name("consul-agent".to_owned()).spawn(work).map_err(AgentError::Run)?;
        Ok(Handle { addr, stop: Some(stop), thread: Some(thread) })
    }
}

/// An agent that runs on a thread. Dropping it ends it and waits for that, which takes no time to speak of.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), AgentError>>>,
}

impl Handle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens, for [`Config::parse`](crate::Config::parse).
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Whether it still serves; a full disk, say, ends it.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends it, and says how it went.
    ///
    /// # Errors
    /// As [`Agent::serve`].
    pub fn stop(mut self) -> Result<(), AgentError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), AgentError> {
        self.stop = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let panicked = || AgentError::Run(io::Error::other("its thread panicked"));
        thread.join().unwrap_or_else(|_| Err(panicked()))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `stop`.
        let _ = self.end();
    }
}
