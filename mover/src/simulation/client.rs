//! Clients of the source: they lock rows, change them, and commit or roll back. A row stays locked until its change is
//! visible to everybody, as in InnoDB.

use std::collections::BTreeMap;

use super::locks::Lock;
use super::plan::{Op, Transaction};
use super::world::{Shared, row};
use crate::change::Change;

/// Steps that a client waits for a lock before it rolls back.
const PATIENCE: u32 = 40;

/// Carries out its transactions, one after the other.
pub async fn run(world: Shared, number: usize, transactions: Vec<Transaction>) {
    for transaction in &transactions {
        world.steps.turn().await;
        let open = Open::begin(&world, number, transaction.table);
        open.run(transaction).await;
    }
    world.now().clients -= 1;
}

/// A row as it is, or its absence.
type Seen = Option<(i64, i64)>;

/// A transaction in progress.
struct Open<'a> {
    world: &'a Shared,
    name: String,
    id: u64,
    table: usize,
    life: u64,
    /// What it changed.
    own: BTreeMap<i64, Seen>,
    changes: Vec<Change>,
}

impl<'a> Open<'a> {
    fn begin(world: &'a Shared, number: usize, table: usize) -> Self {
        let id = world.id();
        let life = world.now().source.life;
        let name = format!("client {}", number + 1);
        Self { world, name, id, table, life, own: BTreeMap::new(), changes: Vec::new() }
    }

    async fn run(mut self, transaction: &Transaction) {
        for op in &transaction.ops {
            self.world.steps.turn().await;
            if !self.touch() {
                self.world.tell(|| format!("{}: {op} is refused: the table is fenced", self.name));
                return self.roll_back();
            }
            if !self.lock(op).await {
                self.world
                    .tell(|| format!("{}: gives up waiting for a lock, or the source is gone", self.name));
                return self.roll_back();
            }
            let before = self.changes.len();
            self.carry_out(op);
            let refused = self.changes.len() == before;
            self.world
                .tell(|| format!("{}: {op}{}", self.name, if refused { " (changes nothing)" } else { "" }));
        }
        self.world.steps.turn().await;
        if !transaction.commit || self.changes.is_empty() || self.lost() {
            self.world.tell(|| format!("{}: ROLLBACK", self.name));
            return self.roll_back();
        }
        let changes = std::mem::take(&mut self.changes);
        self.world.tell(|| format!("{}: COMMIT: in the log, not visible yet", self.name));
        let known = self.world.commit(self.id, changes, None).await;
        if known {
            self.world.tell(|| format!("{}: its commit is visible", self.name));
        }
    }

    /// From its first statement on a transaction keeps a table from being renamed; a renamed one is not there any more.
    fn touch(&self) -> bool {
        let mut world = self.world.now();
        let source = &mut world.source;
        let may = source.life == self.life && (!source.fenced || source.open.contains(&self.id));
        if may {
            source.open.insert(self.id);
        }
        may
    }

    fn lost(&self) -> bool {
        self.world.now().source.life != self.life
    }

    fn roll_back(self) {
        let mut world = self.world.now();
        if world.source.life == self.life {
            world.source.release(self.id);
        }
    }

    /// Locks what a statement looks at and changes. What that is depends on rows that may change meanwhile.
    async fn lock(&mut self, op: &Op) -> bool {
        for _ in 0..PATIENCE {
            if self.lost() {
                return false;
            }
            let wanted = self.wanted(op);
            if self.world.now().source.locks.take(self.id, &wanted) && self.wanted(op) == wanted {
                return true;
            }
            self.world.steps.turn().await;
        }
        false
    }

    fn wanted(&self, op: &Op) -> Vec<Lock> {
        let (keys, unique) = match *op {
            Op::Insert(k, u) | Op::SetUnique(k, u) | Op::Replace(k, u) => (vec![k], Some(u)),
            Op::Update(k) | Op::Delete(k) => (vec![k], None),
            Op::Rekey(a, b) | Op::Swap(a, b) => (vec![a, b], None),
        };
        let holder = unique.filter(|_| matches!(op, Op::Replace(..))).and_then(|u| self.holder(u));
        let keys: Vec<i64> = keys.into_iter().chain(holder).collect();
        let uniques = keys.iter().filter_map(|k| self.row(*k).map(|(u, _)| u)).chain(unique);
        let uniques: Vec<Lock> = uniques.map(|u| Lock::Unique(self.table, u)).collect();
        keys.into_iter().map(|k| Lock::Key(self.table, k)).chain(uniques).collect()
    }

    fn row(&self, key: i64) -> Seen {
        let visible = || self.world.now().source.visible[self.table].get(&key).copied();
        self.own.get(&key).copied().unwrap_or_else(visible)
    }

    /// The key of the row that has a unique value.
    fn holder(&self, unique: i64) -> Option<i64> {
        if !self.world.now().unique {
            return None;
        }
        let visible: Vec<i64> = self.world.now().source.visible[self.table].keys().copied().collect();
        let mut keys = visible.into_iter().chain(self.own.keys().copied());
        keys.find(|key| self.row(*key).is_some_and(|(u, _)| u == unique))
    }

    fn carry_out(&mut self, op: &Op) {
        match *op {
            Op::Insert(k, u) if self.row(k).is_none() && self.holder(u).is_none() => {
                self.set(k, Some((u, 0)))
            }
            Op::Update(k) => self.change(k, |(u, version)| (u, version + 1)),
            Op::SetUnique(k, u) if self.holder(u).is_none() => self.change(k, |(_, v)| (u, v + 1)),
            Op::Delete(k) if self.row(k).is_some() => self.set(k, None),
            Op::Rekey(a, b) if self.row(b).is_none() => self.rekey(a, b),
            Op::Swap(a, b) if a != b => self.swap(a, b),
            Op::Replace(k, u) => self.replace(k, u),
            _ => {}
        }
    }

    fn change(&mut self, key: i64, how: impl FnOnce((i64, i64)) -> (i64, i64)) {
        if let Some(now) = self.row(key) {
            self.set(key, Some(how(now)));
        }
    }

    fn rekey(&mut self, key: i64, to: i64) {
        if let Some((unique, version)) = self.row(key) {
            let (before, after) = (row(key, (unique, version)), row(to, (unique, version + 1)));
            self.changes.push(Change::Update { table: self.table, before, after });
            self.own.insert(key, None);
            self.own.insert(to, Some((unique, version + 1)));
        }
    }

    /// Over a value that nobody else has, as clients must.
    fn swap(&mut self, a: i64, b: i64) {
        if let (Some((of_a, _)), Some((of_b, _))) = (self.row(a), self.row(b)) {
            self.change(a, |(_, v)| (-1 - a, v + 1));
            self.change(b, |(_, v)| (of_a, v + 1));
            self.change(a, |(_, v)| (of_b, v + 1));
        }
    }

    fn replace(&mut self, key: i64, unique: i64) {
        if let Some(other) = self.holder(unique).filter(|other| *other != key) {
            self.set(other, None);
        }
        let version = self.row(key).map_or(0, |(_, version)| version + 1);
        self.set(key, Some((unique, version)));
    }

    /// Writes a row, or removes it, and notes the change.
    fn set(&mut self, key: i64, to: Seen) {
        let table = self.table;
        let before = self.row(key).map(|seen| row(key, seen));
        let after = to.map(|seen| row(key, seen));
        self.own.insert(key, to);
        self.changes.push(match (before, after) {
            (None, Some(after)) => Change::Insert { table, after },
            (Some(before), Some(after)) => Change::Update { table, before, after },
            (Some(before), None) => Change::Delete { table, before },
            (None, None) => return,
        });
    }
}
