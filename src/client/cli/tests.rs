use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent_and_every_command_shows_an_example() {
    let cli = Cli::command();
    cli.clone().debug_assert();
    for command in cli.get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = format!("client_producer {}", command.get_name());
        let piped = format!("client_producer {}\n", command.get_name());
        assert!(help.contains(&example) || help.contains(&piped), "{} shows no example", command.get_name());
    }
}

#[test]
fn what_every_command_has_hides_nothing_of_its_own() {
    let cli = Cli::command();
    let common: Vec<_> =
        cli.get_arguments().filter(|a| a.is_global_set()).map(|a| a.get_id().clone()).collect();
    assert!(common.len() > 5);
    for command in cli.get_subcommands() {
        let own = command.get_arguments().map(clap::Arg::get_id);
        assert_eq!(own.filter(|id| common.contains(id)).count(), 0, "{}", command.get_name());
    }
}

#[test]
fn options_may_stand_behind_the_command() {
    let cli = Cli::try_parse_from(["client_producer", "put", "k", "-5", "--json", "--level", "quorum"]);
    let cli = cli.expect("valid");
    assert!(cli.common.json && cli.common.level == Some(Level::Quorum));
    let Some(Command::Put { value, .. }) = cli.command else { panic!("a put was typed") };
    assert_eq!(value.value.as_deref(), Some("-5"));
}

#[test]
fn level_and_counts_exclude_each_other() {
    assert!(Cli::try_parse_from(["client_producer", "get", "k", "--level", "one", "--r", "2"]).is_err());
    assert!(Cli::try_parse_from(["client_producer", "get", "k", "--r", "0"]).is_err());
}
