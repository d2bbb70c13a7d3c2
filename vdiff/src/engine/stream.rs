//! The stream engine: a chunk's rows cross the network once, from both sides at the same time, and the client digests
//! them as they arrive.
//!
//! Of each row it keeps the key and the digest, once differing rows are expected and as long as that takes little memory:
//! a chunk that differs unexpectedly is read again. It never lets two rows pass for one, and never uses a digest in which
//! edits could cancel.

use std::collections::HashMap;

use mysql_async::Row;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::tally::Answer;
use crate::canonical_json::canonical;
use crate::digest::{Framing, push_piece};
use crate::error::Error;
use crate::plan::Plan;
use crate::session::{Session, cell, raw_cell};

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

    /// The keys whose rows are not the same on both sides, each once, and how many rows of the source have
    /// none of them. `None`: the rows were not kept.
    pub fn differing<'a>(&'a self, target: &'a Self) -> Option<(Vec<&'a [u8]>, u64)> {
        let complete = |rows: &Self| !rows.overflow && rows.answer.undigested == 0;
        if !complete(self) || !complete(target) {
            return None;
        }
        let (source, target): (Vec<_>, Vec<_>) = (self.rows().collect(), target.rows().collect());
        let single = without_pairs(&source, &target);
        // By key: rows here and there, and the sum of their digests; a key may be on several shards.
        let mut balance: HashMap<&[u8], [(u32, u128); 2]> = HashMap::with_capacity(single[0].len());
        for (side, rows) in single.iter().enumerate() {
            for (key, hash) in rows {
                let (count, sum) = &mut balance.entry(key).or_default()[side];
                *count += 1;
                *sum = sum.wrapping_add(*hash);
            }
        }
        balance.retain(|_, [source, target]| source != target);
        let apart = source.iter().filter(|(key, _)| balance.contains_key(key)).count() as u64;
        let mut keys = Vec::with_capacity(balance.len());
        for (key, _) in single.iter().flatten() {
            if balance.remove(key).is_some() {
                keys.push(*key);
            }
        }
        Some((keys, self.answer.rows() - apart))
    }
}

/// A row's key and digest.
type Hashed<'a> = (&'a [u8], u128);

/// Rows that may stand between two that are a pair.
const WINDOW: usize = 8;

/// The rows of two sides without pairs of equal ones. Both servers mostly give rows in the same order: what stands at the
/// same place is looked at first, so that few rows are left to be looked up. Not all pairs need be found.
fn without_pairs<'a>(source: &[Hashed<'a>], target: &[Hashed<'a>]) -> [Vec<Hashed<'a>>; 2] {
    let mut single = [Vec::new(), Vec::new()];
    let (mut a, mut b) = (0, 0);
    while a < source.len() && b < target.len() {
        if source[a] == target[b] {
            (a, b) = (a + 1, b + 1);
            continue;
        }
        let same_key = |&(i, j): &(usize, usize)| match (source.get(a + i), target.get(b + j)) {
            (Some((one, _)), Some((other, _))) => one == other,
            _ => false,
        };
        let mut near = (0..=WINDOW).flat_map(|distance| (0..=distance).map(move |i| (i, distance - i)));
        // The same key with other values, or none that is the same near by: neither has a pair here.
        let (i, j) = near.find(same_key).filter(|near| *near != (0, 0)).unwrap_or((1, 1));
        single[0].extend(source.iter().skip(a).take(i));
        single[1].extend(target.iter().skip(b).take(j));
        (a, b) = (a + i, b + j);
    }
    single[0].extend(source.iter().skip(a));
    single[1].extend(target.iter().skip(b));
    single
}

/// A key's image, as a server builds it, out of its cells. `None`: they are not in the form asked for.
pub fn key_image(plan: &Plan, mut cells: &[u8]) -> Option<Vec<u8>> {
    let mut image = Vec::with_capacity(cells.len() + 8);
    for column in plan.key() {
        push_piece(&mut image, column.form.framing, cell(&mut cells)?);
    }
    Some(image)
}

/// Rows that are digested at once.
const BATCH_ROWS: usize = 2_000;

/// Bytes of rows that wait to be digested, at the most, and one row.
const BATCH_BYTES: usize = 1 << 20;

/// Digests the rows of a statement that asks for images (`Plan::images`) and for what is left to the client: that is
/// parsing, which takes longer than reading, so that all cores share it.
pub async fn images(session: &mut Session, sql: &str) -> Result<Streamed, Error> {
    const WHAT: &str = "reading a chunk's rows";
    let mut batch = Batch::default();
    session.flow(WHAT, sql, |row| batch.push(row)).await?;
    batch.digest();
    Ok(Streamed { answer: batch.answer, overflow: true, ..Streamed::default() })
}

/// Rows that wait to be digested, and the digest of those before them.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    bytes: usize,
    answer: Answer,
}

impl Batch {
    fn push(&mut self, row: Row) {
        self.bytes += (0..row.len()).filter_map(|at| raw_cell(&row, at)).map(<[u8]>::len).sum::<usize>();
        self.rows.push(row);
        if self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.digest();
        }
    }

    fn digest(&mut self) {
        let sum = |mut sum: Answer, part: Answer| {
            sum.merge(&part);
            sum
        };
        let found = self.rows.par_drain(..).map(|row| digested(&row)).reduce(Answer::default, sum);
        self.answer.merge(&found);
        self.bytes = 0;
    }
}

/// The digest of one row: of its image, and after it what the server leaves to the client.
fn digested(row: &Row) -> Answer {
    let mut answer = Answer::default();
    let Some(own) = raw_cell(row, 0) else {
        // The server could not build it: counted, never digested.
        answer.digest.rows += 1;
        answer.undigested += 1;
        return answer;
    };
    if row.len() == 1 {
        answer.digest.add_xxh3(xxh3_128(own));
        return answer;
    }
    let mut image = Vec::new();
    // With its length, so that no client's column can pass for a part of it.
    push_piece(&mut image, Framing::Sized, Some(own));
    for at in 1..row.len() {
        push_piece(&mut image, Framing::Sized, raw_cell(row, at).map(canonical).as_deref());
    }
    answer.digest.add_xxh3(xxh3_128(&image));
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

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
        assert_eq!((keys, same), (vec![&[1, 2][..], &[1, 3], &[1, 4], &[1, 5]], 1));
        let mut both = streamed(&[(5, 5), (4, 4)]);
        both.merge(streamed(&[(1, 1), (3, 9), (5, 5)]));
        assert_eq!(both.differing(&target).unwrap(), (vec![], 5));
    }

    proptest! {
        /// Whatever the order of the rows: as if each row were looked up.
        #[test]
        fn differing_keys_are_those_whose_rows_do_not_balance(
            source in prop::collection::vec((0u8..40, 0u8..3), 0..60),
            edits in prop::collection::vec((0usize..60, 0u8..5, 0u8..40), 0..8),
            sorted: bool,
        ) {
            let mut source = source;
            let mut target = source.clone();
            for (at, what, key) in edits {
                match (what, at < target.len()) {
                    (0, true) => drop(target.remove(at)),
                    (1, true) => target[at].1 ^= 1,
                    (2, true) => target[at].0 = key,
                    (3, true) => target[at..].reverse(),
                    _ => target.insert(at.min(target.len()), (key, 0)),
                }
            }
            if sorted {
                source.sort_unstable();
                target.sort_unstable();
            }
            let of = |rows: &[(u8, u8)], key: u8| {
                let mut values: Vec<u8> = rows.iter().filter(|row| row.0 == key).map(|row| row.1).collect();
                values.sort_unstable();
                values
            };
            let wanted: BTreeSet<u8> = (0..40).filter(|&key| of(&source, key) != of(&target, key)).collect();
            let same = source.iter().filter(|row| !wanted.contains(&row.0)).count() as u64;
            let (source, target) = (streamed(&source), streamed(&target));
            let (keys, found_same) = source.differing(&target).unwrap();
            prop_assert_eq!(keys.len(), wanted.len());
            prop_assert_eq!(keys.iter().map(|key| key[1]).collect::<BTreeSet<u8>>(), wanted);
            prop_assert_eq!(found_same, same);
        }
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
