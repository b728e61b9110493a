//! Explores every world and prints what was found. Exits 1 where a property does not hold.

use std::process::ExitCode;

use ringkv_model::explore::explore;
use ringkv_model::worlds;

fn main() -> ExitCode {
    let w = std::env::args().nth(1).unwrap();
    let p: Vec<usize> = std::env::args().skip(2).map(|a| a.parse().unwrap()).collect();
    let mut c = match w.as_str() { "a" => worlds::there_and_back(), "f" => worlds::finishing(), "p" => worlds::pairs(), "s" => worlds::shrinking(), "S" => ringkv_model::Config { comparing: ringkv_model::Comparing::AllWhoStay, ..worlds::shrinking() }, _ => worlds::triples() };
    if let [writes, reads, crashes, launchers, gate, answers] = p[..] {
        c.writes = writes; c.reads = reads as u8; c.crashes = crashes as u8; c.launchers = launchers;
        if gate == 1 { c.gate = ringkv_model::Gate::Quorums }
        if answers == 1 { c.answers = ringkv_model::Answers::OfThisEpoch }
    }
    let found = explore(&c);
    println!("{found}");
    if found.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
