//! The simulation itself: it repeats itself, finds what is wrong, and makes it small.

use super::*;

/// Worlds of each safe strategy in the tests; millions are a matter of the command.
const WORLDS: u64 = 800;

#[test]
fn the_same_seed_gives_the_same_trace() {
    for strategy in [Strategy::Watermark, Strategy::DeleteHistory, Strategy::Locking, Strategy::Naive] {
        for seed in 0..50 {
            let plan = Plan::drawn(strategy, seed);
            assert_eq!(plan, Plan::drawn(strategy, seed));
            let (first, second) = (traced(&plan), traced(&plan));
            assert!(!first.1.is_empty());
            assert_eq!(first, second, "{strategy} {seed}");
        }
    }
}

#[test]
fn safe_strategies_survive() {
    for strategy in Strategy::SAFE {
        let tally = search(strategy, 1, WORLDS, |_| {});
        let failed = tally.failed.clone().map(|(plan, outcome)| {
            let small = shrink(&plan).unwrap_or((plan, outcome));
            (traced(&small.0).1.join("\n"), small)
        });
        assert!(
            failed.is_none(),
            "{strategy}: {:#?}\n{}",
            failed.as_ref().unwrap().1,
            failed.as_ref().unwrap().0
        );
        assert!(tally.converged > WORLDS / 2, "{tally:?}");
    }
}

/// A client that changes rows of the first chunk while that is on its way, in orders enough to meet it there.
#[test]
fn changes_wait_for_a_chunk_of_their_table() {
    let transaction = |op| Transaction { table: 0, ops: vec![op], commit: true };
    for schedule in 0..WORLDS {
        let plan = Plan {
            strategy: Strategy::Watermark,
            schedule,
            chunk_rows: 3,
            unique: false,
            order: None,
            tables: vec![vec![(0, 6), (1, 5), (3, 1), (4, 3), (5, 2), (6, 4)]],
            clients: vec![vec![
                transaction(Op::SetUnique(0, 6)),
                transaction(Op::Update(3)),
                transaction(Op::Delete(6)),
                transaction(Op::Delete(1)),
            ]],
            faults: Vec::new(),
            switch_after: u64::MAX,
        };
        assert_eq!(run(&plan).outcome, Outcome::Converged, "schedule {schedule}");
    }
}

#[test]
fn the_naive_copy_is_found_out_and_made_small() {
    let (plan, _) = search(Strategy::Naive, 1, WORLDS, |_| {}).failed.expect("it is wrong");
    let (small, outcome) = shrink(&plan).unwrap();
    assert!(matches!(outcome, Outcome::Diverged(_)), "{outcome:?}");
    assert!(small.size() <= 8, "{small:#?}");
}

/// A row that is there and one that may be added; what happens to them.
fn kinds() -> [(&'static str, Vec<Op>); 5] {
    [
        ("insert", vec![Op::Insert(2, 2)]),
        ("update", vec![Op::Update(1)]),
        ("delete", vec![Op::Delete(1)]),
        ("key change", vec![Op::Rekey(1, 2)]),
        ("unique-value swap", vec![Op::Swap(1, 3)]),
    ]
}

/// Every order of copy, change and delivery that there is; in the last three a change is delivered before it is visible.
const ORDERS: [[Moment; 3]; 6] = [
    [Moment::Copy, Moment::Update, Moment::Binlog],
    [Moment::Update, Moment::Copy, Moment::Binlog],
    [Moment::Update, Moment::Binlog, Moment::Copy],
    [Moment::Binlog, Moment::Copy, Moment::Update],
    [Moment::Copy, Moment::Binlog, Moment::Update],
    [Moment::Binlog, Moment::Update, Moment::Copy],
];

#[test]
fn each_kind_of_change_survives_each_order_of_copy_update_and_binlog() {
    for strategy in Strategy::SAFE {
        for (kind, ops) in kinds() {
            for order in ORDERS {
                let mut seen = 0;
                for (chunk_rows, schedule) in (1..=3).flat_map(|n| (0..60).map(move |s| (n, s))) {
                    let transaction = Transaction { table: 0, ops: ops.clone(), commit: true };
                    let plan = Plan {
                        strategy,
                        schedule,
                        chunk_rows,
                        unique: true,
                        order: Some(order),
                        tables: vec![vec![(1, 1), (3, 3)]],
                        clients: vec![vec![transaction]],
                        faults: Vec::new(),
                        switch_after: u64::MAX,
                    };
                    let ran = run(&plan);
                    assert_eq!(ran.outcome, Outcome::Converged, "{strategy}, {kind}, {order:?}, {plan:?}");
                    seen += u32::from(ran.moments == order);
                }
                // A snapshot is copied before the stream begins: nothing is delivered before it.
                let at = |moment| order.iter().position(|m| *m == moment);
                let possible = strategy != Strategy::Snapshot || at(Moment::Copy) < at(Moment::Binlog);
                assert_eq!(seen > 0, possible, "{strategy}, {kind}, {order:?} happened {seen} times");
            }
        }
    }
}
