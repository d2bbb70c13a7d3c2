//! The rehearsal in which a planted bug can do its harm: as short as it may be, with the fault that the bug waits for.

use converge_chaos::load::LoadPlan;
use converge_mover::planted::Bug;

use crate::scenario::{Copy, Fault, FaultKind, Least, Scenario};

/// The scenario for a bug.
pub fn scenario(bug: Bug, seed: u64) -> Scenario {
    let copy = Copy { strategy: strategy(bug).into(), chunk_rows: 250, rows_per_second: 1500 };
    let load = LoadPlan {
        seed,
        rows: 4000,
        statements_per_second: Some(700.0),
        // Rows change while their chunk is on its way only if many of few rows are written to.
        hot_share: 0.5,
        ..LoadPlan::default()
    };
    Scenario {
        name: format!("selftest-{}", bug.id()),
        copy,
        load,
        least: Least { each_kind: 5, during_copy: 50, catch_up_seconds: catch_up_seconds(bug) },
        settle_seconds: settle_seconds(bug),
        limit_seconds: 90.0,
        faults: faults(bug),
        ..Scenario::default()
    }
}

fn strategy(bug: Bug) -> &'static str {
    match bug {
        Bug::LockingWithoutLock => "locking",
        Bug::RemovedForgotten => "delete_history",
        _ => "watermark",
    }
}

/// What goes by while all goes on needs time to be seen.
fn settle_seconds(bug: Bug) -> f64 {
    match bug {
        Bug::TransactionSplit | Bug::InsertLate => 12.0,
        Bug::UpdateUndone | Bug::CheckpointBack => 8.0,
        Bug::SourceRowLost | Bug::StrayTable => 4.0,
        _ => 1.0,
    }
}

fn catch_up_seconds(bug: Bug) -> f64 {
    match bug {
        Bug::SlowAfterReconnect => 5.0,
        _ => Least::default().catch_up_seconds,
    }
}

fn faults(bug: Bug) -> Vec<Fault> {
    let fault = |kind, at_copied, hold_seconds| Fault { at_copied, hold_seconds, ..Fault::new(kind) };
    match bug {
        // What happens while a chunk is on its way needs a way that takes time.
        Bug::DeleteInWindow | Bug::UpdateInWindow | Bug::OldKeyInWindow | Bug::RemovedForgotten => {
            vec![fault(FaultKind::NetworkLatency, Some(0.05), 12.0)]
        }
        Bug::ResumeSkipsChunk | Bug::ResumeAtPresent => vec![fault(FaultKind::KillMover, Some(0.4), 0.5)],
        Bug::PositionBeforeRows => {
            vec![fault(FaultKind::KillMover, Some(0.5), 0.1), fault(FaultKind::KillMover, None, 0.1)]
        }
        Bug::AfterReconnect | Bug::StallsAfterReconnect | Bug::SlowAfterReconnect => {
            vec![fault(FaultKind::KillConnections, None, 0.1)]
        }
        // A server that starts gives ids from below on: after the second start those of the first.
        Bug::TableIdReused => {
            vec![fault(FaultKind::KillSource, Some(0.3), 0.1), fault(FaultKind::KillSource, Some(0.6), 0.1)]
        }
        Bug::AfterRotation => {
            vec![fault(FaultKind::RotateLog, None, 0.1), fault(FaultKind::RotateLog, None, 0.1)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_scenario_that_can_be_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bug in Bug::ALL {
            let scenario = scenario(*bug, 3);
            std::fs::write(file.path(), scenario.to_toml()).unwrap();
            assert_eq!(Scenario::read(file.path()).unwrap(), scenario, "{}", bug.id());
        }
    }
}
