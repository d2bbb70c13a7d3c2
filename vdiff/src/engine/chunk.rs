//! What a worker does with a chunk: it compares digests, and where they differ narrows down to rows.
//!
//! Nothing here is left out of a tally: each row of the chunk is counted as matching, as a suspect or as undigested.

mod buckets;
mod scan;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use converge_mysql::quote::hex_digits;
use futures_util::future::try_join_all;

use super::cut::{Cut, cut};
use super::rows::{Differing, fetch, matched};
use super::shards::{Sessions, Shards};
use super::state::STRIDE;
use super::stream::{self, Streamed};
use super::tally::{Answer, Room, Suspect, Tally};
use crate::digest::row_digest;
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::{Pick, Scope};
use crate::request::{Engine, Options};
use crate::session::Session;
use buckets::{First, apart};

/// Where more than this share of a chunk's rows is in buckets that differ, ranges narrow it down better.
const DENSE: u64 = 4;

/// Chunks before this one may be looked at [closely](Work::closely): one for each worker, as a rule.
const CLOSELY: u64 = 2 * STRIDE;

/// Keys looked up by one statement.
const KEYS_AT_ONCE: usize = 200;

/// What workers have in common.
#[derive(Clone)]
pub struct Work {
    pub plan: Arc<Plan>,
    pub options: Arc<Options>,
    /// Who digests rows; never [`Engine::Auto`].
    pub engine: Engine,
    pub room: Room,
    /// Whether a chunk of this table differed: then others may.
    pub damaged: Arc<AtomicBool>,
    /// Whether the servers digest the first chunks, which are small, as if they differed: where damage is all over the
    /// table they tell, and no larger chunk is digested twice.
    pub closely: bool,
}

/// A chunk that was compared.
pub struct Compared {
    /// Its number in the table's order.
    pub number: u64,
    /// Where it is.
    pub scope: Scope,
    /// What was found.
    pub tally: Tally,
    /// Its rows on the side that has more.
    pub rows: u64,
    /// Whether each row that its digests counted was found again where they differed.
    pub whole: bool,
    /// How long its digests took.
    pub took: Duration,
}

impl Work {
    /// Compares a range; where it differs, its parts, down to rows.
    pub async fn range(&self, sessions: &mut Sessions, whole: Scope, number: u64) -> Result<Compared, Error> {
        let begun = Instant::now();
        let mut part = Part { work: self, sessions, number, tally: Tally::default(), tell: None };
        let (sums, took) = if self.engine == Engine::Stream {
            let keep = self.damaged.load(Ordering::Relaxed);
            let mut streamed = self.stream(part.sessions, &whole, keep).await?;
            let took = begun.elapsed();
            if !streamed[0].answer.equals(&streamed[1].answer) {
                self.damaged.store(true, Ordering::Relaxed);
                // What was not kept is read again, which costs less than to have the servers digest it.
                if !keep && self.plan.is_served_by_key() {
                    streamed = self.stream(part.sessions, &whole, true).await?;
                }
            }
            part.after_stream(whole.clone(), &streamed).await?;
            (streamed.map(|side| side.answer), took)
        } else {
            let closely = self.closely && number < CLOSELY;
            let first = if (closely || self.damaged.load(Ordering::Relaxed)) && self.plan.is_served_by_key() {
                First::Groups(part.digest_groups(&whole, None).await?)
            } else {
                First::Whole(self.digests(part.sessions, &whole).await?)
            };
            let (sums, took) = (first.sums(), begun.elapsed());
            part.narrow(whole.clone(), Some(first)).await?;
            (sums, took)
        };
        let tally = part.tally;
        let found = [tally.source_rows, tally.target_rows] == sums.map(|side| side.rows());
        Ok(Compared { number, scope: whole, tally, rows: most(&sums), whole: found, took })
    }

    /// Compares a whole table without an order that both sides share: one scan per side digests all buckets, further
    /// ones read the rows of those that differ. `tell` hears how far it is.
    pub async fn in_buckets(
        &self,
        sessions: &mut Sessions,
        rows: u64,
        tell: Tell<'_>,
    ) -> Result<Tally, Error> {
        let mut part = Part { work: self, sessions, number: 0, tally: Tally::default(), tell: Some(tell) };
        part.narrow_buckets(Scope::default(), rows).await?;
        Ok(part.tally)
    }

    /// The servers' digests of a scope on both sides, each over all of its shards.
    async fn digests(&self, sessions: &mut Sessions, scope: &Scope) -> Result<[Answer; 2], Error> {
        let sql = [0, 1].map(|side| self.plan.digest(scope, side));
        let one = async |shards: &mut Shards, sql: &str| {
            let each = shards.each_mut().map(|session| digest(session, sql));
            Ok::<_, Error>(sum(try_join_all(each).await?))
        };
        let (source, target) =
            tokio::join!(one(&mut sessions.source, &sql[0]), one(&mut sessions.target, &sql[1]));
        Ok([source?, target?])
    }

    /// The rows of a scope on both sides, digested here, and kept if asked to.
    async fn stream(
        &self,
        sessions: &mut Sessions,
        scope: &Scope,
        keep: bool,
    ) -> Result<[Streamed; 2], Error> {
        let (source, target) = tokio::join!(
            self.stream_side(&mut sessions.source, scope, 0, keep),
            self.stream_side(&mut sessions.target, scope, 1, keep)
        );
        Ok([source?, target?])
    }

    async fn stream_side(
        &self,
        shards: &mut Shards,
        scope: &Scope,
        side: usize,
        keep: bool,
    ) -> Result<Streamed, Error> {
        let plan = &self.plan;
        let parts = match plan.raw_rows(scope, side) {
            Some(sql) => try_join_all(shards.each_mut().map(|s| stream::raw(s, plan, &sql, keep))).await?,
            None => {
                let sql = plan.images(scope, side);
                try_join_all(shards.each_mut().map(|session| stream::images(session, &sql))).await?
            }
        };
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        parts.for_each(|part| all.merge(part));
        Ok(all)
    }
}

/// Rows on the side that has more.
fn most(answers: &[Answer; 2]) -> u64 {
    answers[0].rows().max(answers[1].rows())
}

fn sum(answers: Vec<Answer>) -> Answer {
    answers.iter().fold(Answer::default(), |mut all, answer| {
        all.merge(answer);
        all
    })
}

/// A chunk at work.
struct Part<'a> {
    work: &'a Work,
    sessions: &'a mut Sessions,
    number: u64,
    tally: Tally,
    tell: Option<Tell<'a>>,
}

/// Who hears what was found so far.
pub type Tell<'a> = &'a (dyn Fn(&Tally) + Sync);

impl Part<'_> {
    fn tell(&self) {
        if let Some(tell) = self.tell {
            tell(&self.tally);
        }
    }

    /// Counts what is equal in a chunk that was streamed, and has the servers look at the rest.
    async fn after_stream(&mut self, whole: Scope, streamed: &[Streamed; 2]) -> Result<(), Error> {
        let [source, target] = streamed;
        if source.answer.equals(&target.answer) {
            self.tally.add_equal(source.answer.rows());
            self.tally.chunks += 1;
            return Ok(());
        }
        let plan = &self.work.plan;
        let few = self.work.options.fetch_rows.max(1) as usize;
        if let Some((keys, same)) = source.differing(target)
            && keys.len() <= few
        {
            let images: Option<Vec<Vec<u8>>> = keys.iter().map(|key| stream::key_image(plan, key)).collect();
            if let Some(images) = images
                && self
                    .compare_keys(&whole, images, same, streamed.each_ref().map(|side| side.answer.rows()))
                    .await?
            {
                return Ok(());
            }
        }
        self.narrow(whole, None).await
    }

    /// Matches the rows with the given keys, beside `same` that are equal, of so many `rows` on each side. Returns whether all
    /// were found; otherwise nothing was counted.
    async fn compare_keys(
        &mut self,
        scope: &Scope,
        images: Vec<Vec<u8>>,
        same: u64,
        rows: [u64; 2],
    ) -> Result<bool, Error> {
        let (mut tally, mut differing) = (Tally { chunks: 1, ..Tally::default() }, Vec::new());
        tally.add_equal(same);
        for batch in self.keys_at_once(images) {
            let Some(rows) = self.read_keys_again(scope, &batch, &mut tally).await? else { return Ok(false) };
            differing.extend(rows);
        }
        // A literal that one side reads in another way would make a row of both sides one of the other side only.
        if !self.work.plan.is_surely_found() && [tally.source_rows, tally.target_rows] != rows {
            return Ok(false);
        }
        self.tally.merge(tally);
        self.hold(scope.clone(), differing);
        Ok(true)
    }

    /// Keys by what one statement looks up: whole keys as literals, or those without by hash, which reads all of the scope.
    fn keys_at_once(&self, images: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
        let (literal, hashed): (Vec<_>, Vec<_>) =
            images.into_iter().partition(|image| self.work.plan.address(image).is_some());
        let batches = [(literal, KEYS_AT_ONCE), (hashed, self.sessions.hashes_at_once())];
        batches.iter().flat_map(|(images, most)| images.chunks(*most).map(<[_]>::to_vec)).collect()
    }

    /// Counts the rows of keys. Returns those that differ; `None`: not each key was found.
    async fn read_keys_again(
        &mut self,
        scope: &Scope,
        images: &[Vec<u8>],
        tally: &mut Tally,
    ) -> Result<Option<Vec<Differing>>, Error> {
        let plan = &self.work.plan;
        let literals: Option<Vec<_>> = images.iter().map(|image| plan.address(image)).collect();
        let (anywhere, hashes);
        let (scope, pick) = match &literals {
            Some(literals) => {
                anywhere = Scope::default();
                (&anywhere, Pick::Keys(literals))
            }
            None => {
                hashes = images.iter().map(|image| hex_digits(&row_digest(image))).collect::<Vec<_>>();
                (scope, Pick::Hashes(&hashes))
            }
        };
        let (source, target) = tokio::join!(
            fetch(&mut self.sessions.source, plan, scope, pick),
            fetch(&mut self.sessions.target, plan, scope, pick)
        );
        let mut sides = [source?, target?];
        let wanted: HashSet<&[u8]> = images.iter().map(Vec::as_slice).collect();
        // A collation may call other keys equal to those asked for: they are among the rows that are the same.
        sides.iter_mut().for_each(|side| side.rows.retain(|row| wanted.contains(row.key.as_slice())));
        let found: HashSet<&[u8]> =
            sides.iter().flat_map(|side| &side.rows).map(|row| row.key.as_slice()).collect();
        // A key that the servers write in another way than it was read here would be looked for in vain.
        if found.len() < wanted.len() || sides.iter().any(|side| side.undigested > 0) {
            return Ok(None);
        }
        let [source, target] = sides;
        tally.source_rows += source.count();
        tally.target_rows += target.count();
        let (matching, rows) = matched(source.rows, target.rows);
        tally.matching += matching;
        Ok(Some(rows))
    }

    fn hold(&mut self, scope: Scope, differing: Vec<Differing>) {
        let (scope, chunk) = (Arc::new(scope), self.number);
        for row in differing {
            self.tally.hold(Suspect { row, scope: scope.clone(), chunk, proof: None }, &self.work.room);
        }
    }

    async fn narrow(&mut self, whole: Scope, mut known: Option<First>) -> Result<(), Error> {
        let (plan, fetch_rows) = (&self.work.plan, self.work.options.fetch_rows.max(1));
        // What only the client can digest is not in the servers' digests.
        let client = !plan.client_columns().is_empty();
        let (mut todo, mut by_groups) = (vec![whole], plan.is_served_by_key());
        while let Some(scope) = todo.pop() {
            let first = match known.take() {
                Some(first) => first,
                None => First::Whole(self.work.digests(self.sessions, &scope).await?),
            };
            let [source, target] = first.sums();
            if source.equals(&target) && (!client || source.rows() == 0) {
                self.tally.add_equal(source.rows());
                self.tally.chunks += 1;
                continue;
            }
            self.work.damaged.store(true, Ordering::Relaxed);
            let most = most(&[source, target]);
            let few = most <= fetch_rows;
            let groups = match first {
                First::Groups(groups) if !(few && client) => Some(groups),
                First::Whole(_) if by_groups && !few => Some(self.digest_groups(&scope, Some(most)).await?),
                _ => None,
            };
            if let Some(groups) = groups {
                if apart(&groups) <= most / DENSE {
                    self.compare_buckets(scope, groups).await?;
                    continue;
                }
                by_groups = false;
            }
            if few {
                self.compare_rows(scope, false).await?;
                continue;
            }
            let side = usize::from(target.rows() > source.rows());
            match self.middle(&scope, most, side).await? {
                Some(middle) => {
                    let upper = Scope { lower: Some(middle.clone()), ..scope.clone() };
                    let lower = Scope { upper: Some(middle), ..scope };
                    todo.extend([upper, lower]);
                }
                // Too many rows share one value of the key's ordered part.
                None => self.narrow_buckets(scope, most).await?,
            }
        }
        Ok(())
    }

    /// A key in the middle of the scope's rows on a side, or of those of one of its shards.
    async fn middle(&mut self, scope: &Scope, rows: u64, side: usize) -> Result<Option<Cut>, Error> {
        let plan = &self.work.plan;
        let shards = self.sessions.side(side);
        let offset = rows / 2 / shards.count() as u64;
        for session in shards.each_mut() {
            if let Some(key) = cut(plan, session, scope, offset).await? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Matches a scope's rows one by one; `torn`: there are rows without a digest that may be any of them.
    async fn compare_rows(&mut self, scope: Scope, torn: bool) -> Result<(), Error> {
        let plan = &self.work.plan;
        let (source, target) = tokio::join!(
            fetch(&mut self.sessions.source, plan, &scope, Pick::All),
            fetch(&mut self.sessions.target, plan, &scope, Pick::All)
        );
        let (source, target) = (source?, target?);
        let tally = &mut self.tally;
        tally.source_rows += source.count();
        tally.target_rows += target.count();
        tally.undigested += source.undigested.max(target.undigested);
        tally.chunks += 1;
        let torn = torn || plan.is_multiset() && source.undigested + target.undigested > 0;
        let (matching, mut differing) = matched(source.rows, target.rows);
        tally.matching += matching;
        // What stands against a row without a digest is not known to differ; without keys it may be any row.
        differing.retain(|row| !torn && !source.lost.contains(&row.key) && !target.lost.contains(&row.key));
        self.hold(scope, differing);
        Ok(())
    }
}

async fn digest(session: &mut Session, sql: &str) -> Result<Answer, Error> {
    let row = session.one("digesting a chunk", sql).await?;
    Answer::parse(&row).ok_or_else(|| session.unexpected("digesting a chunk", "the sums are no numbers"))
}
