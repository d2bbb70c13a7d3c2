//! What is so in a world: the source's rows, log and locks, the target's rows and checkpoint, and who is connected.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::locks::{Lock, Locks};
use super::plan::{FaultKind, Moment, Plan};
use super::schedule::Steps;
use crate::change::{Change, Mark};
use crate::state::State;
use crate::target::CopyProgress;
use crate::value::{Row, Value};

/// Rows of one table: unique value and version by key.
pub type Rows = BTreeMap<i64, (i64, i64)>;

/// A transaction in the source's log.
pub struct Logged {
    /// Who committed it.
    pub owner: u64,
    /// Its row changes.
    pub changes: Vec<Change>,
    /// The mover's mark in it.
    pub mark: Option<Mark>,
}

/// The server that rows are moved away from.
pub struct SourceState {
    /// What a SELECT sees.
    pub visible: Vec<Rows>,
    /// All transactions in commit order. A stream may have them before they are visible.
    pub log: Vec<Logged>,
    /// How many of them are visible.
    pub committed: usize,
    /// The rows after each of them, the first before any.
    pub states: Vec<Vec<Rows>>,
    /// Transactions at the log's beginning that were removed.
    pub purged: usize,
    /// Who holds which rows.
    pub locks: Locks,
    /// Transactions that have touched a table and are not over.
    pub open: BTreeSet<u64>,
    /// Whether the tables are fenced.
    pub fenced: bool,
    /// Changes with each crash.
    pub life: u64,
    /// Changes when the mover's connections are lost.
    pub line: u64,
    /// Changes when only those of copiers are lost.
    pub reader_line: u64,
    /// Copiers' connections, here or to the replica: whose locks go when they are lost.
    pub readers: Vec<u64>,
}

/// A server that replicates the source: its rows and its log are those of the source, later.
#[derive(Default)]
pub struct ReplicaState {
    /// Transactions in its own log.
    pub logged: usize,
    /// How many of them a SELECT sees.
    pub visible: usize,
    /// Who holds which rows.
    pub locks: Locks,
}

/// The server that rows are moved to.
pub struct TargetState {
    /// Committed rows.
    pub rows: Vec<Rows>,
    /// The checkpoint: transactions of the log that are applied.
    pub applied: usize,
    /// The checkpoint: how far the copy is.
    pub copied: Vec<CopyProgress>,
    /// The checkpoint: the workflow's state.
    pub state: State,
    /// The switch that was asked for and is not answered.
    pub request: Option<String>,
    /// Rows as they are in the open transactions.
    pub live: Vec<Rows>,
    /// Which of them hold what.
    pub locks: Locks,
    /// Changes when connections are lost.
    pub line: u64,
}

/// Everything.
pub struct World {
    /// The source.
    pub source: SourceState,
    /// A replica of it.
    pub replica: ReplicaState,
    /// The target.
    pub target: TargetState,
    /// Whether unique values are unique.
    pub unique: bool,
    /// The order that is wished for, until it cannot be kept.
    pub wished: Option<[Moment; 3]>,
    /// What happened in which order, each moment once.
    pub moments: Vec<Moment>,
    /// Whether the invariant of the watermark must hold at every commit.
    pub exact: bool,
    /// The first broken rule.
    pub broken: Option<String>,
    /// Clients that are not done.
    pub clients: usize,
    /// What happened, if somebody wants to know.
    pub story: Option<Vec<String>>,
    next_id: u64,
}

/// A world and its steps, shared by all who live in it.
#[derive(Clone)]
pub struct Shared {
    world: Rc<RefCell<World>>,
    /// The points where others come in.
    pub steps: Steps,
}

impl Shared {
    /// The world at its beginning.
    pub fn new(plan: &Plan, exact: bool, tell: bool) -> Self {
        let rows = |table: &Vec<(i64, i64)>| table.iter().map(|(key, unique)| (*key, (*unique, 0))).collect();
        let tables: Vec<Rows> = plan.tables.iter().map(rows).collect();
        let source = SourceState {
            visible: tables.clone(),
            log: Vec::new(),
            committed: 0,
            states: vec![tables.clone()],
            purged: 0,
            locks: Locks::default(),
            open: BTreeSet::new(),
            fenced: false,
            life: 0,
            line: 0,
            reader_line: 0,
            readers: Vec::new(),
        };
        let target = TargetState {
            rows: vec![Rows::new(); tables.len()],
            applied: 0,
            copied: vec![CopyProgress::default(); tables.len()],
            state: State::Copying,
            request: None,
            live: vec![Rows::new(); tables.len()],
            locks: Locks::default(),
            line: 0,
        };
        let story = tell.then(Vec::new);
        let world = World {
            source,
            replica: ReplicaState::default(),
            target,
            unique: plan.unique,
            wished: plan.order,
            moments: Vec::new(),
            exact,
            broken: None,
            clients: plan.clients.len(),
            story,
            next_id: 0,
        };
        Self { world: Rc::new(RefCell::new(world)), steps: Steps::default() }
    }

    /// Looks at the world or changes it. Never held over a step.
    pub fn now(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// A number that nobody else has.
    pub fn id(&self) -> u64 {
        let mut world = self.now();
        world.next_id += 1;
        world.next_id
    }

    /// Adds a line to the story.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.now().story {
            story.push(line());
        }
    }

    /// Puts a transaction into the log and waits until it and all before it are visible. `false`: the source crashed
    /// meanwhile, with an outcome that its client does not know.
    pub async fn commit(&self, owner: u64, changes: Vec<Change>, mark: Option<Mark>) -> bool {
        let (at, life) = {
            let mut world = self.now();
            let at = world.source.append(Logged { owner, changes, mark });
            (at, world.source.life)
        };
        self.steps.turn().await;
        let done = || {
            let world = self.now();
            (world.source.committed >= at || world.source.life != life).then_some(world.source.life == life)
        };
        self.steps.until(done).await
    }

    /// Whether a moment may come now, in the order that is wished for. If so, it has come.
    pub fn may(&self, moment: Moment) -> bool {
        let mut world = self.now();
        let next = world.wished.and_then(|wished| wished.get(world.moments.len()).copied());
        let known = world.moments.contains(&moment);
        let may = known || next.is_none_or(|next| next == moment);
        if may && !known {
            world.moments.push(moment);
        }
        may
    }

    /// Gives up an order that nobody can go on in. Whether there was one.
    pub fn relax(&self) -> bool {
        self.now().wished.take().is_some()
    }

    /// Makes logged transactions visible, one after the other, some time after they were logged.
    pub async fn engine(&self) {
        loop {
            let behind = || {
                let world = self.now();
                (world.source.committed < world.source.log.len()).then_some(())
            };
            self.steps.until(behind).await;
            self.steps.turn().await;
            let a_change = {
                let world = self.now();
                world.source.log.get(world.source.committed).is_some_and(|t| !t.changes.is_empty())
            };
            if a_change {
                self.steps.until(|| self.may(Moment::Update).then_some(())).await;
            }
            self.now().source.make_visible();
        }
    }

    /// Applies the source's log on the replica, one transaction after the other, each some time after it was logged. What
    /// it changes is locked from before it is in the replica's log until it is visible there.
    pub async fn replicate(&self) {
        let id = self.id();
        loop {
            let free = || {
                let mut world = self.now();
                let World { source, replica, .. } = &mut *world;
                let locks = source.log.get(replica.logged)?.locks();
                replica.locks.take(id, &locks).then_some(())
            };
            self.steps.until(free).await;
            self.steps.turn().await;
            self.now().replica.logged += 1;
            self.steps.turn().await;
            let shown = {
                let mut world = self.now();
                world.replica.locks.release(id);
                world.replica.visible = world.replica.logged;
                world.replica.visible
            };
            self.tell(|| format!("replica: shows transaction {shown}"));
        }
    }

    /// Breaks something of the servers.
    pub fn strike(&self, kind: FaultKind) {
        self.tell(|| format!("** {}", described(kind)));
        let mut world = self.now();
        match kind {
            FaultKind::SourceCrash => world.source.crash(),
            FaultKind::SourceLost => {
                world.source.line += 1;
                world.let_readers_go();
            }
            FaultKind::ReaderLost => {
                world.source.reader_line += 1;
                world.let_readers_go();
            }
            FaultKind::TargetLost => world.target.lose(),
            FaultKind::LogPurged => world.source.purged = world.source.log.len(),
            FaultKind::MoverKilled => {}
        }
    }
}

fn described(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::SourceCrash => "the source crashes and recovers",
        FaultKind::SourceLost => "the mover loses its connections to the source",
        FaultKind::ReaderLost => "the copier loses its connection to the source",
        FaultKind::TargetLost => "the target is lost: open transactions are rolled back",
        FaultKind::MoverKilled => "the mover is killed",
        FaultKind::LogPurged => "the source purges its log",
    }
}

impl Logged {
    /// The keys that it changes.
    fn locks(&self) -> Vec<Lock> {
        let rows = self.changes.iter().flat_map(|change| {
            let rows = change.before().into_iter().chain(change.after());
            rows.map(|row| Lock::Key(change.table(), int(&row[0])))
        });
        rows.collect()
    }
}

impl World {
    /// A server lets the locks of a connection go as soon as that is lost, whether or not its owner knows.
    fn let_readers_go(&mut self) {
        for id in std::mem::take(&mut self.source.readers) {
            self.source.locks.release(id);
            self.replica.locks.release(id);
        }
    }
}

impl TargetState {
    fn lose(&mut self) {
        self.line += 1;
        self.locks.clear();
        self.live.clone_from(&self.rows);
    }
}

impl SourceState {
    /// Appends to the log; the number of transactions that it has then.
    fn append(&mut self, transaction: Logged) -> usize {
        let mut state = self.states.last().cloned().unwrap_or_default();
        transaction.changes.iter().for_each(|change| carry_out(&mut state, change));
        self.states.push(state);
        self.log.push(transaction);
        self.log.len()
    }

    fn make_visible(&mut self) {
        if let Some(transaction) = self.log.get(self.committed) {
            self.committed += 1;
            self.visible.clone_from(&self.states[self.committed]);
            let owner = transaction.owner;
            self.release(owner);
        }
    }

    /// A transaction is over.
    pub fn release(&mut self, owner: u64) {
        self.locks.release(owner);
        self.open.remove(&owner);
    }

    fn crash(&mut self) {
        while self.committed < self.log.len() {
            self.make_visible();
        }
        self.locks.clear();
        self.open.clear();
        self.life += 1;
        self.line += 1;
    }
}

fn carry_out(tables: &mut [Rows], change: &Change) {
    let rows = &mut tables[change.table()];
    if let Some(before) = change.before() {
        rows.remove(&int(&before[0]));
    }
    if let Some(after) = change.after() {
        rows.insert(int(&after[0]), (int(&after[1]), int(&after[2])));
    }
}

/// A row as the mover sees it.
pub fn row(key: i64, (unique, version): (i64, i64)) -> Row {
    vec![Value::Int(key), Value::Int(unique), Value::Int(version)]
}

/// The integer in a value: there are no others in these tables.
pub fn int(value: &Value) -> i64 {
    match value {
        Value::Int(v) => *v,
        _ => i64::MIN,
    }
}
