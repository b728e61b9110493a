//! Packets that are none, or lie, or grow.

use super::*;
use crate::core::detector::packet::Packet;
use crate::core::detector::settings::PACKET_BYTES_MAX;

/// A packet that one node wants to send to another.
fn a_packet(net: &mut Net, from: u16) -> (NodeName, Box<[u8]>) {
    loop {
        let at = net.nodes[&name(from)].wake_at().unwrap();
        net.now_us = net.now_us.max(at);
        let now = net.now(name(from));
        let detector = net.nodes.get_mut(&name(from)).unwrap();
        detector.tick(now);
        if let Some(packet) = detector.take_outgoing().pop() {
            return packet;
        }
    }
}

#[test]
fn a_flood_of_garbage_changes_nothing() {
    let mut net = Net::settled(21, 5);
    let (to, packet) = a_packet(&mut net, 1);
    let mut refused = 0;
    let (views, since) = (format!("{:?}", net.nodes[&to]), net.now_us);
    for n in 0..20_000u64 {
        let mut bytes = packet.to_vec();
        match n % 4 {
            0 => (0..net.below(300)).for_each(|_| bytes.push(net.below(256) as u8)),
            1 => bytes.truncate(net.below(packet.len() as u64 - 1) as usize),
            2 => bytes = (0..net.below(200)).map(|_| net.below(256) as u8).collect(),
            _ => bytes.resize(PACKET_BYTES_MAX + 1, 0),
        }
        let now = net.now(to);
        let heard = net.nodes.get_mut(&to).unwrap().hear(now, name(1), 1, &bytes);
        refused += u64::from(heard.is_err());
    }
    assert!(refused > 19_900, "{refused} refused");
    assert_eq!(format!("{:?}", net.nodes[&to]), views);
    net.run(10 * SECOND);
    assert!(net.all_alive(), "{:?}", net.nodes);
    assert_eq!(net.changes_to(View::Down, since), []);
}

#[test]
fn bytes_that_are_changed_here_and_there_end_nothing() {
    let mut net = Net::settled(22, 5);
    for n in 0..20_000u64 {
        let from = (n % 5) as u16;
        let (to, packet) = a_packet(&mut net, from);
        let mut bytes = packet.to_vec();
        for _ in 0..=net.below(2) {
            let at = net.below(bytes.len() as u64) as usize;
            bytes[at] = net.below(256) as u8;
        }
        net.with(to.0, |d, now| d.hear(now, name(from), 1, &bytes).unwrap_or_default());
    }
    assert!(net.run_until(60 * SECOND, Net::all_alive), "{:?}", net.nodes);
}

#[test]
fn who_lies_about_who_it_is_is_not_heard() {
    let mut net = Net::settled(23, 5);
    let (to, packet) = a_packet(&mut net, 1);
    let now = net.now(to);
    let hear =
        |net: &mut Net, at: NodeName, from| net.nodes.get_mut(&at).unwrap().hear(now, from, 1, &packet);
    let other = (0..5).map(name).find(|n| *n != to && n.0 != 1).unwrap();
    assert_eq!(hear(&mut net, to, other), Err(Refusal::Forged));
    assert_eq!(hear(&mut net, other, name(1)), Err(Refusal::Forged));
    assert_eq!(hear(&mut net, to, name(77)), Err(Refusal::Stranger));
    assert_eq!(hear(&mut net, to, to), Err(Refusal::Stranger));
    assert_eq!(hear(&mut net, to, name(1)), Ok(()));
}

#[test]
fn a_packet_is_written_as_it_was_read() {
    let mut net = Net::settled(24, 5);
    net.loss = 20;
    for n in 0..2_000u16 {
        let (_, bytes) = a_packet(&mut net, n % 5);
        assert_eq!(Packet::read(&bytes).unwrap().write(), *bytes);
    }
}

#[test]
fn an_invented_generation_is_outgrown_unless_no_clock_could_say_it() {
    let mut net = Net::settled(25, 5);
    for generation in [WALL_MS * 2, GENERATION_MAX / 2 - 1, GENERATION_MAX / 2 + 99, u64::MAX] {
        let (to, mut packet) = loop {
            let (to, bytes) = a_packet(&mut net, 1);
            let packet = Packet::read(&bytes).unwrap();
            if matches!(packet.header.message, Message::Ping(_)) {
                break (to, packet);
            }
        };
        packet.news.push(Member::alive(Life { name: to, generation }));
        let (now, lie) = (net.now(to), packet.write());
        let heard = net.nodes.get_mut(&to).unwrap().hear(now, name(1), 1, &lie);
        assert_eq!(heard.is_ok(), generation < GENERATION_MAX / 2);
        net.with(to.0, |_, _| {});
        net.run(10 * SECOND);
        assert!(net.all_alive(), "{:?}", net.nodes);
    }
}

#[test]
fn packets_and_timers_of_a_large_ring_are_bounded() {
    let mut net = Net::settled(26, 60);
    (0..20).for_each(|n| net.kill(n));
    net.run(5 * SECOND);
    (0..20).for_each(|n| net.start(n));
    net.run(5 * SECOND);
    assert!(net.all_alive());
    assert!(net.largest < 2_500, "the largest packet had {} bytes", net.largest);
    for detector in net.nodes.values() {
        // One of each purpose.
        assert!(detector.timers.len() <= 4 + 2 * 60);
    }
}
