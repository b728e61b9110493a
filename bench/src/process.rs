//! Measured servers as processes: started, watched through /proc, ended.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long a server may take to answer at first.
const START_MAX: Duration = Duration::from_secs(10);
/// /proc counts in hundredths of a second, whatever the kernel's own tick.
const TICK: Duration = Duration::from_millis(10);
/// Client ports to try, ten nodes at most from each on.
const PORTS: std::ops::Range<u16> = 15_300..17_000;

/// A running server; it is killed when this goes.
pub struct Server {
    child: Child,
    /// Where it serves clients, on loopback.
    pub port: u16,
}

impl Server {
    /// Starts a server that was told to listen on `port`, and waits until it does. `None` where there is no such
    /// program.
    pub fn start(mut command: Command, port: u16) -> Result<Option<Server>> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let child = match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            child => child.with_context(|| format!("cannot start {program}"))?,
        };
        let mut server = Server { child, port };
        let deadline = Instant::now() + START_MAX;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait()?;
            ensure!(ended.is_none(), "{program} ended at once: {ended:?}");
            ensure!(Instant::now() < deadline, "{program} does not listen on {port} after {START_MAX:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(server))
    }

    /// Starts one of the servers in [`crate::serve`]: this program again, with a hidden subcommand. `port`: the one of
    /// its `ports` on which it serves clients.
    pub fn own(arguments: &[&str], ports: &[u16], port: u16) -> Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).args(ports.iter().map(u16::to_string));
        Server::start(command, port)?.context("this program's file is gone")
    }

    /// The CPU time of all its threads since they began.
    pub fn cpu(&self) -> Result<Duration> {
        let folder = format!("/proc/{}/task", self.child.id());
        let mut total = 0;
        for task in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
            let file = task?.path().join("schedstat");
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
            let running: u64 = text.split(' ').next().unwrap_or_default().parse()?;
            total += running;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Bytes of memory that are its own and resident.
    pub fn resident_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first of the client ports of so many nodes whose ports all are free: with 5,000 and 10,000 added they stay below
/// the ephemeral ones, of which the system may give one away while a node is being started again.
pub fn free_base(nodes: u16) -> Result<u16> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all_free = |base: u16| (0..nodes).all(|n| [0, 5_000, 10_000].iter().all(|add| free(base + n + add)));
    PORTS.step_by(10).find(|base| all_free(*base)).context("no free ports")
}

/// Ports that nobody listens on now.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // Held until all are known, so that they differ.
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// How long the machine's CPUs have been busy, all together, since it started.
pub fn machine_busy() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u32> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq steal
    ensure!(ticks.len() >= 8, "/proc/stat begins with \"{line}\": that are too few counts");
    let busy: u32 = ticks[..3].iter().chain(&ticks[5..8]).sum();
    Ok(TICK * busy)
}

/// The CPU time of this process and of its children that have ended.
pub fn own_cpu() -> Result<Duration> {
    family_cpu(std::process::id())
}

/// The CPU time of a process and of its children that have ended.
pub fn family_cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The program's name may hold spaces; it ends with the last bracket.
    let (_, fields) = text.rsplit_once(") ").with_context(|| format!("{path} has no bracket"))?;
    let fields: Vec<&str> = fields.split(' ').collect();
    // utime stime cutime cstime: fields 14 to 17 of proc(5), and the first here is field 3.
    let ticks: Vec<u32> = fields[11..15].iter().map(|field| field.parse()).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free_ports::<3>().expect("ports");
        assert!(a != b && b != c && a != c);
    }

    #[test]
    fn a_program_that_is_not_there_is_no_error() {
        let server = Server::start(Command::new("no-such-program-of-ours"), 1).expect("not an error");
        assert!(server.is_none());
    }

    #[test]
    fn time_passes_for_the_machine_and_for_us() {
        let (machine, own) = (machine_busy().expect("Linux"), own_cpu().expect("Linux"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while own_cpu().expect("Linux") == own || machine_busy().expect("Linux") == machine {
            assert!(Instant::now() < deadline, "no tick in 10 s");
        }
    }
}
