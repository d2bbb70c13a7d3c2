//! Chunks on connections of their own, beside the stream: a server stores rows in the thread of one connection, and has
//! more than one core.
//!
//! Why that is right: a chunk that fits exactly where the stream stands goes on fitting for as long as nothing of its
//! table is applied. So the stream's part is committed before a chunk begins, changes of the chunk's table wait until
//! it is committed, and all others go on. To a runner that begins again, a chunk that was lost on the way was never
//! read. Chunks are committed in the order in which they were read, so that what is copied of a table has no gaps.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use converge_mysql::Position;
use tokio::sync::{oneshot, watch};

use super::Followed;
use super::writer::{Load, commit, store};
use crate::copy::Chunk;
use crate::error::Result;
use crate::target::{Checkpoint, CopyProgress, Onto, Target};

/// A chunk that was committed.
struct Landed<T> {
    lane: T,
    table: usize,
    progress: CopyProgress,
}

/// A chunk on its way to the target.
struct Flight<'a, T> {
    table: usize,
    landing: Pin<Box<dyn Future<Output = Result<Landed<T>>> + 'a>>,
}

/// The connections for chunks, and what is on its way over them.
pub struct Lanes<'a, T> {
    free: Vec<T>,
    flights: Vec<Flight<'a, T>>,
    /// Is told when the last chunk that began is committed.
    last: Option<oneshot::Receiver<()>>,
    shared: &'a watch::Sender<Followed>,
    load: Load,
}

impl<'a, T: Target + 'a> Lanes<'a, T> {
    /// Chunks go over `free`, if those are any; `load` counts them.
    pub(super) fn new(free: Vec<T>, shared: &'a watch::Sender<Followed>, load: Load) -> Self {
        Self { free, flights: Vec::new(), last: None, shared, load }
    }

    /// Whether a chunk goes this way: if it must find exactly what the stream has left, and nobody waits for it.
    pub(super) fn take(&self, chunk: &Chunk) -> bool {
        chunk.onto == Onto::Equal
            && chunk.held.is_none()
            && !(self.free.is_empty() && self.flights.is_empty())
    }

    /// Begins to write a chunk as soon as there is a connection for it. The stream's part is committed up to `position`.
    pub(super) async fn begin(&mut self, chunk: Chunk, position: &Position) -> Result<()> {
        let mut lane = loop {
            match self.free.pop() {
                Some(lane) => break lane,
                None => self.land().await?,
            }
        };
        lane.stands_at(position);
        let (committed, last) = oneshot::channel();
        let before = self.last.replace(last);
        let (table, shared, counted) = (chunk.rows.table, self.shared, self.load.chunk());
        let landing = Box::pin(async move {
            let landed = write(lane, chunk, before, shared).await;
            drop(counted);
            // The one behind it may be gone.
            let _ = landed.is_ok().then(|| committed.send(()));
            landed
        });
        self.flights.push(Flight { table, landing });
        Ok(())
    }

    /// Waits until nothing is on its way into those of the tables.
    pub(super) async fn clear_of(&mut self, table: impl Fn(usize) -> bool) -> Result<()> {
        while self.flights.iter().any(|flight| table(flight.table)) {
            self.land().await?;
        }
        Ok(())
    }

    /// Lets the connections go: there are no more chunks.
    pub(super) fn end(&mut self) {
        self.free.clear();
    }

    /// Does something while chunks go on.
    pub(super) async fn beside<R>(&mut self, work: impl Future<Output = R>) -> Result<R> {
        tokio::select! {
            biased;
            failed = self.land_all() => failed.map(|never| match never {}),
            result = work => Ok(result),
        }
    }

    async fn land_all(&mut self) -> Result<Infallible> {
        loop {
            self.land().await?;
        }
    }

    /// Waits for the next chunk to be committed.
    async fn land(&mut self) -> Result<()> {
        // All are polled each time, in order: what happens depends on what is ready and on nothing else.
        let flights = &mut self.flights;
        let (at, landed) = poll_fn(|cx| {
            let ready = flights.iter_mut().enumerate().find_map(|(i, flight)| {
                match flight.landing.as_mut().poll(cx) {
                    Poll::Ready(landed) => Some((i, landed)),
                    Poll::Pending => None,
                }
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        drop(self.flights.swap_remove(at));
        let Landed { lane, table, progress } = landed?;
        self.free.push(lane);
        self.shared.send_modify(|shared| shared.copied[table] = progress);
        Ok(())
    }
}

/// Writes a chunk, and commits it once the one `before` it is committed.
async fn write<T: Target>(
    mut lane: T,
    chunk: Chunk,
    before: Option<oneshot::Receiver<()>>,
    shared: &watch::Sender<Followed>,
) -> Result<Landed<T>> {
    let (table, progress) = (chunk.rows.table, chunk.progress.clone());
    store(&mut lane, chunk).await?;
    if let Some(before) = before
        && before.await.is_err()
    {
        // It failed, and its error ends everything.
        return std::future::pending().await;
    }
    let copied = vec![(table, progress.clone())];
    commit(&mut lane, &Checkpoint { copied, ..Checkpoint::default() }, shared).await?;
    Ok(Landed { lane, table, progress })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::apply::plan::Step;
    use crate::copy::for_tests::{chunk, row};
    use crate::error::Error;
    use crate::target::ChunkRows;

    /// Takes as many seconds for a chunk as that has rows, and tells.
    struct Slow(Rc<RefCell<Vec<String>>>);

    impl Target for Slow {
        async fn run(&mut self, _: Vec<Step>) -> Result<()> {
            Ok(())
        }
        async fn write_chunk(&mut self, chunk: ChunkRows, _: Onto) -> Result<()> {
            self.0.borrow_mut().push(format!("begins {}", chunk.table));
            tokio::time::sleep(Duration::from_secs(chunk.rows.len() as u64)).await;
            match chunk.rows.len() {
                0 => Err(Error::refused("no rows", "none")),
                _ => Ok(()),
            }
        }
        async fn clear(&mut self, _: usize, _: u64) -> Result<()> {
            Ok(())
        }
        async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<()> {
            assert!(checkpoint.position.is_none(), "the position is the stream's");
            self.0.borrow_mut().push(format!("commits {}", checkpoint.copied[0].0));
            Ok(())
        }
    }

    fn of(table: usize, rows: i64) -> Chunk {
        let mut chunk = chunk((0..rows).map(|k| row(k, 0)).collect());
        (chunk.onto, chunk.rows.table) = (Onto::Equal, table);
        chunk
    }

    fn position() -> Position {
        "file:log.1:4".parse().unwrap()
    }

    fn shared() -> watch::Sender<Followed> {
        let copied = vec![CopyProgress::default(); 3];
        watch::Sender::new(Followed { copied, ..Followed::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_are_written_at_once_and_committed_in_order() {
        let (told, shared) = (Rc::<RefCell<Vec<String>>>::default(), shared());
        let lane = || Slow(told.clone());
        let mut lanes = Lanes::new(vec![lane(), lane()], &shared, Load::default());
        for chunk in [of(0, 9), of(1, 1), of(2, 1)] {
            assert!(lanes.take(&chunk));
            lanes.begin(chunk, &position()).await.unwrap();
        }
        lanes.clear_of(|_| true).await.unwrap();
        let expected = ["begins 0", "begins 1", "commits 0", "begins 2", "commits 1", "commits 2"];
        let mut told = told.borrow().clone();
        // The third may begin as soon as the first is committed, before or after the second is.
        told[3..5].sort();
        assert_eq!(told, expected);
        assert!(!Lanes::<Slow>::new(Vec::new(), &shared, Load::default()).take(&of(0, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_changes_of_a_chunks_table_wait_for_it() {
        let (told, shared) = (Rc::<RefCell<Vec<String>>>::default(), shared());
        let mut lanes = Lanes::new(vec![Slow(told.clone())], &shared, Load::default());
        lanes.begin(of(1, 5), &position()).await.unwrap();
        lanes.clear_of(|table| table == 0).await.unwrap();
        assert_eq!(lanes.beside(async { 7 }).await.unwrap(), 7);
        assert_eq!(told.borrow().as_slice(), ["begins 1"]);
        lanes.clear_of(|table| table == 1).await.unwrap();
        assert_eq!(told.borrow().as_slice(), ["begins 1", "commits 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_that_fails_ends_what_goes_on_beside_it() {
        let (told, shared) = (Rc::<RefCell<Vec<String>>>::default(), shared());
        let mut lanes = Lanes::new(vec![Slow(told.clone()), Slow(told.clone())], &shared, Load::default());
        lanes.begin(of(0, 0), &position()).await.unwrap();
        lanes.begin(of(0, 1), &position()).await.unwrap();
        let failed = lanes.beside(std::future::pending::<()>()).await.unwrap_err();
        assert!(failed.to_string().contains("no rows"), "{failed}");
        assert!(!told.borrow().iter().any(|told| told.starts_with("commits")), "{told:?}");
    }
}
