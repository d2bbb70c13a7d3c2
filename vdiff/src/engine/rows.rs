//! Rows as keys and digests, and matching two sides' rows without regard to order.

use std::collections::{HashMap, HashSet};

use converge_mysql::quote;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::canonical_json::canonical;
use crate::digest::{Framing, RowDigest, parse_digest, push_piece, row_digest};
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::{Pick, Scope};
use crate::session::{Cells, cells, number};

use super::shards::Shards;

/// A row (or, without a key, equal rows) of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is matched by: its key's image, or its digest.
    pub key: Vec<u8>,
    /// SHA-256 in hexadecimal by which the server finds it again (`Plan::identity_hash`).
    pub identity: String,
    /// Digest of all compared columns.
    pub digest: RowDigest,
    /// How many there are.
    pub copies: u64,
}

/// Rows of a scope.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Rows with a digest.
    pub rows: Vec<Row>,
    /// Rows whose image the server could not build.
    pub undigested: u64,
    /// The images of their keys.
    pub lost: HashSet<Vec<u8>>,
}

impl Fetched {
    /// How many rows there are.
    pub fn count(&self) -> u64 {
        self.rows.iter().map(|row| row.copies).sum::<u64>() + self.undigested
    }

    /// Adds a row of an answer. `None`: it is not in the form asked for.
    fn take(&mut self, plan: &Plan, cells: &Cells) -> Option<()> {
        match row(plan, cells)? {
            Parsed::Row(row) => self.rows.push(row),
            Parsed::Undigested { key, copies } => {
                self.undigested += copies;
                self.lost.extend(key);
            }
        }
        Some(())
    }
}

/// Fetches the rows of a scope from all shards of a side.
pub async fn fetch(
    shards: &mut Shards,
    plan: &Plan,
    scope: &Scope,
    pick: Pick<'_>,
) -> Result<Fetched, Error> {
    let side = crate::plan::at(shards.first().side);
    let sql = plan.rows(scope, pick, side);
    let each = shards.each_mut().map(async |session| {
        let (mut fetched, mut as_asked) = (Fetched::default(), true);
        // Not held as they came: a document is as long as it likes, its digest is not.
        let take = |row| as_asked &= fetched.take(plan, &cells(row)).is_some();
        session.each(WHAT, &sql, take).await?;
        let fetched = Some(fetched).filter(|_| as_asked);
        fetched.ok_or_else(|| session.unexpected(WHAT, "a row is not in the form asked for"))
    });
    let mut all = Fetched::default();
    for one in try_join_all(each).await? {
        all.rows.extend(one.rows);
        all.undigested += one.undigested;
        all.lost.extend(one.lost);
    }
    Ok(all)
}

const WHAT: &str = "reading keys and digests";

/// Rows out of the answer to [`Plan::rows`]. `None`: not the form asked for.
pub fn parse(plan: &Plan, answer: &[Cells]) -> Option<Fetched> {
    let mut fetched = Fetched::default();
    answer.iter().try_for_each(|cells| fetched.take(plan, cells))?;
    Some(fetched)
}

/// What the first columns of a row answer say.
pub enum Parsed {
    /// A row.
    Row(Row),
    /// Rows without a digest.
    Undigested {
        /// Their key's image, if the server could build that.
        key: Option<Vec<u8>>,
        /// How many.
        copies: u64,
    },
}

/// Reads key image, row hash, copies and the client's columns. `None`: not the form asked for.
pub fn row(plan: &Plan, cells: &Cells) -> Option<Parsed> {
    let copies: u64 = number(cells.get(2)?)?;
    let (Some(key), Some(hash)) = (cells.first()?, cells.get(1)?) else {
        return Some(Parsed::Undigested { key: cells.first()?.clone(), copies });
    };
    let mut digest = parse_digest(hash)?;
    let client = plan.client_columns().len();
    if client > 0 {
        let mut image = digest.to_vec();
        for cell in cells.get(3..3 + client)? {
            push_piece(&mut image, Framing::Sized, cell.as_deref().map(canonical).as_deref());
        }
        digest = row_digest(&image);
    }
    let (key, identity) = if plan.is_multiset() {
        (digest.to_vec(), String::from_utf8_lossy(hash).into_owned())
    } else {
        (key.clone(), quote::hex_digits(&row_digest(key)))
    };
    Some(Parsed::Row(Row { key, identity, digest, copies }))
}

/// How many rows differ in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// On both sides with different contents.
    pub mismatched: u64,
    /// On the source only.
    pub extra_source: u64,
    /// On the target only.
    pub extra_target: u64,
}

impl Counts {
    /// Of a key's rows on each side that have no equal: as many as possible are taken for the same row changed.
    pub fn of([source, target]: [u64; 2]) -> Self {
        let mismatched = source.min(target);
        Self { mismatched, extra_source: source - mismatched, extra_target: target - mismatched }
    }

    /// All of them.
    pub fn differing(&self) -> u64 {
        self.mismatched + self.extra_source + self.extra_target
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.mismatched += other.mismatched;
        self.extra_source += other.extra_source;
        self.extra_target += other.extra_target;
    }
}

/// A key whose rows differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// The key's image, or the row's digest.
    pub key: Vec<u8>,
    /// The hash by which the server finds it again.
    pub identity: String,
    /// Rows on the source without an equal on the target, and the other way round.
    pub left: [u64; 2],
    /// Rows with this key that have an equal (there are some only where the key is not unique).
    pub matching: u64,
    /// The contents of those without an equal, and how many each side has more than the other.
    pub rest: Vec<(RowDigest, [u64; 2])>,
}

impl Differing {
    /// How many rows of it differ in which way.
    pub fn counts(&self) -> Counts {
        Counts::of(self.left)
    }
}

/// Matches rows by key, then by digest. Returns how many rows match, and the keys of those that do not in the order
/// in which they came.
pub fn matched(source: Vec<Row>, target: Vec<Row>) -> (u64, Vec<Differing>) {
    struct Group {
        identity: String,
        balance: Vec<(RowDigest, [u64; 2])>,
    }
    let mut places: HashMap<Vec<u8>, usize> = HashMap::with_capacity(source.len());
    let mut groups: Vec<(Vec<u8>, Group)> = Vec::with_capacity(source.len());
    for (side, rows) in [source, target].into_iter().enumerate() {
        for row in rows {
            let place = *places.entry(row.key.clone()).or_insert_with(|| {
                groups.push((row.key.clone(), Group { identity: row.identity.clone(), balance: Vec::new() }));
                groups.len() - 1
            });
            let balance = &mut groups[place].1.balance;
            match balance.iter_mut().find(|(digest, _)| *digest == row.digest) {
                Some((_, copies)) => copies[side] += row.copies,
                None => {
                    let mut copies = [0, 0];
                    copies[side] = row.copies;
                    balance.push((row.digest, copies));
                }
            }
        }
    }
    let (mut matching, mut differing) = (0, Vec::new());
    for (key, group) in groups {
        let (mut left, mut here, mut rest) = ([0, 0], 0, Vec::new());
        for (digest, [source, target]) in group.balance {
            let both = source.min(target);
            here += both;
            left[0] += source - both;
            left[1] += target - both;
            if source != target {
                rest.push((digest, [source - both, target - both]));
            }
        }
        matching += here;
        if left != [0, 0] {
            rest.sort_unstable();
            differing.push(Differing { key, identity: group.identity, left, matching: here, rest });
        }
    }
    (matching, differing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(key: u8, content: u8) -> Row {
        Row { key: vec![key], identity: String::new(), digest: [content; 32], copies: 1 }
    }

    fn total(differing: &[Differing]) -> Counts {
        differing.iter().fold(Counts::default(), |mut sum, d| {
            sum.add(d.counts());
            sum
        })
    }

    #[test]
    fn each_kind_of_difference_is_counted() {
        let (matching, differing) =
            matched(vec![row(1, 1), row(2, 2), row(3, 3)], vec![row(4, 4), row(3, 9), row(1, 1)]);
        assert_eq!(matching, 1);
        assert_eq!(total(&differing), Counts { mismatched: 1, extra_source: 1, extra_target: 1 });
    }

    proptest! {
        #[test]
        fn every_row_is_counted_once_and_order_does_not_matter(
            source in prop::collection::vec((0u8..6, 0u8..3), 0..12),
            target in prop::collection::vec((0u8..6, 0u8..3), 0..12),
        ) {
            let rows = |list: &[(u8, u8)]| list.iter().map(|(k, c)| row(*k, *c)).collect::<Vec<_>>();
            let (matching, differing) = matched(rows(&source), rows(&target));
            let counts = total(&differing);
            prop_assert_eq!(matching + counts.mismatched + counts.extra_source, source.len() as u64);
            prop_assert_eq!(matching + counts.mismatched + counts.extra_target, target.len() as u64);
            let mut sorted = (source.clone(), target.clone());
            sorted.0.sort_unstable();
            sorted.1.sort_unstable();
            prop_assert_eq!(differing.is_empty(), sorted.0 == sorted.1);
            let mut backwards = rows(&target);
            backwards.reverse();
            prop_assert_eq!(matched(rows(&source), backwards).0, matching);
        }
    }
}
