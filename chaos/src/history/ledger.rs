//! Which rows of the append-only ledger table must be there, may be there, and must not be there.
//!
//! A row is *acknowledged* when its autocommit insert was `ok`, or when it was executed in a transaction whose
//! `COMMIT` was `ok` and was not undone by a savepoint. It is *unknown* when that answer was lost. It is *absent*
//! when the server refused it, when its transaction was rolled back, or when no `COMMIT` was ever sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Entry, Event, Invoke, Kind};
use crate::error::Error;

/// A duplicate key: the row is there already, from wherever.
const DUPLICATE: u16 = 1062;

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
        let mut accounts = Accounts::default();
        for entry in entries {
            accounts.see(entry?.event);
        }
        Ok(accounts.close())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Ok,
    Fail(u16),
    Lost,
}

#[derive(Debug, Default)]
struct Transaction {
    executed: Vec<u64>,
    in_doubt: Vec<u64>,
    refused: Vec<u64>,
    /// How many ids were executed when the latest savepoint was set.
    savepoint: usize,
    commit: Option<Outcome>,
}

#[derive(Debug, Default)]
struct Accounts {
    /// Invocations without an outcome that matter to the ledger.
    open: HashMap<u64, Invoke>,
    transactions: BTreeMap<(u32, u64), Transaction>,
    ledger: Ledger,
}

impl Accounts {
    fn see(&mut self, event: Event) {
        match event {
            Event::Invoke(invoke) if invoke.tx.is_some() || !invoke.ledger.is_empty() => {
                self.open.insert(invoke.id, invoke);
            }
            Event::Ok { id, .. } => self.outcome(id, Outcome::Ok),
            Event::Fail { id, code, .. } => self.outcome(id, Outcome::Fail(code)),
            Event::Info { id, .. } => self.outcome(id, Outcome::Lost),
            _ => {}
        }
    }

    fn outcome(&mut self, id: u64, outcome: Outcome) {
        let Some(invoke) = self.open.remove(&id) else { return };
        let Some(tx) = invoke.tx else {
            match outcome {
                Outcome::Ok => self.ledger.acknowledged.extend(invoke.ledger),
                Outcome::Lost | Outcome::Fail(DUPLICATE) => self.ledger.unknown.extend(invoke.ledger),
                Outcome::Fail(_) => self.ledger.absent.extend(invoke.ledger),
            }
            return;
        };
        let transaction = self.transactions.entry((invoke.session, tx)).or_default();
        match (invoke.kind, outcome) {
            (_, Outcome::Fail(DUPLICATE)) => self.ledger.unknown.extend(invoke.ledger),
            (Kind::Commit, outcome) => transaction.commit = Some(outcome),
            (Kind::Savepoint, Outcome::Ok) => transaction.savepoint = transaction.executed.len(),
            (Kind::RollbackTo, Outcome::Ok) => {
                let undone = transaction.executed.split_off(transaction.savepoint);
                transaction.refused.extend(undone);
            }
            (_, Outcome::Ok) => transaction.executed.extend(invoke.ledger),
            (_, Outcome::Lost) => transaction.in_doubt.extend(invoke.ledger),
            (_, Outcome::Fail(_)) => transaction.refused.extend(invoke.ledger),
        }
    }

    fn close(mut self) -> Ledger {
        // What has no outcome at the end of the history was cut off: its answer is lost.
        let mut cut_off: Vec<u64> = self.open.keys().copied().collect();
        cut_off.sort_unstable();
        cut_off.into_iter().for_each(|id| self.outcome(id, Outcome::Lost));
        for transaction in self.transactions.into_values() {
            let Transaction { executed, in_doubt, refused, commit, .. } = transaction;
            match commit {
                Some(Outcome::Ok) => {
                    self.ledger.acknowledged.extend(executed);
                    self.ledger.unknown.extend(in_doubt);
                }
                Some(Outcome::Lost) => self.ledger.unknown.extend(executed.into_iter().chain(in_doubt)),
                Some(Outcome::Fail(_)) | None => {
                    self.ledger.absent.extend(executed.into_iter().chain(in_doubt))
                }
            }
            self.ledger.absent.extend(refused);
        }
        self.ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transaction, kind, ledger ids, outcome.
    type Step<'a> = (Option<u64>, Kind, &'a [u64], Option<Event>);

    /// Reads the ledger of a history with these steps.
    fn ledger(steps: &[Step]) -> Ledger {
        let mut entries = Vec::new();
        for (n, (tx, kind, ids, outcome)) in steps.iter().enumerate() {
            let id = n as u64 + 1;
            let (table, sql) = ("ledger".to_owned(), String::new());
            let invoke = Invoke { id, session: 1, tx: *tx, kind: *kind, table, sql, ledger: ids.to_vec() };
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
