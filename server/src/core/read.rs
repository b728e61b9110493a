//! GET_ONE at a node that reads for the key, where it need not ask others.

use ringkv_common::key::Key;
use ringkv_common::message::{Code, Failure, Found, Outcome};
use ringkv_common::version::Siblings;

use super::Node;
use super::effect::Token;
use super::task::OpStage;

impl Node {
    pub(super) fn proceed_read(&mut self, token: Token, key: &Key, context: bool) {
        let Some(ring) = self.ring.clone() else { return };
        let partition = key.partition(ring.partitions);
        let readers = ring.readers(partition);
        let level = self.tasks.op(token).and_then(|op| op.terms.read);
        let alone = readers.len() == 1 || self.read_needs(readers, level) == 1 && self.is_whole(partition);
        if !alone {
            return self.gather(token, key, &ring);
        }
        let busy = self.keys.get(key).expect("the caller has seen to it");
        let found = found(busy.state.as_ref().expect("the caller has seen to it"), context);
        let outcome = match found {
            Some(found) => Outcome::Found(found),
            None => Outcome::Failed(self.not_found(key)),
        };
        self.show(token, key, outcome);
    }

    /// Ends an operation that shows a key's state: a read, or a write that is refused for what is there.
    pub(super) fn show(&mut self, token: Token, key: &Key, outcome: Outcome) {
        if self.keys.get(key).is_none_or(|busy| busy.shows_settled(token)) {
            self.finish(token, outcome);
        } else if let Some(op) = self.tasks.op(token) {
            op.stage = OpStage::Reading { outcome };
        }
    }

    /// The failure of a read that found nothing.
    pub(super) fn not_found(&self, key: &Key) -> Failure {
        let lost = self.ring.as_ref().is_some_and(|r| self.membership.is_lost(key.partition(r.partitions)));
        let hint = if lost { ": its partition lost its data with a node's memory" } else { "" };
        let shown: String = key.text().chars().take(64).collect();
        Failure {
            lost,
            ..Failure::new(Code::KeyNotFound, format!("nothing is stored under \"{shown}\"{hint}"))
        }
    }
}

/// What a reader is shown of a state.
pub(super) fn found(state: &Siblings, context: bool) -> Option<Found> {
    let values = state.values();
    if values.is_empty() {
        return None;
    }
    let context = (context || values.len() > 1).then(|| Box::new(state.context()));
    Some(Found { values: values.into_iter().map(|v| v.content.clone()).collect(), context })
}
