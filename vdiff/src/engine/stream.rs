//! The stream engine: a chunk's rows cross the network once, from both sides at the same time, and the client digests
//! them as they arrive.
//!
//! Of each row it keeps the key and the digest, once differing rows are expected and as long as that takes little memory:
//! a chunk that differs unexpectedly is read again. It never lets two rows pass for one, and never uses a digest in which
//! edits could cancel.

use std::collections::HashMap;

use mysql_async::{Row, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::tally::Answer;
use crate::canonical_json::canonical;
use crate::digest::{Framing, push_piece};
use crate::error::Error;
use crate::plan::Plan;
use crate::session::{Session, cell};

/// The most bytes of keys that are kept of one side of a chunk.
const KEPT_KEYS: usize = 4 << 20;

/// The most rows that are kept of one side of a chunk.
pub const KEPT_ROWS: u64 = 100_000;

/// Rows that came from one side.
#[derive(Debug, Default)]
pub struct Streamed {
    /// Their digest.
    pub answer: Answer,
    /// Their keys' cells, one after the other.
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
    /// Each row's digest.
    hashes: Vec<u128>,
    /// Whether they are not kept, or too many to be.
    overflow: bool,
}

/// Reads and digests the rows of a statement that asks for them raw (`Plan::raw_rows`), and keeps them if asked to.
pub async fn raw(session: &mut Session, plan: &Plan, sql: &str, keep: bool) -> Result<Streamed, Error> {
    let (mut streamed, longest) =
        (Streamed { overflow: !keep, ..Streamed::default() }, session.longest as usize);
    let (columns, marked) = (plan.key_positions().len(), plan.marks_torn());
    let never_empty = plan.never_empty();
    session
        .packets("reading a chunk's rows", sql, |packet| {
            let torn = marked && packet.last() != Some(&b'0') || has_empty(packet, &never_empty);
            streamed.add(packet, columns, torn || packet.len() > longest);
        })
        .await?;
    Ok(streamed)
}

/// Whether one of these cells, in ascending order, is empty.
fn has_empty(mut packet: &[u8], cells: &[usize]) -> bool {
    let mut next = 0;
    cells.iter().any(|wanted| {
        while next < *wanted {
            cell(&mut packet);
            next += 1;
        }
        next += 1;
        cell(&mut packet) == Some(Some(&[]))
    })
}

impl Streamed {
    fn add(&mut self, packet: &[u8], key_columns: usize, torn: bool) {
        if torn {
            // The server could not build it, or could not in a digest of its own: counted, never digested.
            self.answer.digest.rows += 1;
            self.answer.undigested += 1;
            return;
        }
        let hash = xxh3_128(packet);
        self.answer.digest.add_xxh3(hash);
        if self.overflow {
            return;
        }
        let mut rest = packet;
        let whole = (0..key_columns).all(|_| cell(&mut rest).is_some());
        self.keys.extend_from_slice(&packet[..packet.len() - rest.len()]);
        self.ends.push(self.keys.len() as u32);
        self.hashes.push(hash);
        if !whole || self.keys.len() > KEPT_KEYS || self.hashes.len() as u64 > KEPT_ROWS * 2 {
            *self = Self { answer: self.answer, overflow: true, ..Self::default() };
        }
    }

    /// Adds the rows of another shard.
    pub fn merge(&mut self, other: Self) {
        self.answer.merge(&other.answer);
        self.overflow |= other.overflow || self.keys.len() + other.keys.len() > u32::MAX as usize;
        if self.overflow {
            *self = Self { answer: self.answer, overflow: true, ..Self::default() };
            return;
        }
        let before = self.keys.len() as u32;
        self.keys.extend(other.keys);
        self.ends.extend(other.ends.iter().map(|end| end + before));
        self.hashes.extend(other.hashes);
    }

    fn rows(&self) -> impl Iterator<Item = (&[u8], u128)> {
        let mut from = 0;
        self.ends.iter().zip(&self.hashes).map(move |(end, hash)| {
            let key = &self.keys[from..*end as usize];
            from = *end as usize;
            (key, *hash)
        })
    }

    /// The keys whose rows are not the same on both sides, the source's first, and how many rows of the source have
    /// none of them. `None`: the rows were not kept.
    pub fn differing<'a>(&'a self, target: &'a Self) -> Option<(Vec<&'a [u8]>, u64)> {
        let complete = |rows: &Self| !rows.overflow && rows.answer.undigested == 0;
        if !complete(self) || !complete(target) {
            return None;
        }
        // By key: rows here and there, and the sum of their digests; a key may be on several shards.
        let mut balance: HashMap<&[u8], [(u32, u128); 2]> = HashMap::with_capacity(self.hashes.len());
        for (side, rows) in [self, target].into_iter().enumerate() {
            for (key, hash) in rows.rows() {
                let (count, sum) = &mut balance.entry(key).or_default()[side];
                *count += 1;
                *sum = sum.wrapping_add(hash);
            }
        }
        balance.retain(|_, [source, target]| source != target);
        let apart = self.rows().filter(|(key, _)| balance.contains_key(key)).count() as u64;
        let mut keys = Vec::with_capacity(balance.len());
        for (key, _) in self.rows().chain(target.rows()) {
            if balance.remove(key).is_some() {
                keys.push(key);
            }
        }
        Some((keys, self.answer.rows() - apart))
    }
}

/// A key's image, as a server builds it, out of its cells. `None`: they are not in the form asked for.
pub fn key_image(plan: &Plan, mut cells: &[u8]) -> Option<Vec<u8>> {
    let mut image = Vec::with_capacity(cells.len() + 8);
    for column in plan.key() {
        push_piece(&mut image, column.form.framing, cell(&mut cells)?);
    }
    Some(image)
}

/// Digests the rows of a statement that asks for images (`Plan::images`) and for what is left to the client.
pub async fn images(session: &mut Session, sql: &str) -> Result<Streamed, Error> {
    const WHAT: &str = "reading a chunk's rows";
    let (mut answer, mut image) = (Answer::default(), Vec::new());
    session.each(WHAT, sql, |row| add(&mut answer, &mut image, row)).await?;
    Ok(Streamed { answer, overflow: true, ..Streamed::default() })
}

/// Adds one row: its image, and after it what the server leaves to the client.
fn add(answer: &mut Answer, image: &mut Vec<u8>, row: &Row) {
    let bytes = |at: usize| match row.as_ref(at) {
        Some(Value::Bytes(bytes)) => Some(bytes.as_slice()),
        _ => None,
    };
    let Some(own) = bytes(0) else {
        // The server could not build it: counted, never digested.
        answer.digest.rows += 1;
        answer.undigested += 1;
        return;
    };
    if row.len() == 1 {
        answer.digest.add_xxh3(xxh3_128(own));
        return;
    }
    image.clear();
    // With its length, so that no client's column can pass for a part of it.
    push_piece(image, Framing::Sized, Some(own));
    for at in 1..row.len() {
        push_piece(image, Framing::Sized, bytes(at).map(canonical).as_deref());
    }
    answer.digest.add_xxh3(xxh3_128(image));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(rows: &[(u8, u8)]) -> Streamed {
        let mut streamed = Streamed::default();
        rows.iter().for_each(|(key, value)| streamed.add(&[1, *key, 1, *value], 1, false));
        streamed
    }

    #[test]
    fn keys_that_differ_are_found_once_each() {
        let source = streamed(&[(1, 1), (2, 2), (3, 3), (5, 5)]);
        let target = streamed(&[(4, 4), (3, 9), (1, 1), (5, 5), (5, 5)]);
        let (keys, same) = source.differing(&target).unwrap();
        assert_eq!((keys, same), (vec![&[1, 2][..], &[1, 3], &[1, 5], &[1, 4]], 1));
        let mut both = streamed(&[(5, 5), (4, 4)]);
        both.merge(streamed(&[(1, 1), (3, 9), (5, 5)]));
        assert_eq!(both.differing(&target).unwrap(), (vec![], 5));
    }

    #[test]
    fn an_empty_cell_is_found_where_none_may_be() {
        // NULL, "a", "", "b", "".
        let packet = [0xfb, 1, b'a', 0, 1, b'b', 0];
        let found = |cells: &[usize]| has_empty(&packet, cells);
        assert!(found(&[2]) && found(&[4]) && found(&[1, 3, 4]) && found(&[0, 2]));
        assert!(!found(&[]) && !found(&[0, 1]) && !found(&[0, 1, 3]) && !found(&[7]));
    }

    #[test]
    fn what_was_not_kept_is_not_compared_row_by_row() {
        let (mut source, target) = (streamed(&[(1, 1)]), streamed(&[(1, 1)]));
        assert!(source.differing(&target).is_some());
        source.add(&[1, 2, 1, 1], 1, true);
        assert!(source.differing(&target).is_none() && target.differing(&source).is_none());
        let mut cut = Streamed::default();
        cut.add(&[9, 2], 1, false);
        assert!(cut.overflow && cut.differing(&target).is_none());
    }
}
