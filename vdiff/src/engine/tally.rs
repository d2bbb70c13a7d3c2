//! What was found in a part of a table. Tallies of parts add up to that of the whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::rows::{Counts, Differing};
use crate::digest::Digest;
use crate::plan::sql::Scope;
use crate::report::DifferingRow;
use crate::session::number;

/// The digest of rows, as a server or the client made it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// Over those that have a digest.
    pub digest: Digest,
    /// Rows without a digest of their own: they are missing from the sums.
    pub undigested: u64,
}

impl Answer {
    /// Whether the sums cover all rows and agree.
    pub fn equals(&self, other: &Self) -> bool {
        self.undigested == 0 && other.undigested == 0 && self.digest == other.digest
    }

    /// All rows, digested or not.
    pub fn rows(&self) -> u64 {
        self.digest.rows
    }

    /// Adds other rows, as those of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.digest.merge(&other.digest);
        self.undigested += other.undigested;
    }

    /// Reads rows, rows with a digest, and the two sums (NULL over no rows).
    pub fn parse(cells: &[Option<Vec<u8>>]) -> Option<Self> {
        let (rows, digested): (u64, u64) = (number(cells.first()?)?, number(cells.get(1)?)?);
        let mut digest = Digest { rows, ..Digest::default() };
        for (sum, cell) in digest.sums.iter_mut().zip(cells.get(2..4)?) {
            *sum = if digested == 0 { 0 } else { number(cell)? };
        }
        Some(Self { digest, undigested: rows.checked_sub(digested)? })
    }
}

/// A differing row that is not yet proven.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// The row.
    pub row: Differing,
    /// Where it was found.
    pub scope: Arc<Scope>,
    /// The number of the chunk that it was found in, so that rows are named in the table's order.
    pub chunk: u64,
    /// What was seen of it while it was held still.
    pub proof: Option<RowProof>,
}

impl Suspect {
    /// The row for the report as it was seen while it was held.
    pub fn seen(&self) -> &[DifferingRow] {
        self.proof.as_ref().map_or(&[], |proof| &proof.rows)
    }
}

/// That a row was held still on the source while it differed.
#[derive(Debug, Clone)]
pub struct RowProof {
    /// The row for the report; none if there was no room for it.
    pub rows: Vec<DifferingRow>,
}

/// What was found in a part of a table.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Rows that are equal.
    pub matching: u64,
    /// Rows whose image a server could not build.
    pub undigested: u64,
    /// Rows read on the source.
    pub source_rows: u64,
    /// Rows read on the target.
    pub target_rows: u64,
    /// Parts compared.
    pub chunks: u64,
    /// Differing rows that are held.
    pub suspects: Vec<Suspect>,
    /// Differing rows beyond those that are held.
    pub uncounted: Counts,
}

impl Tally {
    /// All differing rows.
    pub fn counts(&self) -> Counts {
        let mut counts = self.uncounted;
        self.suspects.iter().for_each(|s| counts.add(s.row.counts()));
        counts
    }

    /// Adds rows that are the same on both sides.
    pub fn add_equal(&mut self, rows: u64) {
        self.matching += rows;
        self.source_rows += rows;
        self.target_rows += rows;
    }

    /// Adds another part.
    pub fn merge(&mut self, mut other: Self) {
        self.matching += other.matching;
        self.undigested += other.undigested;
        self.source_rows += other.source_rows;
        self.target_rows += other.target_rows;
        self.chunks += other.chunks;
        self.suspects.append(&mut other.suspects);
        self.uncounted.add(other.uncounted);
    }

    /// Holds a differing row if there is room for it, else only counts it.
    pub fn hold(&mut self, suspect: Suspect, room: &Room) {
        if room.take() {
            self.suspects.push(suspect);
        } else {
            self.uncounted.add(suspect.row.counts());
        }
    }
}

/// How many more differing rows of a table may be held, over all workers.
#[derive(Debug, Clone)]
pub struct Room(Arc<AtomicUsize>);

impl Room {
    /// Room for so many.
    pub fn of(rows: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(rows)))
    }

    /// How many more may be held now.
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes one place, if there is one.
    pub fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[&str]) -> Vec<Option<Vec<u8>>> {
        texts.iter().map(|t| (*t != "NULL").then(|| t.as_bytes().to_vec())).collect()
    }

    #[test]
    fn rows_without_a_digest_are_never_equal() {
        let answer = Answer::parse;
        let whole = answer(&cells(&["2", "2", "5", "6"])).unwrap();
        assert!(whole.equals(&whole));
        let torn = answer(&cells(&["2", "1", "5", "6"])).unwrap();
        assert!(!torn.equals(&torn) && torn.undigested == 1);
        let none = answer(&cells(&["2", "0", "NULL", "NULL"])).unwrap();
        assert!(!none.equals(&none));
        let empty = answer(&cells(&["0", "0", "NULL", "NULL"])).unwrap();
        assert!(empty.equals(&empty));
        assert_eq!(answer(&cells(&["1", "1", "NULL", "1"])), None);
        assert_eq!(answer(&cells(&["1", "2", "1", "1"])), None);
        let mut both = whole;
        both.merge(&torn);
        assert_eq!((both.rows(), both.undigested, both.digest.sums[1]), (4, 1, 12));
    }

    #[test]
    fn what_finds_no_room_is_still_counted() {
        let row = |left| Differing { key: vec![], identity: String::new(), left, matching: 0, rest: vec![] };
        let (room, scope) = (Room::of(1), Arc::new(Scope::default()));
        let mut tally = Tally::default();
        for left in [[1, 1], [1, 0], [0, 2]] {
            tally.hold(Suspect { row: row(left), scope: scope.clone(), chunk: 0, proof: None }, &room);
        }
        assert_eq!(tally.suspects.len(), 1);
        assert_eq!(tally.counts(), Counts { mismatched: 1, extra_source: 1, extra_target: 2 });
    }
}
