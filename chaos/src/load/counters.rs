//! What was answered, counted by kind of statement while the load runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::history::Kind;

/// Live counts. Reading them does not disturb the load.
#[derive(Debug, Default)]
pub struct Counters {
    kinds: [Cell; Kind::ALL.len()],
    written: Mutex<Written>,
}

/// Acknowledged writes, by table and kind.
pub type Written = BTreeMap<String, BTreeMap<Kind, u64>>;

#[derive(Debug, Default)]
struct Cell {
    ok: AtomicU64,
    fail: AtomicU64,
    info: AtomicU64,
    acknowledged: AtomicU64,
}

/// The counts of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct KindCounts {
    /// Executed; in a transaction that need not mean committed.
    pub ok: u64,
    /// Refused.
    pub fail: u64,
    /// Answer lost.
    pub info: u64,
    /// Executed, changed at least one row, and committed with an answer. For `commit` and the like: answered.
    pub acknowledged: u64,
}

/// The counts of all kinds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// By kind, in the order of [`Kind::ALL`].
    pub kinds: Vec<(Kind, KindCounts)>,
}

impl Totals {
    /// The counts of one kind.
    pub fn of(&self, kind: Kind) -> KindCounts {
        self.kinds.iter().find(|(k, _)| *k == kind).map(|(_, counts)| *counts).unwrap_or_default()
    }

    /// All kinds together.
    pub fn sum(&self) -> KindCounts {
        self.kinds.iter().fold(KindCounts::default(), |sum, (_, c)| KindCounts {
            ok: sum.ok + c.ok,
            fail: sum.fail + c.fail,
            info: sum.info + c.info,
            acknowledged: sum.acknowledged + c.acknowledged,
        })
    }

    /// Acknowledged statements that changed rows.
    pub fn acknowledged_writes(&self) -> u64 {
        Kind::WRITES.iter().map(|kind| self.of(*kind).acknowledged).sum()
    }
}

impl Counters {
    fn cell(&self, kind: Kind) -> &Cell {
        // The enum's order is that of `Kind::ALL`.
        &self.kinds[kind as usize]
    }

    pub(super) fn ok(&self, kind: Kind) {
        self.cell(kind).ok.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, kind: Kind) {
        self.cell(kind).fail.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn info(&self, kind: Kind) {
        self.cell(kind).info.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn acknowledged(&self, kind: Kind) {
        self.cell(kind).acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// The same for a write to a table.
    pub(super) fn written_to(&self, table: &str, kind: Kind) {
        self.acknowledged(kind);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kinds) = written.get_mut(table) {
            *kinds.entry(kind).or_default() += 1;
        } else {
            written.insert(table.to_owned(), BTreeMap::from([(kind, 1)]));
        }
    }

    /// Acknowledged writes by now.
    pub fn written(&self) -> Written {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counts now.
    pub fn totals(&self) -> Totals {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let kinds = Kind::ALL.map(|kind| {
            let c = self.cell(kind);
            let (ok, fail, info) = (read(&c.ok), read(&c.fail), read(&c.info));
            (kind, KindCounts { ok, fail, info, acknowledged: read(&c.acknowledged) })
        });
        Totals { kinds: kinds.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_cell_of_its_own() {
        let counters = Counters::default();
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| counters.ok(kind));
        }
        let totals = counters.totals();
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(totals.of(kind).ok, n as u64 + 1);
        }
    }
}
