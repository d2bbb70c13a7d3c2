//! Applying the stream: changes and due chunks go into the target in commit order, in transactions that carry their
//! own checkpoint, so that nothing is applied twice and nothing is left out, whoever is killed when.
//!
//! The follower holds what it does not know yet to be committed on the source only inside an open target transaction.
//! It plans the next changes while the target carries out the last ones. How many share a commit follows from that:
//! an idle target commits what is complete at once, a busy one what came in the meantime.

mod bag;
mod lanes;
pub mod plan;
mod writer;

use std::time::Duration;

use converge_mysql::Position;
use tokio::sync::watch;
use tokio::time::Instant;

use self::lanes::Lanes;
use self::plan::{Facts, Mode, plan};
use self::writer::{Commit, Order, Orders, queue};
use crate::change::{Change, Mark, StreamEvent};
use crate::copy::{Board, Chunk, Gate, Strategy};
use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::schema::Table;
use crate::source::ChangeStream;
use crate::state::State;
use crate::target::{Checkpoint, CopyProgress, Target};

/// Bytes of changes after which they are sent to the target, committed or not.
const SEND_BYTES: usize = 4 << 20;
/// Changes after which they are sent to the target, committed or not.
const SEND_CHANGES: usize = 10_000;
/// Bytes of changes that nothing else is held in memory beside.
const HEAVY_BYTES: usize = SEND_BYTES + (1 << 20);
/// Changes after which a target transaction is committed.
const COMMIT_CHANGES: usize = 50_000;
/// The longest that changes wait for others to share their commit, while the target is busy.
const COMMIT_AFTER: Duration = Duration::from_millis(500);
/// Changes after which the target gets its turn, even if more can be read.
const TURN: usize = 256;
/// How often a position without changes is recorded.
const RECORD_AFTER: Duration = Duration::from_secs(1);

/// What others may know of the follower while it works.
#[derive(Debug, Clone, Default)]
pub struct Followed {
    /// The position that was committed to the target.
    pub position: Option<Position>,
    /// The source's clock there, seconds since 1970.
    pub timestamp: u32,
    /// How far the copy of each table got.
    pub copied: Vec<CopyProgress>,
    /// The token of the last fence that was reached and committed.
    pub fence: Option<String>,
    /// Row changes committed by this run.
    pub changes: u64,
    /// Transactions that are being committed: a large one keeps all others on the target waiting for as long.
    pub committing: usize,
}

/// Applies one stream to one target.
pub struct Follower<'a, T: Target> {
    target: T,
    /// Connections for chunks.
    lanes: Vec<T>,
    shared: &'a watch::Sender<Followed>,
    reader: Reader<'a>,
    writer: writer::Writer,
}

/// The half that reads the stream and decides what the target is to do.
struct Reader<'a> {
    orders: Orders,
    tables: &'a [Table],
    /// For each table, whether its rows can be changed in place.
    in_place: Vec<bool>,
    board: &'a Board,
    strategy: Strategy,
    /// Whether rows may still be missing, or ahead of the position.
    copying: bool,
    /// Whether the mark behind the last chunk was passed.
    end_passed: bool,
    run: u64,
    position: Position,
    timestamp: u32,
    copied: Vec<CopyProgress>,
    gate: Gate,
    pending: Vec<Change>,
    pending_bytes: usize,
    /// Changes sent or pending since the last commit.
    uncommitted: usize,
    oldest: Instant,
    recorded: Instant,
    /// Changes since the target had its turn.
    since_turn: usize,
    /// Whether the position moved since the last commit.
    moved: bool,
    /// The marks of the transaction that is being read.
    marks: Vec<Mark>,
    /// Whether changes of an unfinished source transaction were read.
    inside: bool,
    /// Where the statement on a moved table stands that the operator applied on the target.
    passing: Option<String>,
}

impl<'a, T: Target> Follower<'a, T> {
    /// Begins at `position` with the copy as far as `copied` says. `copying`: the workflow has not come to the copy's
    /// end yet.
    #[allow(clippy::too_many_arguments, reason = "the parts of one session, assembled in one place")]
    pub fn new(
        target: T,
        tables: &'a [Table],
        board: &'a Board,
        strategy: Strategy,
        copying: bool,
        run: u64,
        shared: &'a watch::Sender<Followed>,
        position: &Position,
        copied: &[CopyProgress],
    ) -> Self {
        let now = Instant::now();
        planted::session_begins();
        let (orders, writer) = queue();
        shared.send_modify(|shared| {
            shared.position = Some(position.clone());
            shared.copied = copied.to_vec();
        });
        let reader = Reader {
            orders,
            tables,
            in_place: (0..tables.len()).map(|table| target.changes_in_place(table)).collect(),
            board,
            strategy,
            copying,
            end_passed: false,
            run,
            position: position.clone(),
            timestamp: 0,
            copied: copied.to_vec(),
            gate: Gate::new(strategy),
            pending: Vec::new(),
            pending_bytes: 0,
            uncommitted: 0,
            oldest: now,
            recorded: now,
            since_turn: 0,
            moved: false,
            marks: Vec::new(),
            inside: false,
            passing: None,
        };
        Self { target, lanes: Vec::new(), shared, reader, writer }
    }

    /// Writes chunks over connections of their own, where the strategy allows that.
    pub fn beside(mut self, lanes: Vec<T>) -> Self {
        self.lanes = lanes;
        self
    }

    /// Passes over the statement at this position, which changes a moved table.
    pub fn passing(mut self, statement: Option<String>) -> Self {
        self.reader.passing = statement;
        self
    }

    /// Applies the stream until it fails or, if it goes no further than the copy's end, until that is committed: the
    /// position there. What was read before it fails goes in all the same.
    pub async fn follow(self, stream: impl ChangeStream, only_copying: bool) -> Result<Position> {
        let Self { mut target, lanes, shared, mut reader, writer } = self;
        target.stands_at(&reader.position);
        let lanes = Lanes::new(lanes, shared, writer.load.clone());
        let reading = async {
            let ended = reader.read(stream, only_copying).await;
            reader.orders.all_done().await;
            ended
        };
        tokio::select! {
            biased;
            failed = writer.work(&mut target, lanes, shared) => failed.map(|never| match never {}),
            ended = reading => ended,
        }
    }
}

impl Reader<'_> {
    async fn read(&mut self, mut stream: impl ChangeStream, only_copying: bool) -> Result<Position> {
        loop {
            if only_copying && !self.copying {
                return Ok(self.position.clone());
            }
            if planted::frozen() {
                return std::future::pending().await;
            }
            planted::stall().await;
            let event = match stream.ready() {
                Some(event) => event?,
                None => {
                    if !self.inside {
                        self.between_transactions().await;
                    }
                    tokio::select! {
                        biased;
                        event = stream.next() => event?,
                        () = self.board.posted(), if !self.inside => continue,
                        () = self.orders.done(), if !self.inside && self.uncommitted > 0 => continue,
                    }
                }
            };
            self.handle(event).await?;
            if self.since_turn >= TURN {
                self.since_turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Commits the chunks that are due, and what is complete, unless the target is busy.
    async fn between_transactions(&mut self) {
        let due = self.gate.due(self.board, self.tables);
        if !due.is_empty() || self.uncommitted > 0 && self.orders.are_done() {
            self.commit(due, None).await;
        }
    }

    async fn handle(&mut self, event: StreamEvent) -> Result<()> {
        match event {
            StreamEvent::Change(change) => {
                self.change(change).await;
                Ok(())
            }
            StreamEvent::Mark(mark) => {
                self.marks.push(mark);
                Ok(())
            }
            StreamEvent::Commit { advance, timestamp } => {
                advance.apply_to(&mut self.position);
                self.timestamp = timestamp;
                self.inside = false;
                self.moved = true;
                self.end_of_transaction().await;
                Ok(())
            }
            StreamEvent::Statement { text, position } => self.statement(text, position).await,
            StreamEvent::Heartbeat => {
                self.record_if_old().await;
                Ok(())
            }
        }
    }

    async fn change(&mut self, change: Change) {
        if self.loses(&change) {
            return;
        }
        if planted::splits(change.table(), self.inside) {
            self.commit(Vec::new(), None).await;
            planted::linger(Bug::TransactionSplit).await;
        }
        self.gate.change(&change, &self.tables[change.table()], self.board);
        if self.uncommitted == 0 {
            self.oldest = Instant::now();
        }
        self.inside = true;
        self.uncommitted += 1;
        self.since_turn += 1;
        self.pending_bytes += change.weight();
        let (table, mut change) = (change.table(), Some(change));
        if !self.copying {
            planted::held_back(&mut change, &self.tables[table].name);
        }
        self.pending.extend(change);
        if self.pending.len() >= SEND_CHANGES || self.pending_bytes >= SEND_BYTES {
            self.send().await;
        }
    }

    /// Whether a planted bug loses a change.
    fn loses(&mut self, change: &Change) -> bool {
        if !planted::ENABLED {
            return false;
        }
        let table = change.table();
        let above = || {
            let (key, row) = (&self.tables[table].key, change.after().or(change.before()));
            let last = self.copied[table].last_key.as_deref();
            let is_above = |row: &crate::value::Row| {
                let key: Vec<_> = key.iter().map(|&k| row[k].clone()).collect();
                last.is_none_or(|last| planted::is_above(&key, last))
            };
            self.copying && !self.copied[table].done && row.is_some_and(is_above)
        };
        planted::every(Bug::ChangeLost, 300)
            || self.inside && planted::first_after_reconnect(Bug::AfterReconnect)
            || self.uncommitted > 8 && self.inside && planted::every(Bug::TransactionCut, 8)
            || above() && planted::is_planted(Bug::AboveCopySkipped)
    }

    /// Sends what is pending into the open target transaction.
    async fn send(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.pending);
        let heavy = std::mem::take(&mut self.pending_bytes) >= HEAVY_BYTES;
        let facts = |table: usize| Facts {
            key: &self.tables[table].key,
            finished: self.copied[table].done,
            in_place: self.in_place[table],
        };
        let steps = plan(changes, self.strategy.mode(self.copying), facts);
        if steps.is_empty() {
            return;
        }
        self.orders.give(Order::Run(steps)).await;
        if heavy {
            self.orders.all_done().await;
        }
    }

    async fn end_of_transaction(&mut self) {
        let mut fence = None;
        for mark in std::mem::take(&mut self.marks) {
            match mark {
                Mark::Low(id) | Mark::High(id) if id.run == self.run => self.gate.mark(&mark),
                Mark::Copied(run) if run == self.run => {
                    self.end_passed = true;
                    self.gate.mark(&mark);
                }
                Mark::Fence(token) => fence = Some(token),
                _ => {}
            }
        }
        self.mend(fence.is_some()).await;
        let due = self.gate.due(self.board, self.tables);
        if !due.is_empty() || fence.is_some() || self.copying && self.end_passed {
            return self.commit(due, fence).await;
        }
        if self.uncommitted >= COMMIT_CHANGES || self.uncommitted > 0 && self.oldest.elapsed() >= COMMIT_AFTER
        {
            return self.commit(Vec::new(), None).await;
        }
        self.record_if_old().await
    }

    /// What planted bugs do between transactions: a change comes late, or is undone for a moment.
    async fn mend(&mut self, fenced: bool) {
        if !planted::ENABLED {
            return;
        }
        self.pending.extend(planted::let_go(fenced));
        for change in planted::undone().into_iter().flatten() {
            // Long enough to be seen as it is.
            self.commit(Vec::new(), None).await;
            planted::linger(Bug::UpdateUndone).await;
            planted::linger(Bug::UpdateUndone).await;
            self.pending.push(change);
            self.uncommitted += 1;
        }
    }

    /// Writes all that is complete, the chunks that are due, and the checkpoint, and commits.
    async fn commit(&mut self, due: Vec<Chunk>, fence: Option<String>) {
        let plain = !self.pending.is_empty() && due.is_empty() && fence.is_none();
        if !(plain && planted::is_planted(Bug::PositionBeforeRows)) {
            self.send().await;
        }
        let mut checkpoint = Checkpoint {
            position: Some(self.position.clone()),
            timestamp: self.timestamp,
            ..Checkpoint::default()
        };
        if plain && let Some(older) = planted::checkpoint_back(&self.position) {
            checkpoint.position = Some(older);
        }
        for chunk in &due {
            self.copied[chunk.rows.table] = chunk.progress.clone();
        }
        let caught_up = self.end_passed || self.strategy.mode(true) == Mode::Exact;
        let complete = self.copying && caught_up && self.copied.iter().all(|c| c.done);
        if complete {
            checkpoint.enter = Some((State::Copying, State::Replicating));
        }
        self.copying &= !complete;
        let changes = std::mem::take(&mut self.uncommitted) as u64;
        self.recorded = Instant::now();
        self.moved = false;
        let commit = Commit { checkpoint, due, fence, changes };
        self.orders.give(Order::Commit(Box::new(commit))).await;
    }

    /// Records a position that moved without changes of moved tables.
    async fn record_if_old(&mut self) {
        if !self.inside && self.moved && self.recorded.elapsed() >= RECORD_AFTER {
            self.commit(Vec::new(), None).await;
        }
    }

    async fn statement(&mut self, statement: String, position: String) -> Result<()> {
        if self.passing.as_ref() == Some(&position) {
            tracing::warn!("passing over a statement on a moved table, as asked: {statement}");
            return Ok(());
        }
        if !self.inside {
            self.commit(Vec::new(), None).await;
        }
        Err(Error::Ddl { position, statement })
    }
}
