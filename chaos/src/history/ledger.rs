//! Which rows of the append-only ledger table must be there, may be there, and must not be there: see [`settle`] for
//! what makes a statement acknowledged, unknown or absent.

use std::collections::BTreeSet;

use super::{Entry, settle};
use crate::error::Error;

/// The accounts of the ledger table at the end of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Ids that must be in the table.
    pub acknowledged: BTreeSet<u64>,
    /// Ids that may be in the table.
    pub unknown: BTreeSet<u64>,
    /// Ids that must not be in the table.
    pub absent: BTreeSet<u64>,
}

impl Ledger {
    /// Reads the accounts out of a history, such as [`super::read`] gives.
    pub fn of(entries: impl IntoIterator<Item = Result<Entry, Error>>) -> Result<Self, Error> {
        let settled = settle(entries, |_, invoke| invoke.ledger.clone())?;
        let mut ledger = Self {
            acknowledged: settled.acknowledged.into_iter().collect(),
            unknown: settled.unknown.into_iter().collect(),
            absent: settled.absent.into_iter().collect(),
        };
        // A unit that was given up and sent again is absent once; what counts is where it ended.
        ledger.unknown.retain(|id| !ledger.acknowledged.contains(id));
        ledger.absent.retain(|id| !ledger.acknowledged.contains(id) && !ledger.unknown.contains(id));
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Invoke, Kind};
    use super::*;

    /// Transaction, kind, ledger ids, outcome.
    type Step<'a> = (Option<u64>, Kind, &'a [u64], Option<Event>);

    /// Reads the ledger of a history with these steps.
    fn ledger(steps: &[Step]) -> Ledger {
        let mut entries = Vec::new();
        for (n, (tx, kind, ids, outcome)) in steps.iter().enumerate() {
            let id = n as u64 + 1;
            let (table, sql) = ("ledger".to_owned(), String::new());
            let invoke = Invoke {
                id,
                session: 1,
                tx: *tx,
                kind: *kind,
                table,
                sql,
                keys: vec![],
                ledger: ids.to_vec(),
            };
            entries.push(Event::Invoke(invoke));
            let outcome = outcome.clone().map(|mut event| {
                if let Event::Ok { id: i, .. } | Event::Fail { id: i, .. } | Event::Info { id: i, .. } =
                    &mut event
                {
                    *i = id;
                }
                event
            });
            entries.extend(outcome);
        }
        Ledger::of(entries.into_iter().map(|event| Ok(Entry { at_us: 0, event }))).unwrap()
    }

    fn ok() -> Option<Event> {
        Some(Event::Ok { id: 0, affected: 1 })
    }

    fn fail(code: u16) -> Option<Event> {
        Some(Event::Fail { id: 0, code, message: String::new() })
    }

    fn info() -> Option<Event> {
        Some(Event::Info { id: 0, message: String::new() })
    }

    #[track_caller]
    fn assert_ledger(ledger: &Ledger, acknowledged: &[u64], unknown: &[u64], absent: &[u64]) {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(ledger.acknowledged, set(acknowledged), "acknowledged");
        assert_eq!(ledger.unknown, set(unknown), "unknown");
        assert_eq!(ledger.absent, set(absent), "absent");
    }

    #[test]
    fn autocommit_inserts_count_by_their_own_answer() {
        let l = ledger(&[
            (None, Kind::Insert, &[1], ok()),
            (None, Kind::Insert, &[2], fail(1205)),
            (None, Kind::Insert, &[3], info()),
            (None, Kind::Insert, &[4], None),
            (None, Kind::Insert, &[5], fail(1062)),
        ]);
        assert_ledger(&l, &[1], &[3, 4, 5], &[2]);
    }

    #[test]
    fn transactions_count_by_their_commit() {
        let l = ledger(&[
            (Some(1), Kind::Insert, &[1], ok()),
            (Some(1), Kind::Commit, &[], ok()),
            (Some(2), Kind::Insert, &[2], ok()),
            (Some(2), Kind::Commit, &[], info()),
            (Some(3), Kind::Insert, &[3], ok()),
            (Some(3), Kind::Commit, &[], None),
            (Some(4), Kind::Insert, &[4], ok()),
            (Some(4), Kind::Rollback, &[], ok()),
            (Some(5), Kind::Insert, &[5], ok()),
            (Some(6), Kind::Insert, &[6], info()),
            (Some(7), Kind::Insert, &[7], ok()),
            (Some(7), Kind::Commit, &[], fail(1213)),
            (Some(8), Kind::Insert, &[8], ok()),
            (Some(8), Kind::Rollback, &[], info()),
            (Some(9), Kind::Insert, &[9], fail(1062)),
        ]);
        assert_ledger(&l, &[1], &[2, 3, 9], &[4, 5, 6, 7, 8]);
    }

    #[test]
    fn what_was_sent_again_counts_by_its_last_answer() {
        let l = ledger(&[
            (Some(1), Kind::Insert, &[1, 2], ok()),
            (Some(1), Kind::Update, &[], fail(1213)),
            (Some(1), Kind::Rollback, &[], ok()),
            (Some(2), Kind::Insert, &[1], ok()),
            (Some(2), Kind::Commit, &[], ok()),
            (None, Kind::Insert, &[2], info()),
            (None, Kind::Insert, &[3], fail(1205)),
            (None, Kind::Insert, &[3], ok()),
        ]);
        assert_ledger(&l, &[1, 3], &[2], &[]);
    }

    #[test]
    fn savepoints_undo_what_came_after_them() {
        let l = ledger(&[
            (Some(1), Kind::Insert, &[1], ok()),
            (Some(1), Kind::Savepoint, &[], ok()),
            (Some(1), Kind::Insert, &[2, 3], ok()),
            (Some(1), Kind::RollbackTo, &[], ok()),
            (Some(1), Kind::Insert, &[4], ok()),
            (Some(1), Kind::Commit, &[], ok()),
        ]);
        assert_ledger(&l, &[1, 4], &[], &[2, 3]);
    }
}
