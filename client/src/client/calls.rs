//! Blocking calls, each one operation from submission to completion.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringkv_common::message::fault::Fault;
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

use super::flight::{Purpose, Target};
use super::{Client, Completion, Ticket};
use crate::op::{Op, PageOf, Scope};
use crate::reply::{Done, Page, Reply};
use crate::{Document, Error, Record, Status, Value};

impl Client {
    /// Runs one operation to its end. Completions of others stay to be polled.
    ///
    /// # Errors
    /// The operation's own.
    pub fn call(&mut self, op: Op) -> Result<Reply, Error> {
        let ticket = self.submit(op)?;
        self.finish(ticket)
    }

    fn finish(&mut self, ticket: Ticket) -> Result<Reply, Error> {
        let mut others: VecDeque<Completion> = VecDeque::new();
        let outcome = loop {
            match self.done.pop_front() {
                Some(completion) if completion.ticket == ticket => break completion.outcome,
                Some(completion) => others.push_back(completion),
                None => match self.turn(Duration::from_secs(1)) {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
            }
        };
        others.append(&mut self.done);
        self.done = others;
        outcome
    }

    fn done(&mut self, op: Op) -> Result<Done, Error> {
        let name = op.name();
        match self.call(op)? {
            Reply::Done(done) => Ok(done),
            _ => Err(unexpected(name)),
        }
    }

    /// Stores a value.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::indeterminate`] says whether it may have happened.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) -> Result<Done, Error> {
        self.done(Op::put(key, value)?)
    }

    /// Stores a value where there is none.
    ///
    /// # Errors
    /// `KEY_EXISTS`; see [`Client::put`].
    pub fn insert(&mut self, key: &str, value: impl Into<Value>) -> Result<Done, Error> {
        self.done(Op::insert(key, value)?)
    }

    /// Stores a value where there is one.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`; see [`Client::put`].
    pub fn update(&mut self, key: &str, value: impl Into<Value>) -> Result<Done, Error> {
        self.done(Op::update(key, value)?)
    }

    /// Deletes a key, which need not exist.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub fn delete(&mut self, key: &str) -> Result<Done, Error> {
        self.done(Op::delete(key)?)
    }

    /// The record of a key, `None` where it is known that there is none.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND` only where the key's partition lost its data, so that nobody knows; else see [`Error`].
    pub fn get(&mut self, key: &str) -> Result<Option<Record>, Error> {
        match self.call(Op::get(key)?) {
            Ok(Reply::Found(record, _)) => Ok(Some(record)),
            Ok(_) => Err(unexpected("GET_ONE")),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores many values; the outcomes are in the order of the items.
    ///
    /// # Errors
    /// A key's own error is in its outcome; see [`Op::mput`] for what is refused at once.
    pub fn mput<'a>(
        &mut self,
        items: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        match self.call(Op::mput(items)?)? {
            Reply::Many(results) => Ok(results.into_iter().map(|r| r.map(drop)).collect()),
            _ => Err(unexpected("MPUT")),
        }
    }

    /// Reads many keys; the outcomes are in the order of the keys, as of [`Client::get`].
    ///
    /// # Errors
    /// A key's own error is in its outcome.
    pub fn mget<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Result<Option<Record>, Error>>, Error> {
        let Reply::Many(results) = self.call(Op::mget(keys)?)? else { return Err(unexpected("MGET")) };
        let outcome = |result| match result {
            Ok(Reply::Found(record, _)) => Ok(Some(record)),
            Ok(_) => Err(unexpected("MGET")),
            Err(error) => absent_is_none(error),
        };
        Ok(results.into_iter().map(outcome).collect())
    }

    /// One page of a listing, of this node or, for [`Scope::Cluster`], of any.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn page(&mut self, scope: Scope, node: Option<NodeName>, page: PageOf) -> Result<Page, Error> {
        let op = Op::get_all(scope, page);
        match self.call(match node {
            Some(node) => op.at(node),
            None => op,
        })? {
            Reply::Page(page) => Ok(page),
            _ => Err(unexpected("GET_ALL")),
        }
    }

    /// All records of a listing, page by page, `limit` at a time.
    pub fn get_all(&mut self, scope: Scope, node: Option<NodeName>, limit: usize) -> Records<'_> {
        Records { client: self, scope, node, limit, page: Vec::new().into_iter(), next: Some(None) }
    }

    /// Every replica's versions of a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn search(&mut self, key: &str) -> Result<Document, Error> {
        self.document(Op::search(key)?)
    }

    /// What a node stores, a page at a time.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn show_all(&mut self, node: NodeName, page: PageOf) -> Result<Document, Error> {
        self.document(Op::show_all(node, page))
    }

    /// Where a key lives, and why.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn explain(&mut self, key: &str) -> Result<Document, Error> {
        self.document(Op::explain(key)?)
    }

    fn document(&mut self, op: Op) -> Result<Document, Error> {
        let name = op.name();
        match self.call(op)? {
            Reply::Document(document, _) => Ok(document),
            _ => Err(unexpected(name)),
        }
    }

    /// How a node is; any node where none is named.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn status(&mut self, node: Option<NodeName>) -> Result<Status, Error> {
        self.status_document(node)?.read()
    }

    /// [`Client::status`] as the node wrote it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn status_document(&mut self, node: Option<NodeName>) -> Result<Document, Error> {
        let op = Op::status(false);
        self.document(match node {
            Some(node) => op.at(node),
            None => op,
        })
    }

    /// Asks all of these nodes at once; each has up to `patience`. Silence is an error of its own.
    pub fn status_of(
        &mut self,
        nodes: &[NodeName],
        patience: Duration,
    ) -> Vec<(NodeName, Result<Document, Error>)> {
        let ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let timeout = std::mem::replace(&mut self.options.timeout, patience);
        let submit = |node: &NodeName| (*node, self.submit(Op::status(false).at(*node).timeout_ms(ms)));
        let tickets: Vec<(NodeName, Result<Ticket, Error>)> = nodes.iter().map(submit).collect();
        self.options.timeout = timeout;
        let document = |reply| match reply {
            Reply::Document(document, _) => Ok(document),
            _ => Err(unexpected("STATUS")),
        };
        let finish = |(node, ticket): (NodeName, Result<Ticket, Error>)| {
            (node, ticket.and_then(|t| self.finish(t)).and_then(document))
        };
        tickets.into_iter().map(finish).collect()
    }

    /// Whether a node answers; any node where none is named.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn ping(&mut self, node: Option<NodeName>) -> Result<(), Error> {
        let op = Op::ping();
        let op = match node {
            Some(node) => op.at(node),
            None => op,
        };
        self.done(op).map(drop)
    }

    /// Tells a node that the data it lost is known to be lost.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn accept_loss(&mut self, node: NodeName) -> Result<(), Error> {
        self.done(Op::accept_loss(node)).map(drop)
    }

    /// Has a node do wrong on purpose, or do so no more.
    ///
    /// # Errors
    /// See [`Error`]; a node that was not started with `--allow-faults` refuses.
    pub fn fault(&mut self, node: NodeName, fault: &Fault) -> Result<(), Error> {
        self.done(Op::fault(node, fault.clone())).map(drop)
    }

    /// Has a node compare what it holds with the other owners now, and take what it lacks. Returns those that it
    /// compares with.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn repair(&mut self, node: NodeName) -> Result<Vec<NodeName>, Error> {
        #[derive(serde::Deserialize)]
        struct Compares {
            compares_with: Vec<NodeName>,
        }
        self.document(Op::repair(node))?.read::<Compares>().map(|compares| compares.compares_with)
    }

    /// The ring of the pinned node, which the client then uses for what names a node.
    ///
    /// # Errors
    /// [`Error::NoRing`] where the node has none.
    pub fn fetch_ring(&mut self) -> Result<Arc<Ring>, Error> {
        match self.call(Op::status(true))? {
            Reply::Document(_, Some(ring)) => Ok(self.adopt(ring.clone(), "a node").map(|_| ring)?),
            _ => Err(Error::NoRing),
        }
    }

    /// Asks the seeds in turn until one gives a ring.
    pub(super) fn fetch_first_ring(&mut self) -> Result<(), Error> {
        let end = Instant::now() + self.options.timeout;
        let seeds = self.seeds.clone();
        let mut last = Error::NoRing;
        let timeout = std::mem::replace(&mut self.options.timeout, Duration::from_secs(1));
        while self.routing.is_none() && Instant::now() < end {
            for seed in &seeds {
                match self.ring_at(seed) {
                    Ok(ring) => drop(self.adopt(ring, seed)?),
                    Err(error @ (Error::Socket { .. } | Error::Ring(_))) => return Err(error),
                    Err(error) => last = error,
                }
                if self.routing.is_some() {
                    break;
                }
            }
        }
        self.options.timeout = timeout;
        if self.routing.is_some() { Ok(()) } else { Err(last) }
    }

    fn ring_at(&mut self, address: &str) -> Result<Arc<Ring>, Error> {
        let link = self.link_to(address)?;
        let id = self.launch(
            Op::status(true).timeout_ms(1_000),
            Target::Link(link),
            Purpose::Caller,
            Instant::now(),
        );
        match self.finish(Ticket(id))? {
            Reply::Document(_, Some(ring)) => Ok(ring),
            _ => Err(Error::NoRing),
        }
    }
}

fn unexpected(op: &'static str) -> Error {
    let why = "a reply of another kind came".to_owned();
    Error::Unreadable { from: "a node".to_owned(), op, why }
}

fn absent_is_none(error: Error) -> Result<Option<Record>, Error> {
    if error.is_absent() { Ok(None) } else { Err(error) }
}

/// The records of a listing, fetched page by page. Ends after the first error.
pub struct Records<'a> {
    client: &'a mut Client,
    scope: Scope,
    node: Option<NodeName>,
    limit: usize,
    page: std::vec::IntoIter<Record>,
    /// The next page's cursor; `None` behind the last page.
    next: Option<Option<String>>,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Result<Record, Error>> {
        loop {
            if let Some(record) = self.page.next() {
                return Some(Ok(record));
            }
            let page = PageOf { limit: Some(self.limit), cursor: self.next.take()? };
            match self.client.page(self.scope, self.node, page) {
                Ok(page) => {
                    self.next = page.cursor.map(Some);
                    self.page = page.records.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
