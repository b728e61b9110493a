//! Redis beside us: Debian's `redis-server`, loaded by Debian's `redis-benchmark`.
//!
//! SET and GET are run one after the other with as many requests each, so their sum is the half-and-half mix: the
//! rate is that of both together. Keys are the same 16 bytes, values 64 bytes, the pipeline is as deep as our
//! connections have requests in flight.

use std::io::{BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::load::Shape;
use crate::process::{Server, free_ports};
use crate::traffic::{Traffic, VALUE_BYTES, key};

/// Which packages hold the two programs.
pub const PACKAGES: &str = "redis-server and redis-tools (apt-get install redis-server redis-tools)";

/// What one run of redis-benchmark says; of SET and GET the worse latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Requests, SET and GET together.
    pub requests: u64,
    /// Of SET.
    pub set_per_second: f64,
    /// Of GET.
    pub get_per_second: f64,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
}

impl Sample {
    /// As many SETs as GETs in a second.
    pub fn per_second(&self) -> f64 {
        2.0 / (1.0 / self.set_per_second + 1.0 / self.get_per_second)
    }
}

/// Starts an empty server that writes nothing to disk; `None` where it is not installed.
pub fn start() -> Result<Option<Server>> {
    let [port] = free_ports()?;
    let mut command = Command::new("redis-server");
    let port_text = port.to_string();
    command.args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    Server::start(command, port)
}

/// Loads it with `requests` SETs of random keys below `keys`, then as many GETs.
pub fn benchmark(server: &Server, shape: Shape, keys: u64, requests: u64) -> Result<Sample> {
    let set = run(server, shape, keys, requests, "set")?;
    let get = run(server, shape, keys, requests, "get")?;
    Ok(Sample {
        requests: 2 * requests,
        set_per_second: set.per_second,
        get_per_second: get.per_second,
        p50_us: set.p50_us.max(get.p50_us),
        p99_us: set.p99_us.max(get.p99_us),
    })
}

struct Half {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

fn run(server: &Server, shape: Shape, keys: u64, requests: u64, test: &str) -> Result<Half> {
    let mut command = Command::new("redis-benchmark");
    command.args(["--csv", "-h", "127.0.0.1", "-t", test]);
    for (option, number) in [
        ("-p", u64::from(server.port)),
        ("-c", shape.connections as u64),
        ("-P", shape.in_flight as u64),
        ("-n", requests),
        ("-r", keys),
        ("-d", VALUE_BYTES as u64),
    ] {
        command.args([option, &number.to_string()]);
    }
    let output =
        command.output().with_context(|| format!("cannot run redis-benchmark: install {PACKAGES}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "redis-benchmark failed: {}{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&text)
}

fn parse(text: &str) -> Result<Half> {
    let mut lines = text.lines().filter(|line| line.starts_with('"'));
    let (Some(head), Some(line)) = (lines.next(), lines.next()) else {
        bail!("redis-benchmark printed no table: {text}");
    };
    let cells =
        |line: &str| line.split(',').map(|cell| cell.trim_matches('"').to_owned()).collect::<Vec<_>>();
    let (head, line) = (cells(head), cells(line));
    let number = |name: &str| -> Result<f64> {
        let at = head.iter().position(|cell| cell == name);
        let cell = at.and_then(|at| line.get(at));
        cell.and_then(|cell| cell.parse().ok())
            .with_context(|| format!("redis-benchmark printed no {name}: {text}"))
    };
    Ok(Half {
        per_second: number("rps")?,
        p50_us: 1000.0 * number("p50_latency_ms")?,
        p99_us: 1000.0 * number("p99_latency_ms")?,
    })
}

/// Sets every key once, to the value that it has in our own traffic.
pub fn fill(server: &Server, keys: u64) -> Result<()> {
    /// Requests written before replies are read: few enough that neither side's buffers fill up.
    const BATCH: u64 = 500;
    let stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let (mut reader, mut writer) = (BufReader::new(&stream), BufWriter::new(&stream));
    let traffic = Traffic::single(0..keys);
    let mut name = Vec::new();
    let mut replies = [0u8; b"+OK\r\n".len() * BATCH as usize];
    for start in (0..keys).step_by(BATCH as usize) {
        let batch = start..keys.min(start + BATCH);
        let expected = &mut replies[..b"+OK\r\n".len() * (batch.end - batch.start) as usize];
        for n in batch {
            name.clear();
            key(n, &mut name);
            write!(writer, "*3\r\n$3\r\nSET\r\n${}\r\n", name.len())?;
            writer.write_all(&name)?;
            write!(writer, "\r\n${VALUE_BYTES}\r\n")?;
            writer.write_all(traffic.value(n))?;
            writer.write_all(b"\r\n")?;
        }
        writer.flush()?;
        reader.read_exact(expected)?;
        ensure!(expected.chunks(5).all(|reply| reply == b"+OK\r\n"), "Redis did not take every SET");
    }
    Ok(())
}

/// What Redis says it has allocated, in bytes.
pub fn used_memory(server: &Server) -> Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    // QUIT ends the stream, so it can be read to its end.
    stream.write_all(b"INFO memory\r\nQUIT\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(line.with_context(|| format!("INFO has no used_memory: {text}"))?.trim().parse()?)
}

/// `redis-server --version` in short; `None` where it is not installed.
pub fn version() -> Option<String> {
    let output = Command::new("redis-server").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = concat!(
        r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms""#,
        "\n",
        r#""SET","25000.00","0.029","0.016","0.031","0.047","0.063","0.159""#,
        "\n"
    );

    #[test]
    fn the_table_is_read_by_its_heads() {
        let half = parse(PRINTED).expect("a table");
        assert_eq!((half.per_second, half.p50_us.round(), half.p99_us.round()), (25_000.0, 31.0, 63.0));
    }

    #[test]
    fn what_is_no_table_is_an_error_that_shows_it() {
        let error = parse("Could not connect").err().expect("no table");
        assert!(error.to_string().contains("Could not connect"), "{error}");
    }

    #[test]
    fn a_mix_is_slower_than_the_mean_of_unequal_halves() {
        let sample =
            Sample { requests: 2, set_per_second: 100.0, get_per_second: 300.0, p50_us: 0.0, p99_us: 0.0 };
        assert!((sample.per_second() - 150.0).abs() < 1e-9);
    }
}
