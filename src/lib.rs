//! The wiring that both programs share.

pub mod server;
