//! `/v1/kv/`.

use super::super::state::Write;
use super::Shared;
use super::request::{Asked, Reply};

const METHODS: &str = "OPTIONS,GET,PUT,DELETE";

pub async fn answer(shared: &Shared, asked: &Asked, key: &str) -> Result<Reply, Reply> {
    if asked.method == "GET" {
        if asked.has("keys") {
            return keys(shared, asked, key).await;
        }
        if asked.has("recurse") {
            return list(shared, asked, key).await;
        }
    }
    let tree = asked.method == "DELETE" && asked.has("recurse");
    if key.is_empty() && !tree {
        return Err(Reply::text(400, "Missing key name"));
    }
    match asked.method.as_str() {
        "GET" => get(shared, asked, key).await,
        "PUT" => put(shared, asked, key),
        "DELETE" => delete(shared, asked, key, tree),
        _ => Err(asked.not_allowed(METHODS)),
    }
}

async fn get(shared: &Shared, asked: &Asked, key: &str) -> Result<Reply, Reply> {
    let raw = asked.has("raw");
    let answer =
        |entry: &crate::Entry| if raw { Reply::raw(entry.value.clone()) } else { Reply::json(&[entry]) };
    let index = |state: &super::State| state.kv.get(key).0;
    shared.read(asked, index, |state| state.kv.get(key).1.map_or_else(|| Reply::empty(404), answer)).await
}

async fn list(shared: &Shared, asked: &Asked, prefix: &str) -> Result<Reply, Reply> {
    let answer = |state: &super::State| {
        let entries: Vec<_> = state.kv.list(prefix).collect();
        if entries.is_empty() { Reply::empty(404) } else { Reply::json(&entries) }
    };
    shared.read(asked, |state| state.kv.list_index(prefix), answer).await
}

async fn keys(shared: &Shared, asked: &Asked, prefix: &str) -> Result<Reply, Reply> {
    let separator = asked.param("separator").unwrap_or_default();
    let answer = |state: &super::State| {
        let keys = state.kv.keys(prefix, separator);
        // Of everything there is always a list, if an empty one.
        if keys.is_empty() && !prefix.is_empty() { Reply::empty(404) } else { Reply::json(&keys) }
    };
    shared.read(asked, |state| state.kv.list_index(prefix), answer).await
}

fn put(shared: &Shared, asked: &Asked, key: &str) -> Result<Reply, Reply> {
    asked.at_most_one(&["acquire", "cas", "release"])?;
    let value: &[u8] = &asked.body;
    let flags = asked.number("flags")?.unwrap_or(0);
    let write = match (asked.param("acquire"), asked.param("release")) {
        (Some(session), _) => Write::Acquire { value, flags, session },
        (_, Some(session)) => Write::Release { value, flags, session },
        _ => Write::Put { value, flags, cas: asked.number("cas")? },
    };
    Ok(Reply::json(&shared.write(|state, now| state.write_key(now, key, write))?))
}

fn delete(shared: &Shared, asked: &Asked, key: &str, tree: bool) -> Result<Reply, Reply> {
    asked.at_most_one(&["cas", "recurse"])?;
    let cas = asked.number("cas")?;
    let done = shared.write(|state, now| {
        if tree {
            state.delete_tree(key);
            return Ok(true);
        }
        state.write_key(now, key, Write::Delete { cas })
    })?;
    Ok(Reply::json(&done))
}
