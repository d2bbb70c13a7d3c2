//! Telling rows that differ from rows that are late, by where the target stands: see [`crate::proof`].
//!
//! Rows that are only late are sorted out first, without locks, by reading them again once the target has applied what the
//! source had; few are left then to be held still.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::detail::rows_of;
use super::held::{Held, Holder, Seen, Wait};
use super::suspects::{Again, again};
use super::table::TableRun;
use super::tally::{RowProof, Suspect};
use crate::error::Error;
use crate::request::Progress;

/// Rows held by one transaction.
const HELD: usize = 50;
/// How often rows are read again before they are held, unless that sorts out many.
const ROUNDS: u32 = 3;
/// After so many attempts that met another transaction's lock, a single row's is waited for.
const PATIENCE: u32 = 3;

/// Suspects that are held together.
struct Batch {
    suspects: Vec<Suspect>,
    /// Attempts that failed.
    tries: u32,
}

impl TableRun<'_> {
    /// Proves suspects one batch after the other. Says why some are left, if so.
    pub async fn settle_held(&mut self, holder: &mut Holder<'_>) -> Result<Option<String>, Error> {
        if let Some(why) = self.sort_out_late(holder).await? {
            return Ok(Some(why));
        }
        if self.found.suspects.is_empty() {
            return Ok(None);
        }
        if let Some(why) = &self.plan.unlockable {
            return Ok(Some(format!(
                "rows of this table cannot be held still one by one while they are written ({why}): differences in it \
                 are proven only at rest"
            )));
        }
        self.hold_all(holder).await
    }

    /// Reads suspects again, each time after the target has applied what the source had. Says why if it never did.
    async fn sort_out_late(&mut self, holder: &mut Holder<'_>) -> Result<Option<String>, Error> {
        for _ in 0..ROUNDS {
            let before = self.found.suspects.len();
            self.tell_confirming(0);
            if let Some(why) = holder.catch_up(self.options.confirm_within).await? {
                return Ok(Some(why));
            }
            self.read_again().await?;
            if self.found.suspects.len() <= HELD || self.found.suspects.len() * 2 > before {
                break;
            }
        }
        Ok(None)
    }

    /// `aside`: rows that are not among the suspects while they are looked at.
    fn tell_confirming(&self, aside: usize) {
        let suspects = self.counts().differing() - self.proven().differing() + aside as u64;
        (self.progress)(Progress::Confirming { table: self.name.to_owned(), suspects });
    }

    async fn hold_all(&mut self, holder: &mut Holder<'_>) -> Result<Option<String>, Error> {
        // Only what can be looked up by its key can be locked by it.
        let (suspects, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.found.suspects)
            .into_iter()
            .partition(|s| self.plan.address(&s.row.key).is_some());
        self.found.suspects = others;
        let mut queue: VecDeque<Batch> =
            suspects.chunks(HELD).map(|s| Batch { suspects: s.to_vec(), tries: 0 }).collect();
        let (mut settled_at, mut named, mut why) = (Instant::now(), 0, None);
        let (mut missing, mut out_of_time) = (Vec::new(), false);
        while let Some(batch) = queue.pop_front() {
            let keys: Option<Vec<Vec<String>>> =
                batch.suspects.iter().map(|s| self.plan.address(&s.row.key)).collect();
            let Some(keys) = keys.filter(|_| settled_at.elapsed() <= self.options.confirm_within) else {
                out_of_time = true;
                self.found.suspects.extend(batch.suspects);
                continue;
            };
            let single = batch.suspects.len() == 1 && batch.tries >= PATIENCE;
            let wait = if single { Wait::Second } else { Wait::Never };
            let most = self.options.max_rows_reported.saturating_sub(named);
            match holder.hold(self.plan, &keys, wait, most).await? {
                Held::Seen(seen) => {
                    named += self.settled(&batch.suspects, *seen, &mut missing);
                    settled_at = Instant::now();
                    self.tell_confirming(queue.iter().map(|batch| batch.suspects.len()).sum());
                }
                Held::Locked => {
                    why = Some("other transactions held their locks each time".to_owned());
                    self.split(batch, &mut queue).await;
                }
                Held::Late(doubt) => {
                    let left = self.options.confirm_within.saturating_sub(settled_at.elapsed());
                    holder.catch_up(left).await?;
                    why = Some(match doubt {
                        Some(doubt) => doubt,
                        None => holder.trouble().await?,
                    });
                    pause(batch.tries).await;
                    queue.push_front(Batch { tries: batch.tries + 1, ..batch });
                }
            }
        }
        if !missing.is_empty() && !self.plan.is_surely_found() {
            self.found.suspects.extend(missing);
            self.read_again().await?;
        }
        // Batches were tried in any order; rows are named in that of the table.
        self.found.suspects.sort_by_key(|suspect| suspect.chunk);
        let left = self.counts().differing() - self.proven().differing();
        let reason = why.unwrap_or_else(|| match out_of_time {
            true => format!(
                "the time for that, {} s (--confirm-within), was over",
                self.options.confirm_within.as_secs_f64()
            ),
            false => "they cannot be looked up".into(),
        });
        Ok((left > 0).then(|| {
            format!("{left} rows could not be held still until the target had applied all that was done to them: {reason}")
        }))
    }

    /// Tries a batch of which some rows were locked again later, in halves.
    async fn split(&self, mut batch: Batch, queue: &mut VecDeque<Batch>) {
        let half = batch.suspects.len() / 2;
        let tries = batch.tries + 1;
        if half == 0 {
            pause(batch.tries).await;
            return queue.push_back(Batch { tries, ..batch });
        }
        let rest = batch.suspects.split_off(half);
        queue.extend([batch.suspects, rest].map(|suspects| Batch { suspects, tries }));
    }

    /// Keeps of a batch what was seen to differ while it was held, and puts aside what was not seen at all. How many rows
    /// for the report came with that.
    fn settled(&mut self, batch: &[Suspect], seen: Seen, unseen: &mut Vec<Suspect>) -> usize {
        let Seen { rows: [source, target], fields, position } = seen;
        let Again { matching, differing, unread, missing } = again(batch, source, target);
        unseen.extend(missing);
        self.count_again(batch, matching);
        let mut named = 0;
        for mut suspect in differing {
            let key = suspect.row.key.as_slice();
            let sides = [fields[0].get(key), fields[1].get(key)];
            let mut rows = rows_of(self.plan, &suspect.row, sides, true);
            rows.iter_mut().for_each(|row| row.position = Some(position.to_string()));
            named += rows.len();
            suspect.proof = Some(RowProof { rows });
            self.found.suspects.push(suspect);
        }
        self.found.suspects.extend(unread);
        named
    }
}

/// Of lengths that follow no rhythm of an applier.
async fn pause(tries: u32) {
    let milliseconds = 20 + u64::from(tries) * 137 % 500;
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}
