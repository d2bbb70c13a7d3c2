//! Running a workflow: sessions that copy and follow until something breaks, and the decision what to do then.
//!
//! A session trusts nothing but the checkpoint in the target. Whatever breaks — a server, the network, a deadlock —
//! ends it, and the next one begins at the checkpoint; there is no other recovery. Errors that a new session cannot
//! cure are recorded in the target and end the run.

pub(crate) mod creation;
mod definition;
mod keys;
mod log;
mod replica;
mod session;
mod setup;
pub mod switch;

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use converge_mysql::Address;
use converge_mysql::connect::with_patience;

use crate::copy::{Pace, Strategy};
use crate::error::{Error, OnSide, Result};
use crate::preflight::Accepted;
use crate::state::Store;
use session::Memory;
use switch::rescue::rescue;

/// What to move, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The workflow's name.
    pub workflow: String,
    /// Server and database that the tables are in.
    pub source: Address,
    /// Server and database that they go to.
    pub target: Address,
    /// A replica of the source that rows are read from, for [`Strategy::Replica`].
    pub copy_from: Option<Address>,
    /// Names on the source and on the target. Empty: those of the stored workflow.
    pub tables: Vec<(String, String)>,
    /// How chunks are protected.
    pub strategy: Strategy,
    /// How fast the copy goes.
    pub pace: Pace,
    /// Whether tables without a usable key may be moved.
    pub allow_no_key: bool,
    /// How long to go on trying without progress.
    pub retry_for: Duration,
    /// Pass over the statement on a moved table at which the workflow stopped: the operator applied it on the target.
    pub skip_ddl: bool,
    /// Make target tables without their plain secondary keys, and build these once the rows are copied.
    pub defer_secondary_keys: bool,
    /// How long a server or the network may be silent before a connection is taken for dead.
    pub patience: Duration,
    /// Findings of preflight that the operator takes upon himself.
    pub accepted: Accepted,
}

impl Options {
    /// Moves tables under their names, with the default of everything else.
    pub fn new(workflow: &str, source: Address, target: Address, tables: &[String]) -> Self {
        Self {
            workflow: workflow.into(),
            source,
            target,
            tables: tables.iter().map(|t| (t.clone(), t.clone())).collect(),
            strategy: Strategy::default(),
            pace: Pace::default(),
            retry_for: Duration::from_secs(600),
            skip_ddl: false,
            defer_secondary_keys: false,
            allow_no_key: false,
            copy_from: None,
            patience: Duration::from_secs(30),
            accepted: Accepted::default(),
        }
    }
}

/// How a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The operator declared the switched workflow done.
    Complete,
    /// The operator gave it up.
    Cancelled,
}

/// A number that no other process draws.
pub fn random_number() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !name.is_empty() && name.len() <= 40 && name.chars().all(fits) {
        return Ok(());
    }
    Err(Error::refused(
        format!("bad workflow name {name:?}"),
        "use up to 40 letters, digits, '_', '-' and '.'",
    ))
}

fn check_copy_from(options: &Options) -> Result<()> {
    let (what, help) = match (&options.copy_from, options.strategy) {
        (None, Strategy::Replica) => {
            ("--copy-strategy replica copies from a replica", "name it: --copy-from URL")
        }
        (Some(_), strategy) if strategy != Strategy::Replica => {
            ("--copy-from is for --copy-strategy replica", "leave it out, or add --copy-strategy replica")
        }
        (Some(replica), _) if replica.database != options.source.database => {
            ("--source and --copy-from name different databases", "name the same database in both")
        }
        _ => return Ok(()),
    };
    Err(Error::refused(what, help))
}

/// Creates or resumes a workflow and runs it until it is complete or cancelled.
///
/// Errors: what a new session cannot cure, or no progress for [`Options::retry_for`].
pub async fn run(options: &Options) -> Result<Ended> {
    with_patience(options.patience, run_patiently(options)).await
}

async fn run_patiently(options: &Options) -> Result<Ended> {
    check_name(&options.workflow)?;
    options.source.require_database().on_source()?;
    options.target.require_database().on_target()?;
    check_copy_from(options)?;
    let mut delays = delays();
    let mut progress = None;
    let mut stuck_since = Instant::now();
    let mut memory = Memory::default();
    loop {
        let (result, reached) = session::run(options, &mut memory).await;
        if reached.is_some() && reached != progress {
            progress = reached;
            stuck_since = Instant::now();
            delays = self::delays();
        }
        let error = match result {
            Ok(ended) => return Ok(ended),
            Err(error) => error,
        };
        let stuck = stuck_since.elapsed();
        let gave_up = stuck > options.retry_for;
        if !error.is_transient() || gave_up {
            let error = match error.is_transient() {
                true => Error::GaveUp { seconds: stuck.as_secs(), last: error.to_string() },
                false => error,
            };
            return Err(end(options, &mut memory, error).await);
        }
        let words = format!("{error}{}", memory.locked_out());
        // One that the workflow is known to has been reached, whatever became of the other.
        memory.reached |= record(options, &memory, &format!("reconnecting: {words}"), RETRYING, None).await;
        // A server that was never reached is more likely a typing error than an outage.
        if !memory.reached {
            return Err(error);
        }
        let delay = delays.next().unwrap_or(LONGEST_DELAY);
        tracing::warn!("{words}; trying again in {} ms", delay.as_millis());
        tokio::time::sleep(delay).await;
    }
}

const LONGEST_DELAY: Duration = Duration::from_secs(5);

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

/// The end of a run with an error: a switch that it was in is undone, and the reason is left.
async fn end(options: &Options, memory: &mut Memory, error: Error) -> Error {
    let stopped = match &error {
        Error::Ddl { position, .. } => Stopped::Statement(position.clone()),
        Error::Spoiled { what, help } => Stopped::ForGood(what.clone(), help.clone()),
        _ => Stopped::Otherwise,
    };
    let error = rescue(options, memory, error).await;
    // Whoever runs the workflow says himself how it goes; and a command that does not fit it changes nothing about it.
    if !matches!(error, Error::AlreadyRunning { .. } | Error::Workflow { .. }) {
        record(options, memory, &error.to_string(), &error.advice(), Some(stopped)).await;
    }
    error
}

/// Why the workflow needs its operator, as far as the next session must know.
enum Stopped {
    /// A statement on a moved table, which stands here.
    Statement(String),
    /// It cannot go on: what was found, and what to do.
    ForGood(String, String),
    Otherwise,
}

/// Leaves the reason where `status` finds it, if the target can be reached at all and nobody else has run the workflow since.
/// Whether the workflow is known there.
async fn record(
    options: &Options,
    memory: &Memory,
    error: &str,
    help: &str,
    stopped: Option<Stopped>,
) -> bool {
    let mut known = false;
    let attempt = async {
        let mut conn = crate::session::connector(&options.target).connect().await.on_target()?;
        let store = Store::new(&options.workflow, 0);
        known = store.load(&mut conn).await?.is_some();
        if !known || !store.is_left_to(&mut conn, memory.holder, memory.run).await? {
            return Ok(());
        }
        let ended = stopped.is_some();
        match stopped {
            Some(Stopped::Statement(position)) => store.stopped_at(&mut conn, &position).await?,
            Some(Stopped::ForGood(what, help)) => store.spoiled(&mut conn, &what, &help).await?,
            Some(Stopped::Otherwise) | None => {}
        }
        store.record_error(&mut conn, error, help, ended).await
    };
    if let Ok(Err(e)) = tokio::time::timeout(Duration::from_secs(5), attempt).await {
        tracing::debug!("the error could not be recorded on the target: {e}");
    }
    known
}

/// What to do about what goes away by itself.
const RETRYING: &str = "nothing: the runner tries again by itself, and goes on at its checkpoint";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(check_name("shop-2.east_1").is_ok());
        for name in ["", "a b", "x'", &"x".repeat(41)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn delays_grow_to_a_bound() {
        let delays: Vec<Duration> = delays().take(20).collect();
        assert!(delays[0] >= Duration::from_millis(100) && delays[19] >= delays[0]);
        assert!(delays.iter().all(|d| *d <= 2 * LONGEST_DELAY));
    }
}
