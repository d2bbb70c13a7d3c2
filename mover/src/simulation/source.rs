//! The simulated source as the mover sees it.

use std::ops::Bound;

use converge_mysql::{Error as ServerError, FilePosition, Position};

use super::locks::{Lock, Locks};
use super::plan::Moment;
use super::world::{Shared, World, int, row};
use crate::change::{Advance, Mark, StreamEvent};
use crate::error::{Error, Result, Side};
use crate::source::{ChangeStream, ChunkReader, Fetched, Source};
use crate::value::{Row, Value, rows_weight};

/// Steps that a locking read waits.
const PATIENCE: u32 = 6;
const FILE: &str = "log.000001";

/// The position after so many transactions.
pub fn position(applied: usize) -> Position {
    Position::File(FilePosition { file: FILE.into(), offset: applied as u64 })
}

/// How many transactions a position stands for.
pub fn applied(position: &Position) -> usize {
    match position {
        Position::File(at) => at.offset as usize,
        _ => 0,
    }
}

/// The error of a lost connection.
pub fn lost(side: Side) -> Error {
    let error = ServerError::Lost { what: "the simulation".into(), why: "as planned".into() };
    Error::Server { side, error }
}

/// The source, or a replica of it.
pub struct SimSource {
    /// Its world.
    pub world: Shared,
    /// Whether rows and log are the replica's.
    pub replica: bool,
}

/// A connection of the mover to the source, or to the replica; both are lost together.
struct Line {
    world: Shared,
    replica: bool,
    id: u64,
    line: u64,
    /// Counts the losses of the copier's connection alone; a stream has none.
    reader: Option<u64>,
}

impl Line {
    fn open(SimSource { world, replica }: &SimSource) -> Self {
        let id = world.id();
        let line = world.now().source.line;
        Self { world: world.clone(), replica: *replica, id, line, reader: None }
    }

    fn of_reader(source: &SimSource) -> Self {
        let mut line = Self::open(source);
        let mut world = source.world.now();
        world.source.readers.push(line.id);
        line.reader = Some(world.source.reader_line);
        drop(world);
        line
    }

    /// Who holds which rows there.
    fn locks<'w>(&self, world: &'w mut World) -> &'w mut Locks {
        if self.replica { &mut world.replica.locks } else { &mut world.source.locks }
    }

    /// Transactions that are in the log there.
    fn logged(&self) -> usize {
        let world = self.world.now();
        if self.replica { world.replica.logged } else { world.source.log.len() }
    }

    /// Lets others come in first; then the connection is still there, or it is not.
    async fn turn(&self) -> Result<()> {
        self.world.steps.turn().await;
        self.check()
    }

    fn check(&self) -> Result<()> {
        let source = &self.world.now().source;
        let lost_alone = self.reader.is_some_and(|line| line != source.reader_line);
        match source.line == self.line && !lost_alone {
            true => Ok(()),
            false => Err(lost(Side::Source)),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.locks(&mut self.world.now()).release(self.id);
    }
}

/// Reads chunks.
pub struct SimReader {
    line: Line,
    /// The transactions that a snapshot has seen.
    snapshot: Option<usize>,
}

/// Reads the log.
pub struct SimStream {
    line: Line,
    /// Transactions that were handed on.
    at: usize,
    /// Events of the next one that were handed on.
    event: usize,
    eager: bool,
}

impl Source for SimSource {
    type Reader = SimReader;
    type Stream = SimStream;

    async fn reader(&self) -> Result<SimReader> {
        let line = Line::of_reader(self);
        line.turn().await?;
        Ok(SimReader { line, snapshot: None })
    }

    async fn snapshot(&self, _tables: &[usize]) -> Result<(SimReader, Position)> {
        let line = Line::open(self);
        line.turn().await?;
        let committed = self.world.now().source.committed;
        self.world.tell(|| format!("copier: a snapshot at transaction {committed}"));
        line.turn().await?;
        Ok((SimReader { line, snapshot: Some(committed) }, position(committed)))
    }

    async fn stream(&self, position: &Position) -> Result<SimStream> {
        let line = Line::open(self);
        line.turn().await?;
        let at = applied(position);
        if !self.replica && at < self.world.now().source.purged {
            let message = "the simulation purged it".into();
            return Err(Error::BinlogPurged { position: position.to_string(), message });
        }
        Ok(SimStream { line, at, event: 0, eager: false })
    }
}

impl SimReader {
    /// The chunk behind `after`, and whether somebody else holds a row of its range.
    fn look(&self, table: usize, after: Option<&[Value]>, limit: usize) -> (Vec<Row>, bool) {
        let mut world = self.line.world.now();
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(int(&key[0])));
        let seen = match self.snapshot {
            Some(at) => &world.source.states[at],
            None if self.line.replica => &world.source.states[world.replica.visible],
            None => &world.source.visible,
        };
        let rows: Vec<Row> = seen[table]
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(key, rest)| row(*key, *rest))
            .collect();
        let through = (rows.len() == limit).then(|| rows.last().map_or(i64::MAX, |row| int(&row[0])));
        let within = |key: i64| {
            after.is_none_or(|after| key > int(&after[0])) && through.is_none_or(|through| key <= through)
        };
        let held = self.line.locks(&mut world).others_in(self.line.id, table, within);
        (rows, held)
    }

    fn told(&self, what: &str, table: usize, rows: &[Row]) {
        self.line.world.tell(|| {
            let shown: Vec<String> = rows
                .iter()
                .map(|r| format!("(key {}, unique {}, v{})", int(&r[0]), int(&r[1]), int(&r[2])))
                .collect();
            format!(
                "copier: {what} table {table}: {}",
                if shown.is_empty() { "nothing".into() } else { shown.join(" ") }
            )
        });
    }
}

impl ChunkReader for SimReader {
    async fn mark(&mut self, mark: &Mark) -> Result<()> {
        self.line.turn().await?;
        self.line.world.tell(|| format!("copier: mark {}", mark.to_text()));
        let known = self.line.world.commit(self.line.world.id(), Vec::new(), Some(mark.clone())).await;
        if known { self.line.check() } else { Err(lost(Side::Source)) }
    }

    async fn read(&mut self, table: usize, after: Option<&[Value]>, limit: usize) -> Result<Fetched> {
        self.line.turn().await?;
        let copies = || self.line.world.may(Moment::Copy).then_some(());
        self.line.world.steps.until(copies).await;
        let (rows, _) = self.look(table, after, limit);
        self.told("reads from", table, &rows);
        self.line.turn().await?;
        Ok(Fetched { ended: rows.len() < limit, bytes: rows_weight(&rows), rows })
    }

    async fn lock(&mut self, table: usize, after: Option<&[Value]>, limit: usize) -> Result<Fetched> {
        for _ in 0..PATIENCE {
            self.line.turn().await?;
            let (rows, held) = self.look(table, after, limit);
            if held {
                continue;
            }
            let locks: Vec<Lock> = rows.iter().map(|row| Lock::Key(table, int(&row[0]))).collect();
            let copies = || self.line.world.may(Moment::Copy).then_some(());
            self.line.world.steps.until(copies).await;
            let (now, held) = self.look(table, after, limit);
            if held || now != rows {
                continue;
            }
            let taken = self.line.locks(&mut self.line.world.now()).take(self.line.id, &locks);
            if taken {
                self.told("reads and locks", table, &rows);
                self.line.turn().await?;
                return Ok(Fetched { ended: rows.len() < limit, bytes: rows_weight(&rows), rows });
            }
        }
        let error = ServerError::Server { what: "locking".into(), code: 1205, message: "as planned".into() };
        Err(Error::Server { side: Side::Source, error })
    }

    async fn scan(
        &mut self,
        table: usize,
        limit: usize,
        mut pass_on: impl AsyncFnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()> {
        let (rows, _) = self.look(table, None, usize::MAX);
        for part in rows.chunks(limit.max(1)) {
            self.line.turn().await?;
            pass_on(part.to_vec()).await?;
        }
        Ok(())
    }

    async fn seen(&mut self) -> Result<Position> {
        self.line.turn().await?;
        Ok(position(self.line.logged()))
    }

    async fn holds(&mut self) -> Result<()> {
        self.line.turn().await
    }

    async fn release(&mut self) -> Result<()> {
        self.line.turn().await?;
        self.line.locks(&mut self.line.world.now()).release(self.line.id);
        Ok(())
    }
}

impl SimStream {
    /// The next event, if the source has it.
    fn take(&mut self) -> Option<StreamEvent> {
        if !self.delivered() || self.line.logged() <= self.at {
            return None;
        }
        let world = self.line.world.now();
        let transaction = world.source.log.get(self.at)?;
        let marks = usize::from(transaction.mark.is_some());
        self.event += 1;
        if let Some(change) = transaction.changes.get(self.event - 1) {
            return Some(StreamEvent::Change(change.clone()));
        }
        if self.event <= transaction.changes.len() + marks {
            return transaction.mark.clone().map(StreamEvent::Mark);
        }
        self.at += 1;
        self.event = 0;
        let advance = Advance::File { file: FILE.into(), offset: self.at as u64 };
        Some(StreamEvent::Commit { advance, timestamp: self.at as u32 })
    }
}

impl SimStream {
    /// Whether the next event may come: a change waits for its moment.
    fn delivered(&self) -> bool {
        let is_change = {
            let world = self.line.world.now();
            world.source.log.get(self.at).is_some_and(|t| !t.changes.is_empty())
        };
        !is_change || self.line.world.may(Moment::Binlog)
    }
}

impl ChangeStream for SimStream {
    fn ready(&mut self) -> Option<Result<StreamEvent>> {
        // Every second event comes at once, the others have to be waited for: both ways are gone.
        self.eager = !self.eager;
        if self.eager || self.line.check().is_err() {
            return None;
        }
        self.take().map(Ok)
    }

    async fn next(&mut self) -> Result<StreamEvent> {
        let there = || {
            let gone = self.line.check().is_err();
            let there = self.line.logged() > self.at;
            (gone || there && self.delivered()).then_some(())
        };
        self.line.world.steps.until(there).await;
        self.line.turn().await?;
        // Nothing else takes events of this stream.
        self.take().ok_or_else(|| lost(Side::Source))
    }
}
