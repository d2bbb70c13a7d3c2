//! A world in memory in which the mover's own code runs: tables with primary and unique keys, clients with
//! transactions, a log with positions, the gap between an event being delivered and its row being visible, lost
//! connections, crashes of every party, purged logs. Everything happens in an order that is drawn from a seed.
//!
//! It shows what order of events a strategy does not survive; it says nothing about real servers. Nothing in it reads
//! a clock or draws from anything but its seed: the same plan gives the same trace, always.

mod client;
mod locks;
mod outcome;
mod plan;
mod reduce;
mod schedule;
mod shrink;
mod source;
mod switching;
mod target;
mod world;

pub use outcome::{Outcome, Ran, run, traced};
pub use plan::{Fault, FaultKind, Moment, Op, Plan, Transaction};
pub use reduce::Reduction;
pub use shrink::shrink;

use crate::copy::Strategy;

/// What many worlds came to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Worlds in which source and target were equal in the end.
    pub converged: u64,
    /// Worlds that stopped loudly, for a reason that was planned.
    pub stopped: u64,
    /// The first plan that failed, with how.
    pub failed: Option<(Plan, Outcome)>,
}

/// Runs `worlds` worlds of `strategy`, the first from `seed` and each further one from the next number, until one fails.
pub fn search(strategy: Strategy, seed: u64, worlds: u64, mut progress: impl FnMut(u64)) -> Tally {
    let mut tally = Tally::default();
    for number in 0..worlds {
        let plan = Plan::drawn(strategy, seed.wrapping_add(number));
        match run(&plan).outcome {
            Outcome::Converged => tally.converged += 1,
            Outcome::Stopped(_) if plan.may_stop() => tally.stopped += 1,
            outcome => {
                tally.failed = Some((plan, outcome));
                break;
            }
        }
        progress(number + 1);
    }
    tally
}

#[cfg(test)]
mod tests;
