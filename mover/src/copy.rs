//! Copying the rows that were there before: when may a chunk that was read be written?
//!
//! A change can reach the stream before a SELECT sees its row, and a SELECT can see a row before the stream gets to
//! its change. Each strategy is one answer to that, and one file.

pub mod delete_history;
mod gate;
pub mod locking;
pub mod naive;
pub mod replica;
pub mod snapshot;
mod touched;
pub mod watermark;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use gate::Gate;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::apply::plan::Mode;
use crate::change::ChunkId;
use crate::error::{Error, Result};
use crate::schema::Table;
use crate::source::ChunkReader;
use crate::target::{ChunkRows, CopyProgress, Onto, Target};
use crate::value::{Row, Value, key_of, row_weight};

/// Which strategy a workflow uses. Each is explained at the top of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Low mark, chunk, high mark; rows touched in between are left to the stream.
    #[default]
    Watermark,
    /// Chunks are read under row locks, which are kept until they are written.
    Locking,
    /// Chunks are written at once, less the rows that the stream removed since they were read.
    DeleteHistory,
    /// All rows come from one consistent snapshot; the stream begins where that was taken.
    Snapshot,
    /// Like locking, but on a replica, whose log is followed for as long.
    Replica,
    /// INSERT IGNORE beside the stream, without any protection: **wrong on purpose**, for the harness to catch.
    Naive,
}

impl Strategy {
    /// The strategies that are right, the default first.
    pub const SAFE: [Self; 5] =
        [Self::Watermark, Self::Locking, Self::DeleteHistory, Self::Snapshot, Self::Replica];

    /// What the applier may take for granted, while rows are copied and afterwards.
    pub fn mode(self, copying: bool) -> Mode {
        match self {
            Self::Watermark | Self::Snapshot => Mode::Exact,
            Self::Locking | Self::DeleteHistory | Self::Replica if !copying => Mode::Exact,
            Self::Locking | Self::DeleteHistory | Self::Replica | Self::Naive => Mode::Overwrite,
        }
    }

    /// Its name on the command line and in the workflow's state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Watermark => "watermark",
            Self::Locking => "locking",
            Self::DeleteHistory => "delete_history",
            Self::Snapshot => "snapshot",
            Self::Replica => "replica",
            Self::Naive => "naive",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The naive one is left out of the list: nobody should choose it.
        let known = Self::SAFE.map(Self::name);
        Self::SAFE.into_iter().chain([Self::Naive]).find(|s| s.name() == text).ok_or_else(|| {
            let what = format!("there is no copy strategy {text:?}, only {}", known.join(", "));
            Error::refused(what, "choose one of them; watermark is the default")
        })
    }
}

/// How much is read at once, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Rows of a chunk at the most.
    pub chunk_rows: usize,
    /// Rows a second over all tables; none: as fast as it goes.
    pub rows_per_second: Option<u32>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { chunk_rows: 2000, rows_per_second: None }
    }
}

impl Pace {
    /// Bytes that a chunk should have.
    const CHUNK_BYTES: usize = 4 << 20;

    /// Rows of a table's next chunk, from what a row of it weighs.
    fn limit(&self, row_bytes: usize) -> usize {
        (Self::CHUNK_BYTES / row_bytes.max(1)).clamp(1, self.chunk_rows.max(1))
    }

    /// How long `rows` rows must take at least.
    fn time_for(&self, rows: usize) -> Duration {
        self.rows_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(rows as f64 / f64::from(rate.max(1))))
    }
}

/// A chunk that was read and waits to be written.
pub struct Chunk {
    /// Its rows and their range.
    pub rows: ChunkRows,
    /// How far the copy is once it is written.
    pub progress: CopyProgress,
    /// What it may find in its place.
    pub onto: Onto,
    /// Is told once the chunk is committed, where somebody waits for that.
    pub written: Option<oneshot::Sender<()>>,
    /// Frees the chunk's place when dropped.
    _place: Option<OwnedSemaphorePermit>,
}

/// Where chunks wait between being read and being written. A bounded number of them.
#[derive(Clone)]
pub struct Board {
    chunks: Arc<Mutex<HashMap<ChunkId, Chunk>>>,
    places: Arc<Semaphore>,
    posted: Arc<Notify>,
}

impl Board {
    /// Chunks that may wait at the same time.
    const PLACES: usize = 2;

    /// An empty board.
    pub fn new() -> Self {
        Self {
            chunks: Arc::default(),
            places: Arc::new(Semaphore::new(Self::PLACES)),
            posted: Arc::default(),
        }
    }

    /// Waits for a place.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed, so that the error cannot happen.
        self.places.clone().acquire_owned().await.ok()
    }

    fn post(&self, id: ChunkId, chunk: Chunk) {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).insert(id, chunk);
        self.posted.notify_one();
    }

    /// Waits until a chunk was posted since the last time that somebody waited.
    pub async fn posted(&self) {
        self.posted.notified().await;
    }

    /// The keys of a chunk's rows, if it is there.
    fn keys(&self, id: ChunkId, columns: &[usize]) -> Option<HashSet<Vec<u8>>> {
        let chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.get(&id).map(|chunk| chunk.rows.rows.iter().map(|row| key_of(row, columns)).collect())
    }

    /// Takes a chunk away, if it is there.
    pub fn take(&self, id: ChunkId) -> Option<Chunk> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Takes all chunks away, in the order in which they were read.
    pub fn take_all(&self) -> Vec<(ChunkId, Chunk)> {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = std::mem::take(&mut *chunks).into_iter().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

/// Walks over one table, chunk by chunk.
struct Walk<'a> {
    index: usize,
    table: &'a Table,
    progress: CopyProgress,
    row_bytes: usize,
    pace: Pace,
}

impl<'a> Walk<'a> {
    fn new(index: usize, table: &'a Table, progress: CopyProgress, pace: Pace) -> Self {
        // Values are held as Rust enums, which weigh more than the bytes on disk.
        let row_bytes = table.row_bytes_estimated as usize + 32 * table.columns.len();
        Self { index, table, progress, row_bytes, pace }
    }

    /// How many rows the next chunk should have.
    fn limit(&self) -> usize {
        self.pace.limit(self.row_bytes)
    }

    /// Reads the next chunk.
    async fn next(&mut self, reader: &mut impl ChunkReader) -> Result<(ChunkRows, CopyProgress)> {
        let limit = self.limit();
        let rows = reader.read(self.index, self.progress.last_key.as_deref(), limit).await?;
        Ok(self.advance(rows, limit))
    }

    /// Moves on over rows that were read. Fewer of them than were asked for: the table ends.
    fn advance(&mut self, rows: Vec<Row>, limit: usize) -> (ChunkRows, CopyProgress) {
        let after = self.progress.last_key.clone();
        let ended = rows.len() < limit;
        let last: Option<Vec<Value>> = rows.last().map(|row| self.key_values(row));
        if let Some(key) = &last {
            let weight: usize = rows.iter().map(|r| row_weight(r)).sum();
            self.row_bytes = weight / rows.len() + 1;
            self.progress.last_key = Some(key.clone());
        }
        self.progress.rows_copied += rows.len() as u64;
        self.progress.done = ended;
        let through = if ended { None } else { last };
        (ChunkRows { table: self.index, after, through, rows }, self.progress.clone())
    }

    fn key_values(&self, row: &Row) -> Vec<Value> {
        self.table.key.iter().map(|&k| row[k].clone()).collect()
    }
}

/// What a copier works on.
pub struct Job<'a> {
    /// Where chunks are handed to the follower.
    pub board: &'a Board,
    /// The run that the marks name.
    pub run: u64,
    /// The tables.
    pub tables: &'a [Table],
    /// How far the copy of each of them got.
    pub progress: &'a [CopyProgress],
    /// How fast to go.
    pub pace: Pace,
    /// The strategy.
    pub strategy: Strategy,
}

impl<'a> Job<'a> {
    /// The tables that must be copied before the stream begins, all of them from one snapshot. Empty once they are.
    pub fn alone(&self) -> Vec<usize> {
        let all = self.strategy == Strategy::Snapshot;
        let which = (0..self.tables.len()).filter(|&i| all || self.tables[i].key.is_empty());
        let which: Vec<usize> = which.collect();
        if which.iter().all(|&i| self.progress[i].done) { Vec::new() } else { which }
    }

    /// Walks over every table that is not copied yet, in turn.
    fn walks(&self) -> impl Iterator<Item = Walk<'a>> + use<'a> {
        let pace = self.pace;
        self.tables
            .iter()
            .zip(self.progress)
            .enumerate()
            .filter(|(_, (_, progress))| !progress.done)
            .map(move |(index, (table, progress))| Walk::new(index, table, progress.clone(), pace))
    }
}

/// Copies all that is left beside the follower, in the way of the strategy. `target` is a connection of the copier's own.
pub async fn beside_stream<T: Target>(
    reader: impl ChunkReader,
    target: impl AsyncFnOnce() -> Result<T>,
    job: &Job<'_>,
) -> Result<()> {
    match job.strategy {
        Strategy::Watermark => watermark::copy(reader, job).await,
        Strategy::Locking => locking::copy(reader, job).await,
        Strategy::DeleteHistory => delete_history::copy(reader, job).await,
        Strategy::Replica => replica::copy(reader, job).await,
        Strategy::Naive => naive::copy(reader, target().await?, job).await,
        // Nothing is left once the stream begins.
        Strategy::Snapshot => Ok(()),
    }
}

#[cfg(test)]
mod for_tests {
    use super::*;
    use crate::schema::{Column, Kind};

    /// Two integers, the first of them the key.
    pub fn table() -> Table {
        let columns = ["k", "v"].map(|n| Column::for_tests(n, Kind::Int { unsigned: false }));
        Table::for_tests(columns.to_vec(), vec![0])
    }

    pub fn row(k: i64, v: i64) -> Row {
        vec![Value::Int(k), Value::Int(v)]
    }

    pub fn chunk(rows: Vec<Row>) -> Chunk {
        let rows = ChunkRows { table: 0, after: None, through: None, rows };
        let progress = CopyProgress::default();
        Chunk { rows, progress, onto: Onto::Equal, written: None, _place: None }
    }

    pub fn id(number: u64) -> ChunkId {
        ChunkId { run: 1, table: 0, number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_strategy_is_answered_with_the_known_ones() {
        for strategy in Strategy::SAFE.into_iter().chain([Strategy::Naive]) {
            assert_eq!(strategy.name().parse::<Strategy>().unwrap(), strategy);
        }
        let error = "lokcing".parse::<Strategy>().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("watermark, locking") && !text.contains("naive"), "{text}");
    }

    #[test]
    fn wide_rows_make_small_chunks() {
        let pace = Pace::default();
        assert_eq!(pace.limit(100), 2000);
        assert_eq!(pace.limit(1 << 20), 4);
        assert_eq!(pace.limit(64 << 20), 1);
    }

    #[test]
    fn a_rate_is_a_least_time() {
        let pace = Pace { rows_per_second: Some(500), ..Pace::default() };
        assert_eq!(pace.time_for(250), Duration::from_millis(500));
        assert_eq!(Pace::default().time_for(250), Duration::ZERO);
    }
}
