//! The wiring that both programs share.

pub mod client;
pub mod server;
