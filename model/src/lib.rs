//! An exhaustive model of how the ring changes: join, transfer, commit, abort and consent.
//!
//! Tests try some orders of events, the simulator tries thousands, this tries *all* of a small world: every order in
//! which three or four nodes, two orchestrators and a client can take their steps while two changes run, one of them
//! crashes and the network does its worst. What it finds impossible is impossible there, not merely unseen.
//!
//! ```text
//!   launchers   look ─ hear ─ start │ advance │ take back ─► the ring in Consul, by compare-and-set
//!                      ▲                                          │
//!   nodes       report, consent ◄── adopt (any ring written, any time later) ◄──┘
//!               give ─ take         hand over ─ drop          crash ─ restart
//!   client      begin ─ do ─ replicate ─ acknowledge          read ─ answer
//! ```
//!
//! **What is real.** Rings, their phases and ends come from `ring::plan`, `Ring::advanced` and `Ring::aborted`; owners
//! from `Ring::route`, `Ring::readers` and `Ring::incoming`; quorums from `quorum::Quorum`; what replicas hold from
//! `version::Siblings`; when a phase ends from `ring::orchestrator::standing`. The model asks them once for every case
//! and keeps tables ([`rings`], [`gate`], [`values`]). That compare-and-set lets one of two win is taken from Consul.
//!
//! **What is told again**, because the machines that run are too large to be states: the node (`server/src/core`) and
//! the orchestrator around its decisions. [`step`] is that, one function a step.
//!
//! **The network** loses, repeats, delays and reorders. A write's messages are never taken away: each may arrive at any
//! later time, or never, and a replica of another epoch refuses it. A question that is answered once (a pull, a
//! report, a read) carries a number in the real code; so here its answer is taken at most once, and a question that
//! was lost is one that is asked again. This is more than ZeroMQ's links do, which keep their order.
//!
//! **What must hold** ([`properties`]): one ring an epoch; an acknowledged write stays readable; no read goes back
//! behind one; nothing is deleted that owners lack; and from every state an end can be reached ([`ends`]).
//!
//! **What is left out**: the loss of a disk or of memory (a crash here keeps what was durable); deletes and their
//! collection, hints, read repair, anti-entropy, which only ever bring more; forwarding, which touches no data; the
//! other keys (each partition moves by itself; those of no interest arrive at once); time, so a deadline may pass at
//! any moment, and the lock, so both orchestrators always act.

pub mod config;
pub mod ends;
pub mod explore;
pub mod gate;
pub mod properties;
pub mod rings;
pub mod state;
pub mod step;
mod tell;
pub mod values;
pub mod worlds;

pub use config::{Adoption, Bug, Config, Gate, Signal};
pub use step::World;
