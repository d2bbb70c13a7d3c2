//! Copying the rows that were there before: when may a chunk that was read be written?
//!
//! A change can reach the stream before a SELECT sees its row, and a SELECT can see a row before the stream gets to
//! its change. Each strategy is one answer to that, and one file.

pub mod naive;
pub mod watermark;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::apply::plan::Mode;
use crate::change::ChunkId;
use crate::error::{Error, Result};
use crate::schema::Table;
use crate::source::ChunkReader;
use crate::target::{ChunkRows, CopyProgress};
use crate::value::{Row, Value, row_weight};

/// Which strategy a workflow uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Low mark, chunk, high mark; rows touched in between are left to the stream.
    #[default]
    Watermark,
    /// INSERT IGNORE beside the stream, without any protection: **wrong on purpose**, for the harness to catch.
    Naive,
}

impl Strategy {
    /// What the applier may take for granted.
    pub fn mode(self) -> Mode {
        match self {
            Self::Watermark => Mode::Exact,
            Self::Naive => Mode::Overwrite,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Watermark => "watermark",
            Self::Naive => "naive",
        })
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Watermark, Self::Naive].into_iter().find(|s| s.to_string() == text).ok_or_else(|| {
            Error::refused(format!("unknown copy strategy {text}"), "use --copy-strategy watermark")
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
    /// Frees the chunk's place when dropped.
    _place: Option<OwnedSemaphorePermit>,
}

/// Where chunks wait between being read and being written. A bounded number of them.
#[derive(Clone)]
pub struct Board {
    chunks: Arc<Mutex<HashMap<ChunkId, Chunk>>>,
    places: Arc<Semaphore>,
}

impl Board {
    /// Chunks that may wait at the same time.
    const PLACES: usize = 2;

    /// An empty board.
    pub fn new() -> Self {
        Self { chunks: Arc::default(), places: Arc::new(Semaphore::new(Self::PLACES)) }
    }

    /// Waits for a place.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed, so that the error cannot happen.
        self.places.clone().acquire_owned().await.ok()
    }

    fn post(&self, id: ChunkId, chunk: Chunk) {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).insert(id, chunk);
    }

    /// Takes a chunk away, if it is there.
    pub fn take(&self, id: ChunkId) -> Option<Chunk> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
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

    /// Reads the next chunk. Fewer rows than were asked for: the table ends.
    async fn next(&mut self, reader: &mut impl ChunkReader) -> Result<(ChunkRows, CopyProgress)> {
        let limit = self.pace.limit(self.row_bytes);
        let after = self.progress.last_key.clone();
        let rows = reader.read(self.index, after.as_deref(), limit).await?;
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
        Ok((ChunkRows { table: self.index, after, through, rows }, self.progress.clone()))
    }

    fn key_values(&self, row: &Row) -> Vec<Value> {
        self.table.key.iter().map(|&k| row[k].clone()).collect()
    }
}

/// Walks over every table that is not copied yet, in turn.
fn walks<'a>(
    tables: &'a [Table],
    progress: &'a [CopyProgress],
    pace: Pace,
) -> impl Iterator<Item = Walk<'a>> {
    tables
        .iter()
        .zip(progress)
        .enumerate()
        .filter(|(_, (_, progress))| !progress.done)
        .map(move |(index, (table, progress))| Walk::new(index, table, progress.clone(), pace))
}

#[cfg(test)]
mod tests {
    use super::*;

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
