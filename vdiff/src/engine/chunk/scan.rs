//! A scope whose rows are too many to be fetched, and cannot be split by a key: each look at it reads all of it, so that there
//! are two, however many rows differ. The first one keeps a hash of each row and finds the keys that differ, the second
//! one reads the rows of these.
//!
//! Memory holds the hashes of so many rows at once; a scope with more is looked at in parts, by hash.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;
use xxhash_rust::xxh3::xxh3_64;

use super::super::rows::{Counts, Differing, Fetched, Parsed, Row, matched, row};
use super::super::shards::{Sessions, Shards};
use super::Part;
use crate::digest::RowDigest;
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::Scope;
use crate::session::{Session, cells};

/// Rows of a side whose hashes are held at once.
const HELD: u64 = 900_000;

const WHAT: &str = "reading keys and digests";

/// A row's key, and the first half of its digest. Keys that share a hash are told apart when their rows are read.
type Hash = [u64; 3];

/// How often the source and the target have a row.
type Times = [u32; 2];

/// Some of a scope's rows, by their keys' hashes.
#[derive(Clone, Copy)]
struct Share {
    /// Which one.
    number: u64,
    of: u64,
}

impl Share {
    fn has(self, key: u64) -> bool {
        key % self.of == self.number
    }
}

/// What the first look found on one side, or on both.
#[derive(Default)]
struct Hashes {
    rows: HashMap<Hash, Times>,
    /// Rows without a digest, by side.
    undigested: [u64; 2],
    /// The hashes of their keys.
    lost: HashSet<u64>,
}

impl Hashes {
    fn add(&mut self, parsed: Parsed, side: usize, share: Share) {
        match parsed {
            Parsed::Row(row) => {
                let key = xxh3_64(&row.key);
                if share.has(key) {
                    let [a, b] = [0, 8].map(|from| half(&row.digest, from));
                    self.rows.entry([key, a, b]).or_default()[side] += 1;
                }
            }
            Parsed::Undigested { key, copies } => {
                let key = key.map(|key| xxh3_64(&key));
                if share.has(key.unwrap_or(0)) {
                    self.undigested[side] += copies;
                    self.lost.extend(key);
                }
            }
        }
    }

    fn merge(&mut self, other: Self) {
        for (hash, [source, target]) in other.rows {
            let times = self.rows.entry(hash).or_default();
            *times = [times[0] + source, times[1] + target];
        }
        for (sum, more) in self.undigested.iter_mut().zip(other.undigested) {
            *sum += more;
        }
        self.lost.extend(other.lost);
    }

    /// By key, how many rows each side has without an equal on the other.
    fn unequal(&self) -> HashMap<u64, [u64; 2]> {
        let mut left: HashMap<u64, [u64; 2]> = HashMap::new();
        for ([key, ..], [source, target]) in &self.rows {
            if source != target {
                let both = source.min(target);
                let sums = left.entry(*key).or_default();
                *sums = [sums[0] + u64::from(source - both), sums[1] + u64::from(target - both)];
            }
        }
        left
    }
}

/// Eight bytes of a digest.
fn half(digest: &RowDigest, from: usize) -> u64 {
    digest[from..from + 8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// The rows that the second look keeps: those of some keys, equal ones as one.
#[derive(Default)]
struct Kept {
    rows: HashMap<(u64, RowDigest), Row>,
    undigested: u64,
    lost: HashSet<Vec<u8>>,
}

impl Kept {
    fn add(&mut self, parsed: Parsed, wanted: &HashSet<u64>) {
        match parsed {
            Parsed::Row(row) => {
                let key = xxh3_64(&row.key);
                if wanted.contains(&key) {
                    let copies = row.copies;
                    // Keys that share a hash have different digests: the key is a part of what is digested.
                    let known = self.rows.entry((key, row.digest)).or_insert(Row { copies: 0, ..row });
                    known.copies += copies;
                }
            }
            // One that has come since the first look.
            Parsed::Undigested { key: Some(key), copies } if wanted.contains(&xxh3_64(&key)) => {
                self.undigested += copies;
                self.lost.insert(key);
            }
            Parsed::Undigested { .. } => {}
        }
    }

    fn into_fetched(parts: Vec<Self>) -> Fetched {
        let mut fetched = Fetched::default();
        for part in parts {
            fetched.rows.extend(part.rows.into_values());
            fetched.undigested += part.undigested;
            fetched.lost.extend(part.lost);
        }
        fetched
    }
}

impl Part<'_> {
    /// Matches a scope of so many rows one by one; `torn`: there are rows without a digest that may be any of them.
    pub(super) async fn scan(&mut self, scope: Scope, rows: u64, torn: bool) -> Result<(), Error> {
        let of = rows.div_ceil(HELD).max(1);
        for number in 0..of {
            self.scan_share(&scope, Share { number, of }, torn).await?;
            self.tally.chunks += 1;
            self.tell();
        }
        Ok(())
    }

    async fn scan_share(&mut self, scope: &Scope, share: Share, torn: bool) -> Result<(), Error> {
        let plan = self.work.plan.clone();
        let mut found = self.hashes(scope, share).await?;
        let torn = torn || plan.is_multiset() && found.undigested != [0, 0];
        for (sum, rows) in
            [&mut self.tally.source_rows, &mut self.tally.target_rows].into_iter().zip(found.undigested)
        {
            *sum += rows;
        }
        self.tally.undigested += found.undigested[0].max(found.undigested[1]);
        let mut unequal = found.unequal();
        // What stands against a row without a digest is not known to differ; without keys it may be any row.
        unequal.retain(|key, _| !torn && !found.lost.contains(key));
        let wanted: HashSet<u64> = unequal.keys().copied().take(self.work.room.left()).collect();
        for ([key, ..], [source, target]) in found.rows.drain().filter(|([key, ..], _)| !wanted.contains(key))
        {
            debug_assert!(share.has(key), "each row is in one share");
            self.tally.source_rows += u64::from(source);
            self.tally.target_rows += u64::from(target);
            self.tally.matching += u64::from(source.min(target));
        }
        for (_, left) in unequal.into_iter().filter(|(key, _)| !wanted.contains(key)) {
            self.tally.uncounted.add(Counts::of(left));
        }
        if !wanted.is_empty() {
            self.tell();
            let differing = self.read_keys(scope, &wanted).await?;
            self.hold(scope.clone(), differing);
        }
        Ok(())
    }

    /// The first look, at both sides at once.
    async fn hashes(&mut self, scope: &Scope, share: Share) -> Result<Hashes, Error> {
        let plan = &self.work.plan;
        let one = async |shards: &mut Shards, side: usize| {
            let sql = plan.each_row(scope, side);
            let each = shards.each_mut().map(async |session| {
                let mut found = Hashes::default();
                read(session, plan, &sql, |parsed| found.add(parsed, side, share)).await?;
                Ok::<_, Error>(found)
            });
            try_join_all(each).await
        };
        let Sessions { source, target } = &mut *self.sessions;
        let (source, target) = tokio::join!(one(source, 0), one(target, 1));
        let mut parts = source?.into_iter().chain(target?);
        let mut all = parts.next().unwrap_or_default();
        parts.for_each(|part| all.merge(part));
        Ok(all)
    }

    /// The second look: counts the rows of these keys, and returns those that differ.
    async fn read_keys(&mut self, scope: &Scope, wanted: &HashSet<u64>) -> Result<Vec<Differing>, Error> {
        let plan = &self.work.plan;
        let one = async |shards: &mut Shards, side: usize| {
            let sql = plan.each_row(scope, side);
            let each = shards.each_mut().map(async |session| {
                let mut kept = Kept::default();
                read(session, plan, &sql, |parsed| kept.add(parsed, wanted)).await?;
                Ok::<_, Error>(kept)
            });
            Ok::<_, Error>(Kept::into_fetched(try_join_all(each).await?))
        };
        let Sessions { source, target } = &mut *self.sessions;
        let (source, target) = tokio::join!(one(source, 0), one(target, 1));
        let (source, target) = (source?, target?);
        self.tally.source_rows += source.count();
        self.tally.target_rows += target.count();
        self.tally.undigested += source.undigested.max(target.undigested);
        let (matching, mut differing) = matched(source.rows, target.rows);
        self.tally.matching += matching;
        differing.retain(|row| !source.lost.contains(&row.key) && !target.lost.contains(&row.key));
        Ok(differing)
    }
}

/// Hands out the rows of a statement as they arrive.
async fn read(
    session: &mut Session,
    plan: &Plan,
    sql: &str,
    mut take: impl FnMut(Parsed) + Send,
) -> Result<(), Error> {
    let mut as_asked = true;
    session
        .flow(WHAT, sql, |cells_of| match row(plan, &cells(cells_of)) {
            Some(parsed) => take(parsed),
            None => as_asked = false,
        })
        .await?;
    match as_asked {
        true => Ok(()),
        false => Err(session.unexpected(WHAT, "a row is not in the form asked for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: u8, digest: u8) -> Parsed {
        Parsed::Row(Row { key: vec![key], identity: String::new(), digest: [digest; 32], copies: 1 })
    }

    #[test]
    fn keys_without_as_many_equal_rows_on_both_sides_are_found() {
        let all = Share { number: 0, of: 1 };
        let (mut found, mut target) = (Hashes::default(), Hashes::default());
        [(1, 1), (2, 2), (3, 3), (3, 3)]
            .into_iter()
            .for_each(|(key, digest)| found.add(of(key, digest), 0, all));
        [(1, 1), (2, 9), (3, 3), (4, 4)]
            .into_iter()
            .for_each(|(key, digest)| target.add(of(key, digest), 1, all));
        found.merge(target);
        let wanted = [(2, [1, 1]), (3, [1, 0]), (4, [0, 1])].map(|(key, left)| (xxh3_64(&[key]), left));
        assert_eq!(found.unequal(), HashMap::from(wanted));
    }

    #[test]
    fn each_row_is_in_one_share() {
        let rows = |number| {
            let mut found = Hashes::default();
            (0..100).for_each(|key| found.add(of(key, key), 0, Share { number, of: 3 }));
            found.rows.len()
        };
        assert_eq!([0, 1, 2].map(rows).iter().sum::<usize>(), 100);
        assert!([0, 1, 2].map(rows).iter().all(|rows| *rows > 0));
    }
}
