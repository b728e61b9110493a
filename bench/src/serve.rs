//! The measured servers that are our own, each run in a process of its own.

use std::io::Read;

use anyhow::{Context, Result};
use ringkv_common::message::Limits;
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::{Strategy, WEIGHT_DEFAULT};
use ringkv_common::ring::plan::{Founding, found};
use ringkv_common::ring::{ClusterId, Node, Ring};
use ringkv_server::core::Defaults;
use ringkv_server::shell::{Config, Shell};

const LOOPBACK: &str = "127.0.0.1";

/// Sends back every message: the ceiling of what libzmq can do with this traffic.
pub fn echo(port: u16) -> Result<()> {
    end_with_parent();
    let context = zmq::Context::new();
    let socket = context.socket(zmq::ROUTER)?;
    socket.bind(&format!("tcp://{LOOPBACK}:{port}"))?;
    Err(send_back(&socket)).context("the echo ended")
}

/// Sends back frame by frame, and returns only why it cannot go on. The first frame names the connection, so the
/// same frames in the same order are the way back.
pub fn send_back(socket: &zmq::Socket) -> zmq::Error {
    loop {
        let sent = socket.recv_msg(0).and_then(|frame| {
            let more = if frame.get_more() { zmq::SNDMORE } else { 0 };
            socket.send(frame, more)
        });
        if let Err(error) = sent {
            return error;
        }
    }
}

/// Node `n` of a cluster in memory, with the defaults of `server_consumer`. `ports`: of each node the client port and the
/// peer port.
pub fn node(n: u16, replicas: usize, ports: &[u16]) -> Result<()> {
    end_with_parent();
    let ring = ring(replicas, ports)?;
    let node = ring.nodes.get(usize::from(n)).with_context(|| format!("no ports of node {n} are given"))?;
    let shell = Shell::bind(Config {
        name: node.name,
        host: LOOPBACK.into(),
        bind: LOOPBACK.into(),
        ports: node.ports,
        limits: Limits::default(),
        cluster: "bench".into(),
        consul: String::new(),
        quorums: Defaults::default(),
        faults: None,
    })?;
    let handle = shell.handle();
    handle.ring_absent();
    handle.ring(ring.into());
    shell.run()?;
    Ok(())
}

/// The ring of nodes with these ports: whoever computes it finds the same one.
pub fn ring(replicas: usize, ports: &[u16]) -> Result<Ring> {
    let founding = Founding {
        cluster_id: ClusterId(ports.iter().fold(0, |id, port| (id << 16) | u128::from(*port))),
        strategy: Strategy::Consistent,
        chosen: false,
        partitions: 4_096,
        replicas,
        balance: Some(5.0),
    };
    let node = |(n, ports): (u16, &[u16])| {
        let ports = Ports { client: ports[0], peer: ports[1], http: 0 };
        let zone = LOOPBACK.to_owned();
        Node { name: NodeName(n), incarnation: 1, host: zone.clone(), ports, zone, weight: WEIGHT_DEFAULT }
    };
    Ok(found(&founding, (0..).zip(ports.chunks_exact(2)).map(node).collect())?)
}

/// Ends when nobody needs this process any more.
pub fn end_with_parent() {
    with_parent_gone(|| std::process::exit(0));
}

/// Whoever started this process holds its standard input open; when that closes, it is gone.
pub fn with_parent_gone(then: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        let mut byte = [0u8];
        while matches!(std::io::stdin().read(&mut byte), Ok(n) if n > 0) {}
        then();
    });
}
