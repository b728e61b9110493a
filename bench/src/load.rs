//! The load: C DEALER connections, each with F requests in flight, from one thread.
//!
//! Every reply is compared byte for byte with the right one, and a wrong, late or missing one ends the run (errors do not,
//! where they are let pass). Replies may
//! overtake each other where two requests are for one key, so a reply answers the oldest request that it is right
//! for. The echo and ringkv get their requests from this very same code.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::traffic::{Ask, Traffic, splitmix};

/// How long a reply may take before the run is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How an error begins.
const ERROR: &[u8] = br#"{"status":"ERROR""#;

/// Connections, and requests in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many connections.
    pub connections: usize,
    /// Requests without a reply on each.
    pub in_flight: usize,
}

/// Who answers, and thereby what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Sends back the request.
    Echo,
    /// Sends what the protocol says.
    Ringkv,
}

/// What one measurement found.
pub struct Sample {
    /// Messages answered in time.
    pub exchanges: u64,
    /// In which time.
    pub elapsed: Duration,
    /// From before the send to behind the receive, in nanoseconds.
    pub latency: Histogram<u64>,
}

struct Connection {
    socket: zmq::Socket,
    /// When each unanswered request was sent, in nanoseconds since the load began, and which one it was.
    waiting: VecDeque<(u64, Ask)>,
}

/// Open connections and what is sent over them.
pub struct Load<'a> {
    connections: Vec<Connection>,
    in_flight: usize,
    /// What is sent over each connection: the first one's comes first, and so on, again and again.
    traffics: Vec<&'a Traffic>,
    peer: Peer,
    /// How many errors came, where they do not end the run.
    errors: Option<u64>,
    began: Instant,
    random: u64,
    /// The message that is made or compared.
    scratch: Vec<u8>,
}

impl<'a> Load<'a> {
    /// Connects to a port of this machine.
    pub fn connect(port: u16, shape: Shape, traffic: &'a Traffic, peer: Peer) -> Result<Load<'a>> {
        Load::spread(&[(port, traffic)], shape, peer)
    }

    /// Connects to several ports of this machine in turn; each is sent its own traffic.
    pub fn spread(targets: &[(u16, &'a Traffic)], shape: Shape, peer: Peer) -> Result<Load<'a>> {
        let missed = targets.len().saturating_sub(shape.connections);
        ensure!(missed == 0, "{} connections are too few: {missed} ports get none", shape.connections);
        for (_, traffic) in targets {
            let (each, messages) = (traffic.keys_each(), traffic.messages());
            ensure!(messages > 0, "the keys fill no message of {each}: give more");
        }
        let context = zmq::Context::new();
        let open = |(port, _): &(u16, _)| -> Result<Connection> {
            let socket = context.socket(zmq::DEALER)?;
            socket.set_linger(0)?;
            socket.connect(&format!("tcp://127.0.0.1:{port}"))?;
            Ok(Connection { socket, waiting: VecDeque::with_capacity(shape.in_flight) })
        };
        let connections = targets.iter().cycle().take(shape.connections).map(open).collect::<Result<_>>()?;
        Ok(Load {
            connections,
            in_flight: shape.in_flight,
            traffics: targets.iter().map(|(_, traffic)| *traffic).collect(),
            peer,
            errors: None,
            began: Instant::now(),
            random: 1,
            scratch: Vec::new(),
        })
    }

    /// From now on errors do not end a run: they are counted.
    pub fn let_errors_pass(&mut self) {
        self.errors.get_or_insert(0);
    }

    /// Errors that were let pass.
    pub fn errors(&self) -> u64 {
        self.errors.unwrap_or(0)
    }

    /// Sends every write once.
    pub fn fill(&mut self) -> Result<()> {
        let mut writes: Vec<_> = self.traffics.iter().map(|traffic| traffic.writes()).collect();
        let targets = writes.len();
        self.drive(|at, _| writes[at % targets].next(), |_, _| {})
    }

    /// Sends what its traffic picks at random for so long. What is answered later is awaited, not counted.
    pub fn run(&mut self, duration: Duration) -> Result<Sample> {
        // Nothing takes longer than the silence that ends the run.
        let mut latency = Histogram::new_with_bounds(1, 2 * SILENCE_MAX.as_nanos() as u64, 3)?;
        let mut exchanges = 0;
        let start = self.now();
        let end = start + duration.as_nanos() as u64;
        let (traffics, mut random) = (self.traffics.clone(), self.random);
        self.drive(
            |at, now| {
                random = random.wrapping_add(1);
                (now < end).then(|| traffics[at % traffics.len()].pick(splitmix(random)))
            },
            |now, took| {
                if now < end {
                    exchanges += 1;
                    latency.saturating_record(took);
                }
            },
        )?;
        self.random = random;
        Ok(Sample { exchanges, elapsed: duration, latency })
    }

    /// Keeps every window full with what `next` names for a connection, until it names nothing, and awaits what is still
    /// out.
    fn drive(
        &mut self,
        mut next: impl FnMut(usize, u64) -> Option<Ask>,
        mut answered: impl FnMut(u64, u64),
    ) -> Result<()> {
        for _ in 0..self.in_flight {
            for at in 0..self.connections.len() {
                let now = self.now();
                if let Some(ask) = next(at, now) {
                    self.send(at, ask, now)?;
                }
            }
        }
        while self.connections.iter().any(|c| !c.waiting.is_empty()) {
            let mut idle = true;
            for at in 0..self.connections.len() {
                // A bound, so that one busy connection does not hold up the others.
                for _ in 0..self.in_flight {
                    let Some(sent) = self.receive(at)? else { break };
                    idle = false;
                    let now = self.now();
                    answered(now, now - sent);
                    if let Some(ask) = next(at, now) {
                        self.send(at, ask, now)?;
                    }
                }
            }
            if idle {
                self.sleep()?;
            }
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn send(&mut self, at: usize, ask: Ask, now: u64) -> Result<()> {
        let traffic = self.traffics[at % self.traffics.len()];
        let connection = &mut self.connections[at];
        traffic.request(ask, &mut self.scratch);
        connection.socket.send(self.scratch.as_slice(), 0)?;
        connection.waiting.push_back((now, ask));
        Ok(())
    }

    /// Takes a reply, if one is here, and says when its request was sent.
    fn receive(&mut self, at: usize) -> Result<Option<u64>> {
        let traffic = self.traffics[at % self.traffics.len()];
        let connection = &mut self.connections[at];
        let reply = match connection.socket.recv_msg(zmq::DONTWAIT) {
            Ok(reply) => reply,
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(None),
            Err(error) => return Err(error).context("cannot receive"),
        };
        ensure!(!reply.get_more(), "a reply of several frames came");
        for at in 0..connection.waiting.len() {
            let (sent, ask) = connection.waiting[at];
            match self.peer {
                Peer::Echo => traffic.request(ask, &mut self.scratch),
                Peer::Ringkv => traffic.reply(ask, &mut self.scratch),
            }
            if reply[..] == self.scratch[..] {
                connection.waiting.remove(at);
                return Ok(Some(sent));
            }
        }
        // An error does not say what it answers. It is taken to answer the oldest request; where that was another one,
        // a reply comes that answers none, and stands for the oldest in its turn: as many as were sent are answered.
        if let Some(errors) = &mut self.errors
            && (*errors > 0 || reply.starts_with(ERROR))
            && let Some((sent, _)) = connection.waiting.pop_front()
        {
            *errors += u64::from(reply.starts_with(ERROR));
            return Ok(Some(sent));
        }
        let shown: String = String::from_utf8_lossy(&reply).chars().take(300).collect();
        bail!("no request that waits is answered by {shown}")
    }

    fn sleep(&self) -> Result<()> {
        let mut items: Vec<_> = self.connections.iter().map(|c| c.socket.as_poll_item(zmq::POLLIN)).collect();
        let ready = zmq::poll(&mut items, SILENCE_MAX.as_millis() as i64)?;
        let missing: usize = self.connections.iter().map(|c| c.waiting.len()).sum();
        ensure!(ready > 0, "{missing} replies did not come within {SILENCE_MAX:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve;

    /// A server on a thread; it ends with its context.
    fn server<T>(serve: impl FnOnce(&zmq::Socket) -> T + Send + 'static) -> (zmq::Context, u16) {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::ROUTER).expect("a socket");
        socket.bind("tcp://127.0.0.1:*").expect("a port");
        let endpoint = socket.get_last_endpoint().expect("bound").expect("UTF-8");
        let port = endpoint.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
        std::thread::spawn(move || {
            serve(&socket);
        });
        (context, port)
    }

    fn echo() -> (zmq::Context, u16) {
        server(serve::send_back)
    }

    /// Answers every third request by an error.
    fn refuse(socket: &zmq::Socket) -> Result<(), zmq::Error> {
        for n in 0.. {
            let mut frames = socket.recv_multipart(0)?;
            if n % 3 == 0 {
                frames.truncate(1);
                frames.push(ERROR.to_vec());
            }
            socket.send_multipart(frames, 0)?;
        }
        Ok(())
    }

    #[test]
    fn errors_end_a_run_unless_they_are_let_pass() {
        let (_context, port) = server(refuse);
        let traffic = Traffic::single(0..300);
        let shape = Shape { connections: 3, in_flight: 5 };
        let mut load = Load::connect(port, shape, &traffic, Peer::Echo).expect("connects");
        let error = load.fill().expect_err("an error came").to_string();
        assert!(error.contains(r#"answered by {"status":"ERROR""#), "{error}");
        let mut load = Load::connect(port, shape, &traffic, Peer::Echo).expect("connects");
        load.let_errors_pass();
        load.fill().expect("every write is answered");
        assert_eq!(load.errors(), 100);
    }

    #[test]
    fn an_echo_is_right_to_who_expects_one_and_wrong_to_who_expects_ringkv() {
        let (_context, port) = echo();
        let traffic = Traffic::single(0..100);
        let shape = Shape { connections: 3, in_flight: 5 };
        let mut load = Load::connect(port, shape, &traffic, Peer::Echo).expect("connects");
        load.fill().expect("every write comes back");
        let sample = load.run(Duration::from_millis(50)).expect("all comes back");
        assert!(sample.exchanges > 0);
        assert_eq!(sample.latency.len(), sample.exchanges);
        let mut load = Load::connect(port, shape, &traffic, Peer::Ringkv).expect("connects");
        let error =
            load.run(Duration::from_millis(50)).map(|s| s.exchanges).expect_err("not what ringkv says");
        assert!(error.to_string().contains("answered by {\"op\":"), "{error}");
    }
}
