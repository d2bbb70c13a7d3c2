//! One session: copier, follower and control side by side, until one of them ends.

use std::time::Duration;

use converge_mysql::connect::patient;
use converge_mysql::{FilePosition, Position, quote, within};
use mysql_async::prelude::Queryable;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::keys::Builder;
use super::log::LogWatch;
use super::replica::Replica;
use super::setup::{self, Setup};
use super::switch::{POLL, ServerFence, StoredVerdict, Switch};
use super::{Ended, Options, random_number};
use crate::apply::Followed;
use crate::apply::plan::Mode;
use crate::copy::{LANES, Strategy};
use crate::error::{Error, OnSide, Result, Side};
use crate::movement::{Movement, Start};
use crate::planted::{self, Bug, is_planted};
use crate::source::history::Historian;
use crate::source::{ServerSource, TIMEOUT, marks};
use crate::state::{State, TableState, Workflow};
use crate::target::Opening;

/// How often progress is recorded in the target.
const RECORD: Duration = Duration::from_secs(1);

/// Position, copied rows, and changes applied by all sessions: what a session must move for it to count as progress. While
/// tables are copied the position does not count: the mover's own marks move it, also where no row comes.
pub type Reached = (Option<Position>, u64, u64);

/// What a runner remembers from session to session.
#[derive(Debug, Default)]
pub struct Memory {
    /// Both servers were reached once, or the target knows the workflow: what goes wrong then is no typing error.
    pub reached: bool,
    /// What holds the workflow's lock (see [`setup::prepare`]).
    pub holder: Option<u32>,
    /// The number of the run by which this process was the workflow's runner last.
    pub run: Option<u64>,
    /// The fence, while a switch under way may have it up.
    pub fence: Option<FenceNames>,
    /// Changes that were applied so far.
    changes: u64,
    /// Chunks were in each other's way. A unique index whose order is not the key's holds neighbours of one chunk's rows
    /// among the other's, and locks of rows that are deleted and stored anew reach them: it would happen again.
    conflicted: bool,
}

/// A fence in words.
#[derive(Debug)]
pub struct FenceNames {
    /// The names of the fenced tables.
    pub tables: String,
    /// The statement that takes it away.
    pub way_back: String,
}

impl Memory {
    /// Notes how the workflow's switch stands.
    pub fn saw(&mut self, workflow: &Workflow) {
        self.fence = (workflow.state == State::Switching)
            .then(|| FenceNames { tables: workflow.fenced_tables(), way_back: workflow.way_back() });
    }

    /// Notes why a session ended, if chunks of its copy may have been in each other's way.
    fn learn(&mut self, error: &Error, copying: bool) {
        let on_target = matches!(error, Error::Server { side: Side::Target, .. });
        if copying && on_target && error.is_lock_conflict() && !std::mem::replace(&mut self.conflicted, true)
        {
            tracing::warn!(
                "chunks may have waited for each other's locks: they are written one at a time from here on"
            );
        }
    }

    /// Chunks that may be written at once.
    fn lanes(&self) -> usize {
        if self.conflicted { 1 } else { LANES }
    }

    /// Who is kept out meanwhile, as the end of a sentence.
    pub fn locked_out(&self) -> String {
        self.fence.as_ref().map_or_else(String::new, |fence| {
            format!(
                "; a switch is under way, and writers may stay locked out of {} until this runner or another reaches both \
                 servers",
                fence.tables
            )
        })
    }
}

/// Runs a session to its end; the second value says how far it got, if it got to work at all.
pub async fn run(options: &Options, memory: &mut Memory) -> (Result<Ended>, Option<Reached>) {
    let run = random_number();
    let mut setup = match setup::prepare(options, run, memory).await {
        Ok(setup) => setup,
        Err(error) => return (Err(error), None),
    };
    let (sender, followed) = watch::channel(Followed::default());
    let result = work(options, (run, memory.lanes()), &mut setup, &sender).await;
    memory.saw(&setup.workflow);
    if let Err(error) = &result {
        memory.learn(error, setup.workflow.state == State::Copying);
    }
    let followed = followed.borrow().clone();
    let rows = followed.copied.iter().map(|c| c.rows_copied).sum();
    let position = followed.position.filter(|_| setup.workflow.state != State::Copying);
    memory.changes += followed.changes;
    (result, Some((position, rows, memory.changes)))
}

async fn work(
    options: &Options,
    (run, lanes): (u64, usize),
    setup: &mut Setup,
    sender: &watch::Sender<Followed>,
) -> Result<Ended> {
    let workflow = setup.workflow.clone();
    let owner = setup.store.birth(&mut setup.target).await?;
    let source = ServerSource::new(
        setup.source_connector.clone(),
        setup.source_info,
        &workflow.name,
        setup.tables.clone(),
        run,
    )
    .guarded(is_guarded(setup)?)
    // A replica's stream sees what the source's begins behind.
    .unprepared(setup.unprepared.clone().filter(|_| options.copy_from.is_none()));
    tracing::info!("workflow {}: {} at {}", workflow.name, workflow.state, workflow.position);
    source.hold_fence(&mut setup.source, &owner).await?;
    if workflow.state.is_final() || workflow.state == State::Switched {
        return Control::new(setup, &source, &owner, sender).run().await;
    }
    if workflow.state == State::Copying {
        let seen = workflow.tables.iter().filter_map(|t| t.progress.seen.as_ref());
        source.check_seen(&mut setup.source, seen).await?;
    }
    let fenced = source.may_be_fenced(&mut setup.source, &owner).await?;
    let source = source.perhaps_fenced(fenced);
    let copy_source = copy_source(options, run, setup).await?;
    let start = Start {
        tables: &setup.tables.clone(),
        strategy: workflow.strategy.parse()?,
        pace: options.pace,
        lanes,
        run,
        position: start_at(workflow.position, &workflow.tables, &source, setup).await?,
        copied: workflow.tables.into_iter().map(|t| t.progress).collect(),
        copying: workflow.state == State::Copying,
        passing: setup.passing.clone(),
    };
    let (connector, store, tables) =
        (setup.target_connector.clone(), setup.store.clone(), setup.target_tables.clone());
    let opening = Opening::new(&connector, store.clone(), tables.clone());
    let target = async || opening.connect().await;
    let movement = Movement {
        start: &start,
        source: &source,
        copy_source: copy_source.as_ref(),
        target,
        shared: sender,
    };
    let keys =
        Builder { connector: &connector, store: &store, tables: &tables, followed: sender.subscribe() };
    let mut control = Control::new(setup, &source, &owner, sender);
    let ended = tokio::select! {
        result = movement.run() => match result? {},
        result = keys.run() => match result? {},
        result = control.until_switched() => result?,
    };
    // Nothing is applied from here on: the target's rows are the application's.
    control.until_ended(ended).await
}

/// Where the stream begins: at the checkpoint, unless a planted bug says otherwise.
async fn start_at(
    checkpoint: Position,
    tables: &[TableState],
    source: &ServerSource,
    setup: &mut Setup,
) -> Result<Position> {
    let resumed = tables.iter().any(|t| t.progress.rows_copied > 0);
    match resumed && is_planted(Bug::ResumeAtPresent) {
        true => source.position(&mut setup.source).await,
        false => Ok(checkpoint),
    }
}

/// Whether chunks are written wherever the stream stands.
fn is_guarded(setup: &Setup) -> Result<bool> {
    Ok(setup.workflow.strategy.parse::<Strategy>()?.mode(true) == Mode::Overwrite)
}

/// Where rows are read from and what is followed until they are copied, if that is not the source itself.
async fn copy_source(options: &Options, run: u64, setup: &mut Setup) -> Result<Option<ServerSource>> {
    match &options.copy_from {
        Some(address) if setup.workflow.state == State::Copying => {
            let mut replica = Replica::connect(address).await?;
            replica.check(&mut setup.source, &setup.source_info).await?;
            Ok(Some(replica.prove(setup, run).await?.guarded(is_guarded(setup)?)))
        }
        _ => Ok(None),
    }
}

/// The workflow's end, if it has come.
fn end(workflow: &Workflow) -> Option<Ended> {
    match workflow.state {
        State::Complete => Some(Ended::Complete),
        State::Cancelled => Some(Ended::Cancelled),
        _ => None,
    }
}

/// When the workflow's state is looked at.
fn ticks() -> tokio::time::Interval {
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    poll
}

/// Looks after a session: requests of the operator, progress, the end.
struct Control<'a> {
    setup: &'a mut Setup,
    source: &'a ServerSource,
    /// Whose fence it is that is raised here.
    owner: &'a str,
    followed: watch::Receiver<Followed>,
    begun: Instant,
    /// An end of the source's log, and the position there, which the target has not come to yet.
    log_end: Option<(FilePosition, Position)>,
    /// The file of the last such end that was reached, and when it was begun.
    log_file: Option<(String, u32)>,
    log: LogWatch,
}

impl<'a> Control<'a> {
    fn new(
        setup: &'a mut Setup,
        source: &'a ServerSource,
        owner: &'a str,
        sender: &watch::Sender<Followed>,
    ) -> Self {
        let (followed, begun) = (sender.subscribe(), Instant::now());
        Self {
            setup,
            source,
            owner,
            followed,
            begun,
            log_end: None,
            log_file: None,
            log: LogWatch::default(),
        }
    }

    /// Watches over a workflow that is switched or has ended.
    async fn run(&mut self) -> Result<Ended> {
        if self.setup.workflow.state == State::Switched {
            // The last word before both servers stay still: an error of the way here is over.
            let Setup { target, store, workflow, .. } = &mut *self.setup;
            store.heartbeat(target, &workflow.position, 0.0).await?;
        }
        self.until_ended(None).await
    }

    /// Watches over a workflow whose tables are moved until it has ended, or is switched (`None`).
    async fn until_switched(&mut self) -> Result<Option<Ended>> {
        let Workflow { state, switch, stopped, .. } = &self.setup.workflow;
        let (state, request, stopped) = (*state, switch.clone(), *stopped);
        self.switch().inherit(state, request.as_ref(), stopped).await?;
        let mut poll = ticks();
        let mut record_at = Instant::now();
        loop {
            poll.tick().await;
            let workflow = self.setup.store.reload(&mut self.setup.target).await?;
            if workflow.state == State::Switched || end(&workflow).is_some() {
                return Ok(end(&workflow));
            }
            if let Some(request) = &workflow.switch {
                self.switch().carry_out(workflow.state, request).await?;
                if is_planted(Bug::WriteAfterSwitch) {
                    let name = self.setup.target_tables[0].qualified();
                    let _ = self.setup.target.query_drop(format!("DELETE FROM {name} LIMIT 1")).await;
                }
                continue;
            }
            if Instant::now() >= record_at {
                if workflow.state == State::Replicating {
                    self.switch().mend().await?;
                }
                self.trespass(workflow.state).await;
                self.record(workflow.state).await?;
                record_at = Instant::now() + RECORD;
            }
        }
    }

    /// Waits for the operator's last word, unless it was said already, and cleans up on the source. Both servers stay still
    /// meanwhile, so that a comparison can prove that they did.
    async fn until_ended(&mut self, mut ended: Option<Ended>) -> Result<Ended> {
        let mut poll = ticks();
        let ended = loop {
            if let Some(ended) = ended {
                break ended;
            }
            poll.tick().await;
            let workflow = self.setup.store.reload(&mut self.setup.target).await?;
            ended = end(&workflow);
        };
        // That is worth one attempt; what stays behind is a few rows.
        let Setup { source, workflow, .. } = &mut *self.setup;
        let _ = marks::remove(source, &workflow.name).await;
        let _ = self.source.disclaim_fence(source, self.owner).await;
        Ok(ended)
    }

    /// What planted bugs do to what is not the mover's own.
    async fn trespass(&mut self, state: State) {
        if !planted::ENABLED {
            return;
        }
        let Setup { source, target, tables, workflow, .. } = &mut *self.setup;
        let row = tables.iter().find(|table| table.name == "ledger");
        if state == State::Replicating
            && let Some(table) = row.filter(|_| planted::every(Bug::SourceRowLost, 3))
        {
            let _ = source.query_drop(format!("DELETE FROM {} LIMIT 1", table.qualified())).await;
        }
        if planted::every(Bug::StrayTable, 3) {
            let stray = quote::qualified(&workflow.target_schema, "customer_old");
            let _ = target.query_drop(format!("CREATE TABLE IF NOT EXISTS {stray} (id INT)")).await;
        }
    }

    fn switch(&mut self) -> Switch<ServerFence<'_>, StoredVerdict<'_>> {
        let Setup { source, target, target_connector, target_tables, store, workflow, .. } = &mut *self.setup;
        Switch {
            fence: ServerFence { source: self.source, conn: source, owner: self.owner },
            verdict: StoredVerdict {
                store,
                conn: target,
                known: &mut workflow.state,
                connector: target_connector,
                tables: target_tables,
            },
            followed: self.followed.clone(),
        }
    }

    /// Tells the target's state how far the source is ahead.
    async fn record(&mut self, state: State) -> Result<()> {
        let Setup {
            source: conn, source_info, source_connector, historian_id, target, store, workflow, ..
        } = &mut *self.setup;
        // What was applied came from the log, which has it still when it is asked afterwards. A replica's may be another.
        let replica = state == State::Copying && workflow.strategy == Strategy::Replica.name();
        let applied = self.followed.borrow().position.clone().filter(|_| !replica);
        let end = Position::current_file(conn, source_info).await.on_source()?;
        let position = self.source.position(conn).await?;
        self.log.look(&end, &position, applied.as_ref())?;
        let now: Option<u64> =
            within(TIMEOUT, "reading the source's clock", conn.query_first("SELECT UNIX_TIMESTAMP()"))
                .await
                .on_source()?;
        let followed = self.followed.borrow().clone();
        let (_, there) = self.log_end.get_or_insert_with(|| (end, position.clone()));
        let reached = followed.position.as_ref().is_some_and(|applied| applied.covers(there) == Some(true));
        let reached = self.log_end.take_if(|_| reached);
        if let Some((end, _)) = &reached
            && self.log_file.as_ref().is_none_or(|(file, _)| *file != end.file)
        {
            let mut historian =
                Historian { conn, connector: source_connector, info: source_info, server_id: *historian_id };
            // What is not known now is asked with the next end.
            let begun = historian.begun(&end.file).await.ok().flatten();
            self.log_file = begun.map(|begun| (end.file.clone(), begun));
        }
        let file_begun = self.log_file.as_ref().map(|(_, begun)| *begun);
        let caught_up = followed.position.is_some_and(|applied| applied.covers(&position) == Some(true));
        let lag = match (caught_up, followed.timestamp, now) {
            (true, ..) => 0.0,
            (false, 0, _) | (false, _, None) => self.begun.elapsed().as_secs_f64(),
            (false, applied, Some(now)) => now.saturating_sub(u64::from(applied)) as f64,
        };
        let rows: u64 = followed.copied.iter().map(|c| c.rows_copied).sum();
        tracing::info!("{state}: {rows} rows copied, {} changes applied, lag {lag:.0} s", followed.changes);
        unless_committing(&self.followed, async {
            store.heartbeat(target, &position, lag).await?;
            match reached {
                Some((end, _)) => store.reached_in_log(target, &end, file_begun).await,
                None => Ok(()),
            }
        })
        .await
    }
}

/// How long the target may leave a heartbeat unanswered while nothing large is being committed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for the answer of the target to a small write. A huge transaction that the follower commits keeps it waiting, and
/// is no sign of a dead target: the commit has a bound of its own, by its size.
async fn unless_committing<T>(
    followed: &watch::Receiver<Followed>,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::pin!(answer);
    loop {
        let patience = patient(PATIENCE);
        match tokio::time::timeout(patience, &mut answer).await {
            Ok(answer) => return answer,
            Err(_) if followed.borrow().committing > 0 => {}
            Err(_) => {
                let what = "recording progress".into();
                return Err(converge_mysql::Error::TimedOut { what, after: patience }).on_target();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_waits_behind_a_commit_and_not_for_a_dead_target() {
        let slow = || async {
            tokio::time::sleep(PATIENCE * 5).await;
            Ok(7)
        };
        let (sender, followed) = watch::channel(Followed { committing: 1, ..Followed::default() });
        assert_eq!(unless_committing(&followed, slow()).await.unwrap(), 7);
        sender.send_modify(|f| f.committing = 0);
        assert!(unless_committing(&followed, slow()).await.unwrap_err().is_transient());
    }
}
