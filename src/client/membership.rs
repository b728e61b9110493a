//! A cluster's membership, as it stands in Consul.

use std::sync::Arc;
use std::time::Duration;

use consul::{CheckStatus, Client, Error, Instance, Query};
use ringkv_client::membership::{Health, Membership, MembershipError, Seen};
use ringkv_common::ring::orchestrator::Signal;
use ringkv_common::ring::{Outcome, Ring, SignalId};

use crate::server::keys::Keys;

/// One cluster in one Consul.
pub struct InConsul {
    client: Client,
    keys: Keys,
}

impl InConsul {
    /// The membership of the cluster with these keys.
    pub fn new(client: Client, keys: Keys) -> InConsul {
        InConsul { client, keys }
    }
}

/// How a launcher names itself in the lock.
#[derive(serde::Deserialize)]
struct Holder {
    /// The machine's id and, last, its name.
    machine: String,
    pid: u32,
}

fn failed(error: Error) -> MembershipError {
    match error {
        Error::Decode { .. } | Error::TooLarge { .. } => MembershipError::Unusable(error.to_string()),
        other => MembershipError::Unreachable(other.to_string()),
    }
}

impl Membership for InConsul {
    fn ring(&self, after: u64, wait: Duration) -> Result<Seen<Option<Arc<Ring>>>, MembershipError> {
        // Consul takes no wait for its own long one.
        let wait = wait.max(Duration::from_millis(1));
        let query = Query { consistent: true, index: after, wait };
        let seen = self.client.get_with(&self.keys.ring(), &query).map_err(failed)?;
        let ring = seen.value.map(|entry| Ring::from_json(&entry.value)).transpose();
        let ring =
            ring.map_err(|e| MembershipError::Unusable(format!("{} in Consul: {e}", self.keys.ring())))?;
        // An index that went backwards says nothing any more.
        let index = if seen.index < after { 0 } else { seen.index.max(1) };
        Ok(Seen { index, value: ring.map(Arc::new) })
    }

    fn signals(&self) -> Result<Seen<Vec<Signal>>, MembershipError> {
        let seen = self.client.list_with(&self.keys.signals(), &Query::consistent()).map_err(failed)?;
        let signal = |entry: consul::Entry| {
            let name = self.keys.signal_name(&entry.key, &entry.value)?.to_owned();
            Some(Signal { id: SignalId { name, index: entry.modify_index }, value: entry.value })
        };
        Ok(Seen { index: seen.index, value: seen.value.into_iter().filter_map(signal).collect() })
    }

    fn create_signal(&self, name: &str, value: &str) -> Result<bool, MembershipError> {
        self.client.put_if(&self.keys.signal(name), value, 0).map_err(failed)
    }

    fn withdraw_signal(&self, signal: &SignalId) -> Result<bool, MembershipError> {
        self.client.delete_if(&self.keys.signal(&signal.name), signal.index).map_err(failed)
    }

    fn outcomes(&self) -> Result<Vec<Outcome>, MembershipError> {
        let entries =
            self.client.list_with(&self.keys.results(), &Query::consistent()).map_err(failed)?.value;
        // What others wrote there is none of ours.
        Ok(entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect())
    }

    fn health(&self) -> Result<Vec<Health>, MembershipError> {
        let instances = self.client.instances(self.keys.cluster(), false).map_err(failed)?;
        let health = |instance: &Instance| {
            let failing = instance.checks.iter().find(|c| c.status != CheckStatus::Passing);
            Some(Health {
                node: self.keys.node_of(&instance.service.id)?,
                host: instance.address().to_owned(),
                port: instance.service.port,
                healthy: instance.status() == CheckStatus::Passing,
                note: failing.map(|c| c.output.trim().to_owned()).unwrap_or_default(),
            })
        };
        Ok(instances.iter().filter_map(health).collect())
    }

    fn cluster_size(&self) -> Result<Option<String>, MembershipError> {
        let entry = self.client.get(&self.keys.size()).map_err(failed)?;
        Ok(entry.map(|e| String::from_utf8_lossy(&e.value).trim().to_owned()))
    }

    fn size_key(&self) -> String {
        self.keys.size()
    }

    fn lock_holder(&self) -> Result<Option<String>, MembershipError> {
        let entry = self.client.get(&self.keys.lock()).map_err(failed)?;
        let Some((session, value)) = entry.and_then(|e| Some((e.session?, e.value))) else { return Ok(None) };
        if let Ok(Holder { machine, pid }) = serde_json::from_slice(&value) {
            let host = machine.split_whitespace().last().unwrap_or_default();
            return Ok(Some(format!("the launcher with pid {pid} on {host}")));
        }
        let said = String::from_utf8_lossy(&value).trim().to_owned();
        if !said.is_empty() {
            return Ok(Some(said));
        }
        let name = self.client.session(&session).map_err(failed)?.map(|s| s.name);
        Ok(Some(name.filter(|name| !name.is_empty()).unwrap_or(session)))
    }

    fn place(&self) -> String {
        format!("Consul at {}, cluster {}", self.client.url(), self.keys.cluster())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use consul::agent::Agent;
    use consul::{Config, Registration, TtlCheck};
    use ringkv_common::name::{NodeName, Ports};
    use ringkv_common::placement::Strategy;
    use ringkv_common::ring::plan::{Founding, found};
    use ringkv_common::ring::{ClusterId, Node, Verdict};

    use super::*;

    fn ring() -> Ring {
        let founding = Founding {
            cluster_id: ClusterId(1),
            strategy: Strategy::Hrw,
            chosen: true,
            partitions: 64,
            replicas: 1,
            balance: None,
        };
        let ports = Ports { client: 1, peer: 2, http: 3 };
        let host = "127.0.0.1".to_owned();
        let node = Node { name: NodeName(0), incarnation: 0, host, ports, zone: "z".into(), weight: 100 };
        found(&founding, vec![node]).unwrap()
    }

    /// A membership in an agent of its own, and a client of that agent.
    fn with_agent(test: impl FnOnce(&InConsul, &Client)) {
        let agent = Agent::bind("127.0.0.1:0", None).unwrap().spawn_thread().unwrap();
        let client = Client::new(Config::parse(&agent.url()).unwrap()).unwrap();
        test(&InConsul::new(client.clone(), Keys::new("blue").unwrap()), &client);
        agent.stop().unwrap();
    }

    #[test]
    fn a_ring_is_waited_for_and_read() {
        with_agent(|membership, client| {
            let absent = membership.ring(0, Duration::ZERO).unwrap();
            assert!(absent.value.is_none() && absent.index >= 1);
            client.put("blue/ring", ring().to_json().unwrap()).unwrap();
            let seen = membership.ring(absent.index, Duration::from_secs(20)).unwrap();
            assert_eq!(seen.value.as_deref(), Some(&ring()));
            assert!(seen.index > absent.index);
            client.put("blue/ring", "{}").unwrap();
            let error = membership.ring(0, Duration::ZERO).unwrap_err();
            assert!(matches!(&error, MembershipError::Unusable(why) if why.contains("blue/ring")), "{error}");
        });
    }

    #[test]
    fn a_signal_is_written_once_and_taken_back_only_as_it_was() {
        with_agent(|membership, client| {
            let before = membership.signals().unwrap();
            assert!(membership.create_signal("node-4", "add").unwrap());
            assert!(!membership.create_signal("node-4", "remove").unwrap());
            let signals = membership.signals().unwrap().value;
            assert_eq!(
                (signals.len(), signals[0].id.name.as_str(), signals[0].text().as_str()),
                (1, "node-4", "add")
            );
            assert!(signals[0].id.index > before.index, "what comes later has a higher index");
            let other = SignalId { name: "node-4".into(), index: signals[0].id.index - 1 };
            assert!(!membership.withdraw_signal(&other).unwrap());
            assert!(membership.withdraw_signal(&signals[0].id).unwrap());
            assert_eq!(client.get("blue/signals/node-4").unwrap(), None);
        });
    }

    #[test]
    fn results_health_size_and_lock_are_read() {
        with_agent(|membership, client| {
            let signal = SignalId { name: "node-4".into(), index: 7 };
            let (op, message) = ("add node-4".to_owned(), "no".to_owned());
            let outcome = Outcome { op, outcome: Verdict::Refused, message, epoch: 3, moved: 0, signal };
            client.put("blue/results/node-4", serde_json::to_vec(&outcome).unwrap()).unwrap();
            client.put("blue/results/else", "by hand").unwrap();
            assert_eq!(membership.outcomes().unwrap(), [outcome]);

            let check = TtlCheck {
                id: "c".into(),
                name: "c".into(),
                ttl: Duration::from_secs(30),
                status: CheckStatus::Critical,
                deregister_critical_service_after: None,
            };
            let (id, name, address) = ("blue-node-0".into(), "blue".into(), "127.0.0.1".into());
            let service =
                Registration { id, name, address, port: 2000, check: Some(check), ..Registration::default() };
            client.register(&service).unwrap();
            let health = membership.health().unwrap();
            assert_eq!(
                (health.len(), health[0].node, health[0].port, health[0].healthy),
                (1, NodeName(0), 2000, false)
            );

            assert_eq!(membership.cluster_size().unwrap(), None);
            client.put("blue/cluster_size", "4\n").unwrap();
            assert_eq!(membership.cluster_size().unwrap().as_deref(), Some("4"));
            assert_eq!(membership.lock_holder().unwrap(), None);
            let session = client.create_session(&consul::NewSession::default()).unwrap();
            assert!(client.acquire("blue/lock", "somebody", &session).unwrap());
            assert_eq!(membership.lock_holder().unwrap().as_deref(), Some("somebody"));
            assert!(client.acquire("blue/lock", r#"{"machine":"0-1 here","pid":17}"#, &session).unwrap());
            let holder = membership.lock_holder().unwrap();
            assert_eq!(holder.as_deref(), Some("the launcher with pid 17 on here"));
        });
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let client = Client::new(Config::parse("127.0.0.1:1").unwrap()).unwrap();
        let membership = InConsul::new(client, Keys::new("blue").unwrap());
        assert!(matches!(membership.signals(), Err(MembershipError::Unreachable(_))));
    }
}
