//! Services: registered with the local agent, kept alive by a TTL check, found through their health.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use crate::http::{Ask, Indexed, Query, go_duration, segment};
use crate::{Client, Error};

/// A service to be registered with the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registration {
    /// Unique on the agent. Registering it again replaces what was there; the check's status stays.
    pub id: String,
    /// What consumers look for.
    pub name: String,
    /// Where it listens; empty means the node's own address.
    pub address: String,
    /// The port at that address.
    pub port: u16,
    /// Labels.
    pub tags: Vec<String>,
    /// Key and value pairs: keys of letters, digits, `-` and `_`.
    pub meta: BTreeMap<String, String>,
    /// The check that the service itself keeps passing.
    pub check: Option<TtlCheck>,
}

/// A check that turns critical unless it is updated in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtlCheck {
    /// Unique on the agent.
    pub id: String,
    /// For people.
    pub name: String,
    /// How long an update counts. Below 10 s a busy machine makes it flap.
    pub ttl: Duration,
    /// The status until the first update.
    pub status: CheckStatus,
    /// After so long in critical the agent removes the service. Consul takes a minute at least, looks every 30 s, and
    /// starts to count at the first update to critical or the first end of the TTL, not at the registration.
    pub deregister_critical_service_after: Option<Duration>,
}

/// A check's status, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// All is well.
    Passing,
    /// Serving, with a complaint.
    Warning,
    /// Not serving, or not heard of in time.
    Critical,
}

impl CheckStatus {
    /// The word that Consul uses.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Passing => "passing",
            CheckStatus::Warning => "warning",
            CheckStatus::Critical => "critical",
        }
    }
}

/// The outcome of a TTL update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlUpdate {
    /// The agent took it.
    Taken,
    /// The agent does not know the check, as after its restart: register the service again.
    Forgotten,
}

/// A service as the agent or the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Unique on its agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// What consumers look for.
    #[serde(rename = "Service")]
    pub name: String,
    /// Where it listens; empty means its node's address.
    pub address: String,
    /// The port at that address; 0 also for what is no port, which Consul does not forbid.
    #[serde(deserialize_with = "port_or_zero")]
    pub port: u16,
    /// Labels.
    #[serde(deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// Key and value pairs.
    #[serde(deserialize_with = "null_is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// A health check, of a service or of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// Unique on its agent.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// For people.
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// The note of the last update. The catalog shows a new note under an unchanged status up to 5 minutes late.
    pub output: String,
    /// The service it belongs to; empty for the node's own checks.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
}

/// An instance of a service with its node and checks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance {
    /// The node whose agent it is registered with.
    pub node: Node,
    /// The service itself.
    pub service: Service,
    /// Its checks and its node's.
    pub checks: Vec<Check>,
}

impl Instance {
    /// The worst of all checks.
    pub fn status(&self) -> CheckStatus {
        self.checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Passing)
    }

    /// Where it listens: its own address, or else the node's.
    pub fn address(&self) -> &str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }
}

/// A machine with an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its name.
    #[serde(rename = "Node")]
    pub name: String,
    /// Its address.
    pub address: String,
}

/// The agent that answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentInfo {
    /// The name of its node.
    pub node_name: String,
    /// Its data centre.
    pub datacenter: String,
    /// Consul's version.
    pub version: String,
}

impl Client {
    /// Registers a service with the agent, or replaces it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn register(&self, service: &Registration) -> Result<(), Error> {
        let mut body = json!({
            "ID": service.id,
            "Name": service.name,
            "Address": service.address,
            "Port": service.port,
            "Tags": service.tags,
            "Meta": service.meta,
        });
        if let Some(check) = &service.check {
            body["Check"] = json!({
                "CheckID": check.id,
                "Name": check.name,
                "TTL": go_duration(check.ttl),
                "Status": check.status.as_str(),
            });
            if let Some(after) = check.deregister_critical_service_after {
                body["Check"]["DeregisterCriticalServiceAfter"] = json!(go_duration(after));
            }
        }
        let body = body.to_string();
        // Checks of an earlier registration that this one does not name would otherwise stay.
        let ask = Ask::put("/v1/agent/service/register".to_owned(), body.as_bytes());
        self.send(ask.with_flag("replace-existing-checks"))?.success()?;
        Ok(())
    }

    /// Removes a service and its checks from the agent. One that is gone already is fine.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn deregister(&self, id: &str) -> Result<(), Error> {
        let answer = self.send(Ask::put(format!("/v1/agent/service/deregister/{}", segment(id)), b""))?;
        if !answer.is_unknown("Unknown service") {
            answer.success()?;
        }
        Ok(())
    }

    /// Tells the agent how a TTL check stands, and starts its TTL anew.
    ///
    /// # Errors
    /// See [`Error`]; an agent that forgot the check is an outcome, not an error.
    pub fn update_check(&self, id: &str, status: CheckStatus, note: &str) -> Result<TtlUpdate, Error> {
        let verb = match status {
            CheckStatus::Passing => "pass",
            CheckStatus::Warning => "warn",
            CheckStatus::Critical => "fail",
        };
        let ask = Ask::put(format!("/v1/agent/check/{verb}/{}", segment(id)), b"").with("note", note);
        let answer = self.send(ask)?;
        if answer.is_unknown("does not have associated TTL") || answer.is_unknown("Unknown check") {
            return Ok(TtlUpdate::Forgotten);
        }
        answer.success()?;
        Ok(TtlUpdate::Taken)
    }

    /// The services registered with this agent, by id.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn agent_services(&self) -> Result<BTreeMap<String, Service>, Error> {
        self.send(Ask::get("/v1/agent/services".to_owned()))?.json()
    }

    /// All instances of a service on all nodes, or only those whose every check passes.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn instances(&self, service: &str, passing_only: bool) -> Result<Vec<Instance>, Error> {
        Ok(self.instances_with(service, passing_only, &Query::default())?.value)
    }

    /// [`Client::instances`], consistent or blocking, with the index. Sorted by service id, then node.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn instances_with(
        &self,
        service: &str,
        passing_only: bool,
        query: &Query,
    ) -> Result<Indexed<Vec<Instance>>, Error> {
        let mut ask = Ask::get(format!("/v1/health/service/{}", segment(service))).query(query);
        if passing_only {
            ask = ask.with_flag("passing");
        }
        let mut found: Indexed<Vec<Instance>> = self.send(ask)?.indexed()?;
        found
            .value
            .sort_unstable_by(|a, b| (&a.service.id, &a.node.name).cmp(&(&b.service.id, &b.node.name)));
        Ok(found)
    }

    /// The names of all services in the catalog, with their tags.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn catalog_services(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        self.send(Ask::get("/v1/catalog/services".to_owned()))?.json()
    }

    /// The address of the leading server, or `None` while there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn leader(&self) -> Result<Option<String>, Error> {
        let leader: String = self.send(Ask::get("/v1/status/leader".to_owned()))?.json()?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    /// The agent's node, data centre and version.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn agent_info(&self) -> Result<AgentInfo, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Myself {
            config: AgentInfo,
        }
        let myself: Myself = self.send(Ask::get("/v1/agent/self".to_owned()))?.json()?;
        Ok(myself.config)
    }
}

/// Go writes an empty list or map as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn port_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    Ok(u16::try_from(i64::deserialize(deserializer)?).unwrap_or(0))
}
