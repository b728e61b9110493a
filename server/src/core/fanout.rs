//! Questions to several nodes at once, and what happens when answers stay away.

use ringkv_common::key::Key;
use ringkv_common::message::peer::Message;
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::{Code, Failure, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::version::Siblings;

use super::Node;
use super::effect::{Client, Token};
use super::shortfall::shortfall;
use super::task::{Asker, InspectKey, Op, OpStage, Search, Task};

impl Node {
    /// SEARCH: asks every owner, old and new, what it holds of a key.
    pub(super) fn begin_search(&mut self, client: Client, id: Option<Box<str>>, terms: Terms, key: Key) {
        let Some(ring) = self.ring.clone() else { return self.no_ring(client, id.as_deref()) };
        let route = ring.route(key.partition(ring.partitions));
        let also = route.also.map_or(&[][..], |(row, _)| row);
        let mut asked: Vec<NodeName> = ring.names(route.writers).chain(ring.names(also)).collect();
        asked.sort_unstable();
        asked.dedup();
        let deadline_us = self.now.after_ms(u64::from(terms.timeout_ms));
        let search =
            Search { client, id, terms, key: key.clone(), asked: asked.clone(), answers: Vec::new() };
        let token = self.tasks.add(Task::Search(Box::new(search)));
        self.tasks.alarm(token, deadline_us);
        for node in asked {
            if node == self.id.name {
                let inspect = InspectKey { key: key.clone(), asker: Asker::Here { search: token } };
                let look = self.tasks.add(Task::InspectKey(Box::new(inspect)));
                self.look(look, key.clone());
            } else {
                self.send(node, Message::Inspect { id: token, key: key.clone() });
            }
        }
    }

    pub(super) fn on_inspected(&mut self, token: Token, from: NodeName, answer: Result<Siblings, String>) {
        let Some(Task::Search(search)) = self.tasks.get(token) else { return };
        if !search.asked.contains(&from) || search.answers.iter().any(|(node, _)| *node == from) {
            return;
        }
        search.answers.push((from, answer));
        if search.answers.len() == search.asked.len() {
            self.end_search(token);
        }
    }

    pub(super) fn end_search(&mut self, token: Token) {
        let Some(Task::Search(mut search)) = self.tasks.take(token) else { return };
        for node in &search.asked {
            if !search.answers.iter().any(|(answered, _)| answered == node) {
                let why = format!("no answer within {} ms", search.terms.timeout_ms);
                search.answers.push((*node, Err(why)));
            }
        }
        search.answers.sort_by_key(|(node, _)| *node);
        let write = |envelope: Envelope| reply::search(&search.key, &search.answers, &envelope);
        self.reply(search.client, write, search.id.as_deref(), search.terms, None);
    }

    pub(super) fn no_ring(&mut self, client: Client, id: Option<&str>) {
        let text = format!("{} has no ring yet, try again soon", self.id.name);
        self.refuse(client, id, &Failure::new(Code::NotReady, text));
    }

    /// Looks at every task whose alarm is due.
    pub(super) fn expire_tasks(&mut self) {
        if let Some(late) = self.tasks.sweep(self.now.mono_us) {
            late.into_iter().for_each(|token| self.expire_op(token));
            self.tend_window();
        }
        while let Some(token) = self.tasks.due(self.now.mono_us) {
            match self.tasks.get(token) {
                Some(Task::Op(op)) if op.deadline_us <= self.now.mono_us => self.expire_op(token),
                Some(Task::Op(Op { stage: OpStage::Forwarded { .. }, .. })) => self.forward_again(token),
                Some(Task::Op(Op { stage: OpStage::Writing(_), .. })) => self.resend(token),
                Some(Task::Op(Op { stage: OpStage::Gathering(_), .. })) => self.gather_again(token),
                Some(Task::Spread(_)) => self.spread_again(token),
                Some(Task::Op(Op { deadline_us, .. })) => {
                    let at = *deadline_us;
                    self.tasks.alarm(token, at);
                }
                Some(Task::Search(_)) => self.end_search(token),
                Some(Task::Greeting(_)) => self.end_greeting(token),
                Some(Task::Pull(_)) => self.fetch_again(token),
                Some(Task::Exchange(_)) => self.end_exchange(token),
                Some(Task::Listing(_)) => self.list_again(token),
                _ => {}
            }
        }
    }

    fn expire_op(&mut self, token: Token) {
        let Some(op) = self.tasks.op(token) else { return };
        // In line for its key, or refused for what is there, it has done nothing here.
        let under_way = matches!(op.stage, OpStage::Writing(_) | OpStage::Forwarded { .. });
        let maybe_done = op.is_write() && (under_way || op.attempts.maybe_done);
        let Some(mut failure) = self.overdue(token) else { return };
        let replicas = self.ring.as_ref().map_or(1, |ring| ring.owners.width());
        if under_way && replicas > 1 {
            failure.code = Code::QuorumFailed;
        }
        failure.indeterminate = maybe_done;
        self.give_up(token, failure);
    }

    /// What an operation waited for whose time is up.
    fn overdue(&mut self, token: Token) -> Option<Failure> {
        let op = self.tasks.op(token)?;
        let ms = op.terms.timeout_ms;
        let (key, asked) = (op.op.key().clone(), op.attempts.asked_of);
        let text = match &op.stage {
            OpStage::InLine => return Some(self.no_place(ms / 2)),
            OpStage::Gathering(gathering) => return Some(gathering.failure(Some(ms))),
            OpStage::Forwarded { to } => {
                let to = *to;
                self.unanswered(&key, to, asked, ms)
            }
            OpStage::Writing(writing) => {
                shortfall(&writing.quorum, &writing.reasons, writing.quorum.silent(), Some(ms))
            }
            OpStage::Waiting | OpStage::Ended { .. } => format!("the store did not answer within {ms} ms"),
            OpStage::Reading { .. } => format!(
                "what is to be shown was written and not acknowledged by all its owners within {ms} ms"
            ),
        };
        Some(Failure::new(Code::Timeout, text))
    }
}
