//! The target of a move: where rows are written, in transactions that carry their own checkpoint.

mod equal;
mod load;
mod render;
mod server;
mod translate;

use std::time::Duration;

pub use render::{Expect, Statement};
pub use server::{Opening, creation};
pub use translate::{Dialect, common_name, translate};

use converge_mysql::Position;

use crate::apply::plan::Step;
use crate::error::Result;
use crate::state::State;
use crate::value::{Row, Value};

/// The bound of one round trip to the target.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Rows of one chunk, as they are to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkRows {
    /// The table's index in the workflow.
    pub table: usize,
    /// Values of the key's columns before the chunk's first row, `None` at the table's beginning.
    pub after: Option<Vec<Value>>,
    /// Values of the key's columns of the chunk's last row, `None` if the table ends here.
    pub through: Option<Vec<Value>>,
    /// The rows.
    pub rows: Vec<Row>,
    /// Bytes of memory that they took when they were read, roughly.
    pub bytes: usize,
}

/// What a chunk may find in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// Nothing at all: a row that is there is an alarm.
    Nothing,
    /// Rows that the stream wrote, equal to the chunk's: they are replaced, and any other is an alarm.
    Equal,
    /// Rows with one of the chunk's keys that are as new as the chunk's, or will be: they are left alone.
    Newer,
}

/// How far the copy of one table got.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CopyProgress {
    /// Values of the key's columns of the last row that was written.
    pub last_key: Option<Vec<Value>>,
    /// Rows written by the copy.
    pub rows_copied: u64,
    /// Whether the table is copied to its end.
    pub done: bool,
    /// A position of the source that has all which the copied rows show, where these may be ahead of the applied one.
    pub seen: Option<Position>,
}

/// What a target transaction records about itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// All source transactions up to here are in the target. `None`: unchanged.
    pub position: Option<Position>,
    /// The source's clock at that position, seconds since 1970.
    pub timestamp: u32,
    /// Tables whose copy got further.
    pub copied: Vec<(usize, CopyProgress)>,
    /// The state that the workflow enters with this transaction, if it is still in the first one.
    pub enter: Option<(State, State)>,
}

/// A server that rows are moved to.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait Target {
    /// Whether a row of this table may be written over where it stands: that is so where nothing but the key is
    /// unique. Otherwise rows that change are removed and added again, so that unique values can change places.
    fn changes_in_place(&self, _table: usize) -> bool {
        false
    }
    /// Where the stream stands, for messages.
    fn stands_at(&mut self, _position: &Position) {}
    /// Carries out steps in order, in the open transaction.
    async fn run(&mut self, steps: Vec<Step>) -> Result<()>;
    /// Writes a chunk in the open transaction.
    async fn write_chunk(&mut self, chunk: ChunkRows, onto: Onto) -> Result<()>;
    /// Removes the rows of a table that an interrupted copy wrote, outside of any transaction: `rows` of them, or none
    /// if they were removed already. Any other number means that somebody else wrote there, and is refused.
    async fn clear(&mut self, table: usize, rows: u64) -> Result<()>;
    /// Commits the open transaction together with its checkpoint.
    async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<()>;
}
