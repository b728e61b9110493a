use super::super::*;
use super::flow::fewest_moves;

struct Rng(u64);
impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E3779B97F4A7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

#[test]
fn look() {
    let mut hist = std::collections::BTreeMap::new();
    let mut worst = vec![];
    let mut totals = (0u64, 0u64, 0f64);
    for seed in 0..300 {
        let mut r = Rng(seed);
        let zones = 1 + r.below(6);
        let replicas = 1 + r.below(5);
        let weighted = r.below(2) == 1;
        let strategy = [Strategy::Hrw, Strategy::Consistent][r.below(2)];
        let balance = Some([0.0, 5.0][r.below(2)]);
        let mut members: Vec<Member> = (0..1 + r.below(20))
            .map(|i| Member {
                name: format!("n{i}"),
                zone: format!("z{}", r.below(zones)),
                weight: if weighted { 1 + r.below(300) as u32 } else { 100 },
            })
            .collect();
        let mut t =
            table(&Wish { strategy, members: &members, partitions: 64, replicas, balance }, None).unwrap();
        for step in 0..15 {
            let live: Vec<usize> = (0..members.len()).filter(|i| members[*i].weight > 0).collect();
            if live.len() > 1 && r.below(2) == 0 {
                let x = live[r.below(live.len())];
                members[x].weight = 0;
            } else {
                members.push(Member {
                    name: format!("n{}", members.len()),
                    zone: format!("z{}", r.below(zones)),
                    weight: if weighted { 1 + r.below(300) as u32 } else { 100 },
                });
            }
            let n = table(&Wish { strategy, members: &members, partitions: 64, replicas, balance }, Some(&t))
                .unwrap();
            let b = assess(&members, Some(&t), &n);
            let best = fewest_moves(&members, &t, n.width(), &b.loads).unwrap();
            *hist.entry((balance.unwrap() as u32, b.moved - best)).or_insert(0) += 1;
            totals.0 += b.moved as u64;
            totals.1 += best as u64;
            totals.2 += b.minimum;
            if b.moved - best > 2 || b.moved as f64 > 1.05 * b.minimum + 1. {
                worst.push((
                    b.moved - best,
                    seed,
                    step,
                    b.moved,
                    best,
                    b.minimum,
                    b.fullest(),
                    zones,
                    replicas,
                    balance,
                    n.width(),
                    members.iter().filter(|m| m.weight > 0).count(),
                ));
            }
            t = n;
        }
    }
    worst.sort_by_key(|w| std::cmp::Reverse(w.0));
    println!("{hist:?} {totals:?}");
    for w in worst.iter().take(15) {
        println!("{w:?}");
    }
}
#[test]
fn look2() {
    for partitions in [64, 1024] {
        let seed = 234;
        let mut r = Rng(seed);
        let zones = 1 + r.below(6);
        let replicas = 1 + r.below(5);
        let weighted = r.below(2) == 1;
        let strategy = [Strategy::Hrw, Strategy::Consistent][r.below(2)];
        let balance = Some([0.0, 5.0][r.below(2)]);
        let mut members: Vec<Member> = (0..1 + r.below(20))
            .map(|i| Member {
                name: format!("n{i}"),
                zone: format!("z{}", r.below(zones)),
                weight: if weighted { 1 + r.below(300) as u32 } else { 100 },
            })
            .collect();
        let mut t =
            table(&Wish { strategy, members: &members, partitions, replicas, balance }, None).unwrap();
        for step in 0..13 {
            let live: Vec<usize> = (0..members.len()).filter(|i| members[*i].weight > 0).collect();
            if live.len() > 1 && r.below(2) == 0 {
                let x = live[r.below(live.len())];
                members[x].weight = 0;
            } else {
                members.push(Member {
                    name: format!("n{}", members.len()),
                    zone: format!("z{}", r.below(zones)),
                    weight: if weighted { 1 + r.below(300) as u32 } else { 100 },
                });
            }
            let n = table(&Wish { strategy, members: &members, partitions, replicas, balance }, Some(&t))
                .unwrap();
            let b = assess(&members, Some(&t), &n);
            let oldloads = assess(&members, None, &t).loads;
            if step == 12 {
                println!("{:?} moved {} min {}", balance, b.moved, b.minimum);
                for (i, m) in members.iter().enumerate() {
                    println!(
                        "{} {} {} share {} old {} new {}",
                        m.name, m.zone, m.weight, b.shares[i], oldloads[i], b.loads[i]
                    );
                }
            }
            t = n;
        }
    }
}
