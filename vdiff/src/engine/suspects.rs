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
        let mut lookup = Self { scope: Scope::default(), keys: Vec::new(), hashes: Vec::new() };
        if plan.is_addressable()
            && let Some(keys) = batch.clone().map(|s| plan.address(&s.row.key)).collect()
        {
            lookup.keys = keys;
            return lookup;
        }
        // Suspects of several scopes come together only where their keys can be written in general, but not here.
        let mut scopes = batch.clone().map(|s| &s.scope);
        if let Some(first) = scopes.next()
            && scopes.all(|scope| scope == first)
        {
            lookup.scope = Scope::clone(first);
        }
        lookup.hashes = batch.map(|s| s.row.identity.clone()).collect();
        lookup
    }

    /// The condition.
    pub fn pick(&self) -> Pick<'_> {
        if self.hashes.is_empty() { Pick::Keys(&self.keys) } else { Pick::Hashes(&self.hashes) }
    }
}

/// Suspects in their order, by what one statement can look up: a batch shares one scope, as its statement does; with
/// whole keys as literals none is needed.
pub fn batches<'a>(plan: &Plan, suspects: &'a [Suspect], most: usize) -> impl Iterator<Item = &'a [Suspect]> {
    let addressable = plan.is_addressable();
    let mut rest = suspects;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let same = |s: &&Suspect| addressable || s.scope == first.scope;
        let (batch, after) = rest.split_at(rest.iter().take(most).take_while(same).count());
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
}

/// Holds the rows of a batch against each other. A lookup may have found more: a collation may call other keys equal.
pub fn again(batch: &[Suspect], source: Fetched, target: Fetched) -> Again {
    let wanted: HashSet<&[u8]> = batch.iter().map(|s| s.row.key.as_slice()).collect();
    let is_lost = |key: &Vec<u8>| source.lost.contains(key) || target.lost.contains(key);
    let unread: Vec<Suspect> = batch.iter().filter(|s| is_lost(&s.row.key)).cloned().collect();
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
    Again { matching, differing, unread }
}

impl TableRun<'_> {
    /// Reads all suspects that are not proven again and drops those whose rows now agree.
    pub async fn read_again(&mut self) -> Result<(), Error> {
        let (mut left, suspects): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.found.suspects).into_iter().partition(|s| s.proof.is_some());
        for batch in batches(self.plan, &suspects, BATCH) {
            let lookup = Lookup::of(self.plan, batch.iter());
            let (source, target) = tokio::join!(
                fetch(&mut self.sessions.source, self.plan, &lookup.scope, lookup.pick()),
                fetch(&mut self.sessions.target, self.plan, &lookup.scope, lookup.pick())
            );
            let again = again(batch, source?, target?);
            self.count_again(batch, again.matching);
            left.extend(again.differing);
            left.extend(again.unread);
        }
        self.found.suspects = left;
        Ok(())
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
