//! Placeholder until the client exists.
fn main() {}
