//! The measured servers that are our own, each run in a process of its own.

use std::io::Read;

use anyhow::{Context, Result};
use ringkv_common::message::Limits;
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::{Strategy, WEIGHT_DEFAULT};
use ringkv_common::ring::plan::{Founding, found};
use ringkv_common::ring::{ClusterId, Node};
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

/// A cluster of one node, in memory, with the defaults of `server_consumer`.
pub fn node(client: u16, peer: u16) -> Result<()> {
    end_with_parent();
    let name = NodeName(0);
    let ports = Ports { client, peer, http: 0 };
    let shell = Shell::bind(Config {
        name,
        host: LOOPBACK.into(),
        bind: LOOPBACK.into(),
        ports,
        limits: Limits::default(),
        cluster: "bench".into(),
        consul: String::new(),
        quorums: Defaults::default(),
        faults: None,
    })?;
    let founding = Founding {
        cluster_id: ClusterId(u128::from(std::process::id())),
        strategy: Strategy::Consistent,
        chosen: false,
        partitions: 4_096,
        replicas: 1,
        balance: Some(5.0),
    };
    let zone = LOOPBACK.to_owned();
    let node = Node { name, incarnation: 1, host: zone.clone(), ports, zone, weight: WEIGHT_DEFAULT };
    let handle = shell.handle();
    handle.ring_absent();
    handle.ring(found(&founding, vec![node])?.into());
    shell.run()?;
    Ok(())
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
