//! `/v1/session/`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::go;
use super::super::state::{SessionRow, Sessions};
use super::Shared;
use super::request::{Asked, Reply};
use crate::{Behavior, SESSION_TTL_MIN};

/// Consul takes a lock delay as text, in seconds, or in nanoseconds: numbers below this are seconds.
const LOCK_DELAY_SECONDS_BELOW: f64 = 1000.0;
const LOCK_DELAY_DEFAULT: Duration = Duration::from_secs(15);
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

pub async fn answer(shared: &Shared, asked: &Asked, verb: &str, id: &str) -> Result<Reply, Reply> {
    if matches!(verb, "info" | "renew" | "destroy") && id.is_empty() {
        return Err(Reply::text(400, "Missing session"));
    }
    match verb {
        "create" => create(shared, asked),
        "renew" => renew(shared, asked, id),
        "destroy" => {
            asked.must_be("PUT")?;
            shared.write(|state, now| {
                Sessions::check_id(id)?;
                state.destroy_session(now, id);
                Ok(())
            })?;
            Ok(Reply::json(&true))
        }
        "info" | "list" | "node" => list(shared, asked, verb, id).await,
        _ => Err(asked.unknown()),
    }
}

async fn list(shared: &Shared, asked: &Asked, verb: &str, id: &str) -> Result<Reply, Reply> {
    asked.must_be("GET")?;
    if verb == "info" {
        Sessions::check_id(id)?;
    }
    let wanted = |session: &&SessionRow| match verb {
        "info" => session.id == id,
        "node" => shared.node == id,
        _ => true,
    };
    let answer = |state: &super::State| {
        let sessions = state.sessions.all().filter(wanted);
        Reply::json(&sessions.map(|session| render(shared, session)).collect::<Vec<_>>())
    };
    shared.read(asked, |state| state.sessions.index(), answer).await
}

fn renew(shared: &Shared, asked: &Asked, id: &str) -> Result<Reply, Reply> {
    asked.must_be("PUT")?;
    let renewed = shared
        .write(|state, now| Ok(state.sessions.renew(now, id)?.map(|session| render(shared, session))))?;
    match renewed {
        Some(session) => Ok(Reply::json(&[session])),
        None => Err(Reply::text(404, format!("Session id '{id}' not found"))),
    }
}

/// What of Consul's body matters here. Like Consul, we pass over what we do not know.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Body {
    #[serde(default)]
    name: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    ttl: String,
    #[serde(default)]
    behavior: String,
    lockdelay: Option<Value>,
    checks: Option<Vec<String>>,
    nodechecks: Option<Vec<String>>,
    servicechecks: Option<Vec<Value>>,
}

fn create(shared: &Shared, asked: &Asked) -> Result<Reply, Reply> {
    asked.must_be("PUT")?;
    let body: Body = asked.json()?;
    if !body.node.is_empty() && body.node != shared.node {
        return Err(Reply::text(500, "Missing node registration"));
    }
    let mut checks = body.checks.iter().chain(&body.nodechecks).flatten();
    if let Some(check) = checks.find(|check| *check != "serfHealth") {
        return Err(Reply::text(500, format!("Missing check '{check}' registration")));
    }
    if body.servicechecks.is_some_and(|checks| !checks.is_empty()) {
        return Err(Reply::text(501, "the embedded Consul agent does not know ServiceChecks of sessions"));
    }
    let behavior = match body.behavior.as_str() {
        "" | "release" => Behavior::Release,
        "delete" => Behavior::Delete,
        other => return Err(Reply::text(500, format!("Invalid Behavior setting '{other}'"))),
    };
    let session = SessionRow {
        id: shared.uuid(),
        name: body.name,
        lock_delay_ms: u64::try_from(lock_delay(body.lockdelay)?.as_millis()).unwrap_or(u64::MAX),
        behavior,
        ttl_ms: ttl(&body.ttl)?.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        ttl_text: body.ttl,
        index: 0,
    };
    let id = session.id.clone();
    shared.write(|state, now| state.create_session(now, session))?;
    Ok(Reply::json(&json!({ "ID": id })))
}

fn ttl(text: &str) -> Result<Option<Duration>, Reply> {
    if text.is_empty() {
        return Ok(None);
    }
    let Some(ttl) = go::duration(text) else {
        return Err(Reply::text(
            500,
            format!("Session TTL '{text}' invalid: time: invalid duration {text:?}"),
        ));
    };
    if !ttl.is_zero() && !(SESSION_TTL_MIN..=TTL_MAX).contains(&ttl) {
        let message = format!("Invalid Session TTL '{}', must be between [10s=24h0m0s]", ttl.as_nanos());
        return Err(Reply::text(500, message));
    }
    Ok(Some(ttl).filter(|ttl| !ttl.is_zero()))
}

fn lock_delay(value: Option<Value>) -> Result<Duration, Reply> {
    let bad =
        |what: String| Reply::text(400, format!("Request decode failed: time: invalid duration {what}"));
    match value {
        None => Ok(LOCK_DELAY_DEFAULT),
        Some(Value::String(text)) => go::duration(&text).ok_or_else(|| bad(format!("{text:?}"))),
        Some(Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(0.0).max(0.0);
            let seconds = if number < LOCK_DELAY_SECONDS_BELOW { number } else { number / 1e9 };
            Duration::try_from_secs_f64(seconds).map_err(|_| bad(number.to_string()))
        }
        Some(other) => Err(bad(other.to_string())),
    }
}

fn render(shared: &Shared, session: &SessionRow) -> Value {
    json!({
        "ID": session.id,
        "Name": session.name,
        "Node": shared.node,
        "LockDelay": session.lock_delay_ms.saturating_mul(1_000_000),
        "Behavior": session.behavior,
        "TTL": session.ttl_text,
        "NodeChecks": ["serfHealth"],
        "ServiceChecks": null,
        "CreateIndex": session.index,
        "ModifyIndex": session.index,
    })
}
