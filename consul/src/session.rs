//! Sessions: leases that locks hang on.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use crate::http::{Ask, go_duration, segment};
use crate::{Client, Error};

/// The shortest TTL that Consul grants a session.
pub const SESSION_TTL_MIN: Duration = Duration::from_secs(10);

/// What happens to a session's locks when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// The keys stay, unlocked.
    #[default]
    Release,
    /// The keys are deleted.
    Delete,
}

/// A session to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// For people who list sessions.
    pub name: String,
    /// How long it lives without a renewal: 10 s to 24 h. Consul may take up to twice that to end it. `None`: as long
    /// as the agent's node is healthy.
    pub ttl: Option<Duration>,
    /// How long nobody can lock what this session held after it ended without releasing: 0 to 60 s. It gives a former
    /// holder time to notice.
    pub lock_delay: Duration,
    /// What happens to its locks when it ends.
    pub behavior: Behavior,
}

impl Default for NewSession {
    fn default() -> Self {
        NewSession {
            name: String::new(),
            ttl: None,
            lock_delay: Duration::from_secs(15),
            behavior: Behavior::default(),
        }
    }
}

/// A session that exists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its id, a UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name it was given.
    pub name: String,
    /// The node whose health it depends on.
    pub node: String,
    /// See [`NewSession::lock_delay`].
    #[serde(deserialize_with = "nanoseconds")]
    pub lock_delay: Duration,
    /// See [`NewSession::behavior`].
    pub behavior: Behavior,
    /// As Consul writes it (`10s`), empty without one.
    #[serde(rename = "TTL")]
    pub ttl: String,
    /// The index at which it was made.
    pub create_index: u64,
}

/// The outcome of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It lives on for its TTL.
    Renewed(Session),
    /// It ended, and its locks with it. Make a new one.
    Gone,
}

impl Client {
    /// Makes a session on the agent's node and returns its id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a TTL that Consul would refuse; [`Error::Status`] with 500 also where the node's own
    /// health check is critical.
    pub fn create_session(&self, new: &NewSession) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: String,
        }
        let day = Duration::from_secs(24 * 3600);
        if let Some(ttl) = new.ttl.filter(|ttl| !(SESSION_TTL_MIN..=day).contains(ttl)) {
            return Err(Error::Invalid(format!("a session's TTL is 10 s to 24 h in Consul, not {ttl:?}")));
        }
        let body = json!({
            "Name": new.name,
            "TTL": new.ttl.map(go_duration).unwrap_or_default(),
            "LockDelay": go_duration(new.lock_delay),
            "Behavior": match new.behavior { Behavior::Release => "release", Behavior::Delete => "delete" },
        });
        let created: Created =
            self.send(Ask::put("/v1/session/create".to_owned(), body.to_string().as_bytes()))?.json()?;
        Ok(created.id)
    }

    /// Starts the session's TTL anew.
    ///
    /// # Errors
    /// See [`Error`]; a session that is gone is an outcome, not an error.
    pub fn renew_session(&self, id: &str) -> Result<Renewal, Error> {
        let answer = self.send(Ask::put(format!("/v1/session/renew/{}", segment(id)), b""))?;
        if answer.code() == 404 {
            return Ok(Renewal::Gone);
        }
        let mut sessions: Vec<Session> = answer.json()?;
        Ok(sessions.pop().map_or(Renewal::Gone, Renewal::Renewed))
    }

    /// Ends the session; its locks are released or deleted, its lock delay starts. One that is gone already is fine.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn destroy_session(&self, id: &str) -> Result<(), Error> {
        self.send(Ask::put(format!("/v1/session/destroy/{}", segment(id)), b""))?.success()?;
        Ok(())
    }

    /// The session, or `None` where it is gone.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn session(&self, id: &str) -> Result<Option<Session>, Error> {
        let mut sessions: Vec<Session> =
            self.send(Ask::get(format!("/v1/session/info/{}", segment(id))))?.json()?;
        Ok(sessions.pop())
    }
}

fn nanoseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_nanos(u64::deserialize(deserializer)?))
}
