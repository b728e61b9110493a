#![allow(clippy::unwrap_used)]

mod flow;
mod histories;
