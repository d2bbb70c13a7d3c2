//! The keys that the stream touched while a chunk was on its way, in bounded memory however large a transaction is.
//!
//! Once they are many, only those of the chunk's own rows are kept: no others can matter to it. Nothing is forgotten
//! before the chunk is there to ask.

use std::collections::HashSet;

use super::Board;
use crate::change::ChunkId;
use crate::value::{Row, key_of};

/// Bytes of keys that are many.
const MANY: usize = 4 << 20;
/// Bytes that a key takes beside its own.
const OVERHEAD: usize = 48;

/// Keys touched since a chunk's low mark.
#[derive(Default)]
pub struct Touched {
    keys: HashSet<Vec<u8>>,
    /// Bytes added since the chunk was asked for.
    bytes: usize,
    /// The keys of the chunk's rows, once they were asked for.
    chunk: Option<HashSet<Vec<u8>>>,
}

impl Touched {
    /// Takes note of a key; `columns` are those of the table's key.
    pub fn add(&mut self, key: Vec<u8>, id: ChunkId, board: &Board, columns: &[usize]) {
        if self.chunk.as_ref().is_some_and(|chunk| !chunk.contains(&key)) {
            return;
        }
        self.bytes += key.len() + OVERHEAD;
        self.keys.insert(key);
        if self.chunk.is_none() && self.bytes > MANY {
            self.bytes = 0;
            self.chunk = board.keys(id, columns);
            if let Some(chunk) = &self.chunk {
                self.keys.retain(|key| chunk.contains(key));
                self.keys.shrink_to_fit();
            }
        }
    }

    /// Takes the rows away that were touched.
    pub fn remove_from(&self, rows: &mut Vec<Row>, columns: &[usize]) {
        if !self.keys.is_empty() {
            rows.retain(|row| !self.keys.contains(&key_of(row, columns)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::for_tests::{chunk, id, row};

    fn touch(touched: &mut Touched, board: &Board, keys: std::ops::Range<i64>) {
        keys.for_each(|k| touched.add(key_of(&row(k, 0), &[0]), id(1), board, &[0]));
    }

    #[test]
    fn many_keys_are_held_in_bounded_memory_and_none_is_forgotten() {
        let (board, mut touched) = (Board::new(), Touched::default());
        touch(&mut touched, &board, 0..100_000);
        assert_eq!(touched.keys.len(), 100_000, "the chunk is not there yet: any of them may be its own");
        board.post(id(1), chunk([-2, 5, 99_999, 399_999, 400_000].map(|k| row(k, 0)).into()));
        touch(&mut touched, &board, 100_000..400_000);
        assert!(touched.keys.len() < 10, "{} keys are held", touched.keys.len());
        let mut rows = board.take(id(1)).unwrap().rows.rows;
        touched.remove_from(&mut rows, &[0]);
        assert_eq!(rows, [row(-2, 0), row(400_000, 0)]);
    }
}
