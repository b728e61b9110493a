//! From a command line to the command.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use ringkv_client::commands::bench::{self, Bench};
use ringkv_client::commands::change::{Change, Wish, change, lowest_free};
use ringkv_client::commands::dump::{Dump, dump};
use ringkv_client::commands::load::{Load, load};
use ringkv_client::commands::plan::{Newcomer, plan};
use ringkv_client::commands::producer::{Producer, produce};
use ringkv_client::commands::records::{self, Verb, Write};
use ringkv_client::commands::{Console, Failure, Outcome, explain, faults, shell, status, versions, why};
use ringkv_client::{Client, Scope};
use ringkv_common::message::fault::Fault;
use ringkv_common::name::NodeName;
use ringkv_common::ring::Kind;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::access::{Access, Needs, quorum};
use super::cli::{
    self, BenchOptions, ChangeOptions, Cli, Command, Common, Faulty, Planned, ProducerOptions, ValueOptions,
};

/// Runs what was typed.
pub fn run(cli: Cli, console: &mut Console) -> Outcome {
    let Cli { command, producer, common } = cli;
    let needs = command.as_ref().map_or(Needs::All, needs_of);
    if command.is_some() {
        no_producer(&producer)?;
    }
    let mut access = Access::open(&common, needs, console)?;
    match command {
        None => {
            access.choose_mode(&common, console)?;
            produce(&mut access.client, console, &producer_of(producer))
        }
        Some(Command::Shell) => {
            access.choose_mode(&common, console)?;
            prompt(&mut access, &common, console)
        }
        Some(command) => execute(command, &common, &mut access, console),
    }
}

fn needs_of(command: &Command) -> Needs {
    match command {
        Command::Load { .. } | Command::Dump { .. } | Command::Bench(_) => Needs::All,
        _ => Needs::Any,
    }
}

fn no_producer(options: &ProducerOptions) -> Outcome {
    if *options == ProducerOptions::default() {
        return Ok(());
    }
    Err(Failure::usage("--count, --prefix and --value-size belong to the producer: leave out the command"))
}

fn producer_of(options: ProducerOptions) -> Producer {
    Producer {
        count: options.count.unwrap_or(1000),
        prefix: options.prefix.unwrap_or_else(|| "key-".to_owned()),
        value_size: options.value_size.unwrap_or(0),
    }
}

/// Runs one command on a cluster that was found.
fn execute(command: Command, common: &Common, access: &mut Access, console: &mut Console) -> Outcome {
    // These say themselves what --mode means to them.
    if !matches!(command, Command::Migrate { .. } | Command::Plan(_)) {
        access.choose_mode(common, console)?;
    }
    let client = &mut access.client;
    match command {
        Command::Load { file, format, resume, accept_loss } => {
            load(client, console, &Load { file, format, resume, accept_loss })
        }
        Command::Dump { file, format, resume } => dump(client, console, &Dump { file, format, resume }),
        Command::Put { key, value } => write(client, console, Verb::Put, key, value),
        Command::Insert { key, value } => write(client, console, Verb::Insert, key, value),
        Command::Update { key, value } => write(client, console, Verb::Update, key, value),
        Command::Get { key, raw } => records::get(client, console, &key, raw),
        Command::Delete { key, context } => records::delete(client, console, &key, context),
        Command::GetAll { of, owned, limit } => get_all(access, console, of, owned, limit),
        Command::Search { key } => versions::search(client, console, &key),
        Command::ShowAll { of } => versions::show_all(client, console, of),
        Command::Explain { key } => explain::explain(client, console, &key),
        Command::Repair { of } => faults::repair(client, console, of),
        Command::Fault(faulty) => {
            let told = told_of(faulty, client)?;
            faults::fault(client, console, &told)
        }
        Command::AcceptLoss { of } => records::accept_loss(client, console, of),
        Command::Status => {
            let membership = access.membership.as_ref().map(|m| m as _);
            status::status(&mut access.client, console, membership)
        }
        Command::Why => {
            let (client, membership) = access.membership()?;
            why::why(client, membership, console)
        }
        Command::AddNode { name, zone, weight, change } => {
            let wish = add(name.as_deref(), Newcomer { zone, weight })?;
            changed(access, console, wish, &change)
        }
        Command::RemoveNode { name, change } => changed(access, console, Wish::Remove(name), &change),
        Command::Migrate { change } => {
            let mode =
                common.mode.ok_or_else(|| Failure::usage("say which: migrate --mode consistent|hrw"))?;
            changed(access, console, Wish::Migrate(mode), &change)
        }
        Command::Plan(planned) => planned_change(planned, common, access, console),
        Command::Bench(options) => measured(options, access, console),
        Command::Shell => Err(Failure::usage("this is the shell already")),
    }
}

fn write(
    client: &mut Client,
    console: &mut Console,
    verb: Verb,
    key: String,
    value: ValueOptions,
) -> Outcome {
    let ValueOptions { value, json_value, file, context } = value;
    let value = records::value(value.as_deref(), json_value, file.as_deref())?;
    records::write(client, console, Write { verb, key, value, context })
}

/// Which nodes are told of which faults.
fn told_of(faulty: Faulty, client: &mut Client) -> Result<Vec<(NodeName, Fault)>, Failure> {
    Ok(match faulty {
        Faulty::Fail { of } => vec![(of, Fault::Fail {})],
        Faulty::Recover { of } => vec![(of, Fault::Recover {})],
        Faulty::Drop { of, percent, to } => vec![(of, Fault::Drop { to, percent })],
        Faulty::Delay { of, ms, to } => vec![(of, Fault::Delay { to, ms })],
        Faulty::Cut { one, other, one_way } => {
            let mut told = vec![(one, Fault::Cut { to: Some(other) })];
            told.extend((!one_way).then_some((other, Fault::Cut { to: Some(one) })));
            told
        }
        Faulty::Heal { one, other } => {
            let mut told = vec![(one, Fault::Heal { to: other })];
            told.extend(other.map(|other| (other, Fault::Heal { to: Some(one) })));
            told
        }
        Faulty::Gossip { of, state } => vec![(of, Fault::Gossip { on: state == "on" })],
        Faulty::Handoff { of } => vec![(of, Fault::Handoff {})],
        Faulty::Clear { of } => {
            faults::nodes(client, of)?.into_iter().map(|node| (node, Fault::Clear {})).collect()
        }
    })
}

fn get_all(
    access: &mut Access,
    console: &mut Console,
    of: Option<NodeName>,
    owned: bool,
    limit: Option<u64>,
) -> Outcome {
    let scope = match (of, owned) {
        (None, _) => Scope::Cluster,
        (Some(_), false) => Scope::Led,
        (Some(_), true) => Scope::Node,
    };
    if of.is_some() {
        access.ring()?;
    }
    records::get_all(&mut access.client, console, scope, of, limit)
}

fn add(name: Option<&str>, newcomer: Newcomer) -> Result<Wish, Failure> {
    match name {
        None => Ok(Wish::Add { node: None, newcomer }),
        Some(name) if !name.contains(':') => {
            let node =
                name.parse().map_err(|e: ringkv_common::name::NameError| Failure::usage(e.to_string()))?;
            Ok(Wish::Add { node: Some(node), newcomer })
        }
        Some(address) if newcomer.zone.is_none() && newcomer.weight.is_none() => {
            Ok(Wish::AddRunning(address.to_owned()))
        }
        Some(_) => Err(Failure::usage(
            "a node that runs has its zone and weight already: leave out --zone and --weight",
        )),
    }
}

fn changed(access: &mut Access, console: &mut Console, wish: Wish, options: &ChangeOptions) -> Outcome {
    let patience = Duration::from_secs(options.wait_change);
    let wanted = Change { wish, patience, sample: options.check };
    let (client, membership) = access.membership()?;
    change(client, membership, console, &wanted)
}

fn planned_change(planned: Planned, common: &Common, access: &mut Access, console: &mut Console) -> Outcome {
    let ring = access.ring()?;
    let mut newcomer = Newcomer::default();
    let kind = match planned {
        Planned::Add { name, zone, weight } => {
            newcomer = Newcomer { zone, weight };
            Kind::Add { node: name.unwrap_or_else(|| lowest_free(&ring)) }
        }
        Planned::Remove { name } => Kind::Remove { node: name },
        Planned::Migrate => {
            let mode =
                common.mode.ok_or_else(|| Failure::usage("say which: plan migrate --mode consistent|hrw"))?;
            Kind::Migrate { mode }
        }
    };
    plan(&mut access.client, console, &ring, kind, &newcomer)
}

fn measured(options: BenchOptions, access: &mut Access, console: &mut Console) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the program as usual.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let way = match &access.pinned {
        Some(address) => bench::Access::Pinned(address.clone()),
        None => bench::Access::Ring(access.ring()?),
    };
    let wanted = Bench {
        connections: usize::from(options.connections),
        in_flight: options.in_flight as usize,
        seconds: options.seconds,
        puts: options.puts,
        value_size: options.size,
        keys: options.keys,
        prefix: options.key_prefix,
        check: options.check,
    };
    bench::bench(console, &way, &access.options, &wanted, &stop)
}

/// The prompt: each line is a command line of its own, on the cluster that was found.
fn prompt(access: &mut Access, common: &Common, console: &mut Console) -> Outcome {
    let names = cli::names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    shell::shell(&names, |words| {
        let line = std::iter::once("client_producer".to_owned()).chain(words);
        let cli = match Cli::try_parse_from(line) {
            Ok(cli) => cli,
            Err(error) => return told(&error),
        };
        let Some(command) = cli.command else {
            return Err(Failure::usage("type a command; help lists them"));
        };
        no_producer(&cli.producer)?;
        let here = Common {
            json: cli.common.json || common.json,
            wait: cli.common.wait.or(common.wait),
            timeout: cli.common.timeout.or(common.timeout),
            ..cli.common
        };
        if here.node.is_some() || here.consul.is_some() || here.cluster.is_some() {
            return Err(Failure::usage("--node, --consul and --cluster are given when the shell is started"));
        }
        let wanted = quorum(&here);
        access.client.set_quorum(if wanted == ringkv_client::Quorum::Default {
            quorum(common)
        } else {
            wanted
        });
        access.set_timeout(here.timeout());
        let mut console = console.for_one(here.json);
        access.meet(needs_of(&command), &here, &mut console)?;
        let outcome = execute(command, &here, access, &mut console);
        console.flush()?;
        outcome
    })
}

/// Help is no error.
fn told(error: &clap::Error) -> Outcome {
    if error.use_stderr() {
        return Err(Failure::usage(error.render().to_string().trim_end().to_owned()));
    }
    error.print()?;
    Ok(())
}
