//! Explores every world and prints what was found.

use std::process::ExitCode;

use ringkv_model::explore::explore;
use ringkv_model::{Bug, Config, worlds};

const HELP: &str = "\
ringkv-model: explores every state of small worlds in which the ring changes

usage: ringkv-model [small | large | bugs | NAME]

  (nothing)   the small worlds, then the large ones: minutes, and up to 1.3 GB
  small       the worlds that the tests explore too
  large       the others
  bugs        every bug that can be put in, and the shortest way to where it shows
  NAME        one world, as in \"triples\"; or one bug, as in IgnoresEpoch

Exits 1 where a property does not hold, or a bug is not caught.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = || worlds::small().into_iter().chain(worlds::large());
    let bugs = || Bug::ALL.into_iter().map(worlds::world_of);
    let chosen: Vec<Config> = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => all().collect(),
        ["small"] => worlds::small(),
        ["large"] => worlds::large(),
        ["bugs"] => bugs().collect(),
        [name] => {
            let named = |c: &Config| c.bug.map_or(c.name.to_owned(), |bug| format!("{bug:?}")) == name;
            all().chain(bugs()).filter(named).collect()
        }
        _ => Vec::new(),
    };
    if chosen.is_empty() {
        let asked = arguments.iter().any(|a| a == "--help" || a == "-h");
        println!("{HELP}");
        return ExitCode::from(if asked { 0 } else { 2 });
    }
    let mut as_expected = true;
    for config in chosen {
        let found = explore(&config);
        println!("{found}");
        as_expected &= match config.bug {
            None => found.is_sound(),
            Some(_) => found.broken.is_some(),
        };
    }
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
