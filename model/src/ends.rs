//! Can every state still reach an end? A second, independent walk through all states.
//!
//! Stateright proves what holds in every state. "From here an end *can* be reached" speaks of paths that branch
//! (AG EF in the words of temporal logic), and its `eventually` neither means that nor sees cycles. So this walk numbers
//! all states, keeps who leads to whom, and goes backwards from the ends: what it does not meet is stuck. That its
//! count of states equals stateright's checks the one walk by the other.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;

use crate::properties::is_end;
use crate::state::{Action, State};
use crate::step::World;

/// What the walk found.
#[derive(Debug)]
pub struct Ends {
    /// States reached.
    pub states: usize,
    /// Of these: ends.
    pub ends: usize,
    /// The shortest way to a state from which no end can be reached, if there is one.
    pub stuck: Option<Vec<Action>>,
}

/// Walks through all states of a world.
pub fn ends(world: &World) -> Ends {
    let walk = Walk::through(world);
    let reaches = walk.backwards();
    let stuck = reaches.iter().position(|r| !r).map(|at| walk.way_to(world, at));
    Ends { states: walk.parents.len(), ends: walk.ends.len(), stuck }
}

/// States by the order in which they were met: breadth first, so the first stuck one is a nearest one.
#[derive(Default)]
struct Walk {
    /// Who led here first, and by which of its actions.
    parents: Vec<(u32, u16)>,
    /// From whom to whom.
    edges: Vec<(u32, u32)>,
    ends: Vec<u32>,
}

impl Walk {
    fn through(world: &World) -> Walk {
        let mut walk = Walk::default();
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut waiting = VecDeque::new();
        for state in world.init_states() {
            numbers.insert(fingerprint(&state), 0);
            walk.parents.push((0, 0));
            waiting.push_back(state);
        }
        let (mut at, mut actions) = (0u32, Vec::new());
        while let Some(state) = waiting.pop_front() {
            if is_end(world, &state) {
                walk.ends.push(at);
            }
            world.actions(&state, &mut actions);
            for (which, action) in (0u16..).zip(actions.drain(..)) {
                let Some(next) = world.next_state(&state, action) else { continue };
                let number = *numbers.entry(fingerprint(&next)).or_insert_with(|| {
                    walk.parents.push((at, which));
                    waiting.push_back(next);
                    walk.parents.len() as u32 - 1
                });
                walk.edges.push((at, number));
            }
            at += 1;
        }
        walk
    }

    /// For each state whether an end can be reached from it.
    fn backwards(&self) -> Vec<bool> {
        // Whoever leads to a state, as a stretch of `from`: counted, then filled.
        let states = self.parents.len();
        let mut starts = vec![0u32; states + 1];
        self.edges.iter().for_each(|(_, to)| starts[*to as usize + 1] += 1);
        (0..states).for_each(|at| starts[at + 1] += starts[at]);
        let mut from = vec![0u32; self.edges.len()];
        let mut filled = starts.clone();
        for (a, b) in &self.edges {
            from[filled[*b as usize] as usize] = *a;
            filled[*b as usize] += 1;
        }
        let mut reaches = vec![false; states];
        let mut waiting = self.ends.clone();
        while let Some(at) = waiting.pop() {
            let at = at as usize;
            if !std::mem::replace(&mut reaches[at], true) {
                waiting.extend(&from[starts[at] as usize..starts[at + 1] as usize]);
            }
        }
        reaches
    }

    fn way_to(&self, world: &World, mut at: usize) -> Vec<Action> {
        let mut choices = Vec::new();
        while at != 0 {
            let (parent, which) = self.parents[at];
            choices.push(usize::from(which));
            at = parent as usize;
        }
        let mut state = world.init_states().remove(0);
        let mut way = Vec::new();
        for which in choices.into_iter().rev() {
            let mut actions = Vec::new();
            world.actions(&state, &mut actions);
            way.push(actions[which]);
            state = world.next_state(&state, actions[which]).expect("it was taken before");
        }
        way
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
