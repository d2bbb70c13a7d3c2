//! Randomized, seeded DML over a commerce schema or anybody's, with every answer recorded.
//!
//! What a session sends depends only on the seed, the session's number and how many units it has sent before,
//! never on a clock. A lost answer is recorded as lost, never as a failure, and nothing is sent twice, but for a unit that
//! the server gave up for a deadlock or a lock wait: that is rolled back and sent again, as a client would.

mod counters;
mod generate;
mod invariants;
mod limits;
mod literal;
mod plan;
mod rest;
mod schema;
mod session;
mod tables;
mod user;
mod values;

use std::sync::Arc;
use std::time::Duration;

use converge_mysql::Address;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use counters::{Counters, KindCounts, Totals, Written};
pub use generate::{Statement, Unit, unit};
pub use invariants::{ACCOUNTS, BALANCE, COUNTERS, Invariant, Names};
pub use plan::{LoadPlan, Subject, Weights, draw_seed};
pub use rest::{Brake, LOG_TEXTS, Rest};
pub use schema::{create_database, create_schema, is_seeded, prepare, seed_rows};
pub use user::{Model, Program, Script, Table as ModelTable, read as read_model};

use crate::error::Error;
use crate::history::{History, Kind};
use rest::Gate;
use session::{Session, Stop};

/// How long sessions may take to end what they have begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long they may take once they are told to drop everything.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are being made at the same time, so that a thousand sessions do not storm a server.
const CONNECTING: usize = 16;

/// Starts load.
#[derive(Debug)]
pub struct Load;

impl Load {
    /// Starts the plan's sessions against the database in `address`, whose tables [`prepare`] has made and
    /// filled. An error means that not even a first connection could be made, or that this machine or
    /// the server has no room for so many sessions.
    pub async fn start(address: Address, plan: LoadPlan, history: History) -> Result<LoadHandle, Error> {
        check(&address, &plan).await?;
        let model = match plan.subject {
            Subject::Commerce => None,
            _ => Some(Arc::new(user::read(&address).await?)),
        };
        let gate = Gate::new(address, plan.log_texts);
        let (stop, _) = watch::channel(Stop::No);
        let counters = Arc::new(Counters::default());
        let plan = Arc::new(plan);
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let mut tasks = JoinSet::new();
        for number in 0..plan.sessions {
            let session = Session {
                number,
                plan: Arc::clone(&plan),
                model: model.clone(),
                gate: gate.clone(),
                connecting: Arc::clone(&connecting),
                history: history.clone(),
                counters: Arc::clone(&counters),
                stop: stop.subscribe(),
                begun: 0,
            };
            tasks.spawn(session.run());
        }
        Ok(LoadHandle { stop, tasks, counters, gate })
    }
}

/// Whether the plan's load could be sent to the address's database, which need not be there yet. Asked before tables are
/// filled, which takes minutes.
pub async fn check(address: &Address, plan: &LoadPlan) -> Result<(), Error> {
    limits::refuse_taken(address.require_database()?)?;
    let mut conn = rest::connector(address.with_database("")).connect().await?;
    limits::check(&mut conn, plan.sessions).await?;
    converge_mysql::connect::close(conn).await;
    Ok(())
}

/// The kinds of statements that load sends to some of its tables. `model`: somebody's tables, where the load is for those.
pub fn kinds(plan: &LoadPlan, model: Option<&Model>, tables: &[String]) -> Vec<Kind> {
    let theirs = match model {
        Some(model) => user::kinds(plan, model, tables),
        None => tables::kinds(tables),
    };
    let wanted = |invariant: &Invariant| tables.contains(&plan.subject.names().of(*invariant));
    let own: Vec<Kind> = Invariant::ALL.into_iter().filter(wanted).map(Invariant::kind).collect();
    Kind::WRITES.into_iter().filter(|kind| theirs.contains(kind) || own.contains(kind)).collect()
}

/// Load that is running. Dropping it cuts the sessions off.
#[derive(Debug)]
pub struct LoadHandle {
    stop: watch::Sender<Stop>,
    tasks: JoinSet<()>,
    counters: Arc<Counters>,
    gate: Gate,
}

impl LoadHandle {
    /// What was answered so far; counts go on while the load runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// What keeps sessions from beginning units for a time.
    pub fn brake(&self) -> Brake {
        self.gate.brake()
    }

    /// Waits until every session has ended its transaction, and keeps them all from beginning another until the answer is
    /// dropped, or told where they go on.
    pub async fn rest(&self) -> Rest {
        self.gate.close().await
    }

    /// Lets every session end its transaction and stops, within 20 seconds: what has not been answered by then is
    /// recorded as unknown.
    pub async fn stop(mut self) -> Totals {
        for (how, bound) in [(Stop::Soon, DRAIN_TIMEOUT), (Stop::Now, ABORT_TIMEOUT)] {
            self.stop.send_replace(how);
            let all = async { while self.tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(bound, all).await.is_ok() {
                break;
            }
        }
        self.tasks.shutdown().await;
        self.counters.totals()
    }
}
