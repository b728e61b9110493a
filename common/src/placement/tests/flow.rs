//! The dumb twin of balancing: minimum-cost flow, by Bellman and Ford's shortest paths, one unit at a time.

use super::super::{Member, Table};

struct Edge {
    to: usize,
    room: u32,
    cost: i64,
}

struct Network {
    edges: Vec<Edge>,
    out: Vec<Vec<usize>>,
}

impl Network {
    fn node(&mut self) -> usize {
        self.out.push(Vec::new());
        self.out.len() - 1
    }

    /// An edge and, next to it, the way back.
    fn edge(&mut self, from: usize, to: usize, room: u32, cost: i64) {
        self.out[from].push(self.edges.len());
        self.edges.push(Edge { to, room, cost });
        self.out[to].push(self.edges.len());
        self.edges.push(Edge { to: from, room: 0, cost: -cost });
    }

    /// Sends one unit along a cheapest path: its cost, or none where no more fits.
    fn send(&mut self, source: usize, sink: usize) -> Option<i64> {
        let mut best = vec![i64::MAX; self.out.len()];
        let mut came_by = vec![usize::MAX; self.out.len()];
        best[source] = 0;
        let mut queue = std::collections::VecDeque::from([source]);
        while let Some(node) = queue.pop_front() {
            for e in &self.out[node] {
                let Edge { to, room, cost } = self.edges[*e];
                if room > 0 && best[node] + cost < best[to] {
                    (best[to], came_by[to]) = (best[node] + cost, *e);
                    queue.push_back(to);
                }
            }
        }
        let mut node = sink;
        while node != source {
            let e = *came_by.get(node).filter(|e| **e != usize::MAX)?;
            self.edges[e].room -= 1;
            self.edges[e ^ 1].room += 1;
            node = self.edges[e ^ 1].to;
        }
        Some(best[sink])
    }
}

/// The fewest cells that must move from `old` so that members have exactly these loads, in rows of distinct members
/// with as many zones as there can be. None where no such table exists.
pub fn fewest_moves(members: &[Member], old: &Table, width: usize, loads: &[u32]) -> Option<u32> {
    const MUST: i64 = 1_000_000;
    let mut zones: Vec<&String> = members.iter().filter(|m| m.weight > 0).map(|m| &m.zone).collect();
    zones.sort();
    zones.dedup();

    let mut net = Network { edges: Vec::new(), out: Vec::new() };
    let (source, sink) = (net.node(), net.node());
    let nodes: Vec<usize> = loads
        .iter()
        .map(|load| {
            let node = net.node();
            net.edge(node, sink, *load, 0);
            node
        })
        .collect();
    for row in old.rows() {
        let partition = net.node();
        net.edge(source, partition, width as u32, 0);
        for zone in &zones {
            let room = net.node();
            // One per zone is all, or else one is a must and beyond it the zone is free.
            net.edge(partition, room, 1, -MUST);
            if zones.len() < width {
                net.edge(partition, room, width as u32, 0);
            }
            for (m, _) in members.iter().enumerate().filter(|(_, m)| m.weight > 0 && m.zone == **zone) {
                net.edge(room, nodes[m], 1, if row.contains(&(m as u8)) { 0 } else { 1 });
            }
        }
    }
    let cells = old.partitions() as usize * width;
    let mut cost = 0;
    for _ in 0..cells {
        cost += net.send(source, sink)?;
    }
    let musts = old.partitions() as usize * zones.len().min(width);
    u32::try_from(cost + MUST * musts as i64).ok()
}
