//! Copying the rows that were there before: when may a chunk that was read be written?
//!
//! A change can reach the stream before a SELECT sees its row, and a SELECT can see a row before the stream gets to
//! its change. Each strategy is one answer to that, and one file.

mod board;
pub mod delete_history;
mod gate;
pub mod locking;
pub mod naive;
mod pace;
pub mod replica;
pub mod snapshot;
mod touched;
pub mod watermark;

use std::fmt;
use std::str::FromStr;

pub use board::{Board, Chunk, Held};
pub use gate::Gate;
pub use pace::Pace;

use crate::apply::plan::Mode;
use crate::error::{Error, Result};
use crate::planted::{Bug, is_planted};
use crate::schema::Table;
use crate::source::{ChunkReader, Fetched};
use crate::target::{ChunkRows, CopyProgress, Target};
use crate::value::{Row, Value};

/// Chunks that are written at once, each over a connection of its own, where the strategy allows that.
pub const LANES: usize = 2;

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

/// Walks over one table, chunk by chunk.
struct Walk<'a> {
    index: usize,
    table: &'a Table,
    board: &'a Board,
    progress: CopyProgress,
    row_bytes: usize,
    pace: Pace,
    /// Whether the first chunk is still to be read, of a copy that was begun by another session.
    resumed: bool,
}

impl<'a> Walk<'a> {
    fn new(index: usize, table: &'a Table, progress: CopyProgress, job: &Job<'a>) -> Self {
        // Values are held as Rust enums, which weigh more than the bytes on disk.
        let row_bytes = table.row_bytes_estimated as usize + 32 * table.columns.len();
        let resumed = progress.last_key.is_some();
        Self { index, table, board: job.board, progress, row_bytes, pace: job.pace, resumed }
    }

    /// How many rows the next chunk should have.
    fn limit(&self) -> usize {
        let left = self.table.rows_estimated.saturating_sub(self.progress.rows_copied);
        pace::share(self.pace.limit(self.board.size(), self.row_bytes), left)
    }

    /// Reads the next chunk.
    async fn next(&mut self, reader: &mut impl ChunkReader) -> Result<(ChunkRows, CopyProgress)> {
        let limit = self.limit();
        let fetched = reader.read(self.index, self.progress.last_key.as_deref(), limit).await?;
        Ok(self.advance(fetched))
    }

    /// Moves on over rows that were read.
    fn advance(&mut self, Fetched { mut rows, bytes, mut ended }: Fetched) -> (ChunkRows, CopyProgress) {
        ended |= !ended && self.progress.rows_copied > 400 && is_planted(Bug::CopyEndsEarly);
        let after = self.progress.last_key.clone();
        let last: Option<Vec<Value>> = rows.last().map(|row| self.key_values(row));
        let n = rows.len();
        let through = if ended { None } else { last.clone() };
        self.lose(&mut rows, ended);
        let chunk = ChunkRows { table: self.index, after, through, rows, bytes };
        if last.is_some() {
            self.row_bytes = bytes / n + 1;
            self.progress.last_key = last;
        }
        self.progress.rows_copied += n as u64;
        self.progress.done = ended;
        (chunk, self.progress.clone())
    }

    /// What planted bugs lose of a chunk.
    fn lose(&mut self, rows: &mut Vec<Row>, ended: bool) {
        let skips = ended && !rows.is_empty() && is_planted(Bug::LastChunkSkipped);
        let resumed = std::mem::take(&mut self.resumed);
        if skips || resumed && !rows.is_empty() && is_planted(Bug::ResumeSkipsChunk) {
            rows.clear();
        }
        if !ended && rows.len() > 1 && is_planted(Bug::ChunkBoundary) {
            rows.pop();
        }
    }

    fn key_values(&self, row: &Row) -> Vec<Value> {
        self.table.key.iter().map(|&k| row[k].clone()).collect()
    }
}

/// What a copier works on.
#[derive(Clone, Copy)]
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
        let job = *self;
        self.tables
            .iter()
            .zip(self.progress)
            .enumerate()
            .filter(|(_, (_, progress))| !progress.done)
            .map(move |(index, (table, progress))| Walk::new(index, table, progress.clone(), &job))
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
pub(crate) mod for_tests {
    use super::*;
    use crate::change::ChunkId;
    use crate::schema::{Column, Kind};
    use crate::target::Onto;
    use crate::value::rows_weight;

    /// Two integers, the first of them the key.
    pub fn table() -> Table {
        let columns = ["k", "v"].map(|n| Column::for_tests(n, Kind::Int { unsigned: false }));
        Table::for_tests(columns.to_vec(), vec![0])
    }

    pub fn row(k: i64, v: i64) -> Row {
        vec![Value::Int(k), Value::Int(v)]
    }

    pub fn chunk(rows: Vec<Row>) -> Chunk {
        let bytes = rows_weight(&rows);
        let rows = ChunkRows { table: 0, after: None, through: None, rows, bytes };
        let progress = CopyProgress::default();
        Chunk { rows, progress, onto: Onto::Equal, held: None, place: None }
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
}
