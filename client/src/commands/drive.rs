//! Many operations, as many at once as the client takes.

use std::collections::HashMap;
use std::time::Duration;

use crate::{Client, Error, Op, Reply, Ticket};

/// Submits all that `next` gives, each with a tag, and hands the outcomes over as they come: `each` may end the run.
pub(super) fn drive<T, E: From<Error>>(
    client: &mut Client,
    mut next: impl FnMut() -> Result<Option<(T, Op)>, E>,
    mut each: impl FnMut(T, Result<Reply, Error>) -> Result<(), E>,
) -> Result<(), E> {
    let mut under_way: HashMap<Ticket, T> = HashMap::new();
    let mut more = true;
    while more || !under_way.is_empty() {
        while more && client.has_room() {
            match next()? {
                Some((tag, op)) => drop(under_way.insert(client.submit(op)?, tag)),
                None => more = false,
            }
        }
        for completion in client.poll(Duration::from_millis(200))? {
            if let Some(tag) = under_way.remove(&completion.ticket) {
                each(tag, completion.outcome)?;
            }
        }
    }
    Ok(())
}
