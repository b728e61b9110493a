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

    fn signal_name<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.keys.signals()).filter(|name| !name.is_empty())
    }
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
            let name = self.signal_name(&entry.key)?.to_owned();
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

    fn lock_holder(&self) -> Result<Option<String>, MembershipError> {
        let entry = self.client.get(&self.keys.lock()).map_err(failed)?;
        let Some((session, value)) = entry.and_then(|e| Some((e.session?, e.value))) else { return Ok(None) };
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
