//! The simulated target: transactions with a checkpoint, alarms, and the rule that must hold at every commit.

use super::locks::Lock;
use super::source::applied;
use super::world::{Rows, Shared, int};
use crate::apply::plan::{Operation, Step};
use crate::error::{Error, Result, Side};
use crate::target::{Checkpoint, ChunkRows, Onto, Target};
use crate::value::Row;

/// A connection of the mover to the target. Several may have transactions open; a row that one of them touched is
/// locked until its end.
pub struct SimTarget {
    world: Shared,
    id: u64,
    line: u64,
    /// The rows that the open transaction touched.
    touched: Vec<(usize, i64)>,
}

impl SimTarget {
    /// Connects.
    pub async fn connect(world: &Shared) -> Result<Self> {
        world.steps.turn().await;
        let id = world.id();
        let line = world.now().target.line;
        Ok(Self { world: world.clone(), id, line, touched: Vec::new() })
    }

    async fn turn(&self) -> Result<()> {
        self.world.steps.turn().await;
        match self.world.now().target.line == self.line {
            true => Ok(()),
            false => Err(super::source::lost(Side::Target)),
        }
    }

    /// Does something to a row as soon as nobody else has it, or its unique value.
    async fn touch(
        &mut self,
        table: usize,
        row: &Row,
        does: impl FnOnce(&mut Rows, bool) -> Result<()>,
    ) -> Result<()> {
        let (key, value) = (int(&row[0]), int(&row[1]));
        let free = || {
            let mut world = self.world.now();
            let unique = world.unique;
            let target = &mut world.target;
            let held = holder(&target.live[table], row, unique);
            let locks: Vec<Lock> = std::iter::once(Lock::Key(table, key))
                .chain(held.map(|other| Lock::Key(table, other)))
                .chain(unique.then_some(Lock::Unique(table, value)))
                .collect();
            let gone = target.line != self.line;
            (gone || target.locks.take(self.id, &locks)).then_some(held)
        };
        let held = self.world.steps.until(free).await;
        let mut world = self.world.now();
        if world.target.line != self.line {
            return Err(super::source::lost(Side::Target));
        }
        self.touched.extend(std::iter::once(key).chain(held).map(|key| (table, key)));
        let unique = world.unique;
        does(&mut world.target.live[table], unique)
    }

    fn told(&self, line: impl FnOnce() -> String) {
        self.world.tell(|| format!("target: {}", line()));
    }
}

impl Drop for SimTarget {
    fn drop(&mut self) {
        let mut world = self.world.now();
        let target = &mut world.target;
        if target.line == self.line {
            for (table, key) in self.touched.drain(..) {
                let row = target.rows[table].get(&key).copied();
                set(&mut target.live[table], key, row);
            }
            target.locks.release(self.id);
        }
    }
}

fn set(rows: &mut Rows, key: i64, row: Option<(i64, i64)>) {
    match row {
        Some(row) => drop(rows.insert(key, row)),
        None => drop(rows.remove(&key)),
    }
}

fn alarm(evidence: String) -> Error {
    Error::Diverged { position: "here".into(), evidence }
}

/// The key of another row that has the unique value of `row`.
fn holder(rows: &Rows, row: &Row, unique: bool) -> Option<i64> {
    if !unique {
        return None;
    }
    let (key, value) = (int(&row[0]), int(&row[1]));
    rows.iter().find(|(k, (u, _))| **k != key && *u == value).map(|(k, _)| *k)
}

fn put(rows: &mut Rows, row: &Row) {
    rows.insert(int(&row[0]), (int(&row[1]), int(&row[2])));
}

/// INSERT: whatever is in the way is an alarm.
fn insert(rows: &mut Rows, row: &Row, unique: bool) -> Result<()> {
    if rows.contains_key(&int(&row[0])) {
        return Err(alarm(format!("duplicate key {}", int(&row[0]))));
    }
    if let Some(other) = holder(rows, row, unique) {
        return Err(alarm(format!("duplicate unique value {}, which key {other} has", int(&row[1]))));
    }
    put(rows, row);
    Ok(())
}

fn carry_out(rows: &mut Rows, operation: Operation, row: &Row, unique: bool) -> Result<()> {
    let key = int(&row[0]);
    match operation {
        Operation::Insert => insert(rows, row, unique)?,
        Operation::Replace => {
            if let Some(other) = holder(rows, row, unique) {
                rows.remove(&other);
            }
            put(rows, row);
        }
        Operation::Update { must_exist } => {
            if must_exist && !rows.contains_key(&key) {
                return Err(alarm(format!("key {key} is to be changed and is not there")));
            }
            put(rows, row);
        }
        // These tables have a key.
        Operation::DeleteEqual => return Err(alarm(format!("key {key} is removed as if there were no key"))),
        Operation::Delete { must_exist } => {
            if rows.remove(&key).is_none() && must_exist {
                return Err(alarm(format!("key {key} is to be removed and is not there")));
            }
        }
    }
    Ok(())
}

fn write(rows: &mut Rows, row: &Row, onto: Onto, unique: bool) -> Result<()> {
    match onto {
        Onto::Nothing => insert(rows, row, unique),
        Onto::Equal => {
            rows.remove(&int(&row[0]));
            insert(rows, row, unique)
        }
        Onto::Newer => {
            if !rows.contains_key(&int(&row[0])) && holder(rows, row, unique).is_none() {
                put(rows, row);
            }
            Ok(())
        }
    }
}

impl Target for SimTarget {
    fn changes_in_place(&self, _table: usize) -> bool {
        !self.world.now().unique
    }

    async fn run(&mut self, steps: Vec<Step>) -> Result<()> {
        for Step { table, operation, rows } in steps {
            self.told(|| format!("{operation:?} {} in table {table}", keys(&rows)));
            self.turn().await?;
            for row in &rows {
                self.touch(table, row, |rows, unique| carry_out(rows, operation, row, unique)).await?;
            }
        }
        Ok(())
    }

    async fn write_chunk(&mut self, chunk: ChunkRows, onto: Onto) -> Result<()> {
        self.told(|| format!("writes the chunk {} into table {}", keys(&chunk.rows), chunk.table));
        // The stream may come in between, wherever that has its way.
        for row in &chunk.rows {
            self.turn().await?;
            self.touch(chunk.table, row, |rows, unique| write(rows, row, onto, unique)).await?;
        }
        Ok(())
    }

    async fn clear(&mut self, table: usize, rows: u64) -> Result<()> {
        self.turn().await?;
        {
            let mut world = self.world.now();
            let there = world.target.rows[table].len() as u64;
            if there != rows && there != 0 {
                return Err(alarm(format!("{there} rows are to be cleared, {rows} were written")));
            }
            world.target.rows[table].clear();
            world.target.live[table].clear();
        }
        self.told(|| format!("clears table {table}"));
        self.turn().await
    }

    async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.turn().await?;
        self.turn().await?;
        {
            let mut world = self.world.now();
            let target = &mut world.target;
            for (table, key) in self.touched.drain(..) {
                let row = target.live[table].get(&key).copied();
                set(&mut target.rows[table], key, row);
            }
            target.locks.release(self.id);
            if let Some(position) = &checkpoint.position {
                target.applied = applied(position);
            }
            for (table, progress) in &checkpoint.copied {
                target.copied[*table] = progress.clone();
            }
            if let Some((from, to)) = checkpoint.enter
                && target.state == from
            {
                target.state = to;
            }
            world.hold_the_rule();
        }
        self.told(|| format!("commits up to transaction {:?}", checkpoint.position.as_ref().map(applied)));
        // The answer may be lost, although it is done.
        self.turn().await
    }
}

fn keys(rows: &[Row]) -> String {
    let shown: Vec<String> = rows.iter().map(|r| format!("{}/{}", int(&r[0]), int(&r[1]))).collect();
    format!("[{}]", shown.join(" "))
}

impl super::world::World {
    /// Each row of the target is the source's at the applied position, and none is missing where the copy is done.
    fn hold_the_rule(&mut self) {
        if !self.exact || self.broken.is_some() {
            return;
        }
        let source = &self.source.states[self.target.applied];
        for (table, rows) in self.target.rows.iter().enumerate() {
            let wrong = rows.iter().find(|(key, row)| source[table].get(key) != Some(row));
            let missing = source[table].keys().find(|key| {
                let progress = &self.target.copied[table];
                let copied =
                    progress.done || progress.last_key.as_ref().is_some_and(|last| **key <= int(&last[0]));
                copied && !rows.contains_key(key)
            });
            let at = self.target.applied;
            if let Some((key, _)) = wrong {
                self.broken =
                    Some(format!("at transaction {at} key {key} of table {table} is not the source's"));
            } else if let Some(key) = missing {
                self.broken = Some(format!("at transaction {at} key {key} of table {table} is missing"));
            }
        }
    }
}
