//! Traffic that never pauses, and remembers what was acknowledged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ringkv_client::{Client, Op, Options, Reply, Scope, Ticket};

use crate::support::until;

/// Keys of each thread.
const KEYS: usize = 1_000;
/// Requests that each thread has under way.
const IN_FLIGHT: usize = 16;

/// Threads that put and get through the ring, many at once, each on keys of its own.
pub struct Load {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<HashMap<String, u64>>>,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    /// Failed requests, and reads that showed something else than the last acknowledged write.
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Load {
    /// Starts so many threads, each with a client that knows these nodes at first.
    pub fn start(threads: usize, nodes: &[String]) -> Load {
        let counts = Arc::new(Counts::default());
        let worker = |n| {
            let (counts, nodes) = (counts.clone(), nodes.to_vec());
            std::thread::spawn(move || {
                let options = Options { in_flight_max: IN_FLIGHT, ..Options::default() };
                let client = Client::connect_with(&nodes, options).expect("the nodes give a ring");
                Worker { n, client, under_way: HashMap::new(), written: vec![0; KEYS], counts }.run()
            })
        };
        let threads = (0..threads).map(worker).collect();
        Load { counts, threads }
    }

    /// Operations that have ended well so far.
    pub fn done(&self) -> u64 {
        self.counts.done.load(Ordering::Relaxed)
    }

    /// Waits until this number of operations is reached: traffic flows.
    pub fn reaches(&self, done: u64) {
        until(&format!("{done} operations"), || (self.done() >= done).then_some(()));
    }

    /// Ends it; returns every key's last acknowledged value, and how many operations there were. Fails where any
    /// request did, or where a read was wrong.
    pub fn finish(self) -> (HashMap<String, u64>, u64) {
        self.counts.stop.store(true, Ordering::Relaxed);
        let parts = self.threads.into_iter().map(|t| t.join().expect("a worker does not panic"));
        let acknowledged = parts.flatten().collect();
        let wrong = self.counts.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} wrong, as {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
        (acknowledged, self.counts.done.load(Ordering::Relaxed))
    }
}

struct Worker {
    n: usize,
    client: Client,
    /// What was asked: a key's number, and for a put the number that it writes. A key has one request at a time, so
    /// its last acknowledged write is beyond doubt.
    under_way: HashMap<Ticket, (usize, Option<u64>)>,
    /// What was last acknowledged for each key; 0: nothing yet.
    written: Vec<u64>,
    counts: Arc<Counts>,
}

impl Worker {
    fn run(mut self) -> HashMap<String, u64> {
        let mut turn = 0;
        while !self.counts.stop.load(Ordering::Relaxed) {
            while self.client.has_room() {
                turn += 1;
                self.ask(turn);
            }
            self.poll();
        }
        while self.client.in_flight() > 0 {
            self.poll();
        }
        let keys = self.written.iter().enumerate().filter(|(_, n)| **n > 0);
        keys.map(|(key, n)| (self.name(key), *n)).collect()
    }

    fn name(&self, key: usize) -> String {
        format!("load-{}-{key}", self.n)
    }

    /// The keys take turns, and each is written in one turn and read in the next two: so no key waits for another's
    /// round, and reads meet writes that are old as well as fresh.
    fn ask(&mut self, turn: u64) {
        let key = usize::try_from(turn).unwrap() % KEYS;
        if self.under_way.values().any(|(busy, _)| *busy == key) {
            return;
        }
        let write = self.written[key] == 0 || (turn / KEYS as u64).is_multiple_of(3);
        let put = write.then_some(turn);
        let name = self.name(key);
        let op = match put {
            Some(n) => Op::put(&name, n.to_string().as_str()),
            None => Op::get(&name),
        };
        let ticket = self.client.submit(op.unwrap()).expect("there is room");
        self.under_way.insert(ticket, (key, put));
    }

    fn poll(&mut self) {
        for completion in self.client.poll(Duration::from_millis(50)).expect("sockets work") {
            let (key, put) = self.under_way.remove(&completion.ticket).expect("it was submitted");
            let last = self.written[key];
            let wrong = match (put, completion.outcome) {
                (Some(n), Ok(Reply::Done(_))) => {
                    self.written[key] = n;
                    None
                }
                (None, Ok(Reply::Found(record, _))) => {
                    let found = record.value.string().and_then(|text| text.parse::<u64>().ok());
                    (found != Some(last))
                        .then(|| format!("write {last} was acknowledged, and {found:?} is there"))
                }
                (_, other) => Some(format!("write {last} was acknowledged, and then: {other:?}")),
            };
            match wrong {
                None => drop(self.counts.done.fetch_add(1, Ordering::Relaxed)),
                Some(why) => self.counts.wrong.lock().unwrap().push(format!("{}: {why}", self.name(key))),
            }
        }
    }
}

/// All records as the nodes list them, each node the keys that it leads: so a key must not come twice.
pub fn listed(client: &mut Client) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let ring = client.fetch_ring().expect("a ring");
    for node in &ring.nodes {
        let records: Vec<_> =
            client.get_all(Scope::Led, Some(node.name), 1_000).collect::<Result<_, _>>().expect("a listing");
        for record in records {
            let value = record.value.string().or_else(|| record.value.json_text().map(str::to_owned));
            let value = value.expect("JSON");
            let before = all.insert(record.key.to_string(), value);
            assert_eq!(before, None, "{} is listed twice", record.key);
        }
    }
    all
}
