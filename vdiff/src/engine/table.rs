//! One table: chunks are cut ahead, compared by workers side by side, and collected here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::choice::{Chosen, Preference};
use super::chunk::{Compared, Work};
use super::cut::{ChunkSize, Cut, ranges};
use super::rows::Counts;
use super::settle::{Evidence, Proof};
use super::shards::{Sessions, Shards};
use super::state::{STRIDE, State};
use super::tally::{Room, Tally};
use super::throttle::Throttle;
use super::tiles::Tiles;
use crate::error::Error;
use crate::form::readable;
use crate::plan::Plan;
use crate::plan::sql::Scope;
use crate::proof::Witness;
use crate::report::not_compared;
use crate::request::{Engine, Options, Progress, Request};
use crate::session::number;

/// The state of one table's comparison.
pub struct TableRun<'a> {
    pub plan: &'a Arc<Plan>,
    /// Whether it is InnoDB's on all servers, which counts the rows that it writes.
    pub is_innodb: bool,
    /// For what is not a worker's.
    pub sessions: &'a mut Sessions,
    /// Connections of the workers that are idle.
    pub workers: &'a mut Vec<Sessions>,
    /// Holds chunks back while the servers are busy.
    pub throttle: &'a mut Throttle,
    pub options: &'a Arc<Options>,
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// The table's name on the source.
    pub name: &'a str,
    /// Who digests rows; settled by the first chunk when it was left open.
    pub engine: Engine,
    /// Why that one.
    pub engine_reason: String,
    /// How the tables before this one were best compared.
    pub preference: &'a mut Option<Preference>,
    /// What was found so far.
    pub found: Tally,
    /// Rows of the source of which an earlier run found it, if there was one.
    pub resumed_rows: Option<u64>,
    /// For differing rows that are held.
    pub room: Room,
    /// What the servers had written when the comparison of all tables began, and when that was.
    pub began: &'a (Evidence, Instant),
    /// The ranges that were compared.
    pub tiles: Tiles,
    /// Whether a chunk differed.
    pub damaged: Arc<AtomicBool>,
    /// Who knows where the target stands, and for which servers.
    pub witness: Option<(&'a Witness, &'a Request)>,
    /// What outlives this process.
    pub memory: Memory<'a>,
    /// From where on nothing was compared because time was up; `None` from the beginning on.
    pub cut_short: Option<Option<Cut>>,
}

/// Where a table's chunks are remembered, and until when they may be begun.
pub struct Memory<'a> {
    pub state: Option<&'a mut State>,
    /// The table's number in the request.
    pub table: usize,
    pub deadline: Option<Instant>,
}

impl Memory<'_> {
    /// Whether time is up.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl TableRun<'_> {
    /// All differing rows so far.
    pub fn counts(&self) -> Counts {
        self.found.counts()
    }

    /// Compares the whole table; `start`: what the servers had written before that, and when.
    pub async fn run(&mut self, (start, started): &(Evidence, Instant)) -> Result<Proof, Error> {
        if self.plan.ordered().is_empty() {
            self.in_buckets().await?;
        } else {
            self.in_ranges().await?;
        }
        let seen = (self.found.source_rows, self.found.target_rows);
        // Counting rows costs a fifth of reading them: it is left out where the ranges show that nothing was. Those of text do
        // not: a server may order it in its index in another way than it compares it.
        let covered = self.tiles.cover_all() && !self.plan.orders_text();
        let complete = self.cut_short.is_some() || covered;
        let present = if complete { seen } else { self.present(started.elapsed()).await? };
        let miscounted =
            seen != present && start.both_stood_still(&Evidence::read(self.sessions, self.workers).await?);
        let mut proof = self.settle(start.clone(), *started).await?;
        if self.has_lost_sight()
            && start.both_stood_still(&Evidence::read(self.sessions, self.workers).await?)
        {
            proof.reasons.push(format!(
                "{} rows of the source and {} of the target were read, but only {} were seen to match, and none to differ: \
                 some could not be found again by their keys",
                seen.0, seen.1, self.found.matching
            ));
        }
        if self.found.undigested > 0 {
            proof.reasons.push(format!(
                "{} rows have no digest: their images are longer than the server's max_allowed_packet; raise it and run \
                 again",
                self.found.undigested
            ));
        }
        proof.reasons.extend(self.not_compared_from().map(|key| not_compared(&key)));
        if miscounted {
            proof.reasons.push(format!(
                "{} rows of the source and {} of the target were compared, but {} and {} are present",
                seen.0, seen.1, present.0, present.1
            ));
        }
        Ok(proof)
    }

    /// The key from which on nothing was compared, for people; without parts from the beginning on.
    pub fn not_compared_from(&self) -> Option<Vec<String>> {
        let from = self.cut_short.as_ref()?;
        Some(from.iter().flatten().map(|literal| readable(literal)).collect())
    }

    /// Whether rows that were read are neither matching nor different any more: they have gone since, or cannot be found
    /// again. (What an earlier run read may have gone before this one began.)
    fn has_lost_sight(&self) -> bool {
        let Tally { matching, undigested, source_rows, target_rows, .. } = self.found;
        let all_match = source_rows == matching && target_rows == matching;
        let none_differs = undigested == 0 && self.counts().differing() == 0;
        self.resumed_rows.is_none() && none_differs && !all_match
    }

    /// The rows that each side has now. Counting may take as long as comparing them `took`: the answer must not be lost to it.
    async fn present(&mut self, took: Duration) -> Result<(u64, u64), Error> {
        let (plan, sessions) = (self.plan, &mut *self.sessions);
        let (source, target) = tokio::join!(
            count(&mut sessions.source, plan.count(0), took),
            count(&mut sessions.target, plan.count(1), took)
        );
        Ok((source?, target?))
    }

    /// What workers need to compare by an engine.
    pub fn work(&self, engine: Engine) -> Work {
        let (plan, options, room) = (self.plan.clone(), self.options.clone(), self.room.clone());
        Work { plan, options, engine, room, damaged: self.damaged.clone(), closely: false }
    }

    /// Cuts ranges and has them compared by all workers at once. The first error ends everything.
    async fn in_ranges(&mut self) -> Result<(), Error> {
        let (gaps, rest) = match self.begin().await? {
            Begin::Done => return Ok(()),
            Begin::Rest { gaps, rest } => (gaps, rest),
        };
        let (mut collector, size) = (
            Collector::new(gaps, &rest),
            ChunkSize::new(self.options, self.engine, !self.plan.client_columns().is_empty()),
        );
        // One chunk waits for each worker.
        let (sender, mut chunks) = mpsc::channel(self.workers.len().max(1));
        let work = Work { closely: true, ..self.work(self.engine) };
        let mut cutting = rest.is_some();
        let lower = rest.and_then(|(_, lower)| lower);
        let mut cutter = std::pin::pin!(ranges(self.plan, self.sessions, lower, &size, sender));
        let mut open = cutting;
        loop {
            let held = self.throttle.held();
            if let Some(why) = &held {
                (self.progress)(Progress::Held { table: self.name.to_owned(), why: why.clone() });
            }
            if (open || !collector.gaps.is_empty()) && self.memory.is_over() {
                // The cutter sees that nobody listens any more and ends by itself: its connections are needed.
                chunks.close();
                self.cut_short = Some(collector.stop());
                open = false;
            }
            while held.is_none() && !collector.gaps.is_empty() && !self.workers.is_empty() {
                collector.start_gap(&work, self.workers.pop());
            }
            let waiting = open || !collector.gaps.is_empty();
            let deadline = self.memory.deadline.filter(|_| waiting);
            tokio::select! {
                changed = self.throttle.changed(), if waiting && self.throttle.is_on() => changed?,
                () = until(deadline), if deadline.is_some() => {}
                cut = &mut cutter, if cutting => {
                    cut?;
                    cutting = false;
                }
                chunk = chunks.recv(), if open && held.is_none() && !self.workers.is_empty() => match chunk {
                    Some(scope) => {
                        open = scope.upper.is_some();
                        collector.start(&work, self.workers.pop(), scope);
                    }
                    None => open = false,
                },
                Some(done) = collector.running.join_next(), if !collector.running.is_empty() => {
                    let (sessions, compared) = ended(done)?;
                    self.workers.push(sessions);
                    // Of the rows that a chunk holds only some are compared.
                    let rows = if self.plan.is_filtered() { size.rows() } else { compared.rows };
                    size.learn(rows, compared.took, self.options);
                    keep(&mut self.memory, &mut self.tiles, &compared, self.engine)?;
                    self.found.merge(compared.tally);
                    (self.progress)(rows_of(self.name, &self.found));
                }
                else => break,
            }
        }
        // Workers end in any order; rows are named in that of the table.
        self.found.suspects.sort_by_key(|suspect| suspect.chunk);
        Ok(())
    }

    /// What an earlier run left, or what the choice of the engine did.
    async fn begin(&mut self) -> Result<Begin, Error> {
        let (table, room) = (self.memory.table, self.room.clone());
        if let Some(resumed) = self.memory.state.as_mut().and_then(|state| state.resume(table, &room)) {
            (self.engine, self.engine_reason) = (resumed.engine, "as in the run that goes on here".into());
            self.resumed_rows = Some(resumed.found.source_rows);
            self.found.merge(resumed.found);
            self.tell();
            return Ok(Begin::Rest { gaps: resumed.gaps, rest: resumed.rest });
        }
        Ok(match self.choose_engine().await? {
            Chosen::Rest { lower, next } => Begin::Rest { gaps: Vec::new(), rest: Some((next, lower)) },
            Chosen::Done => Begin::Done,
        })
    }

    /// Adds a chunk that was compared.
    pub fn collect(&mut self, compared: Compared, engine: Engine) -> Result<(), Error> {
        keep(&mut self.memory, &mut self.tiles, &compared, engine)?;
        self.found.merge(compared.tally);
        self.tell();
        Ok(())
    }

    /// Without an order that both sides share.
    async fn in_buckets(&mut self) -> Result<(), Error> {
        if self.engine != Engine::PushDown {
            self.engine = Engine::PushDown;
            self.engine_reason =
                "the sides share no order of the key without NULL: the servers put the rows in buckets"
                    .into();
        }
        if self.hold_or_over().await? {
            self.cut_short = Some(None);
            return Ok(());
        }
        let present = self.present(Duration::ZERO).await?;
        let tell = |found: &Tally| (self.progress)(rows_of(self.name, found));
        let work = self.work(Engine::PushDown);
        let found = work.in_buckets(self.sessions, present.0.max(present.1), &tell).await?;
        self.found.merge(found);
        self.tell();
        Ok(())
    }

    /// Waits until the servers are not too busy for another chunk. Returns whether time was up by then.
    pub async fn hold_or_over(&mut self) -> Result<bool, Error> {
        let tell = |why| (self.progress)(Progress::Held { table: self.name.to_owned(), why });
        let deadline = self.memory.deadline;
        tokio::select! {
            held = self.throttle.open(tell) => held?,
            () = until(deadline), if deadline.is_some() => {}
        }
        Ok(self.memory.is_over())
    }

    /// Tells how far it is.
    pub fn tell(&self) {
        (self.progress)(rows_of(self.name, &self.found));
    }
}

/// Writes down that a chunk was compared.
fn keep(
    memory: &mut Memory<'_>,
    tiles: &mut Tiles,
    compared: &Compared,
    engine: Engine,
) -> Result<(), Error> {
    let Compared { number, scope, tally, whole, .. } = compared;
    tiles.add(*number, scope, *whole);
    match &mut memory.state {
        Some(state) => state.chunk(memory.table, *number, scope, engine, tally),
        None => Ok(()),
    }
}

/// Where a table begins.
enum Begin {
    /// There is nothing left of it.
    Done,
    /// Numbered ranges, and what follows the last of them.
    Rest { gaps: Vec<(u64, Scope)>, rest: Option<(u64, Option<Cut>)> },
}

/// The chunks that are being compared.
struct Collector {
    running: JoinSet<Result<(Sessions, Compared), Error>>,
    gaps: std::collections::VecDeque<(u64, Scope)>,
    /// The number and the lower bound of the next chunk.
    next: (u64, Option<Cut>),
}

impl Collector {
    fn new(gaps: Vec<(u64, Scope)>, rest: &Option<(u64, Option<Cut>)>) -> Self {
        Self { running: JoinSet::new(), gaps: gaps.into(), next: rest.clone().unwrap_or_default() }
    }

    fn start(&mut self, work: &Work, sessions: Option<Sessions>, scope: Scope) {
        let number = self.next.0;
        self.next = (number + STRIDE, scope.upper.clone());
        self.spawn(work, sessions, scope, number);
    }

    fn start_gap(&mut self, work: &Work, sessions: Option<Sessions>) {
        if let Some((number, scope)) = self.gaps.pop_front() {
            self.spawn(work, sessions, scope, number);
        }
    }

    fn spawn(&mut self, work: &Work, sessions: Option<Sessions>, scope: Scope, number: u64) {
        let Some(mut sessions) = sessions else { return };
        let work = work.clone();
        self.running.spawn(async move {
            let compared = work.range(&mut sessions, scope, number).await?;
            Ok((sessions, compared))
        });
    }

    /// Begins nothing more. Returns where what was not begun begins.
    fn stop(&mut self) -> Option<Cut> {
        let gap = self.gaps.pop_front().map(|(_, scope)| scope.lower);
        self.gaps.clear();
        gap.unwrap_or(self.next.1.clone())
    }
}

/// The end of the time given; never without one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What a worker returned; its panic goes on here.
fn ended<T>(done: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    match done {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => Err(Error::Worker(e.to_string())),
        },
    }
}

fn rows_of(table: &str, found: &Tally) -> Progress {
    let (rows, suspects) = (found.source_rows, found.counts().differing());
    Progress::Rows { table: table.to_owned(), rows, suspects }
}

async fn count(shards: &mut Shards, sql: String, bound: Duration) -> Result<u64, Error> {
    const WHAT: &str = "counting rows";
    let counts = try_join_all(shards.each_mut().map(|shard| shard.query_for(bound, WHAT, &sql))).await?;
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    let counts: Option<Vec<u64>> = counts.iter().map(|row| row.first().and_then(number)).collect();
    match counts {
        Some(counts) if counts.len() == shards.count() => Ok(counts.iter().sum()),
        _ => Err(shards.unexpected(WHAT, "the count is no number")),
    }
}
