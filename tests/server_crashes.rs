//! The launcher is killed at every step of a change, and the next one ends what it began.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use serde_json::json;
use support::{World, ask, until};

const KEYS: u16 = 40;

fn killed_at(steps: &[&str], signal: (&str, &str), nodes_after: usize) {
    for step in steps {
        let world = World::of_size(3);
        let mut first = world.launch_ready(&["--hold-at", step], 3);
        for n in 0..KEYS {
            let put = json!({"op": "PUT", "key": format!("k{n}"), "value": n});
            assert_eq!(ask(world.port(n % 3), &put), Some(json!({"status": "OK"})));
        }
        world.consul.put(&format!("ringkv/signals/{}", signal.0), signal.1);
        first.said(&format!("holding at {step}"));
        first.kill();
        let mut second = world.launch(&[]);
        let result = until("result", || world.consul.json(&format!("ringkv/results/{}", signal.0)));
        assert_eq!(result["outcome"], "done", "{step}: {result}");
        second.ready(nodes_after);
        until("signal's end", || {
            world.consul.get(&format!("ringkv/signals/{}", signal.0)).is_none().then_some(())
        });
        assert_eq!(world.consul.epoch("ringkv/ring"), 5, "{step}: done once, not twice");
        for n in 0..KEYS {
            let get = json!({"op": "GET_ONE", "key": format!("k{n}")});
            let found = json!({"key": format!("k{n}"), "value": n});
            assert_eq!(ask(world.port(1 + n % 2), &get), Some(found), "{step}");
        }
        second.terminate();
    }
}

#[test]
fn an_add_survives_the_death_of_its_launcher_before_it_began() {
    killed_at(&["launch", "ask", "copy", "forget"], ("node-3", "add"), 4);
}

#[test]
fn an_add_survives_the_death_of_its_launcher_half_way() {
    killed_at(&["both", "switch", "done", "answer"], ("node-3", "add"), 4);
}

#[test]
fn a_removal_survives_the_death_of_its_launcher() {
    killed_at(&["copy", "switch", "answer"], ("node-0", "remove"), 2);
}

#[test]
fn a_launcher_that_holds_goes_on_when_it_is_told() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&["--hold-at", "switch"], 2);
    world.consul.put("ringkv/signals/mode", "hrw");
    launcher.said("holding at switch");
    assert_eq!(world.consul.json("ringkv/ring").unwrap()["change"]["phase"], "both");
    launcher.signal(Signal::USR1);
    until("result", || world.consul.json("ringkv/results/mode"));
    assert_eq!(world.consul.json("ringkv/ring").unwrap()["strategy"], "hrw");
    launcher.terminate();
}
