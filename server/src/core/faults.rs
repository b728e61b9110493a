//! FAULT and REPAIR: what an operator tells this node alone. Faults are for nodes that were started for them.

use ringkv_common::message::fault::Fault;
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::{Code, Failure, Terms};
use ringkv_common::name::NodeName;
use serde::Serialize;

use super::Node;
use super::effect::{Client, Effect};

impl Node {
    /// Whether it was told to fail: then it says and hears nothing but of faults.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn on_fault(&mut self, client: Client, id: Option<Box<str>>, terms: Terms, fault: Fault) {
        if let Err(failure) = self.fault_allowed(&fault) {
            return self.refuse(client, id.as_deref(), &failure);
        }
        match &fault {
            Fault::Fail {} => self.failed = true,
            Fault::Recover {} => self.failed = false,
            Fault::Gossip { on } => self.switch_gossip(*on),
            Fault::Handoff {} => self.hand_over_now(),
            Fault::Clear {} => {
                self.failed = false;
                self.switch_gossip(true);
            }
            Fault::Drop { .. } | Fault::Delay { .. } | Fault::Cut { .. } | Fault::Heal { .. } => {}
        }
        self.out.push(Effect::Fault(fault));
        self.reply(client, |envelope| reply::ok(&envelope), id.as_deref(), terms, None);
    }

    fn fault_allowed(&self, fault: &Fault) -> Result<(), Failure> {
        let name = self.id.name;
        if !self.id.allow_faults {
            let text = format!("{name} was started without --allow-faults: it takes no faults");
            return Err(Failure::new(Code::Forbidden, text));
        }
        fault.check().map_err(|why| Failure::new(Code::BadRequest, why))?;
        let Some(to) = fault.to() else { return Ok(()) };
        let known = self.ring.as_ref().is_some_and(|ring| ring.node_named(to).is_some());
        if to == name || !known {
            let text = format!("to is {to}: it takes another node of the ring than {name}");
            return Err(Failure::new(Code::BadRequest, text));
        }
        Ok(())
    }

    /// Offers what is held for others at once, to all of them that answer.
    fn hand_over_now(&mut self) {
        let Some(ring) = self.ring.clone() else { return };
        self.surrender(&ring);
        self.transfers.surrenders.values_mut().for_each(|s| (s.at_us, s.forced) = (None, true));
        self.surrender(&ring);
    }

    /// REPAIR: compares with all nodes that own the same partitions, now.
    pub(super) fn on_repair(&mut self, client: Client, id: Option<Box<str>>, terms: Terms) {
        #[derive(Serialize)]
        struct Compares {
            status: &'static str,
            compares_with: Vec<NodeName>,
        }
        let answer = Compares { status: "OK", compares_with: self.compare_with_all() };
        self.reply(client, |envelope: Envelope| reply::plain(&answer, &envelope), id.as_deref(), terms, None);
    }
}
