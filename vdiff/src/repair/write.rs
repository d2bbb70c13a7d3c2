//! From differing rows to statements, in an order in which no unique value is taken before it is free: first rows that
//! have no counterpart go, then rows are changed, then rows that exchange unique values are taken out and put back as
//! one, then missing rows come.
//!
//! The undo is the same with the sides' parts exchanged.

use std::collections::HashSet;

use super::limits::{Means, formless, unwritable};
use super::rows::{CHANGED, Held, Lone, Place, Slices, batches, is_true, named, read};
use super::sink::{Load, Missed, Sink};
use super::target::{Target, Unique};
use super::value::{Value, Written, same_numbers};
use crate::engine::Found;
use crate::engine::rows::Differing;
use crate::engine::shards::Sessions;
use crate::engine::tally::Suspect;
use crate::error::Error;

/// Which side's contents the target gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The source's: the repair.
    Repair,
    /// Its own former ones: the undo of the repair.
    Undo,
}

impl Direction {
    /// The side whose rows are wanted.
    pub fn wanted(self) -> usize {
        match self {
            Self::Repair => 0,
            Self::Undo => 1,
        }
    }

    /// The side whose rows are there.
    pub fn present(self) -> usize {
        1 - self.wanted()
    }
}

/// What became of the rows.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rows whose statements were committed (of a script: whose transaction is whole).
    pub rows: u64,
    /// Rows that were left as they are, and why.
    pub missed: Vec<(String, Missed)>,
    /// What identifies those rows.
    pub left_out: HashSet<Vec<u8>>,
}

/// Writes what repairs one table.
pub struct Writer<'a> {
    /// What was found in the table.
    pub found: &'a Found,
    /// The table.
    pub target: &'a Target,
    /// To read both sides.
    pub sessions: &'a mut Sessions,
    /// Which way.
    pub direction: Direction,
    /// Where statements go.
    pub sink: &'a mut Sink,
    /// Rows to pass over, by what identifies them.
    pub skip: HashSet<Vec<u8>>,
    /// What became of the rows so far.
    pub outcome: Outcome,
    /// What is in the open transaction.
    pub load: Load,
    /// Rows that its statements repair.
    pub pending: u64,
}

/// What is to be done with a row, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Delete,
    Change,
    Insert,
}

/// What became of a statement.
type Done = Result<(), Missed>;

/// Why a row was missed whose statement had a long value in it.
fn with_doubt(done: Done, long: bool) -> Done {
    done.map_err(
        |why| if long { format!("{why}, or the target has no form for a long value of it") } else { why },
    )
}

impl Writer<'_> {
    /// All of it. What became of rows until an error is told with it.
    pub async fn write(mut self) -> (Outcome, Result<(), Error>) {
        let done = self.write_all().await;
        (self.outcome, done)
    }

    async fn write_all(&mut self) -> Result<(), Error> {
        let mut swaps = Vec::new();
        for step in [Step::Delete, Step::Change, Step::Insert] {
            if step == Step::Insert && !swaps.is_empty() {
                let swaps = std::mem::take(&mut swaps);
                self.swap(&swaps).await?;
            }
            let found = self.found;
            let (wanted, present) = (self.direction.wanted(), self.direction.present());
            let due = |row: &Differing| match step {
                Step::Delete => row.left[wanted] == 0,
                Step::Change => row.left[wanted] > 0 && row.left[present] > 0,
                Step::Insert => row.left[present] == 0,
            };
            let suspects: Vec<&Suspect> =
                (found.suspects.iter()).filter(|s| due(&s.row) && !self.skip.contains(&s.row.key)).collect();
            for batch in batches(&found.plan, suspects) {
                let rows = read(self.sessions, &found.plan, self.target, &batch).await?;
                for (suspect, lone) in batch.into_iter().zip(rows) {
                    let Some(lone) = lone else {
                        self.miss(suspect, "a row".into(), CHANGED.into());
                        continue;
                    };
                    let swap = step == Step::Change && self.is_swap(&lone).await?;
                    let why = match self.unwritable(&lone, swap) {
                        None => self.misfit(&lone, swap).await?,
                        why => why,
                    };
                    if let Some(why) = why {
                        self.miss(suspect, named(self.target, &lone), why);
                    } else if swap {
                        swaps.push(suspect);
                    } else {
                        self.row(suspect, &lone).await?;
                    }
                }
            }
        }
        self.commit().await
    }

    /// Ends the transaction: its rows are repaired.
    async fn commit(&mut self) -> Result<(), Error> {
        self.sink.commit().await?;
        self.outcome.rows += std::mem::take(&mut self.pending);
        self.load = Load::default();
        Ok(())
    }

    fn miss(&mut self, suspect: &Suspect, row: String, why: Missed) {
        self.outcome.missed.push((row, why));
        self.outcome.left_out.insert(suspect.row.key.clone());
    }

    /// What keeps rows from being written, known before the first statement on them is. A script needs the way back too.
    fn unwritable(&self, lone: &Lone, swap: bool) -> Option<Missed> {
        if let [[new], [old]] = lone.each_ref().map(Vec::as_slice)
            && self.changed(new, old).is_empty()
        {
            return Some(
                "only generated columns differ: their expressions do, or what they are made from".into(),
            );
        }
        let why = |direction, whole| unwritable(self.target, &self.means(lone, direction, whole), direction);
        let back = |whole| match (&*self.sink, self.direction) {
            (Sink::Script(_), Direction::Repair) => why(Direction::Undo, whole),
            _ => None,
        };
        let whole = swap || self.is_replaced(lone);
        why(self.direction, whole).or_else(|| {
            back(whole || self.changes_unique(lone)).map(|why| format!("it could not be undone: {why}"))
        })
    }

    /// What a row's repair writes, and what it recognises rows by.
    pub(super) fn means(&self, lone: &Lone, direction: Direction, whole: bool) -> Means {
        let (wanted, present) = (direction.wanted(), direction.present());
        match (&lone[wanted][..], &lone[present][..]) {
            ([new], [old]) if !whole => {
                Means::Update { new: new.clone(), old: old.clone(), changed: self.changed(new, old) }
            }
            ([_], [_]) => Means::Replace {
                out: self.with_uncompared(lone, present),
                put: self.with_uncompared(lone, wanted),
            },
            (put, out) => Means::Replace { out: out.to_vec(), put: put.to_vec() },
        }
    }

    /// Whether a changed row is taken out and put back, and not updated.
    pub(super) fn is_replaced(&self, lone: &Lone) -> bool {
        let (wanted, present) = (&lone[self.direction.wanted()], &lone[self.direction.present()]);
        matches!((&wanted[..], &present[..]), ([new], [old]) if self.looks_unchanged(new, old))
    }

    /// Whether a changed row's unique values are others than before.
    fn changes_unique(&self, lone: &Lone) -> bool {
        let [[new], [old]] = lone.each_ref().map(Vec::as_slice) else { return false };
        let changed = self.changed(new, old);
        let of =
            |unique: &Unique| unique.columns.as_ref().is_none_or(|c| c.iter().any(|i| changed.contains(i)));
        self.target.uniques.iter().any(of)
    }

    /// Whether MySQL would take the change of a document for none: it holds 1 and 1.0 for the same, and keeps the former.
    fn looks_unchanged(&self, new: &Held, old: &Held) -> bool {
        self.changed(new, old).iter().any(|i| {
            let column = &self.target.columns[*i];
            let text = |piece| column.writes.text(piece);
            column.column.data_type == "json"
                && match (&new.values[*i], &old.values[*i]) {
                    (Some(Value::Whole(a)), Some(Value::Whole(b))) => same_numbers(text(a), text(b)),
                    (Some(Value::Long(_)), Some(Value::Long(_))) => true,
                    _ => false,
                }
        })
    }

    /// The statements of one suspect's rows, which stand or fall together.
    async fn row(&mut self, suspect: &Suspect, lone: &Lone) -> Result<(), Error> {
        self.sink.begin().await?;
        let done = match self.means(lone, self.direction, self.is_replaced(lone)) {
            Means::Update { new, old, changed } => self.update(suspect, &new, &old, &changed).await?,
            Means::Replace { out, put } => match self.delete_all(&out).await? {
                Ok(()) => self.insert_all(suspect, &put).await?,
                missed => missed,
            },
        };
        let done = match done {
            Ok(()) => self.kept(lone).await?,
            missed => missed,
        };
        match done {
            Ok(()) => self.pending += lone[0].len().max(lone[1].len()) as u64,
            Err(why) => self.miss(suspect, named(self.target, lone), self.doubted(lone, why)),
        }
        if self.load.is_full() {
            self.commit().await?;
        }
        Ok(())
    }

    /// Rows that hold each other's unique values: all are taken out before the first is put back.
    async fn swap(&mut self, suspects: &[&Suspect]) -> Result<(), Error> {
        self.commit().await?;
        self.sink.begin().await?;
        let mut done: Done = Ok(());
        for out in [true, false] {
            for batch in batches(&self.found.plan, suspects.to_vec()) {
                let rows = read(self.sessions, &self.found.plan, self.target, &batch).await?;
                for (suspect, lone) in batch.into_iter().zip(rows) {
                    if done.is_err() {
                        continue;
                    }
                    let Some(lone) = lone else {
                        self.sink.abandon(CHANGED).await?;
                        done = Err(CHANGED.into());
                        continue;
                    };
                    let (wanted, present) = (self.direction.wanted(), self.direction.present());
                    done = match out {
                        true => self.delete_all(&self.with_uncompared(&lone, present)).await?,
                        false => self.insert_all(suspect, &self.with_uncompared(&lone, wanted)).await?,
                    };
                }
            }
        }
        match done {
            Ok(()) => self.pending += suspects.len() as u64,
            Err(why) => {
                for suspect in suspects {
                    let why = format!("rows that exchange unique values stand or fall together: {why}");
                    self.miss(suspect, "a row".into(), why);
                }
            }
        }
        self.commit().await
    }

    /// A side's row, with what was not compared as the target has it: a change leaves that alone.
    fn with_uncompared(&self, lone: &Lone, side: usize) -> Vec<Held> {
        let mut kept = lone[side].clone();
        // The target's own row is side 1, whichever way it goes.
        if let ([row], [own]) = (&mut kept[..], &lone[1][..]) {
            for i in (0..self.target.columns.len()).filter(|i| !self.target.columns[*i].compared) {
                row.values[i] = own.values[i].clone();
            }
        }
        kept
    }

    /// Whether a change would take a unique value that another row holds.
    async fn is_swap(&mut self, lone: &Lone) -> Result<bool, Error> {
        let (wanted, present) = (&lone[self.direction.wanted()], &lone[self.direction.present()]);
        let ([new], [old]) = (&wanted[..], &present[..]) else { return Ok(false) };
        let changed = self.changed(new, old);
        let mut holders = Vec::new();
        for unique in &self.target.uniques {
            let Some(columns) = &unique.columns else { return Ok(true) };
            if !columns.iter().any(|i| changed.contains(i)) {
                continue;
            }
            let null = |i: &usize| matches!(new.values[*i], None | Some(Value::Null));
            if columns.iter().any(null) {
                continue;
            }
            let finds = |i: &usize| self.target.finds(*i, new.values[*i].as_ref()?);
            let Some(finds) = columns.iter().map(finds).collect::<Option<Vec<_>>>() else { return Ok(true) };
            holders.push(format!(
                "EXISTS (SELECT 1 FROM {} WHERE {})",
                self.target.tables[1],
                finds.join(" AND ")
            ));
        }
        // Who holds a value after the repair is known from the source, whose names may be others: no way to ask there.
        if holders.is_empty() || self.direction == Direction::Undo {
            return Ok(!holders.is_empty());
        }
        let sql = format!("SELECT {}", holders.join(" OR "));
        let answer = self.sessions.side(1).query("looking who holds a unique value", &sql).await?;
        Ok(is_true(&answer))
    }

    /// The compared columns whose values differ.
    fn changed(&self, new: &Held, old: &Held) -> Vec<usize> {
        let differs = |i: &usize| self.target.columns[*i].compared && new.values[*i] != old.values[*i];
        (0..self.target.columns.len()).filter(differs).collect()
    }

    async fn update(
        &mut self,
        suspect: &Suspect,
        new: &Held,
        old: &Held,
        changed: &[usize],
    ) -> Result<Done, Error> {
        let (mut lax, mut sets, mut sure) = (false, Vec::new(), String::new());
        for i in changed {
            match self.literal(suspect, new, self.direction.wanted(), *i).await? {
                Ok(written) => {
                    lax |= written.lax;
                    sure.extend(written.sure.map(|sure| format!(" AND {sure}")));
                    sets.push(format!("{} = {}", self.target.columns[*i].name, written.sql));
                }
                Err(why) => return Ok(Err(why)),
            }
        }
        // The server would set them to the present moment.
        let itself = |i: &usize| self.target.columns[*i].on_update && !changed.contains(i);
        for i in (0..self.target.columns.len()).filter(itself) {
            let name = &self.target.columns[i].name;
            sets.push(format!("{name} = {name}"));
        }
        let guard = self.target.guard(old, self.direction.present(), false);
        let (table, one) = (&self.target.tables[1], self.limit(1));
        let sql = format!("UPDATE {table} SET {} WHERE {guard}{sure}{one}", sets.join(", "));
        Ok(with_doubt(self.change(&sql, 1, lax).await?, !sure.is_empty()))
    }

    async fn delete_all(&mut self, rows: &[Held]) -> Result<Done, Error> {
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let copies = rest
                .iter()
                .take_while(|row| row.digest == first.digest && row.values == first.values)
                .count();
            rest = &rest[copies..];
            let guard = self.target.guard(first, self.direction.present(), true);
            let table = &self.target.tables[1];
            let sql = format!("DELETE FROM {table} WHERE {guard}{}", self.limit(copies));
            if let Err(missed) = self.change(&sql, copies as u64, false).await? {
                return Ok(Err(missed));
            }
        }
        Ok(Ok(()))
    }

    async fn insert_all(&mut self, suspect: &Suspect, rows: &[Held]) -> Result<Done, Error> {
        for row in rows {
            let (mut names, mut values, mut sure, mut lax) = (Vec::new(), Vec::new(), Vec::new(), false);
            for (i, column) in self.target.columns.iter().enumerate() {
                if row.values[i].is_none() {
                    continue;
                }
                // What was not compared stays as the target has it where there is one row on either side.
                let side = match column.compared || suspect.row.left != [1, 1] {
                    true => self.direction.wanted(),
                    false => 1,
                };
                match self.literal(suspect, row, side, i).await? {
                    Ok(written) => {
                        lax |= written.lax;
                        sure.extend(written.sure);
                        names.push(column.name.clone());
                        values.push(written.sql);
                    }
                    Err(why) => return Ok(Err(why)),
                }
            }
            let (table, names, values) = (&self.target.tables[1], names.join(", "), values.join(", "));
            let row = match sure.is_empty() {
                true => format!("VALUES ({values})"),
                false => format!("SELECT {values} FROM DUAL WHERE {}", sure.join(" AND ")),
            };
            let done = self.change(&format!("INSERT INTO {table} ({names}) {row}"), 1, lax).await?;
            if done.is_err() {
                return Ok(with_doubt(done, !sure.is_empty()));
            }
        }
        Ok(Ok(()))
    }

    /// SQL for a value, after the statements that put a long one into a variable. Where there is none, what was done with
    /// the row so far is undone.
    async fn literal(
        &mut self,
        suspect: &Suspect,
        row: &Held,
        side: usize,
        i: usize,
    ) -> Result<Result<Written, Missed>, Error> {
        let column = &self.target.columns[i];
        let name = format!("@converge_value_{i}");
        let written = match &row.values[i] {
            None | Some(Value::Null) => Some(Written::plain("NULL".into())),
            Some(Value::Whole(piece)) => column.writes.literal(piece),
            Some(Value::Long(long)) => column.writes.variable(&name, long),
        };
        let done = match (written, &row.values[i]) {
            (None, _) => Err(formless(&column.column.name)),
            (Some(written), Some(Value::Long(long))) => {
                let digest = self.digest_on(suspect, row, side);
                let place = Place { suspect, digest, side, column: i, sha256: &long.sha256 };
                self.assign(&name, place).await?.map(|()| written)
            }
            (Some(written), _) => Ok(written),
        };
        if let Err(why) = &done {
            self.sink.abandon(why).await?;
        }
        Ok(done)
    }

    /// Puts a long value into a variable, slice by slice.
    async fn assign(&mut self, name: &str, place: Place<'_>) -> Result<Done, Error> {
        let (mut slices, mut begun) = (Slices::of(place), false);
        loop {
            let slice = match slices.next(self.sessions, &self.found.plan, self.target).await? {
                Ok(Some(slice)) => slice,
                Ok(None) => return Ok(Ok(())),
                Err(why) => return Ok(Err(why)),
            };
            let bytes = super::value::string("binary", &slice);
            let value = if begun { format!("CONCAT({name}, {bytes})") } else { bytes };
            self.sink.run(&format!("SET {name} = {value}")).await?;
            self.load.add(0, &value);
            begun = true;
        }
    }

    /// By what the row that holds a value is told from others: what was not compared may stand in the other side's row.
    fn digest_on(&self, suspect: &Suspect, row: &Held, side: usize) -> crate::digest::RowDigest {
        let there = |(_, more): &&(_, [u64; 2])| more[side] > 0;
        match side == self.direction.wanted() {
            true => row.digest,
            false => suspect.row.rest.iter().find(there).map_or(row.digest, |(digest, _)| *digest),
        }
    }

    /// Where a condition may find more rows than are meant.
    fn limit(&self, rows: usize) -> String {
        if self.target.key_is_unique { String::new() } else { format!(" LIMIT {rows}") }
    }

    async fn change(&mut self, sql: &str, rows: u64, lax: bool) -> Result<Done, Error> {
        self.load.add(rows, sql);
        self.sink.change(sql, rows, lax).await
    }
}
