//! A low mark is written to the source, a chunk is read, and the follower writes it wherever the stream stands: rows
//! that the target has already are left alone, and rows that the stream removed since the low mark are left out.
//!
//! Why that is right: let the stream stand at P when the chunk goes in. All changes of a row after P are still to come
//! and write the whole row over whatever is there, so only changes up to P can go wrong. Those before the low mark
//! were visible to the SELECT, because a mark's commit returns only once all before it is visible. Those between the
//! low mark and P that left a row under its key have written it, and the chunk's older one gives way. Those that took
//! a row away, or its key, are remembered, and the chunk's row is left out. If a unique value of the chunk's row is
//! taken by another row on the target, one of the two is newer than P, so that a change which settles it is to come.
//!
//! While the copy goes on, rows of the target may thus be ahead of the applied position, and changes are written over
//! what is there. A last mark, written once every chunk was read and handed over, is where all rows have caught up:
//! from there on every change must fit exactly, as with the watermark. What is ahead must come by the stream, so a source
//! that takes over before that has to have all that the copy saw: each chunk is recorded with a position for that.
//!
//! Cost: one small commit on the source per chunk; no locks, no long snapshot, and a chunk never waits for the stream.
//! Keys removed are kept in memory only while a chunk with an older low mark is not written. Privileges on the source:
//! as for the watermark.

use std::collections::HashSet;

use tokio::time::Instant;

use super::touched::Touched;
use super::{Board, Chunk, Job};
use crate::change::{Change, ChunkId, Mark};
use crate::error::Result;
use crate::planted::{ENABLED, Returned};
use crate::schema::Table;
use crate::source::ChunkReader;
use crate::target::Onto;
use crate::value::key_of;

/// Reads all that is left of `tables` and hands it to the follower.
pub async fn copy(mut reader: impl ChunkReader, job: &Job<'_>) -> Result<()> {
    let mut number = 0;
    for mut walk in job.walks() {
        while !walk.progress.done {
            let place = job.board.place().await;
            number += 1;
            let id = ChunkId { run: job.run, table: walk.index, number };
            let started = Instant::now();
            reader.mark(&Mark::Low(id)).await?;
            let (rows, mut progress) = walk.next(&mut reader).await?;
            progress.seen = Some(reader.seen().await?);
            let n = rows.rows.len();
            job.board.post(id, Chunk { rows, progress, onto: Onto::Newer, held: None, place });
            tokio::time::sleep_until(started + job.pace.time_for(n)).await;
        }
    }
    reader.mark(&Mark::Copied(job.run)).await
}

/// The keys that the stream removed since a chunk's low mark.
struct Since {
    id: ChunkId,
    removed: Touched,
}

/// What the stream removed lately.
#[derive(Default)]
pub struct History {
    open: Vec<Since>,
    /// Chunks that were written before the stream came to their low mark.
    early: HashSet<ChunkId>,
    returned: Returned,
}

impl History {
    /// Takes note of a mark of this run.
    pub fn mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Low(id) if !self.early.remove(id) => {
                self.open.push(Since { id: *id, removed: Touched::default() });
            }
            Mark::Copied(_) => self.returned.end(),
            _ => {}
        }
    }

    /// Takes note of a change of a moved table.
    pub fn change(&mut self, change: &Change, table: &Table, board: &Board) {
        self.returned.change(change, table);
        let Some(before) = change.before() else { return };
        for since in self.open.iter_mut().filter(|s| s.id.table == change.table()) {
            let key = key_of(before, &table.key);
            if change.after().is_none_or(|after| key_of(after, &table.key) != key) {
                since.removed.add(key, since.id, board, &table.key);
            }
        }
    }

    /// Takes every chunk that was read, less the rows that were removed.
    pub fn due(&mut self, board: &Board, tables: &[Table]) -> Vec<Chunk> {
        let less = |(id, mut chunk): (ChunkId, Chunk)| {
            match self.open.iter().position(|s| s.id == id) {
                Some(at) => {
                    let Since { removed, .. } = self.open.swap_remove(at);
                    let (table, rows) = (&tables[id.table], &mut chunk.rows.rows);
                    let read = ENABLED.then(|| rows.clone());
                    removed.remove_from(rows, &table.key);
                    if let Some(read) = read.filter(|read| read.len() > rows.len())
                        && self.returned.brings_back(id.table, table, &read, rows)
                    {
                        *rows = read;
                    }
                }
                None => drop(self.early.insert(id)),
            }
            chunk
        };
        let due = board.take_all().into_iter().map(less).collect();
        self.returned.count();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::for_tests::{chunk, id, row, table};

    fn delete(k: i64) -> Change {
        Change::Delete { table: 0, before: row(k, 0) }
    }

    #[test]
    fn rows_removed_since_the_low_mark_are_left_out() {
        let (board, tables, mut history) = (Board::new(), [table()], History::default());
        history.change(&delete(1), &tables[0], &board);
        history.mark(&Mark::Low(id(1)));
        history.change(&delete(2), &tables[0], &board);
        history.change(&Change::Update { table: 0, before: row(3, 0), after: row(4, 9) }, &tables[0], &board);
        history.change(&Change::Update { table: 0, before: row(5, 0), after: row(5, 9) }, &tables[0], &board);
        board.post(id(1), chunk((1..=5).map(|k| row(k, 0)).collect()));
        let due = history.due(&board, &tables);
        assert_eq!(due[0].rows.rows, vec![row(1, 0), row(4, 0), row(5, 0)]);
        assert!(history.open.is_empty());
    }

    #[test]
    fn nothing_is_kept_for_a_chunk_that_was_written_before_its_mark_came() {
        let (board, tables, mut history) = (Board::new(), [table()], History::default());
        board.post(id(1), chunk(vec![row(1, 0)]));
        assert_eq!(history.due(&board, &tables)[0].rows.rows, vec![row(1, 0)]);
        history.mark(&Mark::Low(id(1)));
        history.change(&delete(1), &tables[0], &board);
        assert!(history.open.is_empty() && history.early.is_empty());
    }
}
