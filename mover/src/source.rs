//! The source of a move: where chunks and changes come from.
//!
//! The traits are what the core needs; [`server`] implements them for real servers.

mod address;
mod binlog;
mod bytes;
pub(crate) mod chunk;
mod compressed;
mod decimal;
mod decode;
mod digits;
pub mod errant;
mod event;
mod fence;
mod fenced;
mod guard;
pub mod history;
mod hold;
mod json;
mod json_question;
mod json_sql;
mod json_text;
mod json_types;
pub mod marks;
mod place;
mod prepared;
mod reader;
mod refused;
mod replicated;
mod server;
mod snapshot;
mod spelling;
pub mod statement;
mod stream;
mod temporal;
pub mod upstream;
pub(crate) mod xa;

use std::time::Duration;

pub use bytes::{Bytes, Truncated};
pub use decode::{BadRow, Plan};
pub use fence::{Raised, fenced_name, renaming};
pub use reader::ServerReader;
pub use replicated::Replicated;
pub use server::{ServerSource, server_id};
pub use stream::ServerStream;

use converge_mysql::Position;

use crate::change::{Mark, StreamEvent};
use crate::error::Result;
use crate::value::{Row, Value};

/// The bound of one statement on the source.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A server that rows are moved away from.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait Source {
    /// Reads chunks and writes marks.
    type Reader: ChunkReader;
    /// Reads changes.
    type Stream: ChangeStream;

    /// A new reader of chunks.
    async fn reader(&self) -> Result<Self::Reader>;
    /// A reader all of whose reads see one moment, and the position of that moment: what stands up to there in the log
    /// of `tables` (by index), and nothing behind it, is seen. It keeps no locks.
    async fn snapshot(&self, tables: &[usize]) -> Result<(Self::Reader, Position)>;
    /// The stream of all changes after `position`.
    async fn stream(&self, position: &Position) -> Result<Self::Stream>;
}

/// Rows that were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The rows, in the order of the key.
    pub rows: Vec<Row>,
    /// Bytes of memory that they take, roughly. Counted once: each look at a chunk's rows is one at memory all over.
    pub bytes: usize,
    /// Whether the table has no more rows behind them.
    pub ended: bool,
}

/// Reads tables in key order, a chunk at a time.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait ChunkReader {
    /// Writes a mark to the source and waits until it is committed.
    async fn mark(&mut self, mark: &Mark) -> Result<()>;
    /// The first rows of a table whose key is greater than `after` (values of the key's columns), in the order of the
    /// key: at most `limit`, and fewer where they are large.
    async fn read(&mut self, table: usize, after: Option<&[Value]>, limit: usize) -> Result<Fetched>;
    /// The same, but of the last committed state, and with locks that keep these rows from changing until
    /// [`release`](Self::release). Waits a bounded time for whoever holds one of them, a transaction that is prepared
    /// and not committed included; past it the error is a lock conflict, and some rows may be locked.
    async fn lock(&mut self, table: usize, after: Option<&[Value]>, limit: usize) -> Result<Fetched>;
    /// Reads a whole table, key or not, and passes its rows on, at most `limit` at once.
    async fn scan(
        &mut self,
        table: usize,
        limit: usize,
        pass_on: impl AsyncFnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()>;
    /// A position up to which the log has all that was read so far.
    async fn seen(&mut self) -> Result<Position>;
    /// Proves that the locked rows are still locked: an error if they may not be.
    async fn holds(&mut self) -> Result<()>;
    /// Lets all locked rows go.
    async fn release(&mut self) -> Result<()>;
}

/// Changes of the moved tables in commit order.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait ChangeStream {
    /// The next event, unless it has to be waited for.
    fn ready(&mut self) -> Option<Result<StreamEvent>>;
    /// Waits for the next event. May be given up while it waits, without losing one.
    async fn next(&mut self) -> Result<StreamEvent>;
}
