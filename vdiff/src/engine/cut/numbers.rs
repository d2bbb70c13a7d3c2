//! Cutting along a key of one whole number: by arithmetic, so that no server has to walk over rows to find the next
//! cut. The optimizer's estimates say how many rows a range has; being wrong costs time, never a row, because ranges
//! tile the numbers whatever is in them.

use futures_util::future::try_join_all;

use super::ChunkSize;
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::Scope;
use crate::session::{Session, number};

use super::super::shards::{Sessions, Shards};
use super::{Chunks, Cut, WHAT, cut};
use converge_mysql::Flavor;

/// A range is made smaller so many times at the most before it is taken as it is.
const ATTEMPTS: usize = 8;

/// Cuts from `lower` on.
pub async fn ranges(
    plan: &Plan,
    sessions: &mut Sessions,
    lower: Option<Cut>,
    size: &ChunkSize,
    chunks: &Chunks,
) -> Result<(), Error> {
    let mut lower = lower;
    if let Some((least, most)) = bounds(plan, sessions).await? {
        let from = |cut: &Option<Cut>| cut.as_ref().and_then(|c| c.first()?.parse::<i128>().ok());
        let mut start = from(&lower).unwrap_or(least);
        let mut width = None;
        while start <= most {
            let mut fitted = fit(plan, sessions, start, most, width, size).await?;
            if matches!(fitted, Some((_, ..=1))) {
                // Nothing can be told from an estimate of one row, which servers give for none as well. A chunk that
                // begins at a row has one: there are never more chunks than rows, however wide the gaps are.
                let Some(next) = following(plan, sessions, start).await? else { break };
                if next > start {
                    start = next;
                    fitted = fit(plan, sessions, start, most, width, size).await?;
                }
            }
            let step = match fitted {
                Some((step, _)) => step,
                None => match walked(plan, sessions, start, size.rows()).await? {
                    Some(next) => next - start,
                    None => break,
                },
            };
            width = Some(step);
            let Some(upper) = start.checked_add(step).filter(|upper| *upper <= most) else { break };
            let cut = vec![upper.to_string()];
            let chunk = Scope { lower: lower.replace(cut.clone()), upper: Some(cut), buckets: None };
            if chunks.send(chunk).await.is_err() {
                return Ok(());
            }
            start = upper;
        }
    }
    let _ = chunks.send(Scope { lower, ..Scope::default() }).await;
    Ok(())
}

/// How many numbers from `start` on have about as many rows as a chunk should, and how many rows that is by the last
/// estimate; `last` is how many numbers the chunk before had. `None`: the estimates do not tell.
async fn fit(
    plan: &Plan,
    sessions: &mut Sessions,
    start: i128,
    most: i128,
    last: Option<i128>,
    size: &ChunkSize,
) -> Result<Option<(i128, i128)>, Error> {
    let left = most - start + 1;
    let mut width = last.unwrap_or(left).clamp(1, left);
    let mut search = Search::new(i128::from(size.rows()), left);
    let mut rows = 0;
    for _ in 0..ATTEMPTS {
        let range = Scope {
            lower: Some(vec![start.to_string()]),
            upper: (width < left).then(|| vec![(start + width).to_string()]),
            buckets: None,
        };
        rows = i128::from(estimate(plan, sessions, &range).await?);
        match search.next(width, rows) {
            Next::Try(other) => width = other,
            Next::Take => break,
            Next::Unknown => return Ok(None),
        }
    }
    Ok(Some((width, rows)))
}

/// The search for the width of at most `left` numbers that has about `wanted` rows.
struct Search {
    wanted: i128,
    left: i128,
    /// Whether a width was made larger.
    grown: bool,
    /// What was expected in the width before, where that was too much.
    wider: Option<i128>,
}

/// What to do about a width.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Take,
    Try(i128),
    /// Estimates lead nowhere.
    Unknown,
}

impl Search {
    fn new(wanted: i128, left: i128) -> Self {
        Self { wanted, left, grown: false, wider: None }
    }

    /// Goes on from a width and the rows that are expected in it.
    fn next(&mut self, width: i128, rows: i128) -> Next {
        let fitting = width.saturating_mul(self.wanted) / rows.max(1);
        if rows > self.wanted * 2 {
            // A server that does not look into ranges expects as many rows in each.
            if width == 1 || self.wider.replace(rows).is_some_and(|wider| rows >= wider) {
                return Next::Unknown;
            }
            return Next::Try(fitting.max(1));
        }
        if rows * 2 < self.wanted && width < self.left && !self.grown {
            (self.grown, self.wider) = (true, None);
            // At most eight times as wide: what lies behind a gap may be dense.
            return Next::Try(fitting.min(width.saturating_mul(8)).clamp(1, self.left));
        }
        Next::Take
    }
}

/// The first key of what follows about so many rows from `start` on; `None` when no shard of either side has as many.
async fn walked(plan: &Plan, sessions: &mut Sessions, start: i128, rows: u64) -> Result<Option<i128>, Error> {
    let rest = Scope { lower: Some(vec![start.to_string()]), ..Scope::default() };
    let mut least = None;
    for side in [0, 1] {
        let shards = sessions.side(side);
        let of = shards.count() as u64;
        let cuts = shards.each_mut().map(|session| cut(plan, session, &rest, rows.div_ceil(of)));
        for key in try_join_all(cuts).await?.into_iter().flatten() {
            let key: Option<i128> = key.first().and_then(|key| key.parse().ok());
            let key = key.ok_or_else(|| shards.unexpected(WHAT, "a key is no whole number"))?;
            least = Some(least.map_or(key, |least: i128| least.min(key)));
        }
    }
    Ok(least)
}

/// The smallest key from `start` on of all shards of both sides.
async fn following(plan: &Plan, sessions: &mut Sessions, start: i128) -> Result<Option<i128>, Error> {
    let sql = [0, 1].map(|side| plan.following(start, side));
    let keys = keys(sessions, "reading the next key", &sql).await?;
    Ok(keys.into_iter().flatten().min())
}

/// The smallest and the largest key of all shards of both sides.
async fn bounds(plan: &Plan, sessions: &mut Sessions) -> Result<Option<(i128, i128)>, Error> {
    let sql = [0, 1].map(|side| plan.bounds(side));
    let keys = keys(sessions, "reading the smallest and the largest key", &sql).await?;
    let all = || keys.iter().flatten().copied();
    Ok(all().min().zip(all().max()))
}

/// The keys that all shards of both sides answer, a row each; nothing from a shard without any.
async fn keys(sessions: &mut Sessions, what: &str, sql: &[String; 2]) -> Result<Vec<Vec<i128>>, Error> {
    let (source, target) =
        tokio::join!(sessions.source.query(what, &sql[0]), sessions.target.query(what, &sql[1]));
    let mut keys = Vec::new();
    for row in source?.iter().chain(&target?).filter(|row| row.iter().all(Option::is_some)) {
        let read: Option<Vec<i128>> = row.iter().map(number::<i128>).collect();
        keys.push(read.ok_or_else(|| sessions.source.unexpected(what, "a key is no whole number"))?);
    }
    Ok(keys)
}

/// The rows that the optimizers expect in a range, on the side with more.
async fn estimate(plan: &Plan, sessions: &mut Sessions, range: &Scope) -> Result<u64, Error> {
    let sql = [0, 1].map(|side| plan.reach(range, side));
    let (source, target) =
        tokio::join!(of_side(&mut sessions.source, &sql[0]), of_side(&mut sessions.target, &sql[1]));
    Ok(source?.max(target?))
}

async fn of_side(shards: &mut Shards, sql: &str) -> Result<u64, Error> {
    let each = try_join_all(shards.each_mut().map(|session| of_shard(session, sql))).await?;
    Ok(each.iter().fold(0, |sum, rows| sum.saturating_add(*rows)))
}

async fn of_shard(session: &mut Session, sql: &str) -> Result<u64, Error> {
    // The number of rows stands before the last columns, of which MySQL has one more.
    let (format, from_end) = match session.info.flavor {
        Flavor::MySql => ("FORMAT=TRADITIONAL ", 3),
        Flavor::MariaDb => ("", 2),
    };
    let found = session.query("estimating a chunk", &format!("EXPLAIN {format}{sql}")).await;
    let rows = match found {
        Ok(rows) => rows,
        // A view's plan is not for everybody: then there is no estimate.
        Err(Error::Server { inner, .. }) if inner.is_refusal() => return Ok(0),
        Err(e) => return Err(e),
    };
    let row = rows.first().and_then(|row| row.get(row.len().checked_sub(from_end)?));
    Ok(row.and_then(number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The width of 30 rows among 30,000 numbers, by estimates.
    fn fitted(estimate: fn(i128) -> i128) -> Option<i128> {
        let (mut search, mut width) = (Search::new(30, 30_000), 30_000);
        for _ in 0..ATTEMPTS {
            match search.next(width, estimate(width)) {
                Next::Take => break,
                Next::Try(other) => width = other,
                Next::Unknown => return None,
            }
        }
        Some(width)
    }

    #[test]
    fn estimates_are_believed_only_while_they_tell_ranges_apart() {
        assert_eq!(fitted(|width| width / 10), Some(300));
        assert_eq!(fitted(|_| 3000), None);
        assert_eq!(fitted(|_| 0), Some(30_000));
        // What is there lies at the beginning of the range.
        assert_eq!(fitted(|width| width.min(50)), Some(30_000));
        assert_eq!(fitted(|width| width.min(500)), None);
    }
}
