//! A TCP proxy before a listening socket, whose connections can be held up and cut, in one direction or both.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

/// What happens to bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They go on.
    Pass,
    /// They wait.
    Hold,
    /// They are thrown away.
    Discard,
}

/// From whoever connected to the listening socket, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    There,
    Back,
}

/// What is done with those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// They are led on.
    Open,
    /// Their connection is taken, and nobody speaks.
    Silent,
    /// Their connection is closed at once.
    Shut,
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    state: Mutex<PipeState>,
    changed: Condvar,
}

struct PipeState {
    flow: Flow,
    /// Reads that brought something, and were passed on.
    passed: u64,
    cut: bool,
}

impl Default for PipeState {
    fn default() -> PipeState {
        PipeState { flow: Flow::Pass, passed: 0, cut: false }
    }
}

impl Pipe {
    /// Carries bytes until one side ends.
    fn carry(&self, from: &mut TcpStream, to: &mut TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let held = |state: &mut PipeState| state.flow == Flow::Hold && !state.cut;
            let mut state = self.changed.wait_while(self.state.lock().unwrap(), held).unwrap();
            // Written with the lock held: whoever has said Hold knows that nothing passes any more.
            if state.cut || state.flow == Flow::Pass && to.write_all(&bytes[..count]).is_err() {
                return;
            }
            state.passed += 1;
        }
        // The end is like bytes: it passes where they do.
        if self.state.lock().unwrap().flow == Flow::Pass {
            let _ = to.shutdown(Shutdown::Write);
        }
    }
}

/// A connection that is led on.
#[derive(Clone)]
pub struct Connection {
    ends: Arc<[TcpStream; 2]>,
    pipes: Arc<[Pipe; 2]>,
}

impl Connection {
    fn new(from: TcpStream, to: TcpStream) -> std::io::Result<Connection> {
        let connection = Connection { ends: Arc::new([from, to]), pipes: Arc::default() };
        for (n, way) in [Way::There, Way::Back].into_iter().enumerate() {
            let (mut from, mut to) = (connection.ends[n].try_clone()?, connection.ends[1 - n].try_clone()?);
            let this = connection.clone();
            thread::spawn(move || this.pipe(way).carry(&mut from, &mut to));
        }
        Ok(connection)
    }

    fn pipe(&self, way: Way) -> &Pipe {
        &self.pipes[if way == Way::There { 0 } else { 1 }]
    }

    /// From now on this happens to bytes of this direction.
    pub fn set(&self, way: Way, flow: Flow) {
        self.pipe(way).state.lock().unwrap().flow = flow;
        self.pipe(way).changed.notify_all();
    }

    /// How often something passed so far.
    pub fn passed(&self, way: Way) -> u64 {
        self.pipe(way).state.lock().unwrap().passed
    }

    /// Ends it; what is held up is lost.
    pub fn cut(&self) {
        for end in self.ends.iter() {
            let _ = end.shutdown(Shutdown::Both);
        }
        for pipe in self.pipes.iter() {
            pipe.state.lock().unwrap().cut = true;
            pipe.changed.notify_all();
        }
    }
}

struct Shared {
    door: Mutex<Door>,
    connections: Mutex<Vec<Connection>>,
    /// Kept open, and silent.
    silent: Mutex<Vec<TcpStream>>,
    over: Mutex<bool>,
}

/// The proxy.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Before a port of this machine; the system chooses its own.
    pub fn before(target: u16, door: Door) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            door: Mutex::new(door),
            connections: Mutex::default(),
            silent: Mutex::default(),
            over: Mutex::new(false),
        });
        let theirs = shared.clone();
        let thread = Some(thread::spawn(move || theirs.accept(&listener, target)));
        Proxy { port, shared, thread }
    }

    /// What is done with those who connect from now on. Who was met by silence is let go.
    pub fn set(&self, door: Door) {
        *self.shared.door.lock().unwrap() = door;
        self.shared.silent.lock().unwrap().clear();
    }

    /// How many were met by silence and still wait.
    pub fn silenced(&self) -> usize {
        self.shared.silent.lock().unwrap().len()
    }

    /// The connection that was led on last.
    pub fn last(&self) -> Connection {
        self.shared.connections.lock().unwrap().last().expect("somebody has connected").clone()
    }
}

impl Shared {
    fn accept(&self, listener: &TcpListener, target: u16) {
        for stream in listener.incoming() {
            if *self.over.lock().unwrap() {
                return;
            }
            let Ok(stream) = stream else { continue };
            match *self.door.lock().unwrap() {
                Door::Shut => {}
                Door::Silent => self.silent.lock().unwrap().push(stream),
                Door::Open => {
                    let connection = TcpStream::connect(("127.0.0.1", target))
                        .and_then(|onward| Connection::new(stream, onward));
                    self.connections.lock().unwrap().extend(connection);
                }
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        *self.shared.over.lock().unwrap() = true;
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for connection in self.shared.connections.lock().unwrap().iter() {
            connection.cut();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
