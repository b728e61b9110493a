//! Clients that know nothing of ringkv's own code: pyzmq's REQ and DEALER, and routing by `xxhash` and the ring alone.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use support::{Consul, World};
use support_more::{Python, run};

fn stock_clients(test: &str, consul: Consul) {
    let Some(python) = Python::of(test) else { return };
    consul.put("cluster_size", "4");
    let world = World::with(consul);
    let mut launcher = world.launch_ready(&[], 4);
    let mut script = python.script("stock_clients.py");
    script.arg(&world.consul.url).args((0..4).map(|n| world.port(n).to_string()));
    let said = run(&mut script).ok();
    assert_eq!(said.lines().last(), Some("all hold"), "{said}");
    assert!(launcher.runs(), "no input stops a node");
    launcher.terminate();
}

#[test]
fn stock_clients_with_the_embedded_agent() {
    stock_clients("stock_clients_with_the_embedded_agent", Consul::embedded());
}

#[test]
fn stock_clients_with_a_real_consul() {
    let test = "stock_clients_with_a_real_consul";
    let Some(consul) = Consul::real(test) else { return };
    stock_clients(test, consul);
}
