//! The commands of `client_producer`.
