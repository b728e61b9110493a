//! Who may do what, and what comes of it. Every step is atomic; whatever may happen between two things is between two
//! steps.

mod client;
mod launcher;
mod moving;
mod node;

use stateright::{Model, Property};

use crate::config::{Bug, Config};
use crate::properties;
use crate::rings::{Nodes, RingId, Rings, View};
use crate::state::{Action, Launcher, NONE, Node, Read, Stage, State, Write};
use crate::values::Values;

/// A world: its settings and all that follows from them.
#[derive(Debug)]
pub struct World {
    /// The settings.
    pub config: Config,
    /// Every ring.
    pub rings: Rings,
    /// Every value of the key.
    pub values: Values,
}

impl World {
    /// The world of these settings.
    pub fn new(config: Config) -> World {
        assert!((1..=2).contains(&config.writes) && (1..=2).contains(&config.launchers));
        World { rings: Rings::new(&config), values: Values::new(config.writes), config }
    }

    /// A ring from the key's point of view.
    pub fn view(&self, ring: RingId) -> &View {
        &self.rings.views[usize::from(ring)]
    }

    /// The numbers of all nodes.
    pub fn nodes(&self) -> std::ops::Range<u8> {
        0..self.config.nodes() as u8
    }

    fn has(&self, bug: Bug) -> bool {
        self.config.has(bug)
    }

    fn apply(&self, s: &mut State, action: Action) {
        match action {
            Action::Adopt(n, ring) => self.adopt(s, n, ring),
            Action::Crash(n) => self.crash(s, n),
            Action::Restart(n) => s.nodes[usize::from(n)].up = true,
            Action::RestartWith(n, ring) => {
                s.nodes[usize::from(n)].up = true;
                s.nodes[usize::from(n)].ring = ring;
            }
            Action::Begin(k, n) => self.begin_write(s, k, n),
            Action::Do(k) => self.do_write(s, k),
            Action::Repeat(k) => self.repeat_write(s, k),
            Action::Replicate(k, n) => self.replicate(s, k, n),
            Action::Acknowledge(k) => s.writes[usize::from(k)].stage = Stage::Acknowledged,
            Action::Read(n) => self.begin_read(s, n),
            Action::Answer(n) => self.answer_read(s, n),
            Action::ReadAgain => self.read_again(s),
            Action::Give(to, from) => self.give(s, to, from),
            Action::Take(n) => self.take(s, n),
            Action::HandOver(n) => self.hand_over(s, n),
            Action::Drop(n) => self.drop_data(s, n),
            Action::Look(l) => self.look(s, l),
            Action::Hear(l, n) => self.hear(s, l, n),
            Action::Advance(l) => self.write_ring(s, l, |v| v.next),
            Action::TakeBack(l) => self.write_ring(s, l, |v| v.back),
            Action::Start(l) => self.write_ring(s, l, |v| v.begun),
            Action::Refuse(_) => s.signals += 1,
            Action::Die(l) => {
                s.crashes -= 1;
                s.launchers[usize::from(l)] = Launcher { up: false, ring: NONE, heard: [0; 4] };
            }
        }
    }

    /// Forgets what can make no difference any more, so that states that will behave alike are one.
    fn tidy(&self, s: &mut State) {
        for k in 0..self.config.writes {
            self.tidy_write(s, k);
        }
        if !self.has(Bug::WritesBlindly) {
            // A launcher whose ring was replaced can do nothing but read it: its compare-and-set would fail.
            for launcher in s.launchers.iter_mut().filter(|l| l.ring != s.current) {
                *launcher = Launcher { up: launcher.up, ring: NONE, heard: [0; 4] };
            }
        }
        s.launchers.sort_unstable();
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = Node {
            up: true,
            ring: 0,
            held: 0,
            pulled: (NONE, 0),
            copied: false,
            compared: 0,
            released: false,
            crashed: false,
        };
        let write = Write { stage: Stage::Idle, coordinator: NONE, ring: 0, told: 0, value: 0, applied: 0 };
        let read =
            Read { coordinator: NONE, ring: 0, owed: 0, answered: 0, found: 0, left: self.config.reads };
        let launcher = |up| Launcher { up, ring: NONE, heard: [0; 4] };
        let mut state = State {
            current: 0,
            written: 1,
            signals: 0,
            nodes: [node; 4],
            writes: [write; 2],
            read,
            launchers: [launcher(true), launcher(self.config.launchers > 1)],
            crashes: self.config.crashes,
            stale_read: false,
            early_delete: false,
        };
        self.tidy(&mut state);
        vec![state]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.stale_read || s.early_delete {
            return;
        }
        self.node_actions(s, actions);
        self.client_actions(s, actions);
        self.moving_actions(s, actions);
        self.launcher_actions(s, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.apply(&mut state, action);
        self.tidy(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<World>> {
        properties::all()
    }
}

fn bit(n: u8) -> Nodes {
    1 << n
}

fn has(nodes: Nodes, n: u8) -> bool {
    nodes & bit(n) != 0
}
