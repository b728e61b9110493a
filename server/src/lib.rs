//! The node of ringkv: a pure core, stores, and the ZeroMQ shell around them.
