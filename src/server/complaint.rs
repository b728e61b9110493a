//! A complaint about what stands in Consul: said when that is new, and then once a minute while it stands.
//!
//! Whoever meets it again and again, as an orchestrator does that would write a ring, is not to fill the log with it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the same is not said again.
const AGAIN: Duration = Duration::from_secs(60);

/// What was said last, shared by all in a process who read the same key.
#[derive(Clone, Debug, Default)]
pub struct Complaint(Arc<Mutex<Option<Said>>>);

#[derive(Debug)]
struct Said {
    /// The hash of the text and of the content that it is about.
    about: u64,
    text: String,
    at: Instant,
}

impl Complaint {
    /// Says it, unless it was said of this content within the last minute.
    pub fn say(&self, content: &[u8], text: &str) {
        if is_new(&mut self.said(), content, text, Instant::now()) {
            tracing::error!("{text}");
        }
    }

    /// The content is as it should be: the next complaint is a new one.
    pub fn end(&self) {
        *self.said() = None;
    }

    /// Says it once more, where it still stands after a minute. Call it now and then.
    pub fn remind(&self) {
        let now = Instant::now();
        if let Some(said) = self.said().as_mut().filter(|said| now.duration_since(said.at) >= AGAIN) {
            said.at = now;
            tracing::error!("still so: {}", said.text);
        }
    }

    fn said(&self) -> MutexGuard<'_, Option<Said>> {
        // Nothing can be half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands where the ring should be is none.
pub fn no_use(why: &impl std::fmt::Display) -> String {
    format!("the ring in Consul is of no use, and is left as it is: {why}")
}

fn is_new(said: &mut Option<Said>, content: &[u8], text: &str, now: Instant) -> bool {
    let mut hasher = DefaultHasher::new();
    (content, text).hash(&mut hasher);
    let about = hasher.finish();
    let known = |said: &Said| said.about == about && now.duration_since(said.at) < AGAIN;
    if said.as_ref().is_some_and(known) {
        return false;
    }
    *said = Some(Said { about, text: text.to_owned(), at: now });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_what_is_new_at_once() {
        let mut said = None;
        let began = Instant::now();
        let mut tell = |content: &str, s| {
            is_new(&mut said, content.as_bytes(), "it is no ring", began + Duration::from_secs(s))
        };
        assert!(tell("rubbish", 0));
        assert!((1..60).all(|s| !tell("rubbish", s)));
        assert!(tell("rubbish", 60) && !tell("rubbish", 61));
        assert!(tell("other rubbish", 62) && !tell("other rubbish", 63));
        assert!(tell("rubbish", 64));
    }

    #[test]
    fn what_was_well_meanwhile_is_complained_of_anew() {
        let complaint = Complaint::default();
        complaint.say(b"rubbish", "it is no ring");
        assert!(!is_new(&mut complaint.said(), b"rubbish", "it is no ring", Instant::now()));
        complaint.clone().end();
        assert!(is_new(&mut complaint.said(), b"rubbish", "it is no ring", Instant::now()));
    }
}
