//! Randomized, seeded DML over a commerce schema, with every answer recorded.
//!
//! What a session sends depends only on the seed, the session's number and how many units it has sent before,
//! never on a clock or an answer. A lost answer is recorded as lost, never as a failure, and nothing is sent
//! twice.

mod counters;
mod generate;
mod plan;
mod schema;
mod session;
mod tables;
mod values;

use std::sync::Arc;
use std::time::Duration;

use converge_mysql::{Address, Connector};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use counters::{Counters, KindCounts, Totals};
pub use generate::{Statement, Unit, unit};
pub use plan::{LoadPlan, Weights, draw_seed};
pub use schema::{create_schema, is_seeded, seed_rows};
pub use tables::TABLES;

use crate::error::Error;
use crate::history::History;
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
    /// Starts the plan's sessions against the database in `address`, whose tables [`create_schema`] and
    /// [`seed_rows`] have made. An error means that not even a first connection could be made.
    pub async fn start(address: Address, plan: LoadPlan, history: History) -> Result<LoadHandle, Error> {
        address.require_database()?;
        // Short lock waits: a client that waits for a minute proves nothing in a run of a minute.
        let connector = Connector::new(address).with_setup(
            "SET SESSION innodb_lock_wait_timeout = 3, sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
        );
        converge_mysql::connect::close(connector.connect().await?).await;
        let (stop, _) = watch::channel(Stop::No);
        let counters = Arc::new(Counters::default());
        let plan = Arc::new(plan);
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let mut tasks = JoinSet::new();
        for number in 0..plan.sessions {
            let session = Session {
                number,
                plan: Arc::clone(&plan),
                connector: connector.clone(),
                connecting: Arc::clone(&connecting),
                history: history.clone(),
                counters: Arc::clone(&counters),
                stop: stop.subscribe(),
            };
            tasks.spawn(session.run());
        }
        Ok(LoadHandle { stop, tasks, counters })
    }
}

/// Load that is running. Dropping it cuts the sessions off.
#[derive(Debug)]
pub struct LoadHandle {
    stop: watch::Sender<Stop>,
    tasks: JoinSet<()>,
    counters: Arc<Counters>,
}

impl LoadHandle {
    /// What was answered so far; counts go on while the load runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
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
