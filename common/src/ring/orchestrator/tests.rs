//! The machine beside a small Consul and small nodes that live in memory: `world` is the whole of them, and each
//! scenario is a script that reads like one.

mod changes;
mod consent;
mod crash;
mod founding;
mod pace;
mod world;
