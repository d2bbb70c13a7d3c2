//! One world from its beginning to its end, and what it came to.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use super::plan::{FaultKind, Moment, Plan};
use super::schedule::{self, Task};
use super::source::{SimSource, position};
use super::switching::{control, operator};
use super::target::SimTarget;
use super::world::Shared;
use super::{client, source};
use crate::apply::Followed;
use crate::apply::plan::Mode;
use crate::copy::{LANES, Pace, Strategy};
use crate::error::Error;
use crate::movement::{Movement, Start};
use crate::schema::{Column, Kind, Table};
use crate::state::State;

/// Steps after which a world is taken for one that goes in circles.
const MOST_STEPS: u64 = 20_000;
/// Time that may pass in a world in which nothing else happens.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a world ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target is equal to the source.
    Converged,
    /// It is not, or a rule did not hold on the way.
    Diverged(String),
    /// The mover stopped with an error.
    Stopped(String),
    /// Nothing happens any more, or no end comes.
    Stuck(String),
}

/// How a world ended, and how long it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The end.
    pub outcome: Outcome,
    /// Steps that were taken.
    pub steps: u64,
    /// Copy, change and delivery, in the order in which they first came.
    pub moments: Vec<Moment>,
}

/// Runs a world.
pub fn run(plan: &Plan) -> Ran {
    carry_out(plan, false).0
}

/// Runs a world and tells what happened, line by line.
pub fn traced(plan: &Plan) -> (Ran, Vec<String>) {
    carry_out(plan, true)
}

thread_local! {
    /// Its clock stands still, and jumps when everybody waits for it.
    static RUNTIME: RefCell<Option<tokio::runtime::Runtime>> = const { RefCell::new(None) };
}

fn carry_out(plan: &Plan, tell: bool) -> (Ran, Vec<String>) {
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            // It opens no file and no socket: there is nothing that could fail.
            #[allow(
                clippy::expect_used,
                reason = "a runtime without input and output needs nothing of the system"
            )]
            builder.enable_time().start_paused(true).build().expect("a runtime")
        });
        runtime.block_on(live(plan, tell))
    })
}

async fn live(plan: &Plan, tell: bool) -> (Ran, Vec<String>) {
    let exact = plan.strategy.mode(true) == Mode::Exact;
    let world = Shared::new(plan, exact, tell);
    let end = Rc::new(RefCell::new(None));
    let kill = Rc::new(Cell::new(0));
    let mut tasks: Vec<Task<'_>> = vec![
        Box::pin(async { world.engine().await }),
        Box::pin(faults(world.clone(), plan, kill.clone())),
        Box::pin(mover(world.clone(), plan, kill, end.clone())),
        Box::pin(operator(world.clone(), plan.switch_after, end.clone())),
    ];
    if plan.strategy == Strategy::Replica {
        tasks.push(Box::pin(async { world.replicate().await }));
    }
    for (number, transactions) in plan.clients.iter().enumerate() {
        tasks.push(Box::pin(client::run(world.clone(), number, transactions.clone())));
    }
    let over = || {
        let mut end = end.borrow_mut();
        if world.now().broken.is_some() && end.is_none() {
            *end = world.now().broken.clone().map(Outcome::Diverged);
        }
        if world.steps.taken() > MOST_STEPS && end.is_none() {
            *end = Some(Outcome::Stuck(format!("no end after {MOST_STEPS} steps")));
        }
        end.is_some()
    };
    let running = schedule::run(plan.schedule, &world.steps, tasks, over, || world.relax());
    let stuck = tokio::time::timeout(PATIENCE, running).await.is_err();
    let outcome = end.borrow_mut().take();
    let outcome = match outcome {
        Some(outcome) => outcome,
        None if stuck => Outcome::Stuck("everybody waits".into()),
        None => Outcome::Stuck("everybody left".into()),
    };
    let story = world.now().story.take().unwrap_or_default();
    let moments = std::mem::take(&mut world.now().moments);
    (Ran { outcome, steps: world.steps.taken(), moments }, story)
}

/// Breaks what is to be broken, when it is to be broken.
async fn faults(world: Shared, plan: &Plan, kill: Rc<Cell<u64>>) {
    let mut faults = plan.faults.clone();
    faults.sort_by_key(|fault| fault.at);
    for fault in faults {
        let due = || (world.steps.taken() >= fault.at || world.now().clients == 0).then_some(());
        world.steps.until(due).await;
        world.strike(fault.kind);
        if fault.kind == FaultKind::MoverKilled {
            kill.set(kill.get() + 1);
        }
        world.steps.turn().await;
    }
}

fn table() -> Table {
    let column = |name: &str| Column {
        name: name.into(),
        kind: Kind::Int { unsigned: false },
        sql_type: "bigint".into(),
    };
    Table {
        schema: "simulation".into(),
        name: "t".into(),
        columns: ["k", "u", "v"].map(column).to_vec(),
        ordinals: vec![Some(0), Some(1), Some(2)],
        key: vec![0],
        key_name: "PRIMARY".into(),
        rows_estimated: 0,
        row_bytes_estimated: 0,
        row_hashes: 0,
    }
}

/// Sessions, one after the other, each from the checkpoint that the last one left.
async fn mover(world: Shared, plan: &Plan, kill: Rc<Cell<u64>>, end: Rc<RefCell<Option<Outcome>>>) {
    let tables: Vec<Table> = plan.tables.iter().map(|_| table()).collect();
    loop {
        world.steps.turn().await;
        let error = tokio::select! {
            biased;
            () = killed(&world, &kill) => continue,
            error = session(&world, plan, &tables) => error,
        };
        world.tell(|| format!("mover: {error}"));
        if !error.is_transient() {
            let text = error.to_string();
            let outcome = match error {
                Error::BinlogPurged { .. } => Outcome::Stopped(text),
                _ => Outcome::Diverged(text),
            };
            end.borrow_mut().get_or_insert(outcome);
            return;
        }
    }
}

async fn killed(world: &Shared, kill: &Cell<u64>) {
    let before = kill.get();
    world.steps.until(|| (kill.get() != before).then_some(())).await;
}

async fn session(world: &Shared, plan: &Plan, tables: &[Table]) -> Error {
    let run = world.id();
    let start = {
        let world = world.now();
        Start {
            tables,
            strategy: plan.strategy,
            pace: Pace { chunk_rows: plan.chunk_rows, rows_per_second: None },
            lanes: LANES,
            run,
            position: position(world.target.applied),
            copied: world.target.copied.clone(),
            copying: world.target.state == State::Copying,
            passing: None,
        }
    };
    world.tell(|| format!("mover: a session begins at transaction {}", source::applied(&start.position)));
    let (shared, followed) = watch::channel(Followed::default());
    let from = SimSource { world: world.clone(), replica: false };
    let replica = SimSource { world: world.clone(), replica: true };
    let copy_source = (plan.strategy == Strategy::Replica && start.copying).then_some(&replica);
    let target = async || SimTarget::connect(world).await;
    let movement = Movement { start: &start, source: &from, copy_source, target, shared: &shared };
    tokio::select! {
        biased;
        result = movement.run() => match result {
            Ok(never) => match never {},
            Err(error) => error,
        },
        error = control(world, followed) => error,
    }
}
