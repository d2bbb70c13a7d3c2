//! The mover's apply planning: changes in commit order to steps that give the same rows.
//!
//! Measured: as many changes as the follower sends at once, inserts, updates and deletes of two tables; once with one
//! change per row, nearly, and once with few rows that change all the time. Not measured: making SQL of the
//! steps, and what the target does with it, which takes most of the time of a move.

use std::collections::HashMap;
use std::time::Duration;

use converge_benches::order;
use converge_mover::apply::plan::{Facts, Mode, plan};
use converge_mover::change::Change;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const CHANGES: usize = 4000;

/// Changes that a source could have logged, of rows with keys below `keys`. Every second row is there at first.
fn changes(keys: u64) -> Vec<Change> {
    let mut random = SplitMix(7);
    let mut versions: HashMap<(usize, i64), Option<u64>> = HashMap::new();
    let mut out = Vec::with_capacity(CHANGES);
    while out.len() < CHANGES {
        let (table, id) = ((random.next() % 2) as usize, (random.next() % keys) as i64);
        let version = versions.entry((table, id)).or_insert_with(|| (id % 2 == 0).then_some(0));
        let next = out.len() as u64 + 1;
        match (*version, random.next() % 10) {
            (None, 0..4) => {
                out.push(Change::Insert { table, after: order(id, next) });
                *version = Some(next);
            }
            (Some(was), 4..8) => {
                out.push(Change::Update { table, before: order(id, was), after: order(id, next) });
                *version = Some(next);
            }
            (Some(was), 8..) => {
                out.push(Change::Delete { table, before: order(id, was) });
                *version = None;
            }
            _ => {}
        }
    }
    out
}

/// The generator of Steele, Lea and Flood, so that each run plans the same changes.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply plan");
    group.throughput(Throughput::Elements(CHANGES as u64));
    for (name, keys) in [("many rows", 1_000_000), ("few hot rows", 100)] {
        let changes = changes(keys);
        let facts = |_| Facts { key: &[0], finished: true, in_place: true };
        assert!(!plan(changes.clone(), Mode::Exact, facts).is_empty());
        // The steps are dropped outside of the measured time, as the changes are made outside of it.
        group.bench_function(name, |b| {
            b.iter_batched(
                || changes.clone(),
                |changes| plan(changes, Mode::Exact, facts),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = planning
}
criterion_main!(benches);
