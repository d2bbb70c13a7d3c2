//! Counting a history's statements by kind and outcome. A statement in a transaction is acknowledged when the
//! transaction's COMMIT is. What is written to tables that are not moved says nothing about a move: it is counted apart.

use std::collections::{BTreeMap, HashMap};

use converge_chaos::history::{Entry, Event, Invoke, Kind};
use converge_chaos::load::Written;

use crate::verdict::StatementCount;

/// Outcomes of one kind of statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Committed, by themselves or with their transaction, with an effect on at least one row.
    pub acknowledged: u64,
    /// Executed.
    pub ok: u64,
    /// Refused.
    pub fail: u64,
    /// Unknown.
    pub info: u64,
    /// Those of them that the history has no answer to.
    pub unanswered: u64,
}

/// All outcomes of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    kinds: BTreeMap<Kind, Outcomes>,
    /// Acknowledged writes to each moved table, by kind.
    moved: Written,
    /// When writes were acknowledged, microseconds since the run began, in order.
    acknowledged_at: Vec<u64>,
    /// When those to moved tables were.
    moved_at: Vec<u64>,
}

impl Tally {
    /// The outcomes of one kind, on all tables.
    pub fn of(&self, kind: Kind) -> Outcomes {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// Acknowledged writes of one kind to moved tables.
    pub fn moved(&self, kind: Kind) -> u64 {
        self.moved.values().filter_map(|kinds| kinds.get(&kind)).sum()
    }

    /// Acknowledged writes of all kinds to moved tables.
    pub fn acknowledged(&self) -> u64 {
        self.moved_at.len() as u64
    }

    /// Moved tables that no acknowledged write went to.
    pub fn untouched(&self) -> impl Iterator<Item = &str> {
        self.moved.iter().filter(|(_, kinds)| kinds.is_empty()).map(|(table, _)| table.as_str())
    }

    /// Writes acknowledged between two moments, in microseconds since the run began.
    pub fn acknowledged_between(&self, from_us: u64, to_us: u64) -> u64 {
        between(&self.acknowledged_at, from_us, to_us)
    }

    /// Those of them that went to moved tables.
    pub fn moved_between(&self, from_us: u64, to_us: u64) -> u64 {
        between(&self.moved_at, from_us, to_us)
    }

    /// As the report lists them.
    pub fn counts(&self) -> Vec<StatementCount> {
        self.kinds
            .iter()
            .map(|(kind, o)| StatementCount {
                kind: kind.name().into(),
                acknowledged: o.acknowledged,
                ok: o.ok,
                fail: o.fail,
                info: o.info,
            })
            .collect()
    }
}

fn between(moments: &[u64], from_us: u64, to_us: u64) -> u64 {
    moments.iter().filter(|at| (from_us..=to_us).contains(at)).count() as u64
}

#[derive(Default)]
struct Transaction {
    executed: Vec<(Kind, String)>,
    savepoint: usize,
}

/// Reads a history entry by entry.
#[derive(Default)]
pub struct Statements {
    open: HashMap<u64, Invoke>,
    transactions: HashMap<(u32, u64), Transaction>,
    tally: Tally,
}

impl Statements {
    /// Counts what happens to these tables, besides the rest.
    pub fn of(moved: &[String]) -> Self {
        let moved = moved.iter().map(|table| (table.clone(), BTreeMap::new())).collect();
        Self { tally: Tally { moved, ..Tally::default() }, ..Self::default() }
    }

    /// Takes the next entry.
    pub fn see(&mut self, entry: Entry) {
        match entry.event {
            Event::Invoke(invoke) => drop(self.open.insert(invoke.id, invoke)),
            Event::Ok { id, affected } => self.executed(id, affected > 0, entry.at_us),
            Event::Fail { id, .. } => self.ended(id, |o| o.fail += 1),
            Event::Info { id, .. } => self.ended(id, |o| o.info += 1),
            _ => {}
        }
    }

    /// The counts; what has no answer is of unknown outcome.
    pub fn finish(mut self) -> Tally {
        for invoke in std::mem::take(&mut self.open).into_values() {
            let outcomes = self.tally.kinds.entry(invoke.kind).or_default();
            outcomes.info += 1;
            outcomes.unanswered += 1;
        }
        self.tally
    }

    fn ended(&mut self, id: u64, count: impl FnOnce(&mut Outcomes)) {
        let Some(invoke) = self.open.remove(&id) else { return };
        count(self.tally.kinds.entry(invoke.kind).or_default());
        if let (Kind::Commit | Kind::Rollback, Some(tx)) = (invoke.kind, invoke.tx) {
            self.transactions.remove(&(invoke.session, tx));
        }
    }

    fn executed(&mut self, id: u64, effective: bool, at_us: u64) {
        let Some(invoke) = self.open.remove(&id) else { return };
        self.tally.kinds.entry(invoke.kind).or_default().ok += 1;
        let Some(tx) = invoke.tx else {
            if effective {
                self.acknowledge(invoke.kind, &invoke.table, at_us);
            }
            return;
        };
        let key = (invoke.session, tx);
        match invoke.kind {
            Kind::Commit => {
                self.acknowledge(Kind::Commit, "", at_us);
                for (kind, table) in self.transactions.remove(&key).unwrap_or_default().executed {
                    self.acknowledge(kind, &table, at_us);
                }
            }
            Kind::Rollback => drop(self.transactions.remove(&key)),
            kind => {
                let transaction = self.transactions.entry(key).or_default();
                match kind {
                    Kind::Savepoint => transaction.savepoint = transaction.executed.len(),
                    Kind::RollbackTo => transaction.executed.truncate(transaction.savepoint),
                    kind if effective => transaction.executed.push((kind, invoke.table)),
                    _ => {}
                }
            }
        }
    }

    fn acknowledge(&mut self, kind: Kind, table: &str, at_us: u64) {
        self.tally.kinds.entry(kind).or_default().acknowledged += 1;
        if !Kind::WRITES.contains(&kind) {
            return;
        }
        self.tally.acknowledged_at.push(at_us);
        if let Some(kinds) = self.tally.moved.get_mut(table) {
            *kinds.entry(kind).or_default() += 1;
            self.tally.moved_at.push(at_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(steps: &[(u64, Option<u64>, Kind, &str)]) -> Tally {
        let mut statements = Statements::of(&["moved".to_owned(), "idle".to_owned()]);
        for (at_us, (id, tx, kind, outcome)) in (0u64..).zip(steps) {
            let (id, tx) = (*id, *tx);
            let invoke = Invoke {
                id,
                session: 1,
                tx,
                kind: *kind,
                table: if *kind == Kind::Upsert { "stays" } else { "moved" }.into(),
                sql: String::new(),
                keys: vec![],
                ledger: vec![],
            };
            statements.see(Entry { at_us, event: Event::Invoke(invoke) });
            let event = match *outcome {
                "ok" => Event::Ok { id, affected: 1 },
                "void" => Event::Ok { id, affected: 0 },
                "fail" => Event::Fail { id, code: 1, message: String::new() },
                "info" => Event::Info { id, message: String::new() },
                _ => continue,
            };
            statements.see(Entry { at_us, event });
        }
        statements.finish()
    }

    #[test]
    fn only_what_was_committed_is_acknowledged() {
        let t = tally(&[
            (1, None, Kind::Insert, "ok"),
            (2, Some(1), Kind::Update, "ok"),
            (3, Some(1), Kind::Savepoint, "ok"),
            (4, Some(1), Kind::Delete, "ok"),
            (5, Some(1), Kind::RollbackTo, "ok"),
            (6, Some(1), Kind::Commit, "ok"),
            (7, Some(2), Kind::Update, "ok"),
            (8, Some(2), Kind::Commit, "info"),
            (9, Some(3), Kind::Update, "ok"),
            (10, Some(3), Kind::Rollback, "ok"),
            (11, None, Kind::Insert, "fail"),
            (12, None, Kind::Insert, "never"),
            (13, None, Kind::Replace, "void"),
            (3, None, Kind::Upsert, "ok"),
        ]);
        assert_eq!(t.of(Kind::Insert), Outcomes { acknowledged: 1, ok: 1, fail: 1, info: 1, unanswered: 1 });
        assert_eq!(t.of(Kind::Update), Outcomes { acknowledged: 1, ok: 3, ..Outcomes::default() });
        assert_eq!(t.of(Kind::Delete), Outcomes { ok: 1, ..Outcomes::default() });
        assert_eq!(t.of(Kind::Replace), Outcomes { ok: 1, ..Outcomes::default() });
        assert_eq!((t.acknowledged(), t.moved_between(1, 5)), (2, 1));
        // What stays on the source is counted, and is no load on the move.
        assert_eq!((t.of(Kind::Upsert).acknowledged, t.moved(Kind::Upsert)), (1, 0));
        assert_eq!((t.moved(Kind::Insert), t.moved(Kind::Update)), (1, 1));
        assert_eq!(t.untouched().collect::<Vec<_>>(), ["idle"]);
    }
}
