//! Which bug is active in this process, and how often it did harm.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use converge_mysql::Position;

use super::{Bug, HITS, VARIABLE};
use crate::change::Change;
use crate::value::{Row, Value, key_of};

/// Hits that are written down; more say no more.
const MOST_HITS: u64 = 10_000;

/// Long enough for some rows of a chunk to be written to.
const LINGER: Duration = Duration::from_millis(400);
/// From one transaction that is cut in two to the next.
const SPLIT_EVERY: Duration = Duration::from_millis(600);
/// How long an insert is held back, and how often an update is undone.
const LATE: Duration = Duration::from_secs(1);
const UNDO_EVERY: Duration = Duration::from_secs(3);
/// How long nothing is applied after a reconnect.
const STALL: Duration = Duration::from_secs(20);
/// Rows of this table are inserted late: nothing else ever happens to them.
const LATE_IN: &str = "journal";
/// Updates of this table are undone: they go one way only.
const UNDONE_IN: &str = "counter";
/// Checkpoints by which one is too old, and of which one is.
const BACK: usize = 4;
/// Changes that a queue holds which is thrown away.
const LOST_AT_RECONNECT: u32 = 10;

struct Active {
    bug: Bug,
    hits: Option<File>,
    counted: AtomicU64,
    asked: AtomicU64,
}

static ACTIVE: LazyLock<Option<Active>> = LazyLock::new(|| {
    let id = std::env::var(VARIABLE).ok()?;
    let bug = Bug::ALL.iter().copied().find(|bug| bug.id() == id)?;
    let hits =
        std::env::var_os(HITS).and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    tracing::warn!("this mover is wrong on purpose: {} ({})", bug.id(), bug.cause());
    Some(Active { bug, hits, counted: AtomicU64::new(0), asked: AtomicU64::new(0) })
});

static FROZEN: AtomicBool = AtomicBool::new(false);

impl Active {
    fn hit(&self) {
        // A byte at a time, so that nothing is lost when the process is killed.
        if self.counted.fetch_add(1, Ordering::Relaxed) < MOST_HITS
            && let Some(mut file) = self.hits.as_ref()
        {
            let _ = file.write_all(b".");
        }
        if matches!(self.bug, Bug::StallsAfterReconnect | Bug::FenceTooEarly) {
            FROZEN.store(true, Ordering::Relaxed);
        }
    }
}

fn active(bug: Bug) -> Option<&'static Active> {
    ACTIVE.as_ref().filter(|active| active.bug == bug)
}

/// Whether `bug` is active, where it is not known yet whether that does harm.
pub(crate) fn is_active(bug: Bug) -> bool {
    active(bug).is_some()
}

/// Whether `bug` is active; asking counts as harm, so ask last.
pub(crate) fn is_planted(bug: Bug) -> bool {
    let Some(active) = active(bug) else { return false };
    active.hit();
    true
}

/// Whether this is every `n`-th time that it is asked, of an active bug.
pub(crate) fn every(bug: Bug, n: u64) -> bool {
    let Some(active) = active(bug) else { return false };
    let due = active.asked.fetch_add(1, Ordering::Relaxed) % n == n - 1;
    if due {
        active.hit();
    }
    due
}

/// The keys that a window ought to protect, and does not because of a bug, each with the row that has it by now.
#[derive(Default)]
pub(crate) struct Missed(HashMap<Vec<u8>, Option<Row>>);

impl Missed {
    /// Which of a change's rows, the one before and the one after, the active bug makes the window forget.
    pub(crate) fn forgets(&mut self, change: &Change, key: &[usize]) -> [bool; 2] {
        let (before, after) = (change.before(), change.after());
        let of = |row: &Row| key_of(row, key);
        let moved = before.zip(after).is_some_and(|(before, after)| of(before) != of(after));
        let deletes = is_active(Bug::DeleteInWindow) && after.is_none();
        let updates = is_active(Bug::UpdateInWindow) && before.is_some() && after.is_some();
        let forgets = [deletes || updates || moved && is_active(Bug::OldKeyInWindow), updates];
        if let Some(row) = before.filter(|_| forgets[0]) {
            self.0.insert(of(row), None);
        }
        if let Some(row) = after.filter(|_| forgets[1]) {
            self.0.insert(of(row), Some(row.clone()));
        }
        forgets
    }

    /// Counts harm where a chunk that is about to be written has a row as it was before.
    pub(crate) fn count(&self, rows: &[Row], key: &[usize]) {
        let stale = |row: &Row| self.0.get(&key_of(row, key)).is_some_and(|now| now.as_ref() != Some(row));
        if !self.0.is_empty()
            && rows.iter().any(stale)
            && let Some(active) = ACTIVE.as_ref()
        {
            active.hit();
        }
    }
}

/// Gives others the time in which a bug can do its harm.
pub(crate) async fn linger(bug: Bug) {
    if active(bug).is_some() {
        tokio::time::sleep(LINGER).await;
    }
}

/// Whether the follower stands still because of a bug.
pub(crate) fn frozen() -> bool {
    FROZEN.load(Ordering::Relaxed)
}

/// What the bugs remember between two places in the mover.
#[derive(Default)]
struct Memory {
    sessions: u64,
    /// How many of the first changes of a session are still to come.
    fresh: u32,
    /// Whether a log file was begun, and whether a transaction behind that is being skipped.
    rotated: bool,
    skipping: bool,
    /// Positions of the last checkpoints.
    positions: VecDeque<Position>,
    /// When a transaction was cut in two last.
    split: Option<Instant>,
    last_table: Option<usize>,
    /// An insert that is held back, and since when.
    held: Option<(Change, Instant)>,
    /// The last images of rows whose updates may be undone, by their first columns.
    images: HashMap<String, Row>,
    /// What undoes the last update, and the update; and when one was undone last.
    seen: Option<[Change; 2]>,
    undone: Option<Instant>,
    /// Until when nothing is applied.
    stalled: Option<Instant>,
    /// Tables by the ids that they had first.
    tables: HashMap<u64, (String, String)>,
}

static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);

fn memory() -> MutexGuard<'static, Memory> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A follower begins, maybe after a reconnect.
pub(crate) fn session_begins() {
    let mut memory = memory();
    memory.sessions += 1;
    if memory.sessions > 1 {
        memory.fresh = LOST_AT_RECONNECT;
        if is_planted(Bug::SlowAfterReconnect) {
            memory.stalled = Some(Instant::now() + STALL);
        }
        is_planted(Bug::StallsAfterReconnect);
    }
}

/// Whether this is one of the first times that an active bug asks in a session that is not the first.
pub(crate) fn first_after_reconnect(bug: Bug) -> bool {
    if active(bug).is_none() {
        return false;
    }
    let mut memory = memory();
    let lost = memory.fresh > 0;
    memory.fresh = memory.fresh.saturating_sub(1);
    lost && is_planted(bug)
}

/// Whether a key is behind another one, roughly: strings by bytes.
pub(crate) fn is_above(key: &[Value], last: &[Value]) -> bool {
    let above = |a: &Value, b: &Value| match (a, b) {
        (Value::Int(a), Value::Int(b)) => a > b,
        (Value::UInt(a), Value::UInt(b)) => a > b,
        (Value::Bytes(a), Value::Bytes(b)) => a > b,
        _ => false,
    };
    key.iter().zip(last).find(|(a, b)| a != b).is_some_and(|(a, b)| above(a, b))
}

/// A log file was begun.
pub(crate) fn rotated() {
    memory().rotated = true;
}

/// Whether a change belongs to the first transaction of a log file.
pub(crate) fn after_rotation() -> bool {
    if active(Bug::AfterRotation).is_none() {
        return false;
    }
    let mut memory = memory();
    memory.skipping |= memory.rotated;
    memory.skipping && is_planted(Bug::AfterRotation)
}

/// A transaction ended.
pub(crate) fn committed() {
    let mut memory = memory();
    if memory.skipping {
        (memory.rotated, memory.skipping) = (false, false);
    }
}

/// Whether the transaction that is being read is cut in two here, before a change of a table, as some are between two of
/// the same one.
pub(crate) fn splits(table: usize, inside: bool) -> bool {
    if !is_active(Bug::TransactionSplit) {
        return false;
    }
    let mut memory = memory();
    if memory.last_table.replace(table) != Some(table) || !inside {
        return false;
    }
    let due = memory.split.is_none_or(|at| at.elapsed() >= SPLIT_EVERY);
    if due {
        memory.split = Some(Instant::now());
    }
    due && is_planted(Bug::TransactionSplit)
}

/// Keeps a change of a table that is wholly copied for later, or takes note of it.
pub(crate) fn held_back(change: &mut Option<Change>, table: &str) {
    let mut memory = memory();
    match change {
        Some(Change::Insert { .. })
            if table == LATE_IN && memory.held.is_none() && every(Bug::InsertLate, 3) =>
        {
            memory.held = change.take().map(|change| (change, Instant::now()));
        }
        Some(update @ Change::Update { .. }) if table == UNDONE_IN && is_active(Bug::UpdateUndone) => {
            let Some(after) = update.after() else { return };
            // The log need not tell what a row was.
            let former = memory.images.insert(format!("{:?}", after[0]), after.clone());
            let (table, before) = (update.table(), after.clone());
            memory.seen = former.map(|after| [Change::Update { table, before, after }, update.clone()]);
        }
        _ => {}
    }
}

/// The change that was held back, when its time has come, or in any case.
pub(crate) fn let_go(at_once: bool) -> Option<Change> {
    let mut memory = memory();
    let (_, since) = memory.held.as_ref()?;
    let due = at_once || since.elapsed() >= LATE;
    memory.held.take_if(|_| due).map(|(change, _)| change)
}

/// The update that comes to nothing for a moment: what undoes it, and itself.
pub(crate) fn undone() -> Option<[Change; 2]> {
    let mut memory = memory();
    let seen = memory.seen.take()?;
    if memory.undone.is_some_and(|at| at.elapsed() < UNDO_EVERY) {
        return None;
    }
    memory.undone = Some(Instant::now());
    is_planted(Bug::UpdateUndone).then_some(seen)
}

/// Applies nothing for as long as a bug says.
pub(crate) async fn stall() {
    let until = memory().stalled.take();
    if let Some(until) = until {
        tokio::time::sleep_until(until.into()).await;
    }
}

/// The position of an earlier checkpoint, every now and then.
pub(crate) fn checkpoint_back(now: &Position) -> Option<Position> {
    active(Bug::CheckpointBack)?;
    let mut memory = memory();
    memory.positions.push_back(now.clone());
    let older = (memory.positions.len() > BACK).then(|| memory.positions.pop_front())?;
    older.filter(|older| older != now && every(Bug::CheckpointBack, BACK as u64))
}

/// The table that an id had first.
pub(crate) fn stale_table<'a>(
    id: u64,
    schema: Cow<'a, str>,
    name: Cow<'a, str>,
) -> (Cow<'a, str>, Cow<'a, str>) {
    if active(Bug::TableIdReused).is_none() {
        return (schema, name);
    }
    let now = (schema.clone().into_owned(), name.clone().into_owned());
    let first = memory().tables.entry(id).or_insert_with(|| now.clone()).clone();
    if first != now && is_planted(Bug::TableIdReused) {
        (first.0.into(), first.1.into())
    } else {
        (schema, name)
    }
}
