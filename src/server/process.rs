//! Processes of this machine: who they are, who holds a port, and handles that outlive a pid.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that was started here or adopted.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    /// Names this very process, also after its pid was given to another one.
    handle: OwnedFd,
    /// Where it is our child, it must be buried, too.
    child: Option<Child>,
}

impl Process {
    /// Starts a command.
    pub fn start(command: &mut Command) -> io::Result<Process> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Process { pid, handle: handle(pid)?, child: Some(child) })
    }

    /// Takes over a process that another launcher started. `is_it` looks at its command line, once it can no longer
    /// be another one's.
    pub fn adopt(pid: i32, is_it: impl Fn(&[String]) -> bool) -> Option<Process> {
        let handle = handle(pid).ok()?;
        let process = Process { pid, handle, child: None };
        (is_it(&command_line(pid)?) && !process.ended()).then_some(process)
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended; `None` while it runs. Of an adopted process nobody hears how.
    pub fn exit(&mut self) -> Option<Exit> {
        if !self.ended() {
            return None;
        }
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        Some(Exit(status))
    }

    /// Asks it to end, in order.
    pub fn terminate(&self) {
        // One that has ended already is fine.
        let _ = pidfd_send_signal(&self.handle, Signal::TERM);
    }

    /// Ends it.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }

    fn ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit(Option<ExitStatus>);

impl Exit {
    /// Whether it is known to have ended in order.
    pub fn was_meant(&self) -> bool {
        self.0.is_some_and(|status| status.success())
    }

    /// Whether it ended in order, as far as that can be known.
    pub fn is_clean(&self) -> bool {
        self.0.is_none_or(|status| status.success())
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("ended"),
        }
    }
}

fn handle(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("no process has the id 0"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// A process's arguments; `None` where it is gone or hidden.
pub fn command_line(pid: i32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let args: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    (!args.is_empty()).then_some(args)
}

/// Who listens on a TCP port of this machine, for messages: pid and command where they can be seen.
pub fn listener(port: u16) -> Option<(i32, Vec<String>)> {
    let inodes: HashSet<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|file| listening(file, port)).collect();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let holds = |pid: &i32| {
        let sockets = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        sockets
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|to| to.to_str().is_some_and(|to| inodes.contains(to)))
    };
    let pid = pids.into_iter().find(holds)?;
    Some((pid, command_line(pid)?))
}

/// Whether anybody listens on a TCP port of this machine. Nothing is connected to, so nobody notices.
pub fn is_listened_on(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|file| !listening(file, port).is_empty())
}

/// The sockets that listen on a port, as links below `/proc/<pid>/fd` name them.
fn listening(file: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(file).unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let here = u16::from_str_radix(local.rsplit(':').next()?, 16) == Ok(port);
        (here && *state == LISTEN).then(|| format!("socket:[{inode}]"))
    };
    text.lines().skip(1).filter_map(inode).collect()
}

/// The right to look after the node of one client port of this machine. It ends with its holder, however that ends.
#[derive(Debug)]
pub struct Guard {
    /// An abstract name: no file that could be left over.
    _listener: UnixListener,
}

impl Guard {
    /// Takes it, or says which process has it.
    pub fn take(port: u16) -> Result<Guard, i32> {
        Guard::bind(port).ok_or_else(|| Guard::holder(port))
    }

    /// The process that holds the guard of a port; 0 where that cannot be told.
    ///
    /// The kernel tells who listens; the holder need not do anything. But it keeps each connection for the holder, and
    /// makes a caller wait where it has kept very many: so this does not wait, and is for messages only.
    fn holder(port: u16) -> i32 {
        let asked = || {
            let (family, kind, flags) = (AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK);
            let socket = socket_with(family, kind, flags | SocketFlags::CLOEXEC, None).ok()?;
            connect(&socket, &SocketAddrUnix::new_abstract_name(guard_name(port).as_bytes()).ok()?).ok()?;
            socket_peercred(&socket).ok()
        };
        asked().map_or(0, |holder| holder.pid.as_raw_nonzero().get())
    }

    /// Whether somebody holds the guard of a port, the holder unaware. For a moment it is held here.
    pub fn is_held(port: u16) -> bool {
        Guard::bind(port).is_none()
    }

    fn bind(port: u16) -> Option<Guard> {
        let address = SocketAddr::from_abstract_name(guard_name(port)).ok()?;
        Some(Guard { _listener: UnixListener::bind_addr(&address).ok()? })
    }
}

fn guard_name(port: u16) -> String {
    format!("ringkv/launcher/{port}")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    /// A child that does not outlive its test.
    struct Sleeper(Process);

    impl Sleeper {
        fn start() -> Sleeper {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let sleeper = Sleeper(Process::start(&mut command).expect("sleep is everywhere"));
            // Its arguments show a moment after it was started.
            until("its arguments", || command_line(sleeper.0.pid()));
            sleeper
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill();
        }
    }

    fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match look() {
                Some(found) => return found,
                None => assert!(Instant::now() < end, "{what} in vain"),
            }
        }
    }

    #[test]
    fn a_child_is_seen_to_end_and_how() {
        let mut child = Sleeper::start();
        assert!(child.0.exit().is_none());
        child.0.terminate();
        let exit = until("its end", || child.0.exit());
        assert!(!exit.is_clean() && exit.to_string().contains("15"), "{exit}");
    }

    #[test]
    fn only_the_process_that_was_meant_is_adopted() {
        let mut child = Sleeper::start();
        let pid = child.0.pid();
        assert!(Process::adopt(pid, |args| args.first().is_some_and(|a| a == "wake")).is_none());
        let mut adopted = Process::adopt(pid, |args| args.get(1).is_some_and(|a| a == "600")).expect("sleep");
        adopted.kill();
        let exit = until("its end", || adopted.exit());
        assert!(exit.is_clean(), "nobody hears how an adopted process ended");
        assert!(!until("its end", || child.0.exit()).is_clean());
        assert!(Process::adopt(pid, |_| true).is_none(), "it is gone");
    }

    #[test]
    fn the_listener_of_a_port_is_named() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("bound").port();
        let (pid, args) = listener(port).expect("we listen");
        assert_eq!((pid, args.is_empty()), (std::process::id() as i32, false));
        drop(socket);
        assert!(listener(port).is_none());
    }

    #[test]
    fn whether_a_port_is_listened_on_is_seen_without_connecting() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("bound").port();
        assert!(is_listened_on(port));
        socket.set_nonblocking(true).expect("a flag");
        assert!(socket.accept().is_err(), "nobody came");
        drop(socket);
        assert!(!is_listened_on(port));
    }

    #[test]
    fn asking_for_a_guard_very_often_ends_and_is_refused_each_time() {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let _guard = Guard::take(port).expect("free");
        let (done, asked) = std::sync::mpsc::channel();
        // More than the kernel keeps for a listener that accepts nobody.
        std::thread::spawn(move || {
            let refused = (0..5_000).filter(|_| Guard::take(port).is_err()).count();
            let _ = done.send(refused);
        });
        assert_eq!(asked.recv_timeout(Duration::from_secs(30)), Ok(5_000));
        assert!(Guard::is_held(port));
    }

    #[test]
    fn a_guard_is_held_by_one_at_a_time_and_names_its_holder() {
        // A number that no port in use has: the free one the system just gave.
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let guard = Guard::take(port).expect("free");
        assert_eq!(Guard::take(port).expect_err("held"), std::process::id() as i32);
        drop(guard);
        Guard::take(port).expect("free again");
    }
}
