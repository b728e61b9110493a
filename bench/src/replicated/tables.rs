//! The rows of replication as text.

use super::bed::{BUSY, Round, Row, Suspicions, Turn};
use super::{
    DETECTION, GOAL_DETECTION, GOAL_GET, GOAL_PUT, GOAL_SUMS, GOAL_WAITING, Measured, REPLICAS, WAITING,
};
use crate::report::{disturbance, figures_table, goal, goal_table};
use crate::rows::{CALM, Figures};
use crate::stats::{Spread, short};

/// CPU time of a put to three replicas by that of one to one, each round by itself.
fn cost(rounds: &[Round]) -> Option<Spread> {
    ratio(rounds, Turn::Put, Turn::PutOne, |figures| figures.cpu_us)
}

/// Gets a second at R = 1 of three replicas by those of one.
fn gets(rounds: &[Round]) -> Option<Spread> {
    ratio(rounds, Turn::GetOneOfThree, Turn::GetOne, |figures| figures.per_second)
}

fn ratio(rounds: &[Round], of: Turn, by: Turn, figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
    let of_turn = |round: &Round, turn: Turn| figure(&round.turns[turn as usize]);
    Spread::of(rounds.iter().map(|round| of_turn(round, of) / of_turn(round, by)))
}

/// What the sums of all owners take, by what a put takes of all nodes.
fn sums(rounds: &[Round]) -> Option<Spread> {
    let part = |round: &Round| REPLICAS as f64 * round.upkeep_us / round.turns[Turn::Put as usize].cpu_us;
    Spread::of(rounds.iter().map(part))
}

/// A row with turns. `errors`: requests that failed in all rounds, not only in these.
pub fn turns(row: &Row, rounds: &[Round], errors: u64) -> String {
    let lines =
        Turn::ALL.map(|turn| (turn.name(), rounds.iter().map(|round| &round.turns[turn as usize]).collect()));
    let show = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
    format!(
        "{} connections × {} in flight, spread evenly over five nodes; each asks for what its node leads\n\n{}\n\n\
         A put to three replicas takes {} of the CPU time of one to one, all nodes together, and keeping the sums of \
         three stores {} of that, {} µs each. Gets at R = 1: {} of the rate with one replica. {errors} requests failed, \
         repeated rounds included.\n",
        row.shape.connections,
        row.shape.in_flight,
        figures_table(row.name, &lines),
        show(cost(rounds)),
        show(sums(rounds)),
        Spread::of(rounds.iter().map(|round| round.upkeep_us)).map_or("–".into(), |s| short(s.median)),
        show(gets(rounds)),
    )
}

/// The row about puts that wait.
pub fn waiting(puts: usize, bytes: f64) -> String {
    format!(
        "{puts} puts wait at their coordinator for two owners that do not answer: {bytes:.0} bytes each, counted by the \
         allocator, without what the store takes\n"
    )
}

/// The row about killed and suspected nodes.
pub fn detection(kills: &[f64], suspicions: &Suspicions) -> String {
    let took = Spread::of(kills.iter().copied());
    let Suspicions { time, figures, errors, suspected, down } = suspicions;
    format!(
        "{} nodes of five killed, one after the other: all others call it down after {} s\n\n\
         {time:?} of puts and gets, {} connections × {} in flight, {} operations/s, {errors} of them answered by an \
         error; others had {:.0} % of the CPUs: {suspected} times a node that lived was suspected by another one, \
         {down} times called down\n",
        kills.len(),
        took.map_or("–".into(), |spread| spread.to_string()),
        BUSY.shape.connections,
        BUSY.shape.in_flight,
        short(figures.per_second),
        100.0 * figures.others,
    )
}

/// Which goals are reached.
pub fn goals(measured: &Measured) -> String {
    let Measured { rows, waiting, kills, suspicions } = measured;
    let mut lines = Vec::new();
    for (row, rounds) in rows {
        let disturbed = rounds.iter().filter(|round| round.noise() > CALM).count();
        let note = disturbance(disturbed, rounds.len(), "rounds");
        let name = |what| format!("{what} {}", row.name);
        lines.push(goal(&name("put"), GOAL_PUT, cost(rounds), &note));
        lines.push(goal(&name("get"), GOAL_GET, gets(rounds), &note));
        lines.push(goal(&name("sums"), GOAL_SUMS, sums(rounds), &note));
    }
    if let Some(bytes) = waiting {
        lines.push(goal(WAITING, GOAL_WAITING, Spread::of([*bytes]), ""));
    }
    if !kills.is_empty() {
        let wrong = suspicions.map_or(0, |found| found.suspected);
        let note = if wrong == 0 { String::new() } else { format!(", {wrong} false suspicions under load") };
        lines.push(goal(DETECTION, GOAL_DETECTION, Spread::of(kills.iter().copied()), &note));
    }
    goal_table(&lines)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn figures(per_second: f64, cpu_us: f64, others: f64) -> Figures {
        Figures { per_second, p50_us: 1.0, p99_us: 2.0, p999_us: Some(3.0), cpu_us, others }
    }

    /// A put to one replica takes 2 µs.
    fn round(put_us: f64, gets: f64, upkeep_us: f64, others: f64) -> Round {
        let put = figures(100.0, put_us, others);
        let (one, get) = (figures(100.0, 2.0, others), figures(gets, 1.0, others));
        Round { turns: [one, put, one, get, get], errors: 0, upkeep_us }
    }

    fn suspicions() -> Suspicions {
        let figures = figures(1e5, 1.0, 0.0);
        Suspicions { time: Duration::from_secs(60), figures, errors: 2, suspected: 3, down: 1 }
    }

    fn said(round: Round) -> String {
        goals(&Measured { rows: vec![(BUSY, vec![round; 3])], ..Measured::default() })
    }

    #[test]
    fn goals_of_turns_are_held_against_one_replica_in_the_same_round() {
        let text = said(round(8.0, 90.0, 0.2, 0.05));
        assert_eq!(text.matches("| reached |\n").count(), 3, "{text}");
        assert!(text.contains("| 4.00 (4.00–4.00) | 4 | 2.5 | reached |"), "{text}");
        assert!(text.contains("| 0.075 (0.075–0.075) | 0.1 | 0.03 | reached |"), "{text}");
        assert_eq!(said(round(5.0, 100.0, 0.04, 0.0)).matches("| aim |\n").count(), 3);
        assert_eq!(said(round(8.1, 89.0, 0.3, 0.0)).matches("| **missed** |\n").count(), 3);
        let disturbed = |round| said(round).matches("3 of 3 rounds disturbed |\n").count();
        assert_eq!(disturbed(round(8.0, 90.0, 0.2, 0.5)), 3);
        assert_eq!(disturbed(Round { errors: 1, ..round(8.0, 90.0, 0.2, 0.0) }), 3);
    }

    #[test]
    fn goals_show_only_what_was_measured() {
        let kills = vec![0.9, 1.0, 4.0];
        let measured = Measured { waiting: Some(1025.0), kills, ..Measured::default() };
        let text = goals(&measured);
        assert!(text.contains("| waiting |") && text.contains("| **missed** |"), "{text}");
        assert!(text.contains("| detection |") && text.ends_with("| aim |\n"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        let text = goals(&Measured { suspicions: Some(suspicions()), ..measured });
        assert!(text.ends_with("| aim, 3 false suspicions under load |\n"), "{text}");
    }

    #[test]
    fn tables_name_every_turn_and_what_was_counted() {
        let text = turns(&BUSY, &[round(8.0, 90.0, 0.2, 0.05)], 5);
        assert!(Turn::ALL.iter().all(|turn| text.contains(&format!("| {} |", turn.name()))), "{text}");
        assert!(text.contains("5 requests failed"), "{text}");
        let text = detection(&[0.9], &suspicions());
        assert!(text.contains("60s of puts and gets") && text.contains("3 times a node"), "{text}");
        assert!(text.contains("s, 2 of them answered by an error"), "{text}");
        assert!(waiting(10, 700.4).contains(": 700 bytes each"));
    }
}
