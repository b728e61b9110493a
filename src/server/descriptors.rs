//! File descriptors: every client's connection takes one, and there is a limit.
//!
//! The soft limit is raised to the hard one at the start. Where even that is reached, `accept` fails while the new
//! connection goes on waiting at the door, and libzmq tries again and again, for a whole core. So a *doorman* takes such
//! connections and closes them at once: their clients try again later, and those that are connected are served as ever.
//! He can, because he has a table of descriptors of his own, in which there is always room.
//!
//! ```text
//!   watch (thread)     is a descriptor left?   no ──► wakes the doorman      yes ──► lets him rest
//!   doorman (thread)   accept, close, accept, close …
//! ```

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{SocketFlags, accept_with, getsockname, sockopt};
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_getfd, pidfd_open, setrlimit,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// How often it is looked whether a descriptor is left.
const LOOK: Duration = Duration::from_millis(50);
/// So many must be free before the doorman rests.
const FREE: usize = 4;

/// Raises the soft limit on open files to the hard one, and returns what holds then; `None`: no limit.
pub fn raise() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(error) => {
            tracing::warn!("the limit of open files stays at {:?}: {error}", now.current);
            now.current
        }
    }
}

/// Looks after the doors of this process: what listens on these ports already.
pub fn guard(ports: &[u16], span: &tracing::Span) -> anyhow::Result<()> {
    let full = Arc::new(AtomicBool::new(false));
    let turned_away = Arc::new(AtomicU64::new(0));
    let (ready, is_ready) = channel();
    let doorman = {
        let (ports, full, turned_away) = (ports.to_vec(), full.clone(), turned_away.clone());
        thread::Builder::new()
            .name("doorman".into())
            .spawn(move || doorman(&ports, &ready, &full, &turned_away))?
    };
    if let Err(error) = is_ready.recv()? {
        // A container may forbid it: then a node whose descriptors are used up is busy for nothing, and serves all the same.
        tracing::warn!("nobody will turn away connections where descriptors are used up: {error}");
        return Ok(());
    }
    let spare = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let watch = move || {
        loop {
            let free = |n: usize| {
                let copies: Result<Vec<OwnedFd>, _> =
                    (0..n).map(|_| rustix::io::fcntl_dupfd_cloexec(&spare, 0)).collect();
                copies.is_ok()
            };
            let was_full = full.load(Ordering::Relaxed);
            let is_full = !free(if was_full { FREE } else { 1 });
            full.store(is_full, Ordering::Relaxed);
            if is_full && !was_full {
                let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
                tracing::error!(
                    "all {limit} file descriptors are used up: new connections are turned away until some are closed. \
                     Raise the hard limit (ulimit -Hn, LimitNOFILE) for more clients"
                );
                doorman.thread().unpark();
            } else if was_full && !is_full {
                let count = turned_away.swap(0, Ordering::Relaxed);
                tracing::info!(
                    "file descriptors are free again; {count} connections were turned away meanwhile"
                );
            }
            thread::sleep(LOOK);
        }
    };
    super::node::spawn("descriptors", span, watch)
}

/// Turns away whoever knocks while no descriptor is left.
fn doorman(ports: &[u16], ready: &Sender<io::Result<()>>, full: &AtomicBool, turned_away: &AtomicU64) {
    let doors = match own_table().and_then(|()| doors(ports)) {
        Ok(doors) => doors,
        Err(error) => return drop(ready.send(Err(error))),
    };
    // Whoever started us waits for this.
    let _ = ready.send(Ok(()));
    loop {
        if !full.load(Ordering::Relaxed) {
            thread::park();
            continue;
        }
        let mut knocks: Vec<PollFd> = doors.iter().map(|door| PollFd::new(door, PollFlags::IN)).collect();
        let patience = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        // An interrupted poll is a short one.
        let _ = poll(&mut knocks, Some(&patience));
        let knocked = knocks.iter().map(|knock| knock.revents().contains(PollFlags::IN));
        for (door, _) in doors.iter().zip(knocked).filter(|(_, knocked)| *knocked) {
            if accept_with(door, SocketFlags::CLOEXEC).is_ok() {
                turned_away.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Gives this thread a table of descriptors of its own, with nothing in it but the standard streams.
fn own_table() -> io::Result<()> {
    // SAFETY: this thread owns no descriptor yet, and other threads keep their table.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }?;
    let copy = |entry: fs::DirEntry| {
        let number: i32 = entry.file_name().to_str()?.parse().ok()?;
        // The folder that is being read is closed already when the copies are.
        let is_folder = fs::read_link(entry.path()).is_ok_and(|to| to.starts_with("/proc"));
        (number > 2 && !is_folder).then_some(number)
    };
    let copies: Vec<i32> =
        fs::read_dir("/proc/thread-self/fd")?.filter_map(|entry| copy(entry.ok()?)).collect();
    for copy in copies {
        // SAFETY: these are the copies in this thread's table, which nobody refers to. Kept, they would hold every
        // connection open that was open now.
        unsafe { rustix::io::close(copy) };
    }
    Ok(())
}

/// The sockets of this process that listen on these ports, in the table of the calling thread.
fn doors(ports: &[u16]) -> io::Result<Vec<OwnedFd>> {
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut doors = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", getpid().as_raw_nonzero()))? {
        let entry = entry?;
        let is_socket =
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !is_socket {
            continue;
        }
        // One that was closed meanwhile is no door.
        let Ok(socket) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else { continue };
        let port = getsockname(&socket).ok().and_then(|at| SocketAddr::try_from(at).ok()).map(|at| at.port());
        if sockopt::socket_acceptconn(&socket).unwrap_or_default() && port.is_some_and(|p| ports.contains(&p))
        {
            doors.push(socket);
        }
    }
    if doors.len() < ports.len() {
        return Err(io::Error::other(format!(
            "only {} of {} listening sockets were found",
            doors.len(),
            ports.len()
        )));
    }
    Ok(doors)
}
