//! The key-value store: plain, compare-and-set, and under a session's lock.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::http::{Answer, Ask, Indexed, Query, segment};
use crate::{Client, Error};

/// A key with its value and Consul's bookkeeping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The whole key, slashes included.
    pub key: String,
    /// The bytes that were put.
    #[serde(serialize_with = "as_base64_or_null", deserialize_with = "base64_or_null")]
    pub value: Vec<u8>,
    /// A number that clients may use as they like.
    pub flags: u64,
    /// The index at which the key was made. A key that was deleted and made again has a new one.
    pub create_index: u64,
    /// The index of the last change: what a compare-and-set compares. Putting the same value again does not change it.
    pub modify_index: u64,
    /// How often the key was locked. A plain put to the key sets it to 0, so it counts only where nobody does that.
    pub lock_index: u64,
    /// The session that holds the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl Client {
    /// The key, or `None` where there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.get_with(key, &Query::default())?.value)
    }

    /// [`Client::get`], consistent or blocking, with the index.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get_with(&self, key: &str, query: &Query) -> Result<Indexed<Option<Entry>>, Error> {
        let answer = self.send(Ask::get(key_path(key)?).query(query))?;
        if answer.code() == 404 {
            return Ok(Indexed { index: answer.index, value: None });
        }
        let index = answer.index;
        let mut entries: Vec<Entry> = answer.json()?;
        Ok(Indexed { index, value: entries.pop() })
    }

    /// All keys that start with `prefix`, sorted by key. An empty prefix means all.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        Ok(self.list_with(prefix, &Query::default())?.value)
    }

    /// [`Client::list`], consistent or blocking, with the index.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list_with(&self, prefix: &str, query: &Query) -> Result<Indexed<Vec<Entry>>, Error> {
        let answer = self.send(Ask::get(prefix_path(prefix)?).with_flag("recurse").query(query))?;
        if answer.code() == 404 {
            return Ok(Indexed { index: answer.index, value: Vec::new() });
        }
        let mut list: Indexed<Vec<Entry>> = answer.indexed()?;
        list.value.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(list)
    }

    /// The keys that start with `prefix`, sorted. With a `separator` each is cut behind the first one after the
    /// prefix, and what is then the same appears once.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn keys(&self, prefix: &str, separator: Option<&str>) -> Result<Vec<String>, Error> {
        let mut ask = Ask::get(prefix_path(prefix)?).with_flag("keys");
        if let Some(separator) = separator {
            ask = ask.with("separator", separator);
        }
        let answer = self.send(ask)?;
        if answer.code() == 404 {
            return Ok(Vec::new());
        }
        let mut keys: Vec<String> = answer.json()?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Stores these bytes as they are. Overwrites; a lock on the key does not hinder it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 512 KiB by default; see [`Error`].
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let answer = self.send(Ask::put(key_path(key)?, value.as_ref()))?;
        must(answer)
    }

    /// Compare-and-set: stores only where the key's `modify_index` is this one; 0 means that the key must not exist.
    /// Returns whether it did.
    ///
    /// # Errors
    /// See [`Error`]; after one for which [`Error::maybe_done`] holds, read before trying again.
    pub fn put_if(&self, key: &str, value: impl AsRef<[u8]>, modify_index: u64) -> Result<bool, Error> {
        self.send(Ask::put(key_path(key)?, value.as_ref()).with("cas", &modify_index.to_string()))?.json()
    }

    /// Deletes the key, where there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        must(self.send(Ask::delete(key_path(key)?))?)
    }

    /// Deletes the key only where its `modify_index` is this one, which must not be 0. Returns whether the key is
    /// gone: true also where there was none.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn delete_if(&self, key: &str, modify_index: u64) -> Result<bool, Error> {
        self.send(Ask::delete(key_path(key)?).with("cas", &modify_index.to_string()))?.json()
    }

    /// Deletes all keys that start with `prefix`. An empty prefix is refused, because it means everything.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn delete_prefix(&self, prefix: &str) -> Result<(), Error> {
        if prefix.is_empty() {
            return Err(Error::Invalid(
                "an empty prefix would delete every key in Consul; name a prefix".to_owned(),
            ));
        }
        must(self.send(Ask::delete(prefix_path(prefix)?).with_flag("recurse"))?)
    }

    /// Locks the key for the session and stores the value. Returns false where another session holds it, or where a
    /// lock delay has not passed yet. Holding it already, it only stores.
    ///
    /// # Errors
    /// [`Error::Status`] with 500 where the session does not exist; see [`Error`].
    pub fn acquire(&self, key: &str, value: impl AsRef<[u8]>, session: &str) -> Result<bool, Error> {
        self.send(Ask::put(key_path(key)?, value.as_ref()).with("acquire", session))?.json()
    }

    /// Unlocks the key and stores the value. Returns false, and stores nothing, where the session does not hold it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn release(&self, key: &str, value: impl AsRef<[u8]>, session: &str) -> Result<bool, Error> {
        self.send(Ask::put(key_path(key)?, value.as_ref()).with("release", session))?.json()
    }
}

/// The answer of a write that cannot be declined.
fn must(answer: Answer) -> Result<(), Error> {
    let answer = answer.success()?;
    if answer.body.trim_ascii() == b"true" {
        return Ok(());
    }
    Err(answer.unfit("expected true".to_owned()))
}

fn key_path(key: &str) -> Result<String, Error> {
    if key.is_empty() {
        return Err(Error::Invalid("a key in Consul must not be empty".to_owned()));
    }
    prefix_path(key)
}

/// Consul's server redirects paths that it would write in another way, and a redirected PUT is lost: such keys
/// cannot be written over HTTP.
fn prefix_path(key: &str) -> Result<String, Error> {
    let refuse =
        |why: &str| Err(Error::Invalid(format!("Consul's HTTP API cannot hold the key {key:?}: {why}")));
    if key.starts_with('/') || key.contains("//") {
        return refuse("it starts with a slash or has two in a row");
    }
    if key.split('/').any(|part| part == "." || part == "..") {
        return refuse("a part between slashes is `.` or `..`");
    }
    if key.contains(char::is_control) {
        return refuse("it has a control character");
    }
    let segments: Vec<String> = key.split('/').map(segment).collect();
    Ok(format!("/v1/kv/{}", segments.join("/")))
}

fn base64_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(Vec::new()),
        Some(text) => BASE64.decode(text).map_err(serde::de::Error::custom),
    }
}

fn as_base64_or_null<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        [] => serializer.serialize_none(),
        value => serializer.serialize_str(&BASE64.encode(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_escaped_and_keeps_its_slashes() {
        assert_eq!(key_path("a/b c/é?#%").expect("valid"), "/v1/kv/a/b%20c/%C3%A9%3F%23%25");
        assert_eq!(key_path("dir/").expect("valid"), "/v1/kv/dir/");
        assert_eq!(prefix_path("").expect("valid"), "/v1/kv/");
    }

    #[test]
    fn a_key_that_the_server_would_rewrite_is_refused() {
        for key in ["", "/a", "a//b", "a/../b", ".", "a/.", "a\0b"] {
            key_path(key).expect_err("must be refused");
        }
    }

    #[test]
    fn an_entry_without_value_or_session_is_read() {
        let text = r#"{"LockIndex":0,"Key":"k","Flags":7,"Value":null,"CreateIndex":3,"ModifyIndex":4}"#;
        let entry: Entry = serde_json::from_str(text).expect("valid");
        assert_eq!((entry.value.len(), entry.flags, entry.modify_index, entry.session), (0, 7, 4, None));
    }
}
