//! Where chunks wait between being read and being written, bounded in number and in bytes, whatever the rows weigh.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{LANES, pace};
use crate::change::ChunkId;
use crate::target::{ChunkRows, CopyProgress, Onto};
use crate::value::key_of;

/// A chunk that was read and waits to be written.
pub struct Chunk {
    /// Its rows and their range.
    pub rows: ChunkRows,
    /// How far the copy is once it is written.
    pub progress: CopyProgress,
    /// What it may find in its place.
    pub onto: Onto,
    /// Who holds the chunk's rows locked until it is committed, where somebody does.
    pub held: Option<Held>,
    /// Frees the chunk's place when dropped.
    pub(crate) place: Option<Place>,
}

/// The follower's side of a chunk whose rows are held locked for it.
pub struct Held {
    asked: oneshot::Sender<oneshot::Sender<()>>,
    written: oneshot::Sender<()>,
}

/// The copier's side of it.
pub(super) struct Holder {
    /// Comes when the follower has settled where the stream stands, and before it commits the chunk there.
    pub asked: oneshot::Receiver<oneshot::Sender<()>>,
    /// Comes when the chunk is committed.
    pub written: oneshot::Receiver<()>,
}

impl Held {
    /// Both sides.
    pub(super) fn pair() -> (Self, Holder) {
        let ((asked, is_asked), (written, is_written)) = (oneshot::channel(), oneshot::channel());
        (Self { asked, written }, Holder { asked: is_asked, written: is_written })
    }

    /// Waits until the copier has proven that the rows are still locked. If they are not, its error ends the session,
    /// and this never returns.
    pub async fn proven(self) -> oneshot::Sender<()> {
        let (answer, proven) = oneshot::channel();
        let asked = self.asked.send(answer);
        if asked.is_err() || proven.await.is_err() {
            std::future::pending::<()>().await;
        }
        self.written
    }
}

/// A place on the board, and how many bytes it holds.
pub(crate) struct Place {
    bytes: usize,
    board: Board,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Gives the place back, with how long the target took for so many bytes.
    pub fn written(self, bytes: usize, elapsed: Duration) {
        self.board.wrote(bytes, elapsed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.board.held.send_modify(|held| *held -= self.bytes);
    }
}

/// Where chunks wait.
#[derive(Clone)]
pub struct Board {
    chunks: Arc<Mutex<HashMap<ChunkId, Chunk>>>,
    places: Arc<Semaphore>,
    posted: Arc<Notify>,
    /// Bytes of all chunks that were posted and are not written.
    held: Arc<watch::Sender<usize>>,
    /// Bytes that the next chunk should have.
    size: Arc<Mutex<usize>>,
}

impl Board {
    /// Chunks that may be read, wait or be written at the same time: one waits while another is read, so that no lane does.
    const PLACES: usize = LANES + 2;
    /// No chunk is read while so many bytes wait. What waits can be more by one chunk of each reader.
    const BYTES: usize = 40 << 20;

    /// An empty board.
    pub fn new() -> Self {
        Self {
            chunks: Arc::default(),
            places: Arc::new(Semaphore::new(Self::PLACES)),
            posted: Arc::default(),
            held: Arc::new(watch::Sender::new(0)),
            size: Arc::new(Mutex::new(pace::FIRST)),
        }
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> Option<Place> {
        // Neither the semaphore nor the channel is ever closed, so that there are no errors.
        let permit = self.places.clone().acquire_owned().await.ok();
        let _ = self.held.subscribe().wait_for(|held| *held < Self::BYTES).await;
        Some(Place { bytes: 0, board: self.clone(), _permit: permit })
    }

    pub(super) fn post(&self, id: ChunkId, mut chunk: Chunk) {
        if let Some(place) = &mut chunk.place {
            place.bytes = chunk.rows.bytes;
            self.held.send_modify(|held| *held += place.bytes);
        }
        self.chunks().insert(id, chunk);
        self.posted.notify_one();
    }

    fn chunks(&self) -> MutexGuard<'_, HashMap<ChunkId, Chunk>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a chunk was posted since the last time that somebody waited.
    pub async fn posted(&self) {
        self.posted.notified().await;
    }

    /// The keys of a chunk's rows, if it is there.
    pub(super) fn keys(&self, id: ChunkId, columns: &[usize]) -> Option<HashSet<Vec<u8>>> {
        self.chunks().get(&id).map(|chunk| chunk.rows.rows.iter().map(|row| key_of(row, columns)).collect())
    }

    /// Takes a chunk away, if it is there.
    pub fn take(&self, id: ChunkId) -> Option<Chunk> {
        self.chunks().remove(&id)
    }

    /// Takes all chunks away, in the order in which they were read.
    pub fn take_all(&self) -> Vec<(ChunkId, Chunk)> {
        let mut all: Vec<_> = std::mem::take(&mut *self.chunks()).into_iter().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Takes note of how long the target took for a chunk.
    pub fn wrote(&self, bytes: usize, elapsed: Duration) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        *size = pace::next_size(*size, bytes, elapsed);
    }

    /// Bytes that the next chunk should have.
    pub fn size(&self) -> usize {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::copy::for_tests::{chunk, id};
    use crate::value::Value;

    #[tokio::test]
    async fn a_full_board_lets_nobody_read_until_something_is_written() {
        let board = Board::new();
        let mut big = chunk(vec![vec![Value::Bytes(vec![0; Board::BYTES])]]);
        big.place = board.place().await;
        board.post(id(1), big);
        assert!(board.place().now_or_never().is_none());
        drop(board.take(id(1)));
        assert!(board.place().now_or_never().is_some());
    }
}
