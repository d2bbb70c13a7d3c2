//! A chunk is read with shared row locks, which are kept until the target has committed it, and then rolled back.
//!
//! Why that is right: a locking read sees the last committed state, and waits for every transaction that holds a row
//! of the chunk, also one that is prepared and whose changes the stream may know already. From then on until the
//! chunk is on the target no row of it can change. So when the follower writes it, wherever the stream stands at P, a
//! row of the chunk cannot have been removed by a change up to P; a row that the stream wrote is as old as the
//! chunk's or older, is left alone, and gets its newer state from a change that is to come. If a unique value of the
//! chunk's row is taken by another row on the target, that one lost it after P, and the changes which settle it are to
//! come too. Rows that are not in the chunk need no lock: whoever adds one, the stream brings it. READ COMMITTED is
//! therefore enough, and better: it takes no locks on gaps, so that inserts go on.
//!
//! That the locks were held all the while has to be proven: a connection that broke lets the rows go, and a change that
//! follows can reach the stream before the chunk does. So the follower settles P, asks, and commits the chunk only after
//! the locking connection has answered once more: no change of its rows stands up to P then.
//!
//! While the copy goes on, rows of the target may be ahead of the applied position, and changes are written over what
//! is there. A last mark, written once every chunk is on the target, is where all rows have caught up: from there on
//! every change must fit exactly, as with the watermark. What is ahead must come by the stream, so a source that takes over
//! before that has to have all that the copy saw: each chunk is recorded with a position up to which it saw the log.
//!
//! Cost: writers wait for the rows of a chunk until it is written; a shared lock lets all readers and foreign key
//! checks pass. A chunk that meets a lock for too long is let go and tried again in smaller pieces. One commit on the
//! source for the whole copy. Privileges on the source: SELECT, REPLICATION SLAVE, and INSERT and UPDATE on the mover's
//! own table. (A shared lock needs no more than SELECT.)

use std::time::Duration;

use tokio::time::Instant;

use super::board::{Held, Holder};
use super::{Chunk, Job, Walk};
use crate::change::{ChunkId, Mark};
use crate::error::Result;
use crate::planted::{Bug, linger};
use crate::source::ChunkReader;
use crate::target::{ChunkRows, CopyProgress, Onto};

/// Times that one chunk is tried, each time with half as many rows.
const TRIES: u32 = 12;
/// How long writers have the rows for themselves before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads all that is left of `tables`, chunk by chunk under locks, and hands it to the follower.
pub async fn copy(mut reader: impl ChunkReader, job: &Job<'_>) -> Result<()> {
    let mut number = 0;
    for mut walk in job.walks() {
        while !walk.progress.done {
            number += 1;
            let id = ChunkId { run: job.run, table: walk.index, number };
            let started = Instant::now();
            let (rows, mut progress) = locked(&mut walk, &mut reader).await?;
            progress.seen = Some(reader.seen().await?);
            linger(Bug::LockingWithoutLock).await;
            let (n, bytes) = (rows.rows.len(), rows.bytes);
            let handed_over = Instant::now();
            let (held, holder) = Held::pair();
            job.board.post(id, Chunk { rows, progress, onto: Onto::Newer, held: Some(held), place: None });
            hold(&mut reader, holder).await?;
            reader.release().await?;
            job.board.wrote(bytes, handed_over.elapsed());
            tokio::time::sleep_until(started + job.pace.time_for(n)).await;
        }
    }
    reader.mark(&Mark::Copied(job.run)).await
}

/// Keeps the chunk's rows locked until it is committed, and proves that they were. A source that let them go, because
/// the connection broke or was idle for too long, would have let others change rows that the stream has passed already.
async fn hold(reader: &mut impl ChunkReader, holder: Holder) -> Result<()> {
    if let Ok(proven) = holder.asked.await {
        reader.holds().await?;
        // The follower may be gone.
        let _ = proven.send(());
        if holder.written.await.is_ok() {
            return Ok(());
        }
    }
    // The follower is gone, and its error ends the session; the locks go with this connection.
    std::future::pending().await
}

/// Reads and locks the next chunk, in smaller and smaller pieces while others hold its rows.
async fn locked(walk: &mut Walk<'_>, reader: &mut impl ChunkReader) -> Result<(ChunkRows, CopyProgress)> {
    let mut limit = walk.limit();
    let mut tries = 1;
    loop {
        let after = walk.progress.last_key.clone();
        match reader.lock(walk.index, after.as_deref(), limit).await {
            Ok(fetched) => return Ok(walk.advance(fetched)),
            Err(error) if error.is_lock_conflict() && tries < TRIES => {
                tracing::debug!("a chunk of {limit} rows is locked by others: {error}");
                reader.release().await?;
                tokio::time::sleep(PAUSE).await;
                limit = (limit / 2).max(1);
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use converge_mysql::Position;
    use futures_util::FutureExt;

    use super::*;
    use crate::error::Error;
    use crate::source::Fetched;
    use crate::value::{Row, Value};

    /// A connection that holds locks, or has lost them.
    struct Locking(bool);

    impl ChunkReader for Locking {
        async fn mark(&mut self, _: &Mark) -> Result<()> {
            Ok(())
        }
        async fn read(&mut self, _: usize, _: Option<&[Value]>, _: usize) -> Result<Fetched> {
            Err(Error::refused("nothing is read", "do not ask"))
        }
        async fn lock(&mut self, _: usize, _: Option<&[Value]>, _: usize) -> Result<Fetched> {
            Err(Error::refused("nothing is locked", "do not ask"))
        }
        async fn scan(
            &mut self,
            _: usize,
            _: usize,
            _: impl AsyncFnMut(Vec<Row>) -> Result<()>,
        ) -> Result<()> {
            Ok(())
        }
        async fn seen(&mut self) -> Result<Position> {
            Err(Error::refused("nothing is seen", "do not ask"))
        }
        async fn holds(&mut self) -> Result<()> {
            if self.0 { Ok(()) } else { Err(Error::refused("the connection is gone", "connect again")) }
        }
        async fn release(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_chunk_is_committed_only_while_its_rows_are_locked() {
        let (held, holder) = Held::pair();
        let (mut reader, mut follower) = (Locking(true), Box::pin(held.proven()));
        let mut copier = Box::pin(hold(&mut reader, holder));
        assert!(follower.as_mut().now_or_never().is_none() && copier.as_mut().now_or_never().is_none());
        let written = follower.now_or_never().expect("the locks are held");
        assert!(
            copier.as_mut().now_or_never().is_none(),
            "the rows stay locked until the chunk is committed"
        );
        written.send(()).unwrap();
        assert!(copier.now_or_never().unwrap().is_ok());

        let (held, holder) = Held::pair();
        let (mut reader, mut follower) = (Locking(false), Box::pin(held.proven()));
        let mut copier = Box::pin(hold(&mut reader, holder));
        assert!(follower.as_mut().now_or_never().is_none());
        assert!(copier.as_mut().now_or_never().unwrap().is_err());
        drop(copier);
        assert!(follower.now_or_never().is_none(), "the chunk of lost locks is never committed");
    }
}
