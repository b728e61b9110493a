//! Explores a world to its end and says what was found.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::Config;
use crate::ends::ends;
use crate::state::Action;
use crate::step::World;

/// Why a world is not sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// The property that does not hold.
    pub property: &'static str,
    /// A way to a state where it does not, the shortest there is, step by step.
    pub way: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was explored.
    pub config: Config,
    /// Distinct states.
    pub states: usize,
    /// Of these: ends, where everything came to rest. 0 where it was not looked for.
    pub ends: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// What does not hold.
    pub broken: Option<Broken>,
    /// What should happen somewhere and does nowhere.
    pub missing: Vec<&'static str>,
    /// How long it took.
    pub took: Duration,
}

/// The property that [`ends`] looks for.
pub const REACHES_AN_END: &str = "an end can be reached from every state";

/// Explores a world: all of it, or up to the first state where a property does not hold.
///
/// # Panics
/// Where the two walks through it, which share no code, count different states.
pub fn explore(config: &Config) -> Found {
    let began = Instant::now();
    let checker =
        World::new(config.clone()).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let discoveries = checker.discoveries();
    let of_world = checker.model().properties();
    let failures = of_world.iter().filter(|p| p.expectation.discovery_is_failure());
    let broken = failures
        .filter_map(|p| discoveries.get(p.name).map(|path| (p.name, path)))
        .map(|(property, path)| Broken { property, way: told(checker.model(), path.clone().into_actions()) })
        .min_by_key(|b| b.way.len());
    let mut found = Found {
        config: config.clone(),
        states: checker.unique_state_count(),
        ends: 0,
        depth: checker.max_depth() - 1,
        broken,
        missing: Vec::new(),
        took: began.elapsed(),
    };
    if found.broken.is_none() {
        let sometimes = of_world.iter().filter(|p| !p.expectation.discovery_is_failure());
        found.missing = sometimes.map(|p| p.name).filter(|name| !discoveries.contains_key(name)).collect();
        let ends = ends(checker.model());
        assert_eq!(ends.states, found.states, "two walks through {config} disagree");
        found.ends = ends.ends;
        found.broken =
            ends.stuck.map(|way| Broken { property: REACHES_AN_END, way: told(checker.model(), way) });
    }
    found.took = began.elapsed();
    found
}

fn told(world: &World, way: Vec<Action>) -> Vec<String> {
    way.into_iter().map(|action| world.tell(action)).collect()
}

impl Found {
    /// Whether all properties hold, and none of them of nothing.
    pub fn is_sound(&self) -> bool {
        self.broken.is_none() && self.missing.is_empty()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { config, states, ends, depth, took, .. } = self;
        writeln!(f, "{config}")?;
        write!(f, "  {states} states, {ends} ends, depth {depth}, {:.1} s: ", took.as_secs_f64())?;
        match &self.broken {
            None if self.missing.is_empty() => write!(f, "all properties hold"),
            None => write!(f, "EMPTY: never seen: {}", self.missing.join("; ")),
            Some(broken) => {
                write!(f, "BROKEN: {}, after {} steps", broken.property, broken.way.len())?;
                broken.way.iter().try_for_each(|action| write!(f, "\n    {action}"))
            }
        }
    }
}
