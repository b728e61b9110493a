//! Clients' messages: understood, refused where there is no room, and given to whoever does them.

use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::request::parse;
use ringkv_common::message::{Code, Failure, KEYS_MAX, KeyOp, Operation, Outcome, Terms};

use super::effect::{Client, Token};
use super::task::{Gather, Origin, TASKS_MAX, Task};
use super::{Node, WAITING_BYTES_MAX};

impl Node {
    pub(super) fn on_request(&mut self, client: Client, body: &[u8], value: Option<&[u8]>) {
        let request = match parse(body, value, &self.id.limits) {
            Ok(request) => request,
            Err((id, failure)) => return self.refuse(client, id.as_deref(), &failure),
        };
        if self.membership.closes() && !matches!(request.operation, Operation::Status { .. }) {
            let text = format!("{} is about to end, ask another node", self.id.name);
            return self.refuse(client, request.id.as_deref(), &Failure::new(Code::NotReady, text));
        }
        let ends_faults = matches!(request.operation, Operation::Fault(_));
        if !ends_faults && (self.tasks.full() || self.waiting_bytes > WAITING_BYTES_MAX) {
            let text = format!(
                "{} requests with {} bytes wait at {}: {TASKS_MAX} and {WAITING_BYTES_MAX} are allowed, try again later",
                self.tasks.len(),
                self.waiting_bytes,
                self.id.name
            );
            return self.refuse(client, request.id.as_deref(), &Failure::new(Code::Overloaded, text));
        }
        let (id, terms) = (request.id, request.terms);
        match request.operation {
            Operation::One(op) => self.begin(Origin::Client { client, id }, op, terms),
            Operation::Many(ops) => self.begin_many(client, id, terms, ops),
            Operation::GetAll(scope, page) => self.begin_get_all(client, id, terms, scope, page),
            Operation::ShowAll(page) => self.begin_show_all(client, id, terms, page),
            Operation::Search(key) => self.begin_search(client, id, terms, key),
            Operation::Explain(key) => self.explain(client, id, terms, &key),
            Operation::Status { ring, peers } => self.begin_status(client, id, ring, peers),
            Operation::Ping => {
                self.reply(client, |envelope| reply::ok(&envelope), id.as_deref(), terms, None)
            }
            Operation::Consent(question) => self.on_consent(client, id, terms, question),
            Operation::AcceptLoss => self.accept_loss(client, id, terms),
            Operation::Fault(fault) => self.on_fault(client, id, terms, fault),
            Operation::Repair => self.on_repair(client, id, terms),
        }
    }

    fn begin_many(
        &mut self,
        client: Client,
        id: Option<Box<str>>,
        terms: Terms,
        ops: Vec<Result<KeyOp, Failure>>,
    ) {
        if ops.len() > KEYS_MAX {
            let text = format!("the message has {} keys, {KEYS_MAX} are allowed: send several", ops.len());
            return self.refuse(client, id.as_deref(), &Failure::new(Code::TooLarge, text));
        }
        let gather = Gather {
            client,
            id,
            terms,
            keys: reply::keys_of(&ops),
            outcomes: vec![Outcome::Stored { context: None }; ops.len()],
            open: ops.len() + 1,
        };
        let token = self.tasks.add(Task::Gather(Box::new(gather)));
        for (slot, op) in ops.into_iter().enumerate() {
            let origin = Origin::Many { gather: token, slot };
            match op {
                Ok(op) if !self.tasks.full() => self.begin(origin, op, terms),
                Ok(_) => {
                    let text = format!("{TASKS_MAX} requests wait at {}, try again later", self.id.name);
                    self.conclude(
                        origin,
                        terms,
                        None,
                        Outcome::Failed(Failure::new(Code::Overloaded, text)),
                        &[],
                        false,
                    );
                }
                Err(failure) => self.conclude(origin, terms, None, Outcome::Failed(failure), &[], false),
            }
        }
        self.gathered(token, None);
    }

    /// One of many ended; when all have, their message is answered.
    pub(super) fn gathered(&mut self, token: Token, one: Option<(usize, Outcome)>) {
        let Some(Task::Gather(gather)) = self.tasks.get(token) else { return };
        if let Some((slot, outcome)) = one {
            gather.outcomes[slot] = outcome;
        }
        gather.open -= 1;
        if gather.open > 0 {
            return;
        }
        let Some(Task::Gather(gather)) = self.tasks.take(token) else { return };
        let write = |envelope: Envelope| reply::many(&gather.keys, &gather.outcomes, &envelope);
        self.reply(gather.client, write, gather.id.as_deref(), gather.terms, None);
    }
}
