//! Clients that list the whole cluster, page by page: every key that is there all the while is shown, and none twice.

use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::history::Id;

/// Records of a page.
const PAGE: usize = 7;

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    pub id: Id,
    shown: Vec<String>,
    cursor: Option<String>,
}

impl Listing {
    /// The request of the next page.
    pub fn body(&self, timeout: u64) -> String {
        let cursor = self.cursor.as_ref().map(|c| format!(r#","cursor":"{c}""#)).unwrap_or_default();
        format!(r#"{{"op":"GET_ALL","scope":"cluster","limit":{PAGE}{cursor},"timeout_ms":{timeout}}}"#)
    }
}

impl Cluster {
    pub(crate) fn something_to_list(&mut self) -> Listing {
        Listing { id: self.history.begin_listing(), shown: Vec::new(), cursor: None }
    }

    /// Takes a page; whether it was the last.
    pub(crate) fn page_answered(&mut self, listing: &mut Listing, reply: Option<&Json>) -> bool {
        let Some(records) = reply.and_then(|r| r["collection"].as_array()) else { return false };
        listing.shown.extend(records.iter().filter_map(|r| r["key"].as_str()).map(str::to_owned));
        listing.cursor = reply.and_then(|r| r["cursor"].as_str()).map(str::to_owned);
        if listing.cursor.is_none() {
            self.history.end_listing(listing.id, &listing.shown);
        }
        listing.cursor.is_none()
    }
}
