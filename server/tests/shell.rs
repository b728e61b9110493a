#![allow(clippy::unwrap_used)]
//! A node with real sockets: what stock clients send, and what they get.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringkv_common::message::Limits;
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::Strategy;
use ringkv_common::ring::plan::{Founding, found};
use ringkv_common::ring::{ClusterId, Node, Ring};
use ringkv_server::shell::{Config, End, Handle, Shell, ShellError};

struct Running {
    handle: Handle,
    thread: Option<JoinHandle<Result<End, ShellError>>>,
    ports: Ports,
    context: zmq::Context,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shut_down();
        if let Some(thread) = self.thread.take() {
            let end = thread.join();
            assert!(std::thread::panicking() || matches!(end, Ok(Ok(End::ShutDown))), "{end:?}");
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(n: u16, limits: Limits) -> Config {
    let ports = Ports { client: free_port(), peer: free_port(), http: free_port() };
    let local = || "127.0.0.1".to_owned();
    let (cluster, consul) = ("ringkv".into(), "http://127.0.0.1:8500".into());
    Config {
        name: NodeName(n),
        host: local(),
        bind: local(),
        ports,
        limits,
        cluster,
        consul,
        quorums: Default::default(),
        faults: None,
    }
}

fn ring(nodes: &[&Config]) -> Arc<Ring> {
    let node = |c: &&Config| Node {
        name: c.name,
        incarnation: 0,
        host: c.host.clone(),
        ports: c.ports,
        zone: c.host.clone(),
        weight: 100,
    };
    let founding = Founding {
        cluster_id: ClusterId(7),
        strategy: Strategy::Consistent,
        chosen: false,
        partitions: 64,
        replicas: 1,
        balance: Some(5.0),
    };
    Arc::new(found(&founding, nodes.iter().map(node).collect()).unwrap())
}

fn start(config: Config) -> Running {
    let ports = config.ports;
    let shell = Shell::bind(config).unwrap();
    let handle = shell.handle();
    let thread = Some(std::thread::spawn(move || shell.run()));
    Running { handle, thread, ports, context: zmq::Context::new() }
}

/// One node that serves.
fn alone(limits: Limits) -> Running {
    let config = config(0, limits);
    let ring = ring(&[&config]);
    let node = start(config);
    node.handle.ring_absent();
    node.handle.ring(ring);
    await_ready(&node);
    node
}

fn await_ready(node: &Running) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.handle.status().unwrap().epoch == 0 {
        assert!(Instant::now() < deadline, "the node has no ring");
    }
}

impl Running {
    fn client(&self, kind: zmq::SocketType) -> zmq::Socket {
        let socket = self.context.socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(5000).unwrap();
        socket.connect(&format!("tcp://127.0.0.1:{}", self.ports.client)).unwrap();
        socket
    }

    /// A client whose replies wait at the node until it reads them.
    fn patient_client(&self) -> zmq::Socket {
        let socket = self.client(zmq::DEALER);
        socket.set_rcvhwm(1).unwrap();
        // A bound holds for connections that are made later.
        let at = format!("tcp://127.0.0.1:{}", self.ports.client);
        socket.disconnect(&at).unwrap();
        socket.connect(&at).unwrap();
        socket
    }

    fn ask(&self, body: &str) -> String {
        ask(&self.client(zmq::REQ), &[body.as_bytes()]).remove(0)
    }
}

fn ask(socket: &zmq::Socket, frames: &[&[u8]]) -> Vec<String> {
    socket.send_multipart(frames, 0).unwrap();
    let frames = socket.recv_multipart(0).unwrap();
    frames.into_iter().map(|f| String::from_utf8_lossy(&f).into_owned()).collect()
}

#[test]
fn req_and_dealer_clients_put_and_get() {
    let node = alone(Limits::default());
    assert_eq!(node.ask(r#"{"op":"PUT","key":"k","value":{"a": 1.0}}"#), r#"{"status":"OK"}"#);
    assert_eq!(node.ask(r#"{"op":"GET_ONE","key":"k"}"#), r#"{"key":"k","value":{"a": 1.0}}"#);
    let dealer = node.client(zmq::DEALER);
    assert_eq!(ask(&dealer, &[br#"{"op":"PING","id":1}"#]), [r#"{"status":"OK","id":1}"#]);
    assert_eq!(ask(&dealer, &[b"", br#"{"op":"PING","id":2}"#]), ["", r#"{"status":"OK","id":2}"#]);
    assert_eq!(node.ask(r#"{"op":"GET_ALL"}"#), r#"{"collection":[{"key":"k","value":{"a": 1.0}}]}"#);
    assert_eq!(node.ask(r#"{"op":"DELETE","key":"k"}"#), r#"{"status":"OK"}"#);
    assert!(node.ask(r#"{"op":"GET_ONE","key":"k"}"#).contains("KEY_NOT_FOUND"));
}

#[test]
fn binary_values_come_back_as_a_second_frame_where_wanted() {
    let node = alone(Limits::default());
    let dealer = node.client(zmq::DEALER);
    assert_eq!(ask(&dealer, &[br#"{"op":"PUT","key":"b"}"#, &[0, 1, 254]]), [r#"{"status":"OK"}"#]);
    assert_eq!(ask(&dealer, &[br#"{"op":"GET_ONE","key":"b"}"#]), [r#"{"key":"b","value_b64":"AAH+"}"#]);
    dealer.send(r#"{"op":"GET_ONE","key":"b","want":["raw"]}"#, 0).unwrap();
    assert_eq!(dealer.recv_multipart(0).unwrap(), [br#"{"key":"b"}"#.to_vec(), vec![0, 1, 254]]);
    assert_eq!(
        ask(&dealer, &[br#"{"op":"PUT","key":"e"}"#, b""]),
        [r#"{"status":"OK"}"#],
        "an empty value is one"
    );
}

#[test]
fn messages_of_no_frame_and_of_twenty_frames_are_answered() {
    let node = alone(Limits::default());
    let dealer = node.client(zmq::DEALER);
    let frames: Vec<&[u8]> = vec![b"x"; 20];
    assert!(ask(&dealer, &frames)[0].contains("20 frames"));
    assert!(ask(&dealer, &[b""]).last().unwrap().contains("0 frames"));
    assert!(ask(&dealer, &[b"", b""]).last().unwrap().contains("empty"));
    assert_eq!(ask(&dealer, &[br#"{"op":"PING"}"#]), [r#"{"status":"OK"}"#]);
}

#[test]
fn a_message_over_the_maximum_is_answered_and_others_are_served() {
    let node = alone(Limits { value_bytes_max: 1000, message_bytes_max: 10_000 });
    let value = "v".repeat(2000);
    assert!(node.ask(&format!(r#"{{"op":"PUT","key":"k","value":"{value}"}}"#)).contains("2002 bytes, 1000"));
    let message = format!(r#"{{"op":"PUT","key":"k","value":"{}"}}"#, "v".repeat(20_000));
    assert!(node.ask(&message).contains("TOO_LARGE"));
    // Far beyond it libzmq cuts the connection; nobody else is touched.
    let huge = node.client(zmq::DEALER);
    huge.send(vec![b' '; 4 << 20], 0).unwrap();
    huge.set_rcvtimeo(300).unwrap();
    assert!(huge.recv_msg(0).is_err());
    assert_eq!(node.ask(r#"{"op":"PING"}"#), r#"{"status":"OK"}"#);
}

#[test]
fn strangers_on_the_port_hold_nobody_up() {
    let node = alone(Limits::default());
    let connect = || TcpStream::connect(("127.0.0.1", node.ports.client)).unwrap();
    let mut half = connect();
    half.write_all(&[0xFF, 0, 0, 0]).unwrap();
    let mut http = connect();
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut peer = TcpStream::connect(("127.0.0.1", node.ports.peer)).unwrap();
    peer.write_all(&[0xFF; 64]).unwrap();
    let reader = node.client(zmq::DEALER);
    for n in 0..20_000 {
        // Never reads: its replies are dropped once its queue is full.
        reader.send(&format!(r#"{{"op":"PING","id":{n}}}"#), 0).unwrap();
    }
    for _ in 0..100 {
        assert_eq!(node.ask(r#"{"op":"PING"}"#), r#"{"status":"OK"}"#);
    }
    http.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    // The HTTP client is cut off when the handshake's time is up; what libzmq greeted it with is all it gets.
    let _ = http.read_to_end(&mut answer);
    assert!(answer.len() <= 64, "{} bytes", answer.len());
}

#[test]
fn without_a_ring_a_node_says_so() {
    let node = start(config(3, Limits::default()));
    assert!(node.ask(r#"{"op":"GET_ONE","key":"k"}"#).contains("NOT_READY"));
    assert!(node.ask(r#"{"op":"STATUS"}"#).contains(r#""epoch":0"#));
}

#[test]
fn any_of_two_nodes_answers_for_any_key() {
    let configs = [config(0, Limits::default()), config(1, Limits::default())];
    let ring = ring(&[&configs[0], &configs[1]]);
    let nodes = configs.map(start);
    for node in &nodes {
        node.handle.ring_absent();
        node.handle.ring(ring.clone());
    }
    nodes.iter().for_each(await_ready);
    let [a, b] = nodes.each_ref().map(|node| node.client(zmq::REQ));
    for n in 0..100 {
        let put = format!(r#"{{"op":"PUT","key":"key-{n}","value":{n}}}"#);
        assert_eq!(ask(&a, &[put.as_bytes()]), [r#"{"status":"OK"}"#]);
        let get = format!(r#"{{"op":"GET_ONE","key":"key-{n}"}}"#);
        assert_eq!(ask(&b, &[get.as_bytes()]), [format!(r#"{{"key":"key-{n}","value":{n}}}"#)]);
    }
    let keys = |node: &Running| node.handle.status().unwrap().keys;
    assert_eq!(keys(&nodes[0]) + keys(&nodes[1]), 100);
    assert!(keys(&nodes[0]) > 20 && keys(&nodes[1]) > 20);
    let all = nodes[0].ask(r#"{"op":"GET_ALL","scope":"cluster"}"#);
    assert_eq!(all.matches("\"key\"").count(), 100);
}

#[test]
fn a_taken_port_is_named() {
    let first = config(0, Limits::default());
    let second = Config { name: NodeName(1), ..first.clone() };
    let _running = start(first);
    let error = Shell::bind(second.clone()).err().expect("the port is taken").to_string();
    assert!(error.contains(&second.ports.client.to_string()), "{error}");
}

fn status(node: &Running) -> ringkv_server::core::Status {
    node.handle.status().expect("the node runs")
}

/// Asks for the status until it is as wanted.
fn await_status(node: &Running, what: &str, wanted: impl Fn(&ringkv_server::core::Status) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !wanted(&status(node)) {
        assert!(Instant::now() < deadline, "{what}: {:?}", status(node));
    }
}

#[test]
fn replies_that_nobody_reads_are_bounded_in_bytes() {
    let limits = Limits { value_bytes_max: 1 << 20, message_bytes_max: 8 << 20 };
    let node = alone(limits);
    let value = "v".repeat((1 << 20) - 2);
    assert_eq!(node.ask(&format!(r#"{{"op":"PUT","key":"k","value":"{value}"}}"#)), r#"{"status":"OK"}"#);
    let get = r#"{"op":"GET_ONE","key":"k"}"#;
    let deaf: Vec<zmq::Socket> = (0..6)
        .map(|_| {
            let deaf = node.patient_client();
            (0..100).for_each(|_| deaf.send(get, 0).unwrap());
            deaf
        })
        .collect();
    await_status(&node, "most replies find no room", |s| s.refused.replies > 400);
    let waiting = status(&node).unread_bytes;
    assert!(waiting > 8 << 20 && waiting <= 32 << 20, "{waiting} bytes wait");
    // Whoever reads is served meanwhile, and who hangs up costs nothing any more.
    let ended = status(&node).connections_ended;
    drop(deaf);
    await_status(&node, "what waited is freed", |s| s.unread_bytes == 0 && s.connections_ended >= ended + 6);
    assert!(node.ask(get).len() > 1 << 20);
}

#[test]
fn every_request_has_one_answer_where_more_is_asked_for_than_is_read() {
    let node = alone(Limits { value_bytes_max: 1 << 20, message_bytes_max: 8 << 20 });
    let value = "v".repeat(900_000);
    assert_eq!(node.ask(&format!(r#"{{"op":"PUT","key":"k","value":"{value}"}}"#)), r#"{"status":"OK"}"#);
    let client = node.patient_client();
    for id in 0..200 {
        client.send(&format!(r#"{{"op":"GET_ONE","key":"k","id":{id}}}"#), 0).unwrap();
    }
    await_status(&node, "not all replies find room", |s| s.refused.replies > 0);
    let mut ids = std::collections::BTreeSet::new();
    let mut refused = 0;
    for _ in 0..200 {
        let reply = client.recv_string(0).expect("an answer").unwrap();
        let id: u32 = reply.rsplit(':').next().unwrap().trim_end_matches('}').parse().unwrap();
        assert!(ids.insert(id), "{id} was answered twice");
        if reply.contains(r#""code":"OVERLOADED""#) {
            refused += 1;
            assert!(reply.contains(" bytes, and too much of earlier replies waits to be read"), "{reply}");
        } else {
            assert!(reply.len() > 900_000);
        }
    }
    assert!(refused > 0);
    assert!(node.ask(r#"{"op":"GET_ONE","key":"k"}"#).len() > 900_000, "who reads is served");
}

#[test]
fn connections_that_fail_or_are_cut_off_are_counted() {
    let node = alone(Limits { value_bytes_max: 1000, message_bytes_max: 10_000 });
    for _ in 0..3 {
        let mut half = TcpStream::connect(("127.0.0.1", node.ports.client)).unwrap();
        half.write_all(&[0xFF, 0, 0, 0]).unwrap();
    }
    await_status(&node, "half a greeting", |s| s.refused.handshakes >= 3);
    let ended = status(&node).connections_ended;
    let huge = node.client(zmq::DEALER);
    huge.send(vec![b' '; 4 << 20], 0).unwrap();
    await_status(&node, "a message over the maximum", |s| s.connections_ended > ended);
    let reply = node.ask(r#"{"op":"STATUS"}"#);
    assert!(reply.contains(r#""store":"memory""#) && reply.contains(r#""connections_ended":"#), "{reply}");
}

#[test]
fn a_node_that_is_told_to_end_answers_first() {
    let configs = [config(0, Limits::default()), config(1, Limits::default())];
    let ring = ring(&[&configs[0], &configs[1]]);
    // The other node never runs: what it owns is forwarded and waited for.
    let [first, _] = configs;
    let mut node = start(first);
    node.handle.ring_absent();
    node.handle.ring(ring);
    await_ready(&node);
    let dealer = node.client(zmq::DEALER);
    for n in 0..50 {
        let put = format!(r#"{{"op":"PUT","key":"key-{n}","value":{n},"timeout_ms":30000,"id":{n}}}"#);
        dealer.send(&put, 0).unwrap();
    }
    await_status(&node, "some are forwarded, the others done", |s| {
        s.tasks > 0 && s.tasks as u64 + s.keys == 50
    });
    node.handle.shut_down();
    let replies: Vec<String> = (0..50)
        .map(|_| String::from_utf8(dealer.recv_bytes(0).expect("each is answered")).unwrap())
        .collect();
    let unknown = replies.iter().filter(|r| r.contains(r#""code":"TIMEOUT""#) && r.contains("indeterminate"));
    let done = replies.iter().filter(|r| r.contains(r#""status":"OK""#));
    let (unknown, done) = (unknown.count(), done.count());
    assert!(unknown > 0 && unknown + done == 50, "{replies:#?}");
    let end = node.thread.take().unwrap().join();
    assert!(matches!(end, Ok(Ok(End::ShutDown))), "{end:?}");
}
