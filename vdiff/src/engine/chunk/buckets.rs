//! Rows in buckets, into which a checksum of their key (or of all of them) or equal parts of a range of numbers put them:
//! where the sides share no order, and where differing rows are few among many.
//!
//! Where buckets are no ranges of an index, each look at the rows of some of them reads the whole scope. So there are only a
//! few such looks: many rows in buckets that differ are digested again in smaller ones, and what is many still is
//! [scanned](super::scan).

use super::super::shards::Shards;
use super::super::tally::Answer;
use super::{Part, sum};
use crate::error::Error;
use crate::plan::sql::{Buckets, Scope};
use crate::session::{Cells, number};

/// Rows per bucket that a chunk is digested in where differing rows are expected, so that few are read for each.
const GROUP_ROWS: u64 = 64;

/// How many buckets such a chunk has, at least and at most: they cost a server little more than one, but cross the network.
const GROUPS: (u64, u64) = (1_024, 8_192);

/// Rows per bucket that hash buckets aim at.
const BUCKET_ROWS: u64 = 1_000;

/// The same where they are digested again because many differ.
const FINE_ROWS: u64 = 4;

/// The most buckets of one statement.
const MOST_BUCKETS: u64 = 100_000;

/// Buckets have to be smaller by this to be worth another look at all rows.
const FINER: u64 = 4;

/// How often the rows of some buckets are fetched, where each time all of the scope is read.
const FETCHES: u64 = 4;

/// What is known of a chunk before it is narrowed down.
pub(super) enum First {
    /// Its digests.
    Whole([Answer; 2]),
    /// Those of its buckets.
    Groups([Bucketed; 2]),
}

impl First {
    pub(super) fn sums(&self) -> [Answer; 2] {
        match self {
            Self::Whole(sums) => *sums,
            Self::Groups(sides) => sides.each_ref().map(|side| {
                let mut sum = sum(side.answers.clone());
                sum.merge(&side.lost);
                sum
            }),
        }
    }
}

/// A side's rows in buckets.
pub(super) struct Bucketed {
    /// The digest of each.
    answers: Vec<Answer>,
    /// Rows that are in none because they have no hash.
    lost: Answer,
}

impl Bucketed {
    /// How many buckets there are.
    fn count(&self) -> u64 {
        self.answers.len() as u64
    }
}

/// The rows of all buckets, on the side that has more in each.
fn all([source, target]: &[Bucketed; 2]) -> u64 {
    source.answers.iter().zip(&target.answers).map(|(a, b)| a.rows().max(b.rows())).sum()
}

/// The rows of the buckets that differ, on the side that has more in each.
pub(super) fn apart([source, target]: &[Bucketed; 2]) -> u64 {
    let pairs = source.answers.iter().zip(&target.answers);
    pairs.filter(|(a, b)| !a.equals(b)).map(|(a, b)| a.rows().max(b.rows())).sum()
}

impl Part<'_> {
    /// Compares a scope in buckets, of which a side is expected to have so many rows.
    pub(super) async fn narrow_buckets(&mut self, scope: Scope, rows: u64) -> Result<(), Error> {
        let fetch_rows = self.work.options.fetch_rows.max(1);
        let of = (rows / BUCKET_ROWS.min(fetch_rows)).clamp(1, MOST_BUCKETS);
        let sides = self.digest_buckets(&scope, of).await?;
        self.compare_buckets(scope, sides).await
    }

    /// Digests a chunk of so many rows, if that is known, in buckets that are as small as pays.
    pub(super) async fn digest_groups(
        &mut self,
        scope: &Scope,
        rows: Option<u64>,
    ) -> Result<[Bucketed; 2], Error> {
        let rows = rows.or_else(|| self.work.plan.span(scope)).unwrap_or_default();
        self.digest_buckets(scope, (rows / GROUP_ROWS).clamp(GROUPS.0, GROUPS.1)).await
    }

    /// Digests a scope in so many buckets on both sides at once.
    pub(super) async fn digest_buckets(&mut self, scope: &Scope, of: u64) -> Result<[Bucketed; 2], Error> {
        let sql = [0, 1].map(|side| self.work.plan.bucket_digests(scope, of, side));
        let (source, target) = tokio::join!(
            buckets(&mut self.sessions.source, &sql[0], of),
            buckets(&mut self.sessions.target, &sql[1], of)
        );
        Ok([source?, target?])
    }

    /// Counts what is equal in buckets, and matches the rows of the others.
    pub(super) async fn compare_buckets(
        &mut self,
        scope: Scope,
        mut sides: [Bucketed; 2],
    ) -> Result<(), Error> {
        let plan = &self.work.plan;
        // What only the client can digest is not in the servers' digests: no bucket is known to be equal.
        let client = !plan.client_columns().is_empty();
        let few = self.work.options.fetch_rows.max(1).saturating_mul(FETCHES);
        if !plan.finds_buckets(&scope, sides[0].count()) {
            let finer = (all(&sides) / FINE_ROWS).min(MOST_BUCKETS);
            if !client && apart(&sides) > few && finer / FINER >= sides[0].count() {
                sides = self.digest_buckets(&scope, finer).await?;
                self.tell();
            }
            let open = if client { all(&sides) } else { apart(&sides) };
            if open > few && open > all(&sides) / 2 {
                return self.scan(scope, all(&sides), false).await;
            }
            if open > few {
                let (chosen, torn) = self.count_equal(&sides, client);
                let chosen = chosen.into_iter().map(|(bucket, _)| bucket).collect();
                let buckets = Some(Buckets { of: sides[0].count(), chosen });
                return self.scan(Scope { buckets, ..scope }, open, torn).await;
            }
        }
        self.fetch_buckets(scope, &sides, client).await
    }

    /// Counts what is equal. Returns the other buckets with their rows on the side that has more, and whether there are rows
    /// in none: those may be any of theirs.
    fn count_equal(&mut self, [source, target]: &[Bucketed; 2], client: bool) -> (Vec<(u64, u64)>, bool) {
        self.tally.source_rows += source.lost.rows();
        self.tally.target_rows += target.lost.rows();
        self.tally.undigested += source.lost.rows().max(target.lost.rows());
        let torn = source.lost.rows() + target.lost.rows() > 0;
        let mut chosen = Vec::new();
        for (bucket, (a, b)) in (0..).zip(source.answers.iter().zip(&target.answers)) {
            if a.equals(b) && (!client || a.rows() == 0) {
                self.tally.add_equal(a.rows());
            } else {
                chosen.push((bucket, a.rows().max(b.rows())));
            }
        }
        (chosen, torn)
    }

    /// Fetches the rows of buckets that differ, as many at once as may be.
    async fn fetch_buckets(
        &mut self,
        scope: Scope,
        sides: &[Bucketed; 2],
        client: bool,
    ) -> Result<(), Error> {
        let (fetch_rows, of) = (self.work.options.fetch_rows.max(1), sides[0].count());
        let (differing, torn) = self.count_equal(sides, client);
        let (mut batches, mut rows) = (Vec::<Vec<u64>>::new(), u64::MAX);
        for (bucket, most) in differing {
            match batches.last_mut() {
                Some(batch) if rows + most <= fetch_rows => batch.push(bucket),
                _ => {
                    batches.push(vec![bucket]);
                    rows = 0;
                }
            }
            rows += most;
        }
        for chosen in batches {
            let part = Scope { buckets: Some(Buckets { of, chosen }), ..scope.clone() };
            self.compare_rows(part, torn).await?;
            self.tell();
        }
        self.tally.chunks += 1;
        Ok(())
    }
}

/// The digest of each bucket.
async fn buckets(shards: &mut Shards, sql: &str, of: u64) -> Result<Bucketed, Error> {
    const WHAT: &str = "digesting rows in buckets";
    let rows: Vec<Cells> = shards.query(WHAT, sql).await?;
    let mut sides = Bucketed { answers: vec![Answer::default(); of as usize], lost: Answer::default() };
    for row in &rows {
        let bucket: Option<usize> = row.first().and_then(number);
        let found = row.get(1..).and_then(Answer::parse);
        match (bucket, found) {
            (Some(bucket), Some(found)) if bucket < sides.answers.len() => {
                sides.answers[bucket].merge(&found)
            }
            (None, Some(found)) if row[0].is_none() => sides.lost.merge(&found),
            _ => return Err(shards.unexpected(WHAT, "a row is not in the form asked for")),
        }
    }
    Ok(sides)
}
