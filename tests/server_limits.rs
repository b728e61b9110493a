//! What a node does when the machine gives it no more.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use support::{World, ask, node_pid, until};

/// Connections that a node gets beyond what it has.
const ROOM: u64 = 12;
/// Clients that come.
const CLIENTS: usize = 40;
/// How long the processor is watched.
const WATCHED: Duration = Duration::from_secs(2);

fn descriptors(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

/// Processor time that a process has used.
fn used(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The kernel counts hundredths for every program.
    Duration::from_millis(10 * ticks)
}

fn client(context: &zmq::Context, port: u16) -> zmq::Socket {
    let socket = context.socket(zmq::DEALER).unwrap();
    socket.set_linger(0).unwrap();
    socket.connect(&format!("tcp://127.0.0.1:{port}")).unwrap();
    socket
}

/// Asks and waits for the answer.
fn pings(socket: &zmq::Socket) -> bool {
    socket.send(r#"{"op":"PING"}"#, 0).unwrap();
    let answered = socket.poll(zmq::POLLIN, 5_000).unwrap() > 0;
    answered && socket.recv_multipart(0).is_ok()
}

#[test]
fn a_node_raises_its_limit_of_open_files_and_says_the_number() {
    let world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    let pid = node_pid(&world.consul.url, 0).unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_ascii_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    launcher.logged(&format!("descriptors={}", numbers[1]));
    launcher.terminate();
}

#[test]
fn a_node_whose_descriptors_are_used_up_serves_on_rests_and_takes_connections_again() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let pid = node_pid(&world.consul.url, 0).unwrap();
    let context = zmq::Context::new();
    let first = client(&context, world.port(0));
    assert!(pings(&first));
    let limit = descriptors(pid) + ROOM;
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    prlimit(Pid::from_raw(pid), Resource::Nofile, limit).unwrap();

    let crowd: Vec<zmq::Socket> = (0..CLIENTS).map(|_| client(&context, world.port(0))).collect();
    launcher.logged("file descriptors are used up");
    // Who is connected is served, and no processor is busy with those who are not.
    let (began, before) = (Instant::now(), used(pid));
    while began.elapsed() < WATCHED {
        assert!(pings(&first));
        first.poll(zmq::POLLIN, 20).unwrap();
    }
    let busy = (used(pid) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(busy < 0.2, "{:.0} % of a processor for nothing", 100.0 * busy);
    assert!(descriptors(pid) >= limit.current.unwrap() - 1, "it was full all the while");

    drop(crowd);
    launcher.logged("file descriptors are free again");
    let get = until("an answer for a newcomer", || ask(world.port(0), &json!({"op": "PING"})));
    assert_eq!(get, json!({"status": "OK"}));
    assert_eq!(node_pid(&world.consul.url, 0), Some(pid), "the very same process");
    launcher.terminate();
}

#[test]
fn logs_that_nobody_reads_hold_nobody_up() {
    let world = World::of_size(2);
    let port = world.ports.base.to_string();
    let (unread, stderr) = std::io::pipe().unwrap();
    // Filled to the brim, so that the very first line has no room.
    rustix::io::ioctl_fionbio(&stderr, true).unwrap();
    while rustix::io::write(&stderr, &[b'.'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&stderr, false).unwrap();
    let args = ["--consul", &world.consul.url, "--port", &port];
    let mut launcher = world.run_with(&args, Some(stderr.into()));
    launcher.ready(2);
    world.consul.put("ringkv/signals/node-2", "add");
    launcher.ready(3);
    assert_eq!(ask(world.port(0), &json!({"op": "PING"})), Some(json!({"status": "OK"})));
    launcher.terminate();
    drop(unread);
}

#[test]
fn a_flood_of_nonsense_on_the_peer_port_makes_a_few_lines() {
    let world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    let peers = client(&zmq::Context::new(), world.port(0) + 10_000);
    for _ in 0..1_000 {
        peers.send("nonsense", 0).unwrap();
    }
    until("their number", || {
        let status = world.status(0)?;
        (status["refused"]["malformed_frames"] == 1_000).then_some(())
    });
    launcher.logged("total=512");
    let lines = launcher.stderr().lines().filter(|line| line.contains("a frame on the peer port")).count();
    assert_eq!(lines, 10, "1, 2, 4 … 512");
    launcher.terminate();
}
