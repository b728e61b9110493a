//! `/v1/agent/`, `/v1/catalog/`, `/v1/health/` and `/v1/status/`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::go;
use super::super::state::{CheckRow, NewCheck, NewService, ServiceRow, State};
use super::Shared;
use super::request::{Asked, Reply};
use crate::CheckStatus;

/// The version of Consul whose behaviour this agent follows.
const VERSION: &str = "1.8.7";
/// The server's own service, which Consul always lists.
const CONSUL: &str = "consul";

/// Registrations and TTL updates: `area` is `service` or `check`.
pub fn change(shared: &Shared, asked: &Asked, area: &str, verb: &str, id: &str) -> Result<Reply, Reply> {
    let status = match (area, verb) {
        ("service", "register") if id.is_empty() => {
            asked.must_be("PUT")?;
            let service = new_service(asked)?;
            shared.write(|state, now| state.register(now, service))?;
            return Ok(Reply::empty(200));
        }
        ("service", "deregister") if !id.is_empty() => {
            asked.must_be("PUT")?;
            shared.write(|state, _| {
                state.deregister(id);
                Ok(())
            })?;
            return Ok(Reply::empty(200));
        }
        ("check", "pass") => CheckStatus::Passing,
        ("check", "warn") => CheckStatus::Warning,
        ("check", "fail") => CheckStatus::Critical,
        ("check", "update") => {
            asked.must_be("PUT")?;
            let update: Update = asked.json()?;
            let Some(status) = check_status(&update.status) else {
                return Err(Reply::text(400, format!("Invalid check status: '{}'", update.status)));
            };
            return ttl_update(shared, id, status, &update.output);
        }
        _ => return Err(asked.unknown()),
    };
    asked.must_be("PUT")?;
    ttl_update(shared, id, status, asked.param("note").unwrap_or_default())
}

fn ttl_update(shared: &Shared, id: &str, status: CheckStatus, output: &str) -> Result<Reply, Reply> {
    match shared.write(|state, now| Ok(state.update_check(now, id, status, output)))? {
        true => Ok(Reply::empty(200)),
        false => Err(Reply::text(500, format!("CheckID {id:?} does not have associated TTL"))),
    }
}

/// Reads. `rest` is the path behind the area.
pub async fn answer(shared: &Shared, asked: &Asked, area: &str, rest: &str) -> Result<Reply, Reply> {
    let at = format!("127.0.0.1:{}", shared.addr.port());
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

fn check_status(text: &str) -> Option<CheckStatus> {
    [CheckStatus::Passing, CheckStatus::Warning, CheckStatus::Critical]
        .into_iter()
        .find(|s| s.as_str() == text)
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    status: String,
    #[serde(default)]
    output: String,
}

/// A registration as it is sent. What is not here is refused by name, because a service without the check or the
/// weight that it asked for would be worse than none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceBody {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    check: Option<Map<String, Value>>,
    #[serde(default)]
    checks: Vec<Map<String, Value>>,
    /// The default, spelt out.
    #[serde(default, rename = "enabletagoverride")]
    _enable_tag_override: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    #[serde(default, alias = "id")]
    checkid: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    notes: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    ttl: String,
    #[serde(default)]
    deregistercriticalserviceafter: String,
}

fn new_service(asked: &Asked) -> Result<NewService, Reply> {
    let body: ServiceBody = asked.json()?;
    if body.name.is_empty() {
        return Err(Reply::text(400, "Missing service name"));
    }
    if let Some((key, value)) = body.meta.iter().find(|(key, _)| !meta_key(key)) {
        let message = format!(
            "Invalid Service Meta: Couldn't load metadata pair ('{key}', '{value}'): Key contains invalid characters"
        );
        return Err(Reply::text(400, message));
    }
    let id = if body.id.is_empty() { body.name.clone() } else { body.id };
    let bodies: Vec<_> = body.checks.into_iter().chain(body.check).collect();
    let mut checks = Vec::new();
    for (number, check) in bodies.iter().enumerate() {
        let default_id =
            if bodies.len() == 1 { format!("service:{id}") } else { format!("service:{id}:{}", number + 1) };
        checks.push(new_check(check.clone(), &body.name, default_id)?);
    }
    Ok(NewService {
        id,
        name: body.name,
        tags: body.tags,
        address: body.address,
        port: body.port,
        meta: body.meta,
        checks,
        replace_checks: asked.param("replace-existing-checks").is_some_and(|value| value != "false"),
    })
}

fn new_check(check: Map<String, Value>, service: &str, default_id: String) -> Result<NewCheck, Reply> {
    let bad = |why: String| Reply::text(400, why);
    let check: CheckBody = serde_json::from_value(Value::Object(go::fields(check))).map_err(|error| {
        bad(format!("Request decode failed: {error} (the embedded agent knows TTL checks only)"))
    })?;
    let duration = |text: &str| match text {
        "" => Ok(Duration::ZERO),
        _ => go::duration(text)
            .ok_or_else(|| bad(format!("Request decode failed: time: invalid duration {text:?}"))),
    };
    let ttl = duration(&check.ttl)?;
    if ttl.is_zero() {
        return Err(bad("Invalid check: TTL must be > 0 for TTL checks".to_owned()));
    }
    let status =
        if check.status.is_empty() { Some(CheckStatus::Critical) } else { check_status(&check.status) };
    let after = duration(&check.deregistercriticalserviceafter)?;
    Ok(NewCheck {
        id: if check.checkid.is_empty() { default_id } else { check.checkid },
        name: if check.name.is_empty() { format!("Service '{service}' check") } else { check.name },
        notes: check.notes,
        status: status
            .ok_or_else(|| bad("Status for checks must 'passing', 'warning', 'critical'".to_owned()))?,
        ttl,
        deregister_after: Some(after).filter(|after| !after.is_zero()),
    })
}

fn meta_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
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
    let addresses =
        json!({ "lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "127.0.0.1", "wan_ipv4": "127.0.0.1" });
    json!({
        "ID": shared.node_id,
        "Node": shared.node,
        "Address": "127.0.0.1",
        "Datacenter": "dc1",
        "TaggedAddresses": addresses,
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
        "Addr": "127.0.0.1",
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
