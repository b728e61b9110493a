//! The client of ringkv: routing, connections, operations.
