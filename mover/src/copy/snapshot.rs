//! All rows are read from one consistent snapshot at a known position; the stream begins there once they are copied.
//!
//! Why that is right: the snapshot holds exactly what stands in the log up to its position, and every change after
//! the position comes by the stream, once and in order. At every commit the target equals the source at the applied
//! position, so that every change must fit exactly.
//!
//! On MySQL the tables are locked against writes for the moment that it takes to open the snapshot and to read the
//! position, because only then does the one belong to the other; MariaDB says the position that a snapshot belongs
//! to, without a lock. Tables without a usable key are copied in this way under every strategy, because they cannot be
//! read in pieces.
//!
//! A snapshot ends with its connection. A copy that is interrupted cannot go on in another one, so it begins again:
//! the rows that it wrote are removed from the target, provided that there are exactly as many as it says it wrote.
//!
//! Cost: the source keeps old row versions for as long as the copy takes, and must keep its binary logs for as long;
//! the stream is behind by that time when it begins. A statement that alters a table waits until its copy is over, and
//! whoever uses the table waits behind that statement. Privileges on the source: as for the watermark; on MySQL also
//! LOCK TABLES. On the target: DROP, for the TRUNCATE TABLE of an interrupted copy.

use converge_mysql::Position;
use tokio::time::Instant;

use super::{Job, Walk};
use crate::error::Result;
use crate::source::ChunkReader;
use crate::state::State;
use crate::target::{Checkpoint, ChunkRows, CopyProgress, Onto, Target};
use crate::value::rows_weight;

/// Copies the tables of `job`'s [`alone`](Job::alone) from the snapshot of `reader` at `position`, and returns how far
/// all tables are copied then;
/// `tell` hears of it on the way. Whatever an interrupted attempt left behind is removed first.
pub async fn copy<T: Target>(
    mut reader: impl ChunkReader,
    position: &Position,
    mut target: T,
    job: &Job<'_>,
    tell: impl Fn(&[CopyProgress]),
) -> Result<Vec<CopyProgress>> {
    let which = job.alone();
    let mut copied = job.progress.to_vec();
    for &table in &which {
        target.clear(table, copied[table].rows_copied).await?;
        copied[table] = CopyProgress::default();
    }
    let begin = which.iter().map(|&table| (table, CopyProgress::default())).collect();
    let begin = Checkpoint { position: Some(position.clone()), copied: begin, ..Checkpoint::default() };
    target.commit(&begin).await?;
    for &table in &which {
        let mut writer =
            Writer { target: &mut target, copied: &mut copied, job, tell: &tell, started: Instant::now() };
        if job.tables[table].key.is_empty() {
            writer.scan(&mut reader, table).await?;
        } else {
            writer.walk(&mut reader, table).await?;
        }
    }
    Ok(copied)
}

/// Writes chunks over a connection of its own.
struct Writer<'a, T, F> {
    target: &'a mut T,
    copied: &'a mut Vec<CopyProgress>,
    job: &'a Job<'a>,
    tell: &'a F,
    started: Instant,
}

impl<T: Target, F: Fn(&[CopyProgress])> Writer<'_, T, F> {
    /// A table in the order of its key.
    async fn walk(&mut self, reader: &mut impl ChunkReader, table: usize) -> Result<()> {
        let job = self.job;
        let mut walk = Walk::new(table, &job.tables[table], CopyProgress::default(), job);
        while !walk.progress.done {
            let (rows, progress) = walk.next(reader).await?;
            self.write(rows, progress).await?;
        }
        Ok(())
    }

    /// A table without a key, in no order, in one go.
    async fn scan(&mut self, reader: &mut impl ChunkReader, table: usize) -> Result<()> {
        let walk = Walk::new(table, &self.job.tables[table], CopyProgress::default(), self.job);
        let mut progress = CopyProgress::default();
        reader
            .scan(table, walk.limit(), async |rows| {
                progress.rows_copied += rows.len() as u64;
                let bytes = rows_weight(&rows);
                let chunk = ChunkRows { table, after: None, through: None, rows, bytes };
                self.write(chunk, progress.clone()).await
            })
            .await?;
        let end = ChunkRows { table, after: None, through: None, rows: Vec::new(), bytes: 0 };
        self.write(end, CopyProgress { done: true, ..progress }).await
    }

    async fn write(&mut self, rows: ChunkRows, progress: CopyProgress) -> Result<()> {
        let (table, n, bytes, started) = (rows.table, rows.rows.len(), rows.bytes, Instant::now());
        self.target.write_chunk(rows, Onto::Nothing).await?;
        self.job.board.wrote(bytes, started.elapsed());
        self.copied[table] = progress.clone();
        let complete = self.copied.iter().all(|c| c.done);
        let checkpoint = Checkpoint {
            copied: vec![(table, progress)],
            enter: complete.then_some((State::Copying, State::Replicating)),
            ..Checkpoint::default()
        };
        self.target.commit(&checkpoint).await?;
        (self.tell)(self.copied);
        let rest = self.started + self.job.pace.time_for(n);
        tokio::time::sleep_until(rest).await;
        self.started = Instant::now();
        Ok(())
    }
}
