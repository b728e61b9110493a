//! Changes under `/v1/agent/`: registrations and TTL updates.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::go;
use super::super::state::{NewCheck, NewService};
use super::Shared;
use super::request::{Asked, Reply};
use crate::CheckStatus;

/// `area` is `service` or `check`.
pub fn answer(shared: &Shared, asked: &Asked, area: &str, verb: &str, id: &str) -> Result<Reply, Reply> {
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
