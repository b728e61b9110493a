//! The rows that are measured, and the measuring of one.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::load::{Load, Peer, Shape};
use crate::process::{Server, free_ports, machine_busy, own_cpu};
use crate::redis::{self, Sample};
use crate::traffic::Traffic;

/// Keys in one MGET or MPUT.
pub const BATCH: usize = 32;

/// What is held against a goal: what of ringkv, divided by what of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotient {
    /// Its rate by the echo's.
    RateOfEcho,
    /// Its median latency by the echo's.
    LatencyOfEcho,
    /// Its keys per second by those of Redis.
    RateOfRedis,
    /// Its bytes a key by those of Redis.
    BytesOfRedis,
    /// Its clients' p99 while data moves by that without.
    LatencyOfQuiet,
    /// Records it moves in a second by those of a plain copy.
    RateOfCopy,
    /// CPU time of a put to three replicas, of all nodes together, by that of a put to one.
    CpuOfOneReplica,
    /// Gets a second at R = 1 of three replicas by those of one.
    RateOfOneReplica,
    /// CPU time that the sums for anti-entropy take, by that of whole puts.
    PartOfPut,
    /// Bytes that a coordinator holds by puts that wait.
    BytesOfWaiting,
    /// Seconds until all know of a killed node.
    SecondsToNotice,
}

/// What is to be reached, and what is aimed at.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Of what.
    pub quotient: Quotient,
    /// The least that is good enough.
    pub reach: f64,
    /// What would be good.
    pub aim: f64,
}

/// A row: one shape of load, for all systems.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// How it is asked for and printed.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// For ringkv and the echo.
    pub shape: Shape,
    /// For Redis: with as many keys in flight.
    pub redis: Shape,
    /// Whether a message has [`BATCH`] keys, or one.
    pub batch: bool,
    /// What it is measured by.
    pub goal: Goal,
}

/// All rows that are about rates and latencies.
pub const ROWS: [Row; 5] = [
    single("1x512", "1 connection × 512 in flight", 1, 512, goal(Quotient::RateOfEcho, 0.45, 0.7)),
    single("50x16", "50 connections × 16 in flight", 50, 16, goal(Quotient::RateOfEcho, 0.5, 0.9)),
    single("50x1", "50 connections × 1 in flight", 50, 1, goal(Quotient::RateOfEcho, 0.5, 0.9)),
    single("1x1", "1 connection × 1 in flight", 1, 1, goal(Quotient::LatencyOfEcho, 1.15, 1.05)),
    Row {
        shape: Shape { connections: 1, in_flight: 512 / BATCH },
        batch: true,
        ..single(
            "batch",
            "1 connection × 16 MPUT/MGET of 32 keys in flight; Redis: 512 SET/GET in flight",
            1,
            512,
            goal(Quotient::RateOfRedis, 1.0, 2.0),
        )
    },
];

/// A goal.
pub const fn goal(quotient: Quotient, reach: f64, aim: f64) -> Goal {
    Goal { quotient, reach, aim }
}

const fn single(
    name: &'static str,
    what: &'static str,
    connections: usize,
    in_flight: usize,
    goal: Goal,
) -> Row {
    let shape = Shape { connections, in_flight };
    Row { name, what, shape, redis: shape, batch: false, goal }
}

/// The measured systems, in the order of their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// A raw libzmq ROUTER.
    Echo,
    /// One node, in memory.
    Ringkv,
    /// One server, without persistence.
    Redis,
}

impl System {
    /// All of them.
    pub const ALL: [System; 3] = [System::Echo, System::Ringkv, System::Redis];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            System::Echo => "libzmq echo",
            System::Ringkv => "ringkv",
            System::Redis => "Redis",
        }
    }
}

/// One system in one round. An operation is one key written or read.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Operations.
    pub per_second: f64,
    /// Of a message, in microseconds; for Redis of a pipeline.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// `None` where redis-benchmark does not say.
    pub p999_us: Option<f64>,
    /// The server's CPU time, in microseconds an operation.
    pub cpu_us: f64,
    /// What part of the machine's CPUs was busy with neither server nor load: the noise.
    pub others: f64,
}

/// One round: the systems in the order of [`System::ALL`].
pub type Round = [Option<Figures>; 3];

/// A round is calm where others had no more than this part of the CPUs, whichever system was measured.
pub const CALM: f64 = 0.1;
/// So many times the wanted rounds are tried where they are not calm.
pub const PATIENCE: usize = 4;

/// How much others disturbed a round at worst.
pub fn noise<'a>(round: impl IntoIterator<Item = &'a Figures>) -> f64 {
    round.into_iter().map(|figures| figures.others).fold(0.0, f64::max)
}

/// So many rounds. While others disturb, rounds are added, within `PATIENCE`; of all, the least disturbed ones are
/// returned.
pub fn calmest<R>(
    wanted: usize,
    noise: impl Fn(&R) -> f64,
    mut round: impl FnMut() -> Result<R>,
) -> Result<Vec<R>> {
    let mut rounds = Vec::new();
    let calm = |rounds: &[R]| rounds.iter().filter(|round| noise(round) <= CALM).count();
    while calm(&rounds) < wanted && rounds.len() < PATIENCE * wanted {
        rounds.push(round()?);
    }
    rounds.sort_by(|a, b| noise(a).total_cmp(&noise(b)));
    rounds.truncate(wanted);
    Ok(rounds)
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds of all systems that count.
    pub rounds: usize,
    /// Of one measurement.
    pub time: Duration,
    /// Before each measurement.
    pub warm_up: Duration,
    /// Keys that are written and read.
    pub keys: u64,
}

/// The servers, filled with the keys, and what is sent to them.
pub struct Bed {
    plan: Plan,
    echo: Server,
    ringkv: Server,
    redis: Option<Server>,
    single: Traffic,
    batches: Traffic,
}

impl Bed {
    /// Starts and fills them all.
    pub fn start(plan: Plan) -> Result<Bed> {
        let single = Traffic::single(0..plan.keys);
        let batches = Traffic::batches(0..plan.keys, BATCH as u64);
        let [port] = free_ports()?;
        let echo = Server::own(&["serve-echo"], &[port], port)?;
        let ringkv = node()?;
        Load::connect(ringkv.port, FILLING, &single, Peer::Ringkv)?.fill()?;
        let redis = redis::start()?;
        if let Some(redis) = &redis {
            redis::fill(redis, plan.keys)?;
        }
        Ok(Bed { plan, echo, ringkv, redis, single, batches })
    }

    /// Measures a row: in each round every system, in the order of [`System::ALL`]; `None` where Redis is missing.
    pub fn measure(&self, row: &Row) -> Result<Vec<Round>> {
        let mut pace = None;
        calmest(
            self.plan.rounds,
            |round: &Round| noise(round.iter().flatten()),
            || {
                let echo = self.load(row, &self.echo, Peer::Echo)?;
                let ringkv = self.load(row, &self.ringkv, Peer::Ringkv)?;
                let redis = self.redis.as_ref().map(|redis| self.redis(row, redis, &mut pace)).transpose()?;
                Ok([Some(echo), Some(ringkv), redis])
            },
        )
    }

    fn load(&self, row: &Row, server: &Server, peer: Peer) -> Result<Figures> {
        let traffic = if row.batch { &self.batches } else { &self.single };
        let mut load = Load::connect(server.port, row.shape, traffic, peer)?;
        load.run(self.plan.warm_up)?;
        loaded(&mut load, self.plan.time, traffic.keys_each(), from_ref(server))
    }

    /// redis-benchmark takes a number of requests, not a time, so a pace is found out first.
    fn redis(&self, row: &Row, server: &Server, pace: &mut Option<f64>) -> Result<Figures> {
        let run = |time: Duration, pace: f64| {
            let pipelines = (pace * time.as_secs_f64() / 2.0 / row.redis.in_flight as f64).ceil() as u64;
            // At least one pipeline on each connection.
            let requests = pipelines.max(row.redis.connections as u64) * row.redis.in_flight as u64;
            redis::benchmark(server, row.redis, self.plan.keys, requests)
        };
        // 10,000 a second is less than any; a short run tells the real pace.
        let known = match *pace {
            Some(known) => known,
            None => run(self.plan.warm_up, 10_000.0)?.per_second(),
        };
        let known = run(self.plan.warm_up, known)?.per_second();
        *pace = Some(known);
        let watch = Watch::start(from_ref(server))?;
        let sample = run(self.plan.time, known)?;
        let (cpu_us, others) = watch.stop(sample.requests)?;
        let Sample { p50_us, p99_us, .. } = sample;
        Ok(Figures { per_second: sample.per_second(), p50_us, p99_us, p999_us: None, cpu_us, others })
    }
}

/// How a server is filled.
pub const FILLING: Shape = Shape { connections: 1, in_flight: 256 };

/// Starts an empty node.
pub fn node() -> Result<Server> {
    let ports = free_ports::<2>()?;
    Server::own(&["serve-node", "0", "1"], &ports, ports[0])
}

/// What so much of a load finds of servers that are warm; `each`: keys in one message.
pub fn loaded(load: &mut Load, time: Duration, each: u64, servers: &[Server]) -> Result<Figures> {
    let watch = Watch::start(servers)?;
    let sample = load.run(time)?;
    let operations = sample.exchanges * each;
    let (cpu_us, others) = watch.stop(operations)?;
    let micros = |quantile| sample.latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Figures {
        per_second: operations as f64 / sample.elapsed.as_secs_f64(),
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        p999_us: Some(micros(0.999)),
        cpu_us,
        others,
    })
}

/// Counts CPU time from a moment on.
struct Watch<'a> {
    servers: &'a [Server],
    began: Instant,
    spent: Duration,
    own: Duration,
    machine: Duration,
}

impl Watch<'_> {
    fn start(servers: &[Server]) -> Result<Watch<'_>> {
        let spent = cpu_of(servers)?;
        Ok(Watch { servers, began: Instant::now(), spent, own: own_cpu()?, machine: machine_busy()? })
    }

    /// The servers' microseconds an operation, all together, and the part of the machine that others had.
    fn stop(self, operations: u64) -> Result<(f64, f64)> {
        let spent = cpu_of(self.servers)?.saturating_sub(self.spent);
        let own = own_cpu()?.saturating_sub(self.own);
        let busy = machine_busy()?.saturating_sub(self.machine);
        let cpus = std::thread::available_parallelism()?.get() as f64;
        let others =
            busy.saturating_sub(spent + own).as_secs_f64() / (self.began.elapsed().as_secs_f64() * cpus);
        Ok((spent.as_secs_f64() * 1e6 / operations.max(1) as f64, others))
    }
}

fn cpu_of(servers: &[Server]) -> Result<Duration> {
    servers.iter().map(Server::cpu).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disturbed_rounds_are_repeated_up_to_a_limit_and_the_calmest_count() {
        let mut rounds = [0.5, 0.0, 0.3, 0.05].into_iter();
        let calm = calmest(2, |noise| *noise, || Ok(rounds.next().unwrap_or(1.0))).expect("no error");
        assert_eq!((calm, rounds.next()), (vec![0.0, 0.05], None));
        let mut measured = 0;
        let noisy = calmest(
            2,
            |noise| *noise,
            || {
                measured += 1;
                Ok(f64::from(measured))
            },
        );
        assert_eq!((noisy.expect("no error"), measured as usize), (vec![1.0, 2.0], 2 * PATIENCE));
    }

    #[test]
    fn redis_has_as_many_keys_in_flight_as_we() {
        for row in ROWS {
            let each = if row.batch { BATCH } else { 1 };
            let ours = row.shape.connections * row.shape.in_flight * each;
            assert_eq!(ours, row.redis.connections * row.redis.in_flight, "{}", row.name);
        }
    }
}
