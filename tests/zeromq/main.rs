//! libzmq against the simulator's model of it: real sockets with the options of the shell's, over connections that are
//! held up and cut, and what arrived held against the rules of [`ringkv_sim::record`].
#![allow(clippy::unwrap_used)]

mod line;
mod proxy;

use line::Line;
use proxy::{Door, Flow, Way};
use ringkv_common::message::Limits;
use ringkv_server::shell::sockets;
use ringkv_sim::record::{Seen, admits};

#[test]
fn a_connection_that_lasts_loses_nothing() {
    let mut line = Line::connected();
    line.say(2_000);
    line.all_arrive();
    assert_eq!(line.arrived().len(), 2_000);
    line.admitted();
}

#[test]
fn cut_connections_lose_their_tails_and_nothing_else() {
    let mut line = Line::connected();
    for round in 0..20 {
        line.say(50);
        // Sometimes all has arrived, sometimes it is held up and lost.
        match round % 3 {
            0 => line.all_arrive(),
            1 => line.proxy.last().set(Way::There, Flow::Hold),
            _ => {}
        }
        line.say(20);
        line.proxy.last().cut();
        // Whoever speaks on is not heard, and then told.
        line.say_until_alone();
        line.until_connected();
    }
    line.say(50);
    line.all_arrive();
    assert!(line.arrived().len() >= 7 * 50 + 50 && line.refused() >= 20, "{:?}", line.counts());
    line.admitted();
}

#[test]
fn where_nobody_is_nothing_is_taken() {
    let mut line = Line::before(Door::Shut);
    line.refuses(100);
    // One who takes the connection, and then says nothing, is nobody.
    line.proxy.set(Door::Silent);
    line.until("met by silence", |line| line.proxy.silenced() > 0);
    line.refuses(100);
    line.proxy.set(Door::Open);
    line.until_connected();
    line.say(10);
    line.all_arrive();
    // The listener is gone, and back.
    line.proxy.set(Door::Shut);
    line.proxy.last().cut();
    line.say_until_alone();
    line.refuses(100);
    line.proxy.set(Door::Open);
    line.until_connected();
    line.say(10);
    line.all_arrive();
    line.admitted();
}

#[test]
fn what_is_held_up_arrives_late_and_whole() {
    let mut line = Line::connected();
    line.say(10);
    line.all_arrive();
    let connection = line.proxy.last();
    line.stall();
    connection.set(Way::There, Flow::Hold);
    line.say(500);
    // The proxy holds what it read; for libzmq all was sent.
    line.nothing_arrives_for_a_heartbeat();
    line.resume();
    connection.set(Way::There, Flow::Pass);
    line.all_arrive();
    assert_eq!((line.arrived().len(), line.refused()), (510, 0));
    line.admitted();
}

#[test]
fn a_line_that_is_full_refuses_and_loses_nothing() {
    let mut line = Line::connected();
    line.padding = 16 << 10;
    line.say(10);
    line.all_arrive();
    let connection = line.proxy.last();
    line.stall();
    connection.set(Way::There, Flow::Hold);
    line.say_until_full();
    assert!(line.arrived().len() == 10 && line.taken() >= 1_000, "{:?}", line.counts());
    line.resume();
    connection.set(Way::There, Flow::Pass);
    line.all_arrive();
    line.say(10);
    line.all_arrive();
    line.admitted();
}

/// Nothing comes back: three to four seconds later the sender gives the connection up, and never said so.
#[test]
fn a_connection_that_lost_one_direction_is_given_up_and_what_it_took_is_lost() {
    for way in [Way::There, Way::Back] {
        let mut line = Line::connected();
        line.say(10);
        line.all_arrive();
        line.proxy.last().set(way, Flow::Discard);
        line.say(10);
        line.until_disconnected();
        line.say_until_alone();
        line.until_connected();
        line.say(10);
        line.all_arrive();
        let heard_of_the_second_ten =
            line.arrived().iter().filter(|number| (11..=20).contains(*number)).count();
        assert_eq!(heard_of_the_second_ten, if way == Way::There { 0 } else { 10 });
        line.admitted();
    }
}

/// The receiver does not look, one connection's messages wait, the next one's come: it then gets both in turn.
#[test]
fn two_connections_are_not_in_order_between_them() {
    for _ in 0..20 {
        let mut line = Line::connected();
        line.reads = false;
        line.say(100);
        let old = line.proxy.last();
        // All is under way to the receiver, and comes out of the connection before its end.
        line.until_through();
        old.cut();
        line.say_until_alone();
        line.until_connected();
        line.say(100);
        line.until_through();
        line.reads = true;
        line.all_arrive();
        line.admitted();
        if line.late() > 0 {
            return;
        }
    }
    panic!("libzmq kept two connections in order twenty times: the model need not know better");
}

/// The sender has given a connection up that the receiver still has, and what is under way on it comes after the next
/// one's messages.
#[test]
fn what_a_given_up_connection_still_brings_is_admitted() {
    let mut line = Line::connected();
    line.say(1);
    line.all_arrive();
    let old = line.proxy.last();
    old.set(Way::Back, Flow::Hold);
    // Two heartbeats that nobody answers: the receiver has heard of the sender a second later than the other way.
    let before = old.passed(Way::There);
    line.until("two heartbeats", |_| old.passed(Way::There) >= before + 2);
    old.set(Way::There, Flow::Hold);
    line.say(20);
    line.until_disconnected();
    line.say_until_alone();
    line.until_connected();
    line.say(20);
    line.all_arrive();
    old.set(Way::There, Flow::Pass);
    // On a busy machine the receiver may have given it up, too, and then nothing comes.
    line.wait_a_heartbeat();
    println!("{} messages came after those of the next connection", line.late());
    line.admitted();
}

#[test]
fn a_reply_never_reaches_another_connection_than_the_requests() {
    let context = zmq::Context::new();
    let router = sockets::open(&context, zmq::ROUTER, &Limits::default()).unwrap();
    router.set_router_mandatory(true).unwrap();
    router.set_rcvtimeo(10_000).unwrap();
    let proxy = proxy::Proxy::before(line::bound(&router), Door::Open);
    let dealer = context.socket(zmq::DEALER).unwrap();
    dealer.set_linger(0).unwrap();
    dealer.set_rcvtimeo(10_000).unwrap();
    dealer.connect(&format!("tcp://127.0.0.1:{}", proxy.port)).unwrap();
    let mut record = vec![Seen::Connected];
    let ask = || {
        dealer.send("?", 0).unwrap();
        router.recv_multipart(0).unwrap().swap_remove(0)
    };
    let reply =
        |to: &[u8], number: u64| router.send_multipart([to, &number.to_le_bytes()[..]], zmq::DONTWAIT);
    let first = ask();
    let mut number = 0;
    proxy.last().cut();
    let deadline = line::deadline();
    loop {
        number += 1;
        // A ROUTER lets a connection go when it has read to its end: one that is never read stays full for ever.
        assert_eq!(router.recv_bytes(zmq::DONTWAIT), Err(zmq::Error::EAGAIN));
        match reply(&first, number) {
            Ok(()) => record.push(Seen::Taken(number)),
            // Its queue is full before anybody notices.
            Err(zmq::Error::EAGAIN) => record.push(Seen::Refused(number)),
            Err(refused) => {
                assert_eq!(refused, zmq::Error::EHOSTUNREACH);
                break record.extend([Seen::Disconnected, Seen::Refused(number)]);
            }
        }
        line::before(deadline, "a refusal");
    }
    // Who comes back is somebody else: the reply to the former is still refused, and that to the new one arrives.
    let second = ask();
    assert_ne!(first, second);
    number += 1;
    assert_eq!(reply(&first, number), Err(zmq::Error::EHOSTUNREACH));
    record.extend([Seen::Refused(number), Seen::Connected]);
    number += 1;
    reply(&second, number).unwrap();
    record.push(Seen::Taken(number));
    loop {
        let got = u64::from_le_bytes(dealer.recv_bytes(0).unwrap().try_into().unwrap());
        record.push(Seen::Arrived { connection: u64::from(got == number), number: got });
        if got == number {
            break;
        }
    }
    record.push(Seen::Rest);
    assert_eq!(admits(&record), Ok(()), "{record:?}");
}
