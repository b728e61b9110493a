//! What libzmq tells of a socket's connections: which failed, and how many ended.
//!
//! It does not tell why an established connection ended. One that it cut for a message over the maximum, or for bytes
//! that are no ZMTP, counts as *ended*, like one whose client hung up.

use super::ShellError;

/// Events that may wait: beyond it libzmq's thread waits for the loop.
const EVENTS_MAX: i32 = 1 << 16;
/// Events taken before the loop goes on.
const BATCH: usize = 1024;
/// Microseconds between two lines of the log.
const LOG_US: u64 = 1_000_000;

const FAILED: [zmq::SocketEvent; 3] = [
    zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
    zmq::SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
    zmq::SocketEvent::HANDSHAKE_FAILED_AUTH,
];

/// Counts what happens to the connections of a listening socket.
pub struct Monitor {
    socket: zmq::Socket,
    /// Whose they are, for the log.
    whose: &'static str,
    /// Connections that failed before they were established.
    pub failed: u64,
    /// Connections that ended, those among them.
    pub ended: u64,
    logged: u64,
    log_at_us: u64,
}

impl Monitor {
    /// Listens to a socket that is not bound yet.
    pub fn of(
        context: &zmq::Context,
        socket: &zmq::Socket,
        whose: &'static str,
    ) -> Result<Monitor, ShellError> {
        let endpoint = format!("inproc://monitor-{whose}");
        let events = FAILED.iter().fold(zmq::SocketEvent::DISCONNECTED.to_raw(), |all, e| all | e.to_raw());
        socket.monitor(&endpoint, i32::from(events))?;
        let ear = context.socket(zmq::PAIR)?;
        ear.set_linger(0)?;
        ear.set_rcvhwm(EVENTS_MAX)?;
        ear.connect(&endpoint)?;
        Ok(Monitor { socket: ear, whose, failed: 0, ended: 0, logged: 0, log_at_us: 0 })
    }

    /// Counts what happened since, and logs failures, one line a second at most.
    pub fn listen(&mut self, now_us: u64) {
        for _ in 0..BATCH {
            // The first frame has the event, the second one the socket's own endpoint.
            let Ok(event) = self.socket.recv_msg(zmq::DONTWAIT) else { break };
            if event.get_more() {
                let _endpoint = self.socket.recv_msg(0);
            }
            self.count(&event);
        }
        if self.failed > self.logged && now_us >= self.log_at_us {
            let (news, total, whose) = (self.failed - self.logged, self.failed, self.whose);
            tracing::warn!(total, "{news} connections to the {whose} port spoke no ZMTP, or not in time");
            (self.logged, self.log_at_us) = (self.failed, now_us + LOG_US);
        }
    }

    fn count(&mut self, event: &[u8]) {
        let Some([low, high]) = event.first_chunk() else { return };
        let event = u16::from_ne_bytes([*low, *high]);
        if FAILED.iter().any(|failed| failed.to_raw() == event) {
            self.failed += 1;
        } else {
            self.ended += 1;
        }
    }
}
