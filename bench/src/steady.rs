//! A steady foreground: requests that leave at their appointed moments, whether or not earlier ones were answered.
//!
//! Arrivals are those of many clients that know nothing of each other (Poisson), half of them writes. A latency counts
//! from the appointed moment, so a request that could not leave in time, or that waited behind others, shows all of
//! its wait: nothing is omitted because the server was slow (Tene, *How NOT to Measure Latency*, 2013). Every reply is
//! compared byte for byte with the right one.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::traffic::{Ask, Traffic, splitmix};

/// Connections over which requests leave in turn.
pub const CONNECTIONS: usize = 4;
/// Requests without a reply beyond which the run is given up: the server does not keep up.
const WAITING_MAX: usize = 500_000;
/// How long a reply may take before the run is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// One request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Its appointed moment.
    pub at: Instant,
    /// From then to its reply.
    pub took: Duration,
}

/// A load that runs on a thread of its own until it is stopped.
pub struct Steady {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Answered>>>,
}

impl Steady {
    /// Begins to send `per_second` requests for random keys below `keys` to a port of this machine.
    pub fn start(port: u16, keys: u64, per_second: f64) -> Result<Steady> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let work = move || Sender::connect(port, keys, per_second)?.run(&told);
        let thread = std::thread::Builder::new().name("foreground".into()).spawn(work)?;
        Ok(Steady { stop, thread })
    }

    /// Awaits what is still out, and returns all that was answered.
    pub fn stop(self) -> Result<Vec<Answered>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a panic ends the process").context("the foreground load")
    }

    /// Fails where the load has ended by itself.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.thread.is_finished(), "the foreground load ended early");
        Ok(())
    }
}

/// The latencies of the requests whose moment was within a window, in nanoseconds.
pub fn latencies(answered: &[Answered], from: Instant, to: Instant) -> Result<Histogram<u64>> {
    let mut found = Histogram::new_with_bounds(1, 4 * SILENCE_MAX.as_nanos() as u64, 3)?;
    for one in answered.iter().filter(|one| (from..to).contains(&one.at)) {
        found.saturating_record(one.took.as_nanos() as u64);
    }
    Ok(found)
}

struct Sender {
    sockets: Vec<zmq::Socket>,
    timer: OwnedFd,
    traffic: Traffic,
    per_second: f64,
    random: u64,
    /// What was sent and when it was due, by its id.
    waiting: HashMap<u64, (Instant, Ask)>,
    sent: u64,
    scratch: Vec<u8>,
    answered: Vec<Answered>,
}

impl Sender {
    fn connect(port: u16, keys: u64, per_second: f64) -> Result<Sender> {
        let context = zmq::Context::new();
        let open = |_| -> Result<zmq::Socket> {
            let socket = context.socket(zmq::DEALER)?;
            socket.set_linger(0)?;
            // Nothing is held back here: what waits is counted.
            socket.set_sndhwm(0)?;
            socket.connect(&format!("tcp://127.0.0.1:{port}"))?;
            Ok(socket)
        };
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Sender {
            sockets: (0..CONNECTIONS).map(open).collect::<Result<_>>()?,
            timer: rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?,
            traffic: Traffic::single(0..keys),
            per_second,
            random: 0,
            waiting: HashMap::new(),
            sent: 0,
            scratch: Vec::new(),
            answered: Vec::new(),
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Vec<Answered>> {
        let mut due = Instant::now();
        let mut heard = Instant::now();
        loop {
            let ends = stop.load(Ordering::Relaxed);
            if ends && self.waiting.is_empty() {
                return Ok(self.answered);
            }
            while !ends && due <= Instant::now() {
                self.send(due)?;
                due += self.gap();
            }
            if self.receive()? {
                heard = Instant::now();
                continue;
            }
            let silence = heard.elapsed();
            let missing = self.waiting.len();
            ensure!(missing == 0 || silence < SILENCE_MAX, "{missing} replies missing after {silence:?}");
            if ends || due > Instant::now() {
                self.sleep(due, ends)?;
            }
        }
    }

    /// To the next arrival: exponentially distributed.
    fn gap(&mut self) -> Duration {
        let unit = (self.random() >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - unit).ln() / self.per_second)
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(1);
        splitmix(self.random)
    }

    fn send(&mut self, due: Instant) -> Result<()> {
        let waiting = self.waiting.len();
        ensure!(waiting < WAITING_MAX, "{waiting} requests wait: {} a second are too many", self.per_second);
        let random = self.random();
        let ask = self.traffic.pick(random);
        self.sent += 1;
        self.traffic.request(ask, &mut self.scratch);
        with_id(&mut self.scratch, self.sent)?;
        self.sockets[self.sent as usize % CONNECTIONS].send(self.scratch.as_slice(), zmq::DONTWAIT)?;
        self.waiting.insert(self.sent, (due, ask));
        Ok(())
    }

    /// Takes what is there, a few from each connection; whether there was any.
    fn receive(&mut self) -> Result<bool> {
        let mut any = false;
        for at in 0..self.sockets.len() {
            for _ in 0..16 {
                match self.sockets[at].recv_msg(zmq::DONTWAIT) {
                    Ok(reply) => self.on_reply(&reply)?,
                    Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => break,
                    Err(error) => return Err(error.into()),
                }
                any = true;
            }
        }
        Ok(any)
    }

    fn on_reply(&mut self, reply: &[u8]) -> Result<()> {
        let now = Instant::now();
        let shown = || String::from_utf8_lossy(reply).chars().take(300).collect::<String>();
        let Some((due, ask)) = id_of(reply).and_then(|id| self.waiting.remove(&id)) else {
            bail!("a reply that answers nothing: {}", shown());
        };
        self.traffic.reply(ask, &mut self.scratch);
        with_id(&mut self.scratch, id_of(reply).unwrap_or_default())?;
        ensure!(reply == self.scratch, "a wrong reply: {}", shown());
        self.answered.push(Answered { at: due, took: now - due });
        Ok(())
    }

    /// Until the next request is due, or a reply is here.
    fn sleep(&self, due: Instant, ends: bool) -> Result<()> {
        // A timer of zero would never ring.
        let left = if ends { SILENCE_MAX } else { due.saturating_duration_since(Instant::now()) };
        let left = left.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let rings = Itimerspec { it_interval: never, it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &rings)?;
        let mut items: Vec<_> = self.sockets.iter().map(|s| s.as_poll_item(zmq::POLLIN)).collect();
        items.push(zmq::PollItem::from_fd(self.timer.as_raw_fd(), zmq::POLLIN));
        match zmq::poll(&mut items, SILENCE_MAX.as_millis() as i64) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Puts an `id` before the closing bracket of an object.
fn with_id(json: &mut Vec<u8>, id: u64) -> Result<()> {
    ensure!(json.pop() == Some(b'}'), "not an object");
    Ok(write!(json, r#","id":{id}}}"#)?)
}

/// The `id` that ends an object.
fn id_of(json: &[u8]) -> Option<u64> {
    let digits = json.strip_suffix(b"}")?;
    let from = digits.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    digits[..from].ends_with(br#","id":"#).then(|| std::str::from_utf8(&digits[from..]).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_is_put_in_and_found_again() {
        let mut json = br#"{"status":"OK"}"#.to_vec();
        with_id(&mut json, 17).unwrap();
        assert_eq!(json, br#"{"status":"OK","id":17}"#);
        assert_eq!(id_of(&json), Some(17));
        assert_eq!(id_of(br#"{"status":"OK"}"#), None);
        assert_eq!(id_of(br#"{"id":"17"}"#), None);
    }

    #[test]
    fn a_server_that_stops_shows_in_every_request_that_was_due_meanwhile() {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::ROUTER).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        let port = endpoint.rsplit(':').next().unwrap().parse().unwrap();
        let steady = Steady::start(port, 10, 1_000.0).unwrap();
        let from = Instant::now();
        // Answers nothing until 200 requests are here, and then all: the first of them was due long ago.
        let mut held = Vec::new();
        let traffic = Traffic::single(0..10);
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let mut right = |body: &[u8]| {
            let id = id_of(body).unwrap();
            let mut asks = (0..20).map(|n| traffic.pick(n));
            let ask = asks.find(|ask| {
                traffic.request(*ask, &mut request);
                with_id(&mut request, id).unwrap();
                request == body
            });
            traffic.reply(ask.unwrap(), &mut reply);
            with_id(&mut reply, id).unwrap();
            reply.clone()
        };
        while held.len() < 200 {
            let frames = socket.recv_multipart(0).unwrap();
            held.push(frames);
        }
        let stopped = std::thread::spawn(move || steady.stop());
        loop {
            for frames in held.drain(..) {
                socket.send_multipart([frames[0].clone(), right(&frames[1])], 0).unwrap();
            }
            if stopped.is_finished() {
                break;
            }
            if socket.poll(zmq::POLLIN, 10).unwrap() > 0 {
                held.push(socket.recv_multipart(0).unwrap());
            }
        }
        let answered = stopped.join().unwrap().unwrap();
        assert!(answered.len() >= 200);
        let longest = answered.iter().map(|one| one.took).max().unwrap();
        let median = latencies(&answered, from, Instant::now()).unwrap().value_at_quantile(0.5);
        assert!(
            longest > Duration::from_millis(50),
            "200 at 1,000 a second take a fifth of one: {longest:?}"
        );
        assert!(median > longest.as_nanos() as u64 / 10, "half of them waited long: {median} of {longest:?}");
    }
}
