//! A small cluster that speaks the protocol and can be told to misbehave: the client's test double.
//!
//! Its nodes share one map, so any of them answers for any key, as real ones do by forwarding. What they say is
//! written by the same code as the real node's replies.
#![allow(clippy::unwrap_used, dead_code)]

mod answers;
pub mod membership;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ringkv_common::key::Key;
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::{Code, Limits, request};
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::Strategy;
use ringkv_common::ring::plan::{self, Founding};
use ringkv_common::ring::{ClusterId, Node, Ring, SignalId};
use ringkv_common::version::Content;

use self::answers::answer;

/// What a node does with its next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Takes so many requests and says nothing. Writes are done all the same.
    Silent(usize),
    /// Answers so many with this error.
    Refuse(usize, Code),
    /// Does so many writes and says that they may have happened.
    Doubt(usize),
    /// Answers so many one request later than they came: replies change places.
    Late(usize),
}

/// What all nodes share.
#[derive(Default)]
struct Shared {
    data: BTreeMap<Key, Content>,
    /// Requests that were done: their ids, and how often each came.
    requests: HashMap<u64, u32>,
    ring: Option<Arc<Ring>>,
    /// Keys that are to be reported as lost.
    lost: Vec<String>,
    writes: u64,
}

struct NodeState {
    name: NodeName,
    /// Tricks, each with the number of requests that are let pass before it.
    tricks: Mutex<Vec<(usize, Trick)>>,
    heard: Mutex<Vec<String>>,
    /// The ring it goes by, where that is not the cluster's.
    ring: Mutex<Option<Arc<Ring>>>,
    stop: AtomicBool,
}

pub struct FakeNode {
    pub name: NodeName,
    pub port: u16,
    state: Arc<NodeState>,
    thread: Option<JoinHandle<()>>,
}

pub struct FakeCluster {
    pub nodes: Vec<FakeNode>,
    shared: Arc<Mutex<Shared>>,
}

impl FakeCluster {
    /// So many nodes that run, in a ring of 64 partitions and up to two replicas.
    pub fn new(count: u16) -> FakeCluster {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let nodes: Vec<FakeNode> = (0..count).map(|n| FakeNode::start(n, 0, &shared)).collect();
        let cluster = FakeCluster { nodes, shared };
        let founding = Founding {
            cluster_id: ClusterId(0xC1),
            strategy: Strategy::Consistent,
            chosen: false,
            partitions: 64,
            replicas: 2,
            balance: Some(5.0),
        };
        let members = cluster.nodes.iter().map(FakeNode::node).collect();
        cluster.set_ring(plan::found(&founding, members).unwrap());
        cluster
    }

    pub fn ring(&self) -> Arc<Ring> {
        self.shared.lock().unwrap().ring.clone().unwrap()
    }

    pub fn set_ring(&self, ring: Ring) {
        self.shared.lock().unwrap().ring = Some(Arc::new(ring));
    }

    /// One more node that runs; it is in no ring.
    pub fn start_another(&mut self) -> Node {
        let node = FakeNode::start(self.nodes.len() as u16, 0, &self.shared);
        let member = node.node();
        self.nodes.push(node);
        member
    }

    /// The ring with this node added, the move being over.
    pub fn with_added(&self, node: Node) -> Ring {
        let signal = SignalId { name: node.name.to_string(), index: 1 };
        plan::add(&self.ring(), node, signal).unwrap().advanced().advanced().advanced()
    }

    pub fn address(&self, n: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[n].port)
    }

    /// The node that coordinates this key, as an index into `nodes`.
    pub fn coordinator(&self, key: &str) -> usize {
        let ring = self.ring();
        let partition = Key::new(key).unwrap().partition(ring.partitions);
        let name = ring.node(ring.readers(partition)[0]).name;
        self.nodes.iter().position(|n| n.name == name).unwrap()
    }

    /// A key that this node coordinates.
    pub fn key_of(&self, n: usize) -> String {
        (0..).map(|i| format!("k{i}")).find(|key| self.coordinator(key) == n).unwrap()
    }

    pub fn play(&self, n: usize, trick: Trick) {
        self.play_after(n, 0, trick);
    }

    /// Plays a trick after so many requests.
    pub fn play_after(&self, n: usize, requests: usize, trick: Trick) {
        self.nodes[n].state.tricks.lock().unwrap().push((requests, trick));
    }

    /// Somebody who takes keys away behind everybody's back.
    pub fn thief(&self) -> Thief {
        Thief(self.shared.clone())
    }

    /// What a node was asked, as JSON, in order.
    pub fn heard(&self, n: usize) -> Vec<serde_json::Value> {
        let heard = self.nodes[n].state.heard.lock().unwrap();
        heard.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// Lets one node go by another ring than the rest.
    pub fn set_ring_of(&self, n: usize, ring: Ring) {
        *self.nodes[n].state.ring.lock().unwrap() = Some(Arc::new(ring));
    }

    /// Ends a node; its port refuses connections from then on.
    pub fn stop(&mut self, n: usize) {
        self.nodes[n].end();
    }

    /// Starts a node again at its old port.
    pub fn restart(&mut self, n: usize) {
        let port = self.nodes[n].port;
        self.nodes[n].end();
        self.nodes[n] = FakeNode::start(n as u16, port, &self.shared);
    }

    pub fn lose(&self, key: &str) {
        let mut shared = self.shared.lock().unwrap();
        shared.lost.push(key.to_owned());
        shared.data.remove(&Key::new(key).unwrap());
    }

    pub fn forget(&self, key: &str) {
        self.thief().forget(key);
    }

    pub fn len(&self) -> usize {
        self.shared.lock().unwrap().data.len()
    }

    pub fn value(&self, key: &str) -> Option<Content> {
        self.shared.lock().unwrap().data.get(&Key::new(key).unwrap()).cloned()
    }

    /// How often data was changed: a repeated request changes it once.
    pub fn writes(&self) -> u64 {
        self.shared.lock().unwrap().writes
    }
}

pub struct Thief(Arc<Mutex<Shared>>);

impl Thief {
    pub fn forget(&self, key: &str) {
        self.0.lock().unwrap().data.remove(&Key::new(key).unwrap());
    }
}

impl FakeNode {
    fn start(n: u16, port: u16, shared: &Arc<Mutex<Shared>>) -> FakeNode {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::ROUTER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(5).unwrap();
        let endpoint =
            if port == 0 { "tcp://127.0.0.1:*".to_owned() } else { format!("tcp://127.0.0.1:{port}") };
        socket.bind(&endpoint).unwrap();
        let bound = socket.get_last_endpoint().unwrap().unwrap();
        let port = bound.rsplit(':').next().unwrap().parse().unwrap();
        let state = Arc::new(NodeState {
            name: NodeName(n),
            tricks: Mutex::default(),
            heard: Mutex::default(),
            ring: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let (shared, mine) = (shared.clone(), state.clone());
        let thread = std::thread::spawn(move || serve(&socket, &mine, &shared));
        FakeNode { name: NodeName(n), port, state, thread: Some(thread) }
    }

    fn node(&self) -> Node {
        let ports = Ports { client: self.port, peer: 1, http: 2 };
        let host = "127.0.0.1".to_owned();
        Node { name: self.name, incarnation: 0, host, ports, zone: "here".into(), weight: 100 }
    }

    fn end(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(socket: &zmq::Socket, state: &NodeState, shared: &Mutex<Shared>) {
    let mut late: Option<Vec<Vec<u8>>> = None;
    while !state.stop.load(Ordering::Relaxed) {
        let Ok(mut frames) = socket.recv_multipart(0) else {
            if let Some(reply) = late.take() {
                socket.send_multipart(reply, 0).unwrap();
            }
            continue;
        };
        let sender = frames.remove(0);
        let (body, value) = (&frames[0], frames.get(1));
        state.heard.lock().unwrap().push(String::from_utf8(body.clone()).unwrap());
        let trick = next_trick(state);
        let request = request::parse(body, value.map(Vec::as_slice), &Limits::default());
        let frames = match request {
            Err((id, failure)) => {
                reply::failure(&failure, &Envelope { id: id.as_deref(), ..Envelope::default() })
            }
            Ok(request) => match answer(&request, trick, state, &mut shared.lock().unwrap()) {
                Some(frames) => frames,
                None => continue,
            },
        };
        let mut reply = vec![sender, frames.body];
        reply.extend(frames.value.map(|v| v.to_vec()));
        let held = late.take();
        match trick {
            Some(Trick::Late(_)) if held.is_none() => late = Some(reply),
            _ => socket.send_multipart(reply, 0).unwrap(),
        }
        if let Some(held) = held {
            socket.send_multipart(held, 0).unwrap();
        }
    }
}

fn next_trick(state: &NodeState) -> Option<Trick> {
    let mut tricks = state.tricks.lock().unwrap();
    let (wait, trick) = tricks.first_mut()?;
    if *wait > 0 {
        *wait -= 1;
        return None;
    }
    let now = *trick;
    let left = match trick {
        Trick::Silent(n) | Trick::Refuse(n, _) | Trick::Doubt(n) | Trick::Late(n) => {
            *n -= 1;
            *n
        }
    };
    if left == 0 {
        tricks.remove(0);
    }
    Some(now)
}
