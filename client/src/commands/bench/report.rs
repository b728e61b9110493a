//! What a bench found: latencies, rates, errors.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::worker::Measured;
use super::{Bench, TOLD_MAX};
use crate::commands::table::{bar, count, number, table};
use crate::commands::{Failure, Outcome};

/// Latencies in microseconds.
#[derive(Serialize)]
struct Latency {
    count: u64,
    per_second: f64,
    mean_us: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

/// All workers' measurements together.
#[derive(Serialize)]
pub(super) struct Summary {
    connections: usize,
    in_flight: usize,
    value_size: usize,
    seconds: f64,
    per_second: f64,
    put: Latency,
    get: Latency,
    failed: u64,
    indeterminate: u64,
    checked: u64,
    wrong: u64,
    #[serde(skip)]
    both: Option<Histogram<u64>>,
}

impl Summary {
    pub fn of(bench: &Bench, all: &[Measured]) -> Summary {
        let seconds = all.iter().map(|m| m.seconds).fold(1e-9, f64::max);
        let merged = |of: fn(&Measured) -> &Histogram<u64>| {
            let mut sum = Measured::new().puts;
            // All have the same bounds.
            all.iter().for_each(|m| sum.add(of(m)).unwrap_or(()));
            sum
        };
        let (puts, gets) = (merged(|m| &m.puts), merged(|m| &m.gets));
        let mut both = puts.clone();
        both.add(&gets).unwrap_or(());
        Summary {
            connections: bench.connections,
            in_flight: bench.in_flight,
            value_size: bench.value_size,
            seconds,
            per_second: both.len() as f64 / seconds,
            put: latency(&puts, seconds),
            get: latency(&gets, seconds),
            failed: all.iter().map(|m| m.failed).sum(),
            indeterminate: all.iter().map(|m| m.indeterminate).sum(),
            checked: all.iter().map(|m| m.checked).sum(),
            wrong: all.iter().map(|m| m.wrong.len() as u64).sum(),
            both: Some(both),
        }
    }

    pub fn text(&self, all: &[Measured]) -> String {
        let row = |name: &str, l: &Latency| {
            let us = [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us].map(milliseconds);
            let mut row = vec![name.to_owned(), number(l.count), number(l.per_second as u64)];
            row.extend(us);
            row
        };
        let headings = ["", "requests", "a second", "p50 ms", "p90", "p99", "p99.9", "max"];
        let mut text =
            table(&headings, &[1, 2, 3, 4, 5, 6, 7], &[row("put", &self.put), row("get", &self.get)]);
        if let Some(both) = &self.both {
            text += &histogram(both);
        }
        text += &format!(
            "{} a second over {:.1} s: {} × {} in flight, values of {} bytes; {} failed ({} of them may have happened)",
            number(self.per_second as u64),
            self.seconds,
            count(self.connections as u64, "connection"),
            self.in_flight,
            self.value_size,
            number(self.failed),
            number(self.indeterminate),
        );
        if self.checked > 0 {
            text += &format!(
                "\n{} held against acknowledged writes: {} wrong",
                count(self.checked, "read"),
                number(self.wrong)
            );
        }
        for line in all.iter().flat_map(|m| m.wrong.iter().chain(&m.errors)).take(TOLD_MAX) {
            text += &format!("\n  {line}");
        }
        text
    }

    pub fn verdict(&self, bench: &Bench, all: &[Measured]) -> Outcome {
        if bench.check && self.failed + self.wrong > 0 {
            let lines = all.iter().flat_map(|m| m.wrong.iter().chain(&m.errors));
            let first = lines.take(1).cloned().collect::<String>();
            let sums = format!("{} failed, {} wrong", number(self.failed), number(self.wrong));
            return Err(Failure::failed(format!("{sums}: {first}")));
        }
        if self.put.count + self.get.count == 0 && self.failed > 0 {
            let first = all.iter().flat_map(|m| &m.errors).take(1).cloned().collect::<String>();
            return Err(Failure::failed(format!("nothing succeeded: {first}")));
        }
        Ok(())
    }
}

fn latency(h: &Histogram<u64>, seconds: f64) -> Latency {
    Latency {
        count: h.len(),
        per_second: h.len() as f64 / seconds,
        mean_us: h.mean(),
        p50_us: h.value_at_quantile(0.5),
        p90_us: h.value_at_quantile(0.9),
        p99_us: h.value_at_quantile(0.99),
        p999_us: h.value_at_quantile(0.999),
        max_us: h.max(),
    }
}

fn milliseconds(us: u64) -> String {
    format!("{:.2}", us as f64 / 1000.0)
}

/// A line for each doubling of the latency.
fn histogram(h: &Histogram<u64>) -> String {
    if h.is_empty() {
        return String::new();
    }
    let steps: Vec<(u64, u64)> =
        h.iter_log(16, 2.0).map(|s| (s.value_iterated_to(), s.count_since_last_iteration())).collect();
    let most = steps.iter().map(|s| s.1).max().unwrap_or(1).max(1) as f64;
    let rows: Vec<Vec<String>> = steps
        .iter()
        .filter(|step| step.1 > 0)
        .map(|(to, n)| {
            let share = *n as f64 / h.len() as f64 * 100.0;
            vec![format!("≤ {}", milliseconds(*to)), format!("{share:.2} %"), bar(*n as f64 / most, 40)]
        })
        .collect();
    table(&["ms", "requests", ""], &[0, 1], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_the_histogram() {
        let mut h = Measured::new().puts;
        for us in [5, 100, 100, 90_000] {
            h.saturating_record(us);
        }
        let text = histogram(&h);
        assert!(text.contains("50.00 %") && text.matches("25.00 %").count() == 2, "{text}");
    }
}
