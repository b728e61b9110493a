//! Records that other nodes fetch: of a partition that moves, is handed over, filled, repaired or listed.

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Message, Purpose, Record, Stretch};
use ringkv_common::message::{Code, Failure};

use super::Node;
use super::effect::{Effect, Token};
use super::task::{Give, Task};
use crate::store::{LOOKED_BYTES_MAX, Slice};

/// Records that a giver looks at for one answer: well below a millisecond's worth.
const GIVE_RECORDS_MAX: usize = 2048;

impl Node {
    pub(super) fn on_fetch(
        &mut self,
        mut give: Give,
        stretch: Stretch,
        known: Vec<(u64, u64)>,
        bytes_max: u32,
    ) {
        let (to, id) = (give.to, give.id);
        if !self.same_epoch(to, id, give.epoch) || self.overloaded(to, id) {
            return;
        }
        let refuse = |code, text: String| Message::Failed { id, failure: Failure::new(code, text) };
        let Some(ring) = &self.ring else { return };
        if stretch.partition >= ring.partitions {
            let text =
                format!("there is no partition {}: the ring has {}", stretch.partition, ring.partitions);
            return self.send(to, refuse(Code::BadRequest, text));
        }
        // A partition whose memory was lost must not pass for an empty one.
        let whole = self.is_whole(stretch.partition);
        if give.purpose == Purpose::Move && (self.membership.is_lost(stretch.partition) || !whole) {
            let text = format!("{} lost the data of partition {}", self.id.name, stretch.partition);
            return self.send(to, refuse(Code::NotReady, text));
        }
        if give.purpose == Purpose::List
            && let Some(why) = self.not_listing(stretch.partition)
        {
            return self.send(to, refuse(Code::NotReady, why));
        }
        if !self.gives(give.purpose, stretch.partition) {
            return;
        }
        give.whole = whole;
        if give.purpose != Purpose::List && stretch.after.is_none() {
            // Before the first record is read: whatever is durable by now will be among the records. Of keys that are not
            // asked for the records would be missing.
            let all = Stretch { until: None, ..stretch.clone() };
            give.requests = self.requests.of_stretch(&all, ring.partitions);
        }
        let token = self.tasks.add(Task::Give(give));
        let slice = Slice {
            bytes_max: bytes_max as usize,
            records_max: GIVE_RECORDS_MAX,
            looked_bytes_max: LOOKED_BYTES_MAX,
        };
        self.out.push(Effect::Scan { token, stretch, known, slice });
    }

    /// Whether what was offered is still there. Else records would be missing that the requests handed on speak of: it is
    /// not answered, and whoever has something to hand over offers it again.
    fn gives(&self, purpose: Purpose, partition: u32) -> bool {
        match purpose {
            Purpose::Handover { held } => self.membership.holds_since(partition, held),
            _ => true,
        }
    }

    pub(super) fn on_scanned(&mut self, token: Token, records: Vec<Record>, next: Option<Key>) {
        if !matches!(self.tasks.get(token), Some(Task::Give(_))) {
            return self.on_listed(token, records, next);
        }
        let Some(Task::Give(give)) = self.tasks.take(token) else { return };
        // Read under a later ring than was asked for, the store may hold less than it held under that.
        if self.gives(give.purpose, give.partition) && self.same_epoch(give.to, give.id, give.epoch) {
            let Give { to, id, requests, whole, .. } = give;
            self.send(to, Message::Fetched { id, records, next, requests, whole });
        }
    }
}
