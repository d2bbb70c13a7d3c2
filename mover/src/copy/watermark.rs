//! The default strategy: a low mark is written to the source, a chunk is read, a high mark is written; the chunk goes
//! into the target when the stream is at the high mark, without the rows whose key an event between the marks
//! touched.
//!
//! Why that is right: what stands before the low mark in the log was visible to the SELECT, and what stands behind
//! the high mark was not, because a mark's commit returns only once all before it is visible. A row that no event
//! between the marks touched is therefore the same at both marks and in the chunk; one that was touched has its last
//! state in the events. The algorithm is that of DBLog (Andreakis and Papapanagiotou, "DBLog: A Watermark Based
//! Change-Data-Capture Framework", 2020).
//!
//! A chunk that was cleaned in this way fits the target exactly where the stream stands, so that it can be written beside
//! the stream, over a connection of its own (see `apply/lanes.rs`): two are on their way at once.
//!
//! Cost: two small commits on the source per chunk; no locks, no long snapshot; two more connections to the target while
//! rows are copied. Privileges on the source: SELECT, REPLICATION SLAVE, and INSERT and UPDATE on the mover's own table.

use tokio::time::Instant;

use super::touched::Touched;
use super::{Board, Chunk, Job};
use crate::change::{Change, ChunkId, Mark};
use crate::error::Result;
use crate::planted::{Bug, Missed, is_active, is_planted};
use crate::schema::Table;
use crate::source::ChunkReader;
use crate::target::Onto;
use crate::value::key_of;

/// Reads all that is left of `tables` and posts it on the board.
pub async fn copy(mut reader: impl ChunkReader, job: &Job<'_>) -> Result<()> {
    let mut number = 0;
    for mut walk in job.walks() {
        while !walk.progress.done {
            let place = job.board.place().await;
            number += 1;
            let id = ChunkId { run: job.run, table: walk.index, number };
            let started = Instant::now();
            reader.mark(&Mark::Low(id)).await?;
            let (rows, progress) = walk.next(&mut reader).await?;
            let n = rows.rows.len();
            // Posted before the high mark is written, so that the stream never finds a mark without its chunk.
            job.board.post(id, Chunk { rows, progress, onto: Onto::Equal, held: None, place });
            reader.mark(&Mark::High(id)).await?;
            tokio::time::sleep_until(started + job.pace.time_for(n)).await;
        }
    }
    Ok(())
}

/// The time between two marks, as the stream sees it.
struct Window {
    id: ChunkId,
    touched: Touched,
    missed: Missed,
    closed: bool,
}

/// The windows that are open at the stream's position.
#[derive(Default)]
pub struct Windows {
    open: Vec<Window>,
}

impl Windows {
    /// Takes note of a mark of this run.
    pub fn mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Low(id) => {
                // An attempt that was given up never closes its window.
                self.open.retain(|w| w.id.table != id.table || w.closed);
                let (touched, missed) = (Touched::default(), Missed::default());
                self.open.push(Window { id: *id, touched, missed, closed: false });
            }
            Mark::High(id) => self.open.iter_mut().filter(|w| w.id == *id).for_each(|w| w.closed = true),
            Mark::Fence(_) | Mark::Copied(_) => {}
        }
    }

    /// Takes note of a change of a moved table.
    pub fn change(&mut self, change: &Change, table: &Table, board: &Board) {
        let key = &table.key;
        for window in self.open.iter_mut().filter(|w| !w.closed && w.id.table == change.table()) {
            let [before, after] = window.missed.forgets(change, key);
            let (before, after) = (change.before().filter(|_| !before), change.after().filter(|_| !after));
            for row in before.into_iter().chain(after) {
                window.touched.add(key_of(row, key), window.id, board, key);
                if let Some(first) = first_column(key) {
                    window.touched.add(key_of(row, first), window.id, board, first);
                }
            }
        }
    }

    /// Takes the chunks whose high mark was passed, less the rows that were touched.
    pub fn due(&mut self, board: &Board, tables: &[Table]) -> Vec<Chunk> {
        let (closed, open) = std::mem::take(&mut self.open).into_iter().partition(|w| w.closed);
        self.open = open;
        let ready = |window: Window| {
            let mut chunk = board.take(window.id)?;
            let key = &tables[window.id.table].key;
            window.touched.remove_from(&mut chunk.rows.rows, key);
            window.missed.count(&chunk.rows.rows, key);
            if let Some(first) = first_column(key) {
                let left = chunk.rows.rows.len();
                window.touched.remove_from(&mut chunk.rows.rows, first);
                let _ = chunk.rows.rows.len() < left && is_planted(Bug::FirstKeyColumn);
            }
            Some(chunk)
        };
        Vec::from_iter(closed).into_iter().filter_map(ready).collect()
    }
}

/// The column that a planted bug takes for the whole of a composite key.
fn first_column(key: &[usize]) -> Option<&[usize]> {
    (key.len() > 1 && is_active(Bug::FirstKeyColumn)).then(|| &key[..1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::for_tests::{chunk, id, row, table};

    #[test]
    fn rows_touched_between_the_marks_are_left_to_the_stream() {
        let (board, tables, mut windows) = (Board::new(), [table()], Windows::default());
        board.post(id(1), chunk((1..=5).map(|k| row(k, 0)).collect()));
        windows.change(&Change::Delete { table: 0, before: row(1, 0) }, &tables[0], &board);
        windows.mark(&Mark::Low(id(1)));
        windows.change(&Change::Delete { table: 0, before: row(2, 0) }, &tables[0], &board);
        windows.change(&Change::Update { table: 0, before: row(3, 0), after: row(4, 9) }, &tables[0], &board);
        assert!(windows.due(&board, &tables).is_empty());
        windows.mark(&Mark::High(id(1)));
        windows.change(&Change::Delete { table: 0, before: row(5, 0) }, &tables[0], &board);
        let due = windows.due(&board, &tables);
        assert_eq!(due[0].rows.rows, vec![row(1, 0), row(5, 0)]);
    }

    #[test]
    fn an_attempt_that_was_given_up_is_forgotten() {
        let (board, tables, mut windows) = (Board::new(), [table()], Windows::default());
        windows.mark(&Mark::Low(id(1)));
        windows.mark(&Mark::Low(id(2)));
        board.post(id(2), chunk(vec![row(1, 0)]));
        windows.mark(&Mark::High(id(1)));
        assert!(windows.due(&board, &tables).is_empty());
        windows.mark(&Mark::High(id(2)));
        assert_eq!(windows.due(&board, &tables).len(), 1);
    }
}
