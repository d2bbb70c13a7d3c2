//! Looking suspects up again, and dropping those whose rows have come to agree.

use std::collections::{HashMap, HashSet};

use super::rows::{Counts, Differing, Fetched, Row, fetch, matched};
use super::table::TableRun;
use super::tally::Suspect;
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::{Pick, Scope};

/// Rows looked up by one statement.
const BATCH: usize = 200;

/// How a batch of suspects is looked up.
pub struct Lookup {
    /// Where to look.
    pub scope: Scope,
    keys: Vec<Vec<String>>,
    hashes: Vec<String>,
}

impl Lookup {
    /// By whole keys where they can be written as literals, else by hash within the scope that the batch shares.
    pub fn of<'a>(plan: &Plan, batch: impl Iterator<Item = &'a Suspect> + Clone) -> Self {
        match batch.clone().map(|s| plan.address(&s.row.key)).collect() {
            Some(keys) => Self { scope: Scope::default(), keys, hashes: Vec::new() },
            None => Self::by_hash(batch),
        }
    }

    /// By hash within the scope that the batch shares; anywhere if it shares none.
    fn by_hash<'a>(batch: impl Iterator<Item = &'a Suspect> + Clone) -> Self {
        let mut scopes = batch.clone().map(|s| &s.scope);
        let shared = scopes.next().filter(|first| scopes.all(|scope| scope == *first));
        Self {
            scope: shared.map(|scope| Scope::clone(scope)).unwrap_or_default(),
            keys: Vec::new(),
            hashes: batch.map(|s| s.row.identity.clone()).collect(),
        }
    }

    /// Whether rows that were not found are not there.
    fn is_sure(&self, plan: &Plan) -> bool {
        self.keys.is_empty() || plan.is_surely_found()
    }

    /// The condition.
    pub fn pick(&self) -> Pick<'_> {
        if self.hashes.is_empty() { Pick::Keys(&self.keys) } else { Pick::Hashes(&self.hashes) }
    }
}

/// Suspects in their order, by what one statement can look up: by whole keys as literals, or all of one scope. `most`: how
/// many of either.
pub fn batches<'a>(
    plan: &Plan,
    suspects: &'a [Suspect],
    most: [usize; 2],
) -> impl Iterator<Item = &'a [Suspect]> {
    let by_key = |s: &Suspect| plan.address(&s.row.key).is_some();
    let goes_with =
        move |first: &Suspect, s: &Suspect| if by_key(first) { by_key(s) } else { s.scope == first.scope };
    grouped(suspects, move |first| most[usize::from(!by_key(first))], goes_with)
}

/// Suspects that follow each other and go with the first of them, at most so many at once.
fn grouped(
    suspects: &[Suspect],
    most: impl Fn(&Suspect) -> usize,
    goes_with: impl Fn(&Suspect, &Suspect) -> bool,
) -> impl Iterator<Item = &[Suspect]> {
    let mut rest = suspects;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let count = rest.iter().take(most(first)).take_while(|s| goes_with(first, s)).count();
        let (batch, after) = rest.split_at(count);
        rest = after;
        Some(batch)
    })
}

/// What is left of suspects whose rows were read again.
pub struct Again {
    /// Rows of theirs that have their equal now.
    pub matching: u64,
    /// Those that still differ, as they do now.
    pub differing: Vec<Suspect>,
    /// Those that could not be looked at: a server could not build a row's image.
    pub unread: Vec<Suspect>,
    /// Those of which neither side showed a row: they are gone, or a literal did not stand for their keys.
    pub missing: Vec<Suspect>,
}

/// Holds the rows of a batch against each other. A lookup may have found more: a collation may call other keys equal.
pub fn again(batch: &[Suspect], source: Fetched, target: Fetched) -> Again {
    let wanted: HashSet<&[u8]> = batch.iter().map(|s| s.row.key.as_slice()).collect();
    let is_lost = |key: &Vec<u8>| source.lost.contains(key) || target.lost.contains(key);
    let seen: HashSet<&[u8]> = source.rows.iter().chain(&target.rows).map(|row| row.key.as_slice()).collect();
    // None of their rows is among those that match now.
    let those = |which: &dyn Fn(&Suspect) -> bool| -> Vec<Suspect> {
        let rows = batch.iter().filter(|s| which(s)).cloned();
        rows.map(|s| Suspect { row: Differing { matching: 0, ..s.row }, ..s }).collect()
    };
    let unread = those(&|s| is_lost(&s.row.key));
    let missing = those(&|s| !is_lost(&s.row.key) && !seen.contains(s.row.key.as_slice()));
    let only = |rows: &[Row]| -> Vec<Row> {
        let meant = |row: &&Row| wanted.contains(row.key.as_slice()) && !is_lost(&row.key);
        rows.iter().filter(meant).cloned().collect()
    };
    let (matching, differing) = matched(only(&source.rows), only(&target.rows));
    let mut left: HashMap<Vec<u8>, Differing> = differing.into_iter().map(|d| (d.key.clone(), d)).collect();
    let differing = batch
        .iter()
        .filter_map(|s| left.remove(&s.row.key).map(|row| Suspect { row, ..s.clone() }))
        .collect();
    Again { matching, differing, unread, missing }
}

impl TableRun<'_> {
    /// Reads all suspects that are not proven again and drops those whose rows now agree, or are on neither side.
    pub async fn read_again(&mut self) -> Result<(), Error> {
        let (mut left, suspects): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.found.suspects).into_iter().partition(|s| s.proof.is_some());
        let mut missing = Vec::new();
        let scanned = self.sessions.hashes_at_once();
        for batch in batches(self.plan, &suspects, [BATCH, scanned]) {
            let lookup = Lookup::of(self.plan, batch.iter());
            let again = self.look(batch, &lookup).await?;
            left.extend(again.differing);
            left.extend(again.unread);
            if !lookup.is_sure(self.plan) {
                missing.extend(again.missing);
            }
        }
        for batch in grouped(&missing, |_| scanned, |first, s| s.scope == first.scope) {
            let again = self.look(batch, &Lookup::by_hash(batch.iter())).await?;
            left.extend(again.differing);
            left.extend(again.unread);
        }
        // Rows are named in the table's order.
        left.sort_by_key(|suspect| suspect.chunk);
        self.found.suspects = left;
        Ok(())
    }

    /// Reads a batch again and counts what matches.
    async fn look(&mut self, batch: &[Suspect], lookup: &Lookup) -> Result<Again, Error> {
        let (source, target) = tokio::join!(
            fetch(&mut self.sessions.source, self.plan, &lookup.scope, lookup.pick()),
            fetch(&mut self.sessions.target, self.plan, &lookup.scope, lookup.pick())
        );
        let again = again(batch, source?, target?);
        self.count_again(batch, again.matching);
        Ok(again)
    }

    /// Takes the rows of a batch that match now for those that matched before.
    pub fn count_again(&mut self, batch: &[Suspect], matching: u64) {
        let before: u64 = batch.iter().map(|s| s.row.matching).sum();
        self.found.matching = (self.found.matching + matching).saturating_sub(before);
    }

    /// Differing rows that are proven by themselves.
    pub fn proven(&self) -> Counts {
        let mut counts = Counts::default();
        self.found.suspects.iter().filter(|s| s.proof.is_some()).for_each(|s| counts.add(s.row.counts()));
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn suspect(key: u8) -> Suspect {
        let key = vec![key];
        let row = Differing { key, identity: String::new(), left: [1, 0], matching: 3, rest: Vec::new() };
        Suspect { row, scope: Arc::new(Scope::default()), chunk: 0, proof: None }
    }

    fn fetched(rows: &[(u8, u8)], lost: &[u8]) -> Fetched {
        let row = |(key, content): &(u8, u8)| Row {
            key: vec![*key],
            identity: String::new(),
            digest: [*content; 32],
            copies: 1,
        };
        Fetched {
            rows: rows.iter().map(row).collect(),
            undigested: lost.len() as u64,
            lost: lost.iter().map(|key| vec![*key]).collect(),
        }
    }

    #[test]
    fn a_row_that_nobody_showed_is_not_taken_for_one_that_agrees() {
        let batch: Vec<Suspect> = (1..=5).map(suspect).collect();
        let source = fetched(&[(1, 1), (2, 2), (9, 9)], &[5]);
        let target = fetched(&[(1, 1), (2, 7), (3, 3)], &[]);
        let Again { matching, differing, unread, missing } = again(&batch, source, target);
        let keys = |list: &[Suspect]| list.iter().map(|s| s.row.key[0]).collect::<Vec<_>>();
        assert_eq!((matching, keys(&differing)), (1, vec![2, 3]));
        assert_eq!((keys(&unread), keys(&missing)), (vec![5], vec![4]));
        assert!(unread.iter().chain(&missing).all(|s| s.row.matching == 0));
    }
}
