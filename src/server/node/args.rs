//! The command line of a node's process: written by the launcher, read by the node, and by whoever adopts it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use ringkv_common::message::Limits;
use ringkv_common::message::fault::Fault;
use ringkv_common::name::{NodeName, Ports};
use ringkv_server::core::Defaults;
use ringkv_server::shell::Config;

use crate::server::logs::Format;
use crate::server::settings::{Place, Settings};
use crate::server::{NODE, refused};

/// One node of a cluster. Launchers start it; it takes all it needs to know from here and from Consul.
#[derive(Clone, Debug, Parser)]
#[command(name = "server_consumer node", version)]
pub struct Args {
    /// node-<n>
    pub name: NodeName,
    /// The cluster's name in Consul
    #[arg(long)]
    pub cluster: String,
    /// Where Consul is
    #[arg(long)]
    pub consul: String,
    /// What others are told
    #[arg(long)]
    pub host: String,
    /// What to listen on
    #[arg(long)]
    pub bind: String,
    /// The port for clients; the others follow from it
    #[arg(long)]
    pub port: u16,
    /// Its zone
    #[arg(long)]
    pub zone: String,
    /// Its weight
    #[arg(long)]
    pub weight: u32,
    /// The largest value in bytes
    #[arg(long)]
    pub max_value: usize,
    /// The largest message in bytes
    #[arg(long)]
    pub max_message: usize,
    /// Replicas that a read needs, where it does not say
    #[arg(long)]
    pub read_quorum: Option<u32>,
    /// Replicas that a write needs, where it does not say
    #[arg(long)]
    pub write_quorum: Option<u32>,
    /// Whether nobody stands in for replicas that are away
    #[arg(long)]
    pub strict: bool,
    /// Whether it takes faults on purpose
    #[arg(long)]
    pub allow_faults: bool,
    /// The average milliseconds that its messages to node-0, node-1 and so on take
    #[arg(long, value_delimiter = ',', requires = "allow_faults")]
    pub delays: Vec<u32>,
    /// How logs look
    #[arg(long)]
    pub log_format: Format,
    /// The cluster's folder; without it nothing is written to disk
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

impl Args {
    /// The arguments of a node's process, behind the program's name.
    pub fn write(name: NodeName, place: &Place, settings: &Settings) -> Vec<OsString> {
        let pairs = [
            ("--cluster", settings.keys.cluster().to_owned()),
            ("--consul", settings.consul.url.clone()),
            ("--host", place.host.clone()),
            ("--bind", place.bind.clone()),
            ("--port", place.ports.client.to_string()),
            ("--zone", settings.zone.clone()),
            ("--weight", settings.weight.to_string()),
            ("--max-value", settings.limits.value_bytes_max.to_string()),
            ("--max-message", settings.limits.message_bytes_max.to_string()),
            ("--log-format", settings.logs.text().to_owned()),
        ];
        let options = pairs.into_iter().map(|(name, value)| format!("{name}={value}").into());
        let mut all: Vec<OsString> = vec![NODE.into(), name.to_string().into()];
        all.extend(options);
        let Defaults { read, write, sloppy } = settings.quorums;
        let given = [("--read-quorum", read), ("--write-quorum", write)];
        let given = given.into_iter().filter_map(|(name, n)| Some(format!("{name}={}", n?).into()));
        all.extend(given);
        if !sloppy {
            all.push("--strict".into());
        }
        if let Some(rows) = &settings.faults {
            all.push("--allow-faults".into());
            let row = rows.get(usize::from(name.0)).into_iter().flatten();
            let row: Vec<String> = row.map(u32::to_string).collect();
            if !row.is_empty() {
                all.push(format!("--delays={}", row.join(",")).into());
            }
        }
        if !settings.memory {
            // In full: whoever looks at the command line may be in another folder.
            let folder =
                std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
            all.extend(["--data-dir".into(), folder.into_os_string()]);
        }
        all
    }

    /// Whether a command line, the program's name first, is that of this node of this cluster.
    pub fn is_node(command_line: &[String], name: NodeName, cluster: &str) -> bool {
        command_line.get(1).is_some_and(|part| part == NODE)
            && Args::try_parse_from(&command_line[1..])
                .is_ok_and(|args| args.name == name && args.cluster == cluster)
    }

    /// Its ports.
    pub fn ports(&self) -> anyhow::Result<Ports> {
        Ports::of_client_port(self.port)
            .ok_or_else(|| refused(format!("port {0} leaves no room for {0} + 10000", self.port)))
    }

    /// The faults that it begins with.
    fn faults(&self) -> Vec<Fault> {
        let delays = (0u16..).zip(&self.delays).filter(|(n, ms)| **ms > 0 && *n != self.name.0);
        delays.map(|(n, ms)| Fault::Delay { to: Some(NodeName(n)), ms: *ms }).collect()
    }

    /// What the shell is started with.
    pub fn shell(&self) -> anyhow::Result<Config> {
        Ok(Config {
            name: self.name,
            host: self.host.clone(),
            bind: self.bind.clone(),
            ports: self.ports()?,
            limits: Limits { value_bytes_max: self.max_value, message_bytes_max: self.max_message },
            cluster: self.cluster.clone(),
            consul: self.consul.clone(),
            faults: self.allow_faults.then(|| self.faults()),
            quorums: Defaults { read: self.read_quorum, write: self.write_quorum, sloppy: !self.strict },
        })
    }
}

#[cfg(test)]
mod tests {
    use ringkv_common::ring::ClusterId;

    use super::*;
    use crate::server::cli::Options;

    #[test]
    fn delays_of_a_file_reach_the_node_they_are_for() {
        let options = r#"{"allow-faults":true,"delays":[[0,200],[50,0]]}"#;
        let settings = Settings::new(serde_json::from_str(options).expect("options"), ClusterId(1));
        let settings = settings.expect("settings");
        let place = settings.place(NodeName(1)).expect("a place");
        let args = Args::try_parse_from(Args::write(NodeName(1), &place, &settings)).expect("our own");
        let faults = args.shell().expect("a shell").faults;
        assert_eq!(faults, Some(vec![Fault::Delay { to: Some(NodeName(0)), ms: 50 }]));
        let none =
            Settings::new(serde_json::from_str("{}").expect("options"), ClusterId(1)).expect("settings");
        let args = Args::try_parse_from(Args::write(NodeName(1), &place, &none)).expect("our own");
        assert_eq!(args.shell().expect("a shell").faults, None);
    }

    #[test]
    fn a_node_reads_what_the_launcher_wrote() {
        let options: Options =
            serde_json::from_str(r#"{"port":5000,"zone":"-z","weight":7}"#).expect("options");
        let settings = Settings::new(options, ClusterId(1)).expect("settings");
        let place = settings.place(NodeName(3)).expect("a place");
        let written = Args::write(NodeName(3), &place, &settings);
        let args = Args::try_parse_from(&written).expect("our own");
        assert_eq!((args.name, args.port, args.zone.as_str(), args.weight), (NodeName(3), 5003, "-z", 7));
        assert_eq!(args.ports().expect("room"), place.ports);
        let line: Vec<String> = ["server_consumer".to_owned()]
            .into_iter()
            .chain(written.iter().map(|a| a.to_string_lossy().into_owned()))
            .collect();
        assert!(Args::is_node(&line, NodeName(3), "ringkv"));
        assert!(!Args::is_node(&line, NodeName(4), "ringkv") && !Args::is_node(&line, NodeName(3), "blue"));
        assert!(!Args::is_node(&line[..1], NodeName(3), "ringkv"));
    }
}
