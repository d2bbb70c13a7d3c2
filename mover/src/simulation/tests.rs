//! The simulation itself: it repeats itself, finds what is wrong, and makes it small.

use super::*;

/// Worlds of each safe strategy in the tests; millions are a matter of the command.
const WORLDS: u64 = 1500;

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

#[test]
fn the_naive_copy_is_found_out_and_made_small() {
    let (plan, _) = search(Strategy::Naive, 1, WORLDS, |_| {}).failed.expect("it is wrong");
    let (small, outcome) = shrink(&plan).unwrap();
    assert!(matches!(outcome, Outcome::Diverged(_)), "{outcome:?}");
    assert!(small.size() <= 8, "{small:#?}");
}
