//! Clients that invent: contexts of names that never wrote and counters beyond all sense, on keys of their own and on
//! those of others. Whatever they write, nobody else may lose or be shown anything by it.

use serde_json::Value as Json;

use crate::cluster::Cluster;

/// Keys that are theirs alone; no history is kept of them.
pub const OWN: &str = "h-";
/// How many they are.
const OWN_KEYS: u64 = 4;
/// Names of actors that they remember.
const NAMES_MAX: usize = 64;
/// The largest counter that a context may have.
const COUNTER_MAX: u64 = (1 << 53) - 1;

/// All of them.
pub fn own_keys() -> impl Iterator<Item = String> {
    (0..OWN_KEYS).map(|n| format!("{OWN}{n}"))
}

impl Cluster {
    /// A request that is meant badly.
    pub(crate) fn something_hostile(&mut self) -> String {
        let own = format!("{OWN}{}", self.random.below(OWN_KEYS));
        match self.random.below(10) {
            // A delete that covers nothing: a tombstone beside what is there.
            0..4 => {
                let writer = self.random.below(self.settings.workers as u64);
                let key = format!("c{writer}-{}", self.random.below(self.settings.keys as u64));
                let context = self.invented_context();
                format!(r#"{{"op":"DELETE","key":"{key}","context":{context}}}"#)
            }
            4..7 => {
                let at = self.random.below(NAMES_MAX as u64) as usize;
                let context = match self.actors.get(at).cloned() {
                    Some(actor) if self.random.chance(1, 2) => format!(r#"{{"{actor}":{COUNTER_MAX}}}"#),
                    _ => self.invented_context(),
                };
                format!(r#"{{"op":"PUT","key":"{own}","value":1,"context":{context}}}"#)
            }
            7 => format!(r#"{{"op":"PUT","key":"{own}","value":2}}"#),
            _ => format!(r#"{{"op":"GET_ONE","key":"{own}","want":["context"]}}"#),
        }
    }

    fn invented_context(&mut self) -> String {
        let names = (0..self.random.below(30)).map(|_| {
            let counter = self.random.below(COUNTER_MAX);
            if self.random.chance(1, 2) {
                format!(r#""10.0.0.{}":{counter}"#, self.random.below(2_000))
            } else {
                let (node, id) = (self.random.below(9), self.random.bits());
                format!(r#""node-{node}.{id:032x}":{counter}"#)
            }
        });
        format!("{{{}}}", names.collect::<Vec<_>>().join(","))
    }

    /// Remembers the names in a reply's context.
    pub(crate) fn learn_actors(&mut self, reply: Option<&Json>) {
        let context = reply.and_then(|r| r["context"].as_object());
        let room = NAMES_MAX.saturating_sub(self.actors.len());
        let names = context.into_iter().flatten().map(|(name, _)| name.clone());
        self.actors.extend(names.filter(|name| name.starts_with("node-")).take(room));
    }
}
