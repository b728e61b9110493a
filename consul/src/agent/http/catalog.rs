//! Reads under `/v1/agent/`, `/v1/catalog/`, `/v1/health/` and `/v1/status/`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::super::state::{CheckRow, ServiceRow, State};
use super::Shared;
use super::request::{Asked, Reply};
use crate::CheckStatus;

/// The version of Consul whose behaviour this agent follows.
const VERSION: &str = "1.8.7";
/// The server's own service, which Consul always lists.
const CONSUL: &str = "consul";

/// `rest` is the path behind the area.
pub async fn answer(shared: &Shared, asked: &Asked, area: &str, rest: &str) -> Result<Reply, Reply> {
    let at = SocketAddr::new(shared.ip(), shared.addr.port()).to_string();
    let (what, name) = rest.split_once('/').unwrap_or((rest, ""));
    if matches!((area, what), ("health", "service" | "checks" | "state" | "node") | ("catalog", "service"))
        && name.is_empty()
    {
        return Err(Reply::text(
            400,
            format!("Missing {} name", if what == "checks" { "service" } else { what }),
        ));
    }
    let known = matches!(
        (area, what),
        ("status", "leader" | "peers")
            | ("agent", "self" | "members" | "services" | "checks")
            | ("catalog", "datacenters" | "nodes" | "services" | "service")
            | ("health", "service" | "checks" | "state" | "node")
    );
    if !known {
        return Err(asked.unknown());
    }
    asked.must_be("GET")?;
    asked.refuse_params(&["filter", "node-meta"])?;
    match (area, what) {
        ("status", "leader") => Ok(Reply::json(&at)),
        ("status", _) => Ok(Reply::json(&[at])),
        ("agent", "self") => Ok(Reply::json(&myself(shared))),
        ("agent", "members") => Ok(Reply::json(&[member(shared)])),
        ("agent", "services") => shared.look(|state| Reply::json(&agent_services(state))),
        ("agent", _) => shared.look(|state| Reply::json(&agent_checks(shared, state))),
        ("catalog", "datacenters") => Ok(Reply::json(&["dc1"])),
        ("catalog", "nodes") => shared.read(asked, |_| 1, |_| Reply::json(&[node(shared, "Meta")])).await,
        ("catalog", "services") => {
            shared.read(asked, |state| state.catalog.indexes().0, |state| Reply::json(&names(state))).await
        }
        ("catalog", _) => {
            let answer = |state: &State| Reply::json(&catalog_service(shared, state, asked, name));
            shared.read(asked, |state| state.catalog.name_index(name), answer).await
        }
        ("health", "service") => {
            let passing = passing_only(asked)?;
            let answer = |state: &State| Reply::json(&health_service(shared, state, asked, name, passing));
            shared.read(asked, |state| state.catalog.name_index(name), answer).await
        }
        _ => {
            let answer = |state: &State| Reply::json(&checks(shared, state, what, name));
            shared.read(asked, |state| state.catalog.indexes().1, answer).await
        }
    }
}

fn passing_only(asked: &Asked) -> Result<bool, Reply> {
    match asked.param("passing") {
        None => Ok(false),
        Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) => Err(Reply::text(400, "Invalid value for ?passing")),
    }
}

/// The services that are asked for by name and, where given, by all of their tags.
fn wanted<'a>(state: &'a State, asked: &'a Asked, name: &'a str) -> impl Iterator<Item = &'a ServiceRow> {
    let tagged = |service: &&ServiceRow| asked.all("tag").all(|tag| service.tags.iter().any(|t| t == tag));
    state.catalog.services().filter(move |service| service.name == name).filter(tagged)
}

fn names(state: &State) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut names = BTreeMap::from([(CONSUL, BTreeSet::new())]);
    for service in state.catalog.services() {
        names.entry(service.name.as_str()).or_default().extend(service.tags.iter().map(String::as_str));
    }
    names
}

/// Consul's own service: this very agent.
fn consul(shared: &Shared) -> ServiceRow {
    ServiceRow {
        id: CONSUL.to_owned(),
        name: CONSUL.to_owned(),
        tags: Vec::new(),
        address: String::new(),
        port: shared.addr.port(),
        meta: BTreeMap::new(),
        create_index: 1,
        modify_index: 1,
    }
}

fn node(shared: &Shared, meta: &str) -> Value {
    let ip = shared.ip();
    json!({
        "ID": shared.node_id,
        "Node": shared.node,
        "Address": ip,
        "Datacenter": "dc1",
        "TaggedAddresses": { "lan": ip, "wan": ip },
        meta: { "consul-network-segment": "" },
        "CreateIndex": 1,
        "ModifyIndex": 1,
    })
}

fn catalog_service(shared: &Shared, state: &State, asked: &Asked, name: &str) -> Vec<Value> {
    let own = (name == CONSUL).then(|| consul(shared));
    let services = wanted(state, asked, name).cloned().chain(own);
    let render = |service: ServiceRow| {
        let mut all = node(shared, "NodeMeta");
        let fields = json!({
            "ServiceKind": "",
            "ServiceID": service.id,
            "ServiceName": service.name,
            "ServiceTags": service.tags,
            "ServiceAddress": service.address,
            "ServiceWeights": { "Passing": 1, "Warning": 1 },
            "ServiceMeta": service.meta,
            "ServicePort": service.port,
            "ServiceEnableTagOverride": false,
            "CreateIndex": service.create_index,
            "ModifyIndex": service.modify_index,
        });
        if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
            all.extend(fields);
        }
        all
    };
    services.map(render).collect()
}

fn health_service(shared: &Shared, state: &State, asked: &Asked, name: &str, passing: bool) -> Vec<Value> {
    let own = (name == CONSUL).then(|| consul(shared));
    let services = wanted(state, asked, name).cloned().chain(own);
    let mut found = Vec::new();
    for service in services {
        let of = |check: &&CheckRow| check.service_id == service.id;
        let checks: Vec<&CheckRow> = state.catalog.checks().filter(of).collect();
        if passing && checks.iter().any(|check| check.status != CheckStatus::Passing) {
            continue;
        }
        let checks = checks.into_iter().map(|check| render_check(shared, check));
        let mut instance = render_service(&service);
        instance["CreateIndex"] = json!(service.create_index);
        instance["ModifyIndex"] = json!(service.modify_index);
        found.push(json!({
            "Node": node(shared, "Meta"),
            "Service": instance,
            "Checks": std::iter::once(serf(shared)).chain(checks).collect::<Vec<_>>(),
        }));
    }
    found
}

/// `health/state/<status>`, `health/checks/<service>`, `health/node/<node>`.
fn checks(shared: &Shared, state: &State, by: &str, name: &str) -> Vec<Value> {
    let wanted = |status: CheckStatus, service: &str| match by {
        "state" => name == "any" || name == status.as_str(),
        "checks" => name == service,
        _ => name == shared.node,
    };
    let own = wanted(CheckStatus::Passing, "").then(|| serf(shared));
    let found = state.catalog.checks().filter(|check| wanted(check.status, &check.service_name));
    own.into_iter().chain(found.map(|check| render_check(shared, check))).collect()
}

fn agent_services(state: &State) -> BTreeMap<&str, Value> {
    state.catalog.services().map(|service| (service.id.as_str(), render_service(service))).collect()
}

fn agent_checks(shared: &Shared, state: &State) -> BTreeMap<String, Value> {
    state.catalog.agent_checks().map(|check| (check.id.clone(), render_check(shared, &check))).collect()
}

fn render_service(service: &ServiceRow) -> Value {
    json!({
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Meta": service.meta,
        "Port": service.port,
        "Address": service.address,
        "Weights": { "Passing": 1, "Warning": 1 },
        "EnableTagOverride": false,
    })
}

fn render_check(shared: &Shared, check: &CheckRow) -> Value {
    json!({
        "Node": shared.node,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": check.service_tags,
        "Type": "ttl",
        "Definition": {},
        "CreateIndex": check.create_index,
        "ModifyIndex": check.modify_index,
    })
}

/// The health of the node, which is that of this process.
fn serf(shared: &Shared) -> Value {
    json!({
        "Node": shared.node,
        "CheckID": "serfHealth",
        "Name": "Serf Health Status",
        "Status": "passing",
        "Notes": "",
        "Output": "Agent alive and reachable",
        "ServiceID": "",
        "ServiceName": "",
        "ServiceTags": [],
        "Type": "",
        "Definition": {},
        "CreateIndex": 1,
        "ModifyIndex": 1,
    })
}

fn myself(shared: &Shared) -> Value {
    json!({
        "Config": {
            "Datacenter": "dc1",
            "NodeName": shared.node,
            "NodeID": shared.node_id,
            "Revision": "embedded",
            "Server": true,
            "Version": VERSION,
        },
        "DebugConfig": {},
        "Coord": {},
        "Member": member(shared),
        "Stats": {},
        "Meta": { "consul-network-segment": "" },
    })
}

fn member(shared: &Shared) -> Value {
    json!({
        "Name": shared.node,
        "Addr": shared.ip(),
        "Port": shared.addr.port(),
        "Tags": {
            "role": "consul",
            "dc": "dc1",
            "id": shared.node_id,
            "build": format!("{VERSION}:embedded"),
            "port": shared.addr.port().to_string(),
            "segment": "",
            "vsn": "2",
        },
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}
