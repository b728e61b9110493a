//! What a simulation is made of.

use ringkv_server::core::WINDOW_BYTES;

/// What a simulation is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Decides everything else.
    pub seed: u64,
    /// Nodes at the founding.
    pub nodes: u16,
    /// Replicas of each record.
    pub replicas: usize,
    /// Whether nobody stands in for an owner that is away.
    pub strict: bool,
    /// Whether every other client has its writes wait for owners alone, where somebody may stand in for others' writes:
    /// what those write is judged as if nobody ever stood in.
    pub strict_writers: bool,
    /// Launchers.
    pub launchers: usize,
    /// Clients that write and read.
    pub workers: usize,
    /// Keys that each of them writes.
    pub keys: usize,
    /// Clients that list the whole cluster, page by page.
    pub listers: usize,
    /// Clients that only read, any of the others' keys.
    pub readers: usize,
    /// Clients that invent contexts.
    pub hostile: usize,
    /// Clients that add to sets which they share.
    pub adders: usize,
    /// Clients that count up counters which they share.
    pub incrementers: usize,
    /// Clients that delete keys which they share, and create them again.
    pub removers: usize,
    /// Whether clients also ask nodes that are in no ring any more, or not yet.
    pub strays: bool,
    /// Whether the store takes time to read and write, as a disk does; else it answers at once, as memory does.
    pub slow_store: bool,
    /// Bytes of what its clients ask for that a node has under way at once.
    pub window_bytes: usize,
    /// How far wall clocks are off at most, in milliseconds.
    pub skew_ms: u64,
    /// The longest delay of a message, in microseconds.
    pub delay_us: u64,
    /// Milliseconds between a client's operations, on average.
    pub think_ms: u64,
}

impl Settings {
    /// Four nodes, one launcher, some clients, nothing wrong anywhere.
    pub fn quiet(seed: u64) -> Settings {
        Settings {
            seed,
            nodes: 4,
            replicas: 1,
            strict: true,
            strict_writers: false,
            launchers: 1,
            workers: 4,
            keys: 24,
            listers: 1,
            readers: 0,
            hostile: 0,
            adders: 0,
            incrementers: 0,
            removers: 0,
            strays: false,
            slow_store: seed.is_multiple_of(2),
            window_bytes: WINDOW_BYTES,
            skew_ms: 2_000,
            delay_us: 2_000,
            think_ms: 20,
        }
    }

    /// Whether a read may miss what was acknowledged: whoever stood in for an owner may be met by no read.
    pub fn weak(&self) -> bool {
        self.replicas > 1 && !self.strict
    }
}
