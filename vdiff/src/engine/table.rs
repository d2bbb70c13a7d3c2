//! One table: cutting chunks, comparing their digests, narrowing down to rows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Sessions;
use super::rows::{Counts, Differing, fetch, matched};
use super::settle::{Evidence, Proof};
use crate::digest::Digest;
use crate::error::Error;
use crate::plan::sql::{Buckets, Pick, Scope};
use crate::plan::{Plan, at};
use crate::request::{Engine, Options, Progress};
use crate::session::{Cells, Session, number};

/// Rows per bucket that hash buckets aim at.
const BUCKET_ROWS: u64 = 1_000;

/// The most buckets of one statement.
const MOST_BUCKETS: u64 = 100_000;

/// A differing row that is not yet proven.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// The row.
    pub row: Differing,
    /// Where it was found.
    pub scope: Arc<Scope>,
}

/// The state of one table's comparison.
pub struct TableRun<'a> {
    pub plan: &'a Plan,
    pub sessions: &'a mut Sessions,
    pub options: &'a Options,
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// The table's name on the source.
    pub name: &'a str,
    /// Rows that are equal.
    pub matching: u64,
    /// Rows whose image a server could not build.
    pub undigested: u64,
    /// Rows read on each side.
    pub source_rows: u64,
    pub target_rows: u64,
    /// Who digests rows; settled by the first chunk when it was left open.
    pub engine: Engine,
    /// Why that one.
    pub engine_reason: String,
    /// Parts compared.
    pub chunks: u64,
    /// Differing rows that are held.
    pub suspects: Vec<Suspect>,
    /// Differing rows beyond those that are held.
    pub uncounted: Counts,
}

/// A digest as a server gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    pub digest: Digest,
    /// Rows without a digest of their own: they are missing from the sums.
    pub undigested: u64,
}

impl Answer {
    /// Whether the sums cover all rows and agree.
    fn equals(&self, other: &Self) -> bool {
        self.undigested == 0 && other.undigested == 0 && self.digest == other.digest
    }

    fn rows(&self) -> u64 {
        self.digest.rows
    }
}

impl<'a> TableRun<'a> {
    pub fn new(
        plan: &'a Plan,
        sessions: &'a mut Sessions,
        options: &'a Options,
        progress: &'a (dyn Fn(Progress) + Sync),
        name: &'a str,
    ) -> Self {
        let (matching, undigested, source_rows, target_rows, chunks) = (0, 0, 0, 0, 0);
        let (suspects, uncounted) = (Vec::new(), Counts::default());
        Self {
            engine: options.engine,
            engine_reason: "asked for".into(),
            plan,
            sessions,
            options,
            progress,
            name,
            matching,
            undigested,
            source_rows,
            target_rows,
            chunks,
            suspects,
            uncounted,
        }
    }

    /// All differing rows so far.
    pub fn counts(&self) -> Counts {
        let mut counts = self.uncounted;
        self.suspects.iter().for_each(|s| counts.add(s.row.counts()));
        counts
    }

    /// Compares the whole table.
    pub async fn run(&mut self) -> Result<Proof, Error> {
        let (start, started) = (Evidence::read(self.sessions).await?, Instant::now());
        if self.plan.ordered().is_empty() {
            self.in_buckets().await?;
        } else {
            self.in_ranges().await?;
        }
        let seen = (self.source_rows, self.target_rows);
        let present = self.present().await?;
        let end = Evidence::read(self.sessions).await?;
        let mut proof = self.settle(start.clone(), started).await?;
        if self.undigested > 0 {
            proof.reasons.push(format!(
                "{} rows have no digest: their images are longer than the server's max_allowed_packet; raise it and run \
                 again",
                self.undigested
            ));
        }
        if seen != present && start.both_stood_still(&end) {
            proof.reasons.push(format!(
                "{} rows of the source and {} of the target were compared, but {} and {} are present",
                seen.0, seen.1, present.0, present.1
            ));
        }
        Ok(proof)
    }

    /// The rows that each side has now.
    async fn present(&mut self) -> Result<(u64, u64), Error> {
        let (plan, sessions) = (self.plan, &mut *self.sessions);
        let (source, target) = tokio::join!(
            count(&mut sessions.source, plan.count(0)),
            count(&mut sessions.target, plan.count(1))
        );
        Ok((source?, target?))
    }

    async fn in_ranges(&mut self) -> Result<(), Error> {
        let mut size = self.options.first_chunk_rows.max(1);
        let mut lower = None;
        loop {
            let begun = Instant::now();
            let after = Scope { lower: lower.clone(), ..Scope::default() };
            let upper = self.cut(&after, size, 0).await?;
            let scope = Scope { lower, upper: upper.clone(), buckets: None };
            self.choose_engine(&scope).await?;
            self.narrow(scope).await?;
            self.tell();
            match upper {
                Some(_) => lower = upper,
                None => return Ok(()),
            }
            size = next_size(size, begun.elapsed(), self.options);
        }
    }

    fn tell(&self) {
        let (table, rows) = (self.name.to_owned(), self.source_rows);
        (self.progress)(Progress::Rows { table, rows, suspects: self.counts().differing() });
    }

    /// The first key of what follows `offset` rows of the scope on a side; `None` when there are not so many.
    async fn cut(&mut self, scope: &Scope, offset: u64, side: usize) -> Result<Option<Vec<String>>, Error> {
        let sql = self.plan.cut(scope, offset, side);
        let session = if side == 0 { &mut self.sessions.source } else { &mut self.sessions.target };
        match session.query("cutting the next chunk", &sql).await?.first() {
            None => Ok(None),
            Some(row) => match row.first() {
                Some(Some(image)) => {
                    let key = self.literals(image)?;
                    // A literal that does not stand for its own value would cut the same chunk for ever.
                    if scope.lower.as_ref() == Some(&key) {
                        let why = "the next chunk begins where this one does";
                        return Err(self.session(side).unexpected("cutting the next chunk", why));
                    }
                    Ok(Some(key))
                }
                _ => Err(session.unexpected("cutting the next chunk", "the key is NULL")),
            },
        }
    }

    /// A key's image as literals.
    pub fn literals(&self, image: &[u8]) -> Result<Vec<String>, Error> {
        self.plan.literals(image).ok_or_else(|| {
            self.sessions.source.unexpected("reading a key", "its image is not in the form asked for")
        })
    }

    /// Compares a range; where it differs, its parts, down to rows.
    async fn narrow(&mut self, whole: Scope) -> Result<(), Error> {
        let fetch_rows = self.options.fetch_rows.max(1);
        // What only the client can digest is in the stream engine's digests, not in the servers'.
        let client = self.engine == Engine::PushDown && !self.plan.client_columns().is_empty();
        let mut work = vec![whole];
        while let Some(scope) = work.pop() {
            let [source, target] = self.digests(&scope).await?;
            if source.equals(&target) && (!client || source.rows() == 0) {
                self.count_equal(source.rows());
                continue;
            }
            let most = source.rows().max(target.rows());
            if most <= fetch_rows || scope.buckets.is_some() {
                self.compare_rows(scope).await?;
                continue;
            }
            let side = usize::from(target.rows() > source.rows());
            match self.cut(&scope, most / 2, side).await? {
                Some(middle) => {
                    let upper = Scope { lower: Some(middle.clone()), ..scope.clone() };
                    let lower = Scope { upper: Some(middle), ..scope };
                    work.extend([upper, lower]);
                }
                // Too many rows share one value of the key's ordered part.
                None => self.narrow_buckets(scope, most).await?,
            }
        }
        Ok(())
    }

    /// With the engine left open: times the first chunk both ways. Both take the rows from memory then, which favours
    /// neither.
    async fn choose_engine(&mut self, scope: &Scope) -> Result<(), Error> {
        if self.engine != Engine::Auto {
            return Ok(());
        }
        self.engine = Engine::PushDown;
        if scope.upper.is_none() {
            self.engine_reason = "the whole table is one chunk".into();
            return Ok(());
        }
        // Warms both servers' caches.
        self.digests(scope).await?;
        let begun = Instant::now();
        self.digests(scope).await?;
        let pushed = begun.elapsed();
        self.engine = Engine::Stream;
        let begun = Instant::now();
        self.digests(scope).await?;
        let streamed = begun.elapsed();
        if pushed <= streamed {
            self.engine = Engine::PushDown;
        }
        self.engine_reason =
            format!("the first chunk took {pushed:.1?} by pushdown and {streamed:.1?} by stream");
        Ok(())
    }

    fn count_equal(&mut self, rows: u64) {
        self.matching += rows;
        self.source_rows += rows;
        self.target_rows += rows;
        self.chunks += 1;
    }

    async fn digests(&mut self, scope: &Scope) -> Result<[Answer; 2], Error> {
        if self.engine == Engine::Stream {
            return super::stream::digests(self.sessions, self.plan, scope).await;
        }
        let (plan, sessions) = (self.plan, &mut *self.sessions);
        let (source, target) = tokio::join!(
            digest(&mut sessions.source, plan.digest(scope, 0)),
            digest(&mut sessions.target, plan.digest(scope, 1))
        );
        Ok([source?, target?])
    }

    /// Without an order that both sides share: one scan per side digests all buckets, further ones read the rows of
    /// those that differ.
    async fn in_buckets(&mut self) -> Result<(), Error> {
        if self.engine != Engine::PushDown {
            self.engine = Engine::PushDown;
            self.engine_reason =
                "the sides share no order of the key: the servers put the rows in buckets".into();
        }
        let present = self.present().await?;
        let rows = present.0.max(present.1);
        self.narrow_buckets(Scope::default(), rows).await
    }

    async fn narrow_buckets(&mut self, scope: Scope, rows: u64) -> Result<(), Error> {
        let of = (rows / BUCKET_ROWS.min(self.options.fetch_rows.max(1))).clamp(1, MOST_BUCKETS);
        let (plan, sessions) = (self.plan, &mut *self.sessions);
        let (source, target) = tokio::join!(
            buckets(&mut sessions.source, plan.bucket_digests(&scope, of, 0), of),
            buckets(&mut sessions.target, plan.bucket_digests(&scope, of, 1), of)
        );
        let ((source, lost_source), (target, lost_target)) = (source?, target?);
        self.source_rows += lost_source;
        self.target_rows += lost_target;
        self.undigested += lost_source.max(lost_target);
        let client = !plan.client_columns().is_empty();
        let (mut chosen, mut chosen_rows) = (Vec::new(), 0);
        for (bucket, (a, b)) in source.iter().zip(&target).enumerate() {
            if a.equals(b) && (!client || a.rows() == 0) {
                self.matching += a.rows();
                self.source_rows += a.rows();
                self.target_rows += b.rows();
                continue;
            }
            let most = a.rows().max(b.rows());
            if !chosen.is_empty() && chosen_rows + most > self.options.fetch_rows {
                let chosen = std::mem::take(&mut chosen);
                self.compare_rows(Scope { buckets: Some(Buckets { of, chosen }), ..scope.clone() }).await?;
                chosen_rows = 0;
            }
            chosen.push(bucket as u64);
            chosen_rows += most;
        }
        if !chosen.is_empty() {
            self.compare_rows(Scope { buckets: Some(Buckets { of, chosen }), ..scope }).await?;
        }
        self.chunks += 1;
        self.tell();
        Ok(())
    }

    /// Matches a scope's rows one by one.
    async fn compare_rows(&mut self, scope: Scope) -> Result<(), Error> {
        let (plan, sessions) = (self.plan, &mut *self.sessions);
        let (source, target) = tokio::join!(
            fetch(&mut sessions.source, plan, &scope, Pick::All),
            fetch(&mut sessions.target, plan, &scope, Pick::All)
        );
        let (source, target) = (source?, target?);
        let copies = |rows: &[super::rows::Row]| rows.iter().map(|r| r.copies).sum::<u64>();
        self.source_rows += copies(&source.rows) + source.undigested;
        self.target_rows += copies(&target.rows) + target.undigested;
        self.undigested += source.undigested.max(target.undigested);
        self.chunks += 1;
        let torn = plan.is_multiset() && source.undigested + target.undigested > 0;
        let (matching, mut differing) = matched(source.rows, target.rows);
        self.matching += matching;
        // What stands against a row without a digest is not known to differ; without keys it may be any row.
        differing.retain(|row| !torn && !source.lost.contains(&row.key) && !target.lost.contains(&row.key));
        let scope = Arc::new(scope);
        for row in differing {
            if self.suspects.len() < self.options.max_suspects {
                self.suspects.push(Suspect { row, scope: scope.clone() });
            } else {
                self.uncounted.add(row.counts());
            }
        }
        Ok(())
    }

    /// The session of a side.
    pub fn session(&mut self, side: usize) -> &mut Session {
        if side == at(crate::Side::Source) { &mut self.sessions.source } else { &mut self.sessions.target }
    }
}

/// The next chunk's size, towards the time that one should take; at most doubled or divided by eight.
fn next_size(size: u64, took: Duration, options: &Options) -> u64 {
    let least = super::settle::LEAST_CHUNK_TIME;
    let wanted = size as f64 * options.chunk_time.as_secs_f64() / took.max(least).as_secs_f64();
    (wanted as u64).clamp(size / 8, size.saturating_mul(2)).clamp(1, options.max_chunk_rows.max(1))
}

async fn count(session: &mut Session, sql: String) -> Result<u64, Error> {
    const WHAT: &str = "counting rows";
    let row = session.one(WHAT, &sql).await?;
    row.first().and_then(number).ok_or_else(|| session.unexpected(WHAT, "the count is no number"))
}

async fn digest(session: &mut Session, sql: String) -> Result<Answer, Error> {
    let row = session.one("digesting a chunk", &sql).await?;
    answer(&row).ok_or_else(|| session.unexpected("digesting a chunk", "the sums are no numbers"))
}

/// Reads rows, rows with a digest, and the four sums (NULL over no rows).
fn answer(cells: &[Option<Vec<u8>>]) -> Option<Answer> {
    let (rows, digested): (u64, u64) = (number(cells.first()?)?, number(cells.get(1)?)?);
    let mut digest = Digest { rows, ..Digest::default() };
    for (sum, cell) in digest.sums.iter_mut().zip(cells.get(2..6)?) {
        *sum = if digested == 0 { 0 } else { number(cell)? };
    }
    Some(Answer { digest, undigested: rows.checked_sub(digested)? })
}

/// The digest of each bucket, and how many rows are in none because they have no hash.
async fn buckets(session: &mut Session, sql: String, of: u64) -> Result<(Vec<Answer>, u64), Error> {
    const WHAT: &str = "digesting the table in buckets";
    let rows: Vec<Cells> = session.query(WHAT, &sql).await?;
    let (mut answers, mut lost) = (vec![Answer::default(); of as usize], 0);
    for row in &rows {
        let bucket: Option<usize> = row.first().and_then(number);
        let found = row.get(1..).and_then(answer);
        match (bucket, found) {
            (Some(bucket), Some(found)) if bucket < answers.len() => answers[bucket] = found,
            (None, Some(found)) if row[0].is_none() => lost += found.rows(),
            _ => return Err(session.unexpected(WHAT, "a row is not in the form asked for")),
        }
    }
    Ok((answers, lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[&str]) -> Vec<Option<Vec<u8>>> {
        texts.iter().map(|t| (*t != "NULL").then(|| t.as_bytes().to_vec())).collect()
    }

    #[test]
    fn rows_without_a_digest_are_never_equal() {
        let whole = answer(&cells(&["2", "2", "5", "6", "7", "8"])).unwrap();
        assert!(whole.equals(&whole));
        let torn = answer(&cells(&["2", "1", "5", "6", "7", "8"])).unwrap();
        assert!(!torn.equals(&torn) && torn.undigested == 1);
        let none = answer(&cells(&["2", "0", "NULL", "NULL", "NULL", "NULL"])).unwrap();
        assert!(!none.equals(&none));
        let empty = answer(&cells(&["0", "0", "NULL", "NULL", "NULL", "NULL"])).unwrap();
        assert!(empty.equals(&empty));
        assert_eq!(answer(&cells(&["1", "1", "NULL", "1", "1", "1"])), None);
        assert_eq!(answer(&cells(&["1", "2", "1", "1", "1", "1"])), None);
    }

    #[test]
    fn chunks_grow_and_shrink_towards_their_time() {
        let options = Options { max_chunk_rows: 3000, ..Options::default() };
        let size = |ms| next_size(1000, Duration::from_millis(ms), &options);
        assert_eq!((size(0), size(1000), size(2000), size(60_000)), (2000, 1000, 500, 125));
        assert_eq!(next_size(2000, Duration::ZERO, &options), 3000);
        assert_eq!(next_size(1, Duration::from_secs(60), &options), 1);
    }
}
