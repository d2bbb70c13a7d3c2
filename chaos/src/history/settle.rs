//! What became of the statements of a history, together with the transactions around them.
//!
//! A statement is *acknowledged* when it was `ok` in autocommit, or when it was executed in a transaction whose `COMMIT`
//! was `ok` and was not undone by a savepoint. It is *unknown* when that answer was lost. It is *absent* when the server
//! refused it, when its transaction was rolled back, or when no `COMMIT` was ever sent.

use std::collections::{BTreeMap, HashMap};

use super::{Entry, Event, Invoke, Kind};
use crate::error::Error;

/// Facts about statements, by what became of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled<T> {
    /// Facts that hold.
    pub acknowledged: Vec<T>,
    /// Facts that may hold.
    pub unknown: Vec<T>,
    /// Facts that do not hold.
    pub absent: Vec<T>,
}

impl<T> Default for Settled<T> {
    fn default() -> Self {
        Self { acknowledged: Vec::new(), unknown: Vec::new(), absent: Vec::new() }
    }
}

/// Reads a history, such as [`super::read`] gives, and settles what `facts` takes from each invocation and the moment
/// at which it was sent, in microseconds since the run began.
pub fn settle<T>(
    entries: impl IntoIterator<Item = Result<Entry, Error>>,
    facts: impl Fn(u64, &Invoke) -> Vec<T>,
) -> Result<Settled<T>, Error> {
    let mut accounts = Accounts::default();
    for entry in entries {
        let Entry { at_us, event } = entry?;
        match event {
            Event::Invoke(invoke) => {
                let facts = facts(at_us, &invoke);
                if invoke.tx.is_some() || !facts.is_empty() {
                    accounts.open.insert(invoke.id, Statement::of(&invoke, facts));
                }
            }
            Event::Ok { id, affected } => accounts.outcome(id, Outcome::Ok(affected)),
            Event::Fail { id, code, .. } => accounts.outcome(id, Outcome::Fail(code)),
            Event::Info { id, .. } => accounts.outcome(id, Outcome::Lost),
            _ => {}
        }
    }
    Ok(accounts.close())
}

/// A duplicate key: the row is there already, from wherever.
const DUPLICATE: u16 = 1062;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// With the number of rows that it changed.
    Ok(u64),
    Fail(u16),
    Lost,
}

#[derive(Debug)]
struct Statement<T> {
    session: u32,
    tx: Option<u64>,
    kind: Kind,
    facts: Vec<T>,
}

impl<T> Statement<T> {
    fn of(invoke: &Invoke, facts: Vec<T>) -> Self {
        Self { session: invoke.session, tx: invoke.tx, kind: invoke.kind, facts }
    }
}

#[derive(Debug)]
struct Transaction<T> {
    executed: Vec<T>,
    in_doubt: Vec<T>,
    refused: Vec<T>,
    /// How many facts there were when the latest savepoint was set.
    savepoint: usize,
    commit: Option<Outcome>,
}

impl<T> Default for Transaction<T> {
    fn default() -> Self {
        Self { executed: Vec::new(), in_doubt: Vec::new(), refused: Vec::new(), savepoint: 0, commit: None }
    }
}

#[derive(Debug)]
struct Accounts<T> {
    /// Invocations without an outcome that matter.
    open: HashMap<u64, Statement<T>>,
    transactions: BTreeMap<(u32, u64), Transaction<T>>,
    settled: Settled<T>,
}

impl<T> Default for Accounts<T> {
    fn default() -> Self {
        Self { open: HashMap::new(), transactions: BTreeMap::new(), settled: Settled::default() }
    }
}

impl<T> Accounts<T> {
    fn outcome(&mut self, id: u64, outcome: Outcome) {
        let Some(statement) = self.open.remove(&id) else { return };
        let Statement { session, tx, kind, facts } = statement;
        let Some(tx) = tx else {
            match outcome {
                Outcome::Ok(0) => self.settled.absent.extend(facts),
                Outcome::Ok(_) => self.settled.acknowledged.extend(facts),
                Outcome::Lost | Outcome::Fail(DUPLICATE) => self.settled.unknown.extend(facts),
                Outcome::Fail(_) => self.settled.absent.extend(facts),
            }
            return;
        };
        let transaction = self.transactions.entry((session, tx)).or_default();
        match (kind, outcome) {
            (_, Outcome::Fail(DUPLICATE)) => self.settled.unknown.extend(facts),
            (Kind::Commit, outcome) => transaction.commit = Some(outcome),
            (Kind::Savepoint, Outcome::Ok(_)) => transaction.savepoint = transaction.executed.len(),
            (Kind::RollbackTo, Outcome::Ok(_)) => {
                let undone = transaction.executed.split_off(transaction.savepoint);
                transaction.refused.extend(undone);
            }
            (_, Outcome::Ok(0)) => transaction.refused.extend(facts),
            (_, Outcome::Ok(_)) => transaction.executed.extend(facts),
            (_, Outcome::Lost) => transaction.in_doubt.extend(facts),
            (_, Outcome::Fail(_)) => transaction.refused.extend(facts),
        }
    }

    fn close(mut self) -> Settled<T> {
        // What has no outcome at the end of the history was cut off: its answer is lost.
        let mut cut_off: Vec<u64> = self.open.keys().copied().collect();
        cut_off.sort_unstable();
        cut_off.into_iter().for_each(|id| self.outcome(id, Outcome::Lost));
        for transaction in self.transactions.into_values() {
            let Transaction { executed, in_doubt, refused, commit, .. } = transaction;
            match commit {
                Some(Outcome::Ok(_)) => {
                    self.settled.acknowledged.extend(executed);
                    self.settled.unknown.extend(in_doubt);
                }
                Some(Outcome::Lost) => self.settled.unknown.extend(executed.into_iter().chain(in_doubt)),
                Some(Outcome::Fail(_)) | None => {
                    self.settled.absent.extend(executed.into_iter().chain(in_doubt));
                }
            }
            self.settled.absent.extend(refused);
        }
        self.settled
    }
}
