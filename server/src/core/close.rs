//! The end of a node that is told to end, or was removed: nothing new is begun, and nobody is left without an answer.

use ringkv_common::message::{Code, Failure};

use super::Node;
use super::effect::Token;
use super::membership::Membership;
use super::task::{OpStage, Task};

impl Membership {
    /// Whether the node is about to end.
    pub(super) fn closes(&self) -> bool {
        self.close_at_us.is_some()
    }
}

impl Node {
    /// Begins nothing new from now on, and answers what is under way: as it ends, or when so many milliseconds are over.
    pub(super) fn close(&mut self, within_ms: u64) {
        let at_us = self.now.after_ms(within_ms);
        self.membership.close_at_us.get_or_insert(at_us);
    }

    /// Whether somebody still waits for an answer.
    pub fn owes(&self) -> bool {
        self.tasks.owed().next().is_some()
    }

    pub(super) fn tick_close(&mut self) {
        if self.membership.close_at_us.is_none_or(|at| at > self.now.mono_us) {
            return;
        }
        // Later than any deadline: what is answered now is all there was.
        self.membership.close_at_us = Some(u64::MAX);
        let mut tokens: Vec<Token> = self.tasks.owed().collect();
        tokens.sort_unstable();
        for token in tokens {
            self.end_unfinished(token);
        }
    }

    fn end_unfinished(&mut self, token: Token) {
        let why = format!("{} ends before the answer is here, ask another node", self.id.name);
        let not_ready = Failure::new(Code::NotReady, why.clone());
        match self.tasks.get(token) {
            Some(Task::Op(op)) => {
                let under_way = matches!(op.stage, OpStage::Writing(_) | OpStage::Forwarded { .. });
                let unknown = op.is_write() && under_way;
                let failure = if unknown { Failure::indeterminate(Code::Timeout, why) } else { not_ready };
                self.give_up(token, failure);
            }
            Some(Task::Search(_)) => self.end_search(token),
            Some(Task::Greeting(greeting)) => {
                greeting.deadline_us = 0;
                self.end_greeting(token);
            }
            Some(Task::Listing(_)) => self.listing_failed(token, not_ready),
            // Many end with the last of their operations, and the store counts at once.
            _ => {}
        }
    }
}
