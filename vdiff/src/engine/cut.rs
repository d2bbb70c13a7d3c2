//! Cutting a table into chunks, ahead of the workers that compare them.
//!
//! Chunks tile the whole space of keys, from below the smallest to above the largest: any key may be a cut, and none may
//! be left out between two.

mod numbers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::shards::Sessions;
use super::stream::KEPT_ROWS;
use crate::error::Error;
use crate::plan::sql::Scope;
use crate::plan::{Plan, at};
use crate::request::{Engine, Options};
use crate::session::Session;

/// A key as literals.
pub type Cut = Vec<String>;

/// Where chunks go.
pub type Chunks = Sender<Scope>;

/// The shortest time worth measuring; keeps a chunk's growth finite.
const LEAST_CHUNK_TIME: Duration = Duration::from_millis(1);

/// Rows of the first chunk where nothing is known of the network and of the rows' lengths.
const UNTRIED_ROWS: u64 = 500;

/// How many rows chunks should have now. Workers steer it by what chunks took.
pub struct ChunkSize {
    rows: AtomicU64,
    most: u64,
}

impl ChunkSize {
    /// As large as asked for, for an engine. `untried`: how long rows take is not known at all, since no trial was made: the
    /// first chunks are small ones, so that large values over a slow network do not take for ever.
    pub fn new(options: &Options, engine: Engine, untried: bool) -> Self {
        // What is streamed is kept until it was compared.
        let bound = if engine == Engine::Stream { KEPT_ROWS } else { u64::MAX };
        let most = options.max_chunk_rows.clamp(1, bound);
        let first = options.first_chunk_rows.min(if untried { UNTRIED_ROWS } else { u64::MAX });
        Self { rows: AtomicU64::new(first.clamp(1, most)), most }
    }

    /// So many.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Learns from a chunk that had so many rows.
    pub fn learn(&self, rows: u64, took: Duration, options: &Options) {
        self.rows.store(next_size(self.rows(), rows, took, options.chunk_time, self.most), Ordering::Relaxed);
    }
}

/// The next chunk's size, towards the time that one should take; at most four times as large or an eighth.
fn next_size(size: u64, rows: u64, took: Duration, chunk_time: Duration, most: u64) -> u64 {
    // Of a chunk with few rows (a gap in the keys, the last one) the time is not that of its rows.
    if rows < size / 8 && took < chunk_time {
        return size;
    }
    let wanted = rows as f64 * chunk_time.as_secs_f64() / took.max(LEAST_CHUNK_TIME).as_secs_f64();
    (wanted as u64).clamp(size / 8, size.saturating_mul(4)).clamp(1, most)
}

/// Cuts the rest of a table from `lower` on into chunks and sends them.
pub async fn ranges(
    plan: &Plan,
    sessions: &mut Sessions,
    mut lower: Option<Cut>,
    size: &ChunkSize,
    chunks: Chunks,
) -> Result<(), Error> {
    if plan.is_numbered() {
        return numbers::ranges(plan, sessions, lower, size, &chunks).await;
    }
    // The source's shards, then the target's: each is cut to its end, so that what only one has is cut as well.
    for side in [0, 1] {
        let shards = sessions.side(side);
        let of = shards.count() as u64;
        for session in shards.each_mut() {
            loop {
                let rest = Scope { lower: lower.clone(), ..Scope::default() };
                let Some(upper) = cut(plan, session, &rest, size.rows().div_ceil(of)).await? else { break };
                let chunk = Scope { lower: lower.replace(upper.clone()), upper: Some(upper), buckets: None };
                if chunks.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    // Nobody listens only when the comparison has ended already.
    let _ = chunks.send(Scope { lower, ..Scope::default() }).await;
    Ok(())
}

/// The first key of what follows `offset` rows of the scope on a shard; `None` when there are not so many.
pub async fn cut(
    plan: &Plan,
    session: &mut Session,
    scope: &Scope,
    offset: u64,
) -> Result<Option<Cut>, Error> {
    let (mut offset, mut image) = (offset, key_at(plan, session, scope, offset).await?);
    loop {
        let Some(found) = image else { return Ok(None) };
        match plan.literals(&found).ok_or_else(|| session.unexpected(WHAT, NO_KEY))? {
            // A literal that does not stand for its own value would cut the same chunk for ever.
            Some(key) if scope.lower.as_ref() == Some(&key) => {
                return Err(session.unexpected(WHAT, "the next chunk begins where this one does"));
            }
            Some(key) => return Ok(Some(key)),
            // Bytes that are no text, say, which a server does not take from a client: the chunk becomes larger.
            None => offset = offset.saturating_mul(2).saturating_add(1),
        }
        image = key_at(plan, session, scope, offset).await?;
    }
}

const WHAT: &str = "cutting the next chunk";
const NO_KEY: &str = "the key's image is not in the form asked for";

/// The image of the key that follows `offset` rows of the scope on a shard.
async fn key_at(
    plan: &Plan,
    session: &mut Session,
    scope: &Scope,
    offset: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let rows = session.query(WHAT, &plan.cut(scope, offset, at(session.side))).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let image = row.into_iter().next().flatten();
    image.map(Some).ok_or_else(|| session.unexpected(WHAT, "the key is NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(size: u64, rows: u64, ms: u64) -> u64 {
        next_size(size, rows, Duration::from_millis(ms), Duration::from_secs(1), 6000)
    }

    #[test]
    fn chunks_grow_and_shrink_towards_their_time() {
        let after = |ms| size(1000, 1000, ms);
        assert_eq!((after(0), after(1000), after(2000), after(60_000)), (4000, 1000, 500, 125));
        assert_eq!((size(2000, 2000, 0), size(1, 1, 60_000)), (6000, 1));
    }

    #[test]
    fn chunks_begin_small_where_no_trial_was_made() {
        let first = |rows, untried| {
            let options = Options { first_chunk_rows: rows, ..Options::default() };
            ChunkSize::new(&options, Engine::Stream, untried).rows()
        };
        assert_eq!((first(10_000, true), first(10_000, false), first(7, true)), (500, 10_000, 7));
    }

    #[test]
    fn a_gap_in_the_keys_says_nothing_about_rows() {
        assert_eq!((size(1000, 0, 1), size(1000, 3, 1), size(1000, 0, 9000)), (1000, 1000, 125));
    }
}
