//! Commands on a workflow from anywhere that reaches the target: status, switch, cancel, complete.

use std::time::{Duration, Instant};

use converge_mysql::{Address, Connector, Error as ServerError, Position, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;

use crate::error::{Error, OnSide, Result};
use crate::source::{fenced_name, marks::SCHEMA};
use crate::state::switching::{SWITCHED, SwitchTimes, WITHDRAWN};
use crate::state::{State, Store, Workflow};
use crate::target::TIMEOUT;

/// A runner that said nothing for so long is taken for gone.
const SILENT: f64 = 15.0;
/// How long after its deadline a switch may still be answered.
const GRACE: Duration = Duration::from_secs(15);
/// How long an answer may take to a request that was taken back after all that.
const LAST_LOOK: Duration = Duration::from_secs(2);
/// When a target that was lost is looked for again.
const AGAIN: Duration = Duration::from_millis(300);

/// What `move status` says.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The workflow's name.
    pub workflow: String,
    /// The state's name, or `error` if the workflow stopped with one.
    pub state: String,
    /// Progress per table.
    pub tables: Vec<TableStatus>,
    /// The source's position when it was last asked.
    pub source_position: Option<String>,
    /// All source transactions up to here are on the target.
    pub applied_position: String,
    /// Seconds that the target is behind; `None` if no runner is there to know.
    pub lag_seconds: Option<f64>,
    /// Why the workflow does not go on.
    pub error: Option<String>,
    /// What its operator can do about it.
    pub what_to_do: Option<String>,
    /// Seconds since a runner last wrote its state.
    pub silent_seconds: Option<f64>,
    /// Whether a runner said within the last seconds that it lives, and has not stopped with an error since.
    pub running: bool,
    /// The source, without password.
    pub source: String,
}

/// Progress of one table.
#[derive(Debug, Clone, Serialize)]
pub struct TableStatus {
    /// Name on the source.
    pub table: String,
    /// Name on the target.
    pub target_table: String,
    /// Rows written by the copy (changes not counted).
    pub rows_copied: u64,
    /// The source's estimate when the workflow began.
    pub rows_estimated: u64,
    /// Whether the copy is complete.
    pub copied: bool,
}

impl From<&Workflow> for Status {
    fn from(w: &Workflow) -> Self {
        let is_running = !w.stopped && w.silent_seconds.is_some_and(|s| s < SILENT);
        let tables = w.tables.iter().map(|t| TableStatus {
            table: t.source.clone(),
            target_table: t.target.clone(),
            rows_copied: t.progress.rows_copied,
            rows_estimated: t.rows_estimated,
            copied: t.progress.done,
        });
        Self {
            workflow: w.name.clone(),
            state: if w.stopped { "error".into() } else { w.state.to_string() },
            tables: tables.collect(),
            // The runner asks for it once a second; what is applied since then is on the source as well.
            source_position: w.source_position.as_ref().map(|text| match text.parse::<Position>() {
                Ok(position) => position.joined(&w.position).to_string(),
                Err(_) => text.clone(),
            }),
            applied_position: w.position.to_string(),
            // Of a runner that is gone nobody knows it.
            lag_seconds: w.lag_seconds.filter(|_| is_running || w.state == State::Switched),
            error: w.error.clone(),
            what_to_do: w.what_to_do.clone(),
            silent_seconds: w.silent_seconds,
            running: is_running,
            source: w.source.clone(),
        }
    }
}

/// What `move switch-traffic` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switched {
    /// The workflow's name.
    pub workflow: String,
    /// The target has everything up to here, and writes on the source were fenced before.
    pub position: String,
    /// How long the parts took.
    #[serde(flatten)]
    pub times: Option<SwitchTimes>,
    /// The fenced tables' names on the source, in order.
    pub fenced_tables: Vec<String>,
}

impl Switched {
    fn of(workflow: &Workflow, position: String) -> Self {
        let fenced_tables = workflow.tables.iter().map(|t| fenced_name(&t.source)).collect();
        Self {
            workflow: workflow.name.clone(),
            position,
            times: workflow.switch_times.clone(),
            fenced_tables,
        }
    }
}

/// One workflow, as seen over a connection to its target.
pub struct Control {
    connector: Connector,
    /// `None` after an error: the answer to what was asked there last may still come.
    conn: Option<Conn>,
    store: Store,
}

/// A switch that was asked for.
struct Asked {
    token: String,
    /// The names that the source's tables have while they are fenced.
    fenced: String,
    /// Whether the runner was seen to have begun with it.
    begun: bool,
}

/// The connection, made anew if there is none.
async fn live<'a>(conn: &'a mut Option<Conn>, connector: &Connector) -> Result<&'a mut Conn> {
    Ok(match conn {
        Some(conn) => conn,
        None => conn.insert(connector.connect().await.on_target()?),
    })
}

impl Control {
    /// Connects to the target.
    pub async fn open(target: &Address, workflow: &str) -> Result<Self> {
        let connector = crate::session::connector(target);
        let conn = connector.connect().await.on_target()?;
        Ok(Self { connector, conn: Some(conn), store: Store::new(workflow, 0) })
    }

    async fn load(&mut self) -> Result<Workflow> {
        let found = self.store.load(live(&mut self.conn, &self.connector).await?).await?;
        if found.is_none() && self.is_hidden().await? {
            return Err(self.misfit(
                "the account may not read the workflows on this target",
                format!(
                    "GRANT SELECT ON `{SCHEMA}`.* to it; all but `status` need INSERT and UPDATE there, too"
                ),
            ));
        }
        found.ok_or_else(|| {
            self.misfit(
                "there is no such workflow on this target",
                "check the name and --target; `converge move run` creates one",
            )
        })
    }

    /// Whether the account may not know if there are workflows.
    async fn is_hidden(&mut self) -> Result<bool> {
        let query = format!("SELECT 1 FROM `{SCHEMA}`.`workflow` LIMIT 0");
        let conn = live(&mut self.conn, &self.connector).await?;
        match within(TIMEOUT, "looking for workflows", conn.query_drop(query)).await {
            Err(ServerError::Denied { .. }) => Ok(true),
            Err(error) if error.is_refusal() => Ok(false),
            other => other.map(|()| false).on_target(),
        }
    }

    fn misfit(&self, what: impl Into<String>, help: impl Into<String>) -> Error {
        Error::Workflow { workflow: self.store.name().into(), what: what.into(), help: help.into() }
    }

    /// Where the workflow stands.
    pub async fn status(&mut self) -> Result<Status> {
        let workflow = self.load().await?;
        let mut status = Status::from(&workflow);
        let ended = workflow.state.is_final() || workflow.stopped;
        if workflow.state == State::Switched && !workflow.stopped {
            // Its runner is quiet, so that a comparison can prove that both servers stand still.
            status.what_to_do.get_or_insert_with(|| {
                "point the application at the target, then end the workflow: `converge move complete`".into()
            });
            return Ok(status);
        }
        if !ended && let Some(why) = self.takes_no_writes().await? {
            // The runner cannot write this down itself.
            status.error = Some(why);
            status.what_to_do =
                Some("make the target writable again: a runner that is alive goes on by itself".into());
        } else if !ended && !status.running && status.error.is_none() {
            let start = "if no `converge move run` is alive, start it again: it ";
            let then = match workflow.state {
                State::Switching => format!(
                    "finishes the switch or takes the fence away; until then the source's tables may be fenced ({})",
                    workflow.fenced_tables()
                ),
                _ => "resumes at its checkpoint".into(),
            };
            status.what_to_do = Some(format!("{start}{then}"));
        }
        Ok(status)
    }

    /// Why the target takes no writes, if its settings say so.
    async fn takes_no_writes(&mut self) -> Result<Option<String>> {
        let query = "SELECT @@GLOBAL.read_only";
        let what = "asking whether the target is read-only";
        let conn = live(&mut self.conn, &self.connector).await?;
        let read_only: Option<u8> = within(TIMEOUT, what, conn.query_first(query)).await.on_target()?;
        Ok((read_only == Some(1)).then(|| "the target has read_only = 1".to_owned()))
    }

    /// Fences writes on the source and waits until the target has everything, or takes the fence away again.
    ///
    /// The runner does the work; this asks it and waits for its answer.
    pub async fn switch_traffic(&mut self, timeout: Duration) -> Result<Switched> {
        self.switch_traffic_unless(timeout, std::future::pending::<()>()).await
    }

    /// As [`switch_traffic`](Self::switch_traffic), and takes the request back once `interrupted` is there. Whatever
    /// the end, no runner begins with the switch after that.
    pub async fn switch_traffic_unless(
        &mut self,
        timeout: Duration,
        interrupted: impl Future,
    ) -> Result<Switched> {
        let workflow = self.load().await?;
        if workflow.state == State::Switched {
            return Ok(Switched::of(&workflow, workflow.position.to_string()));
        }
        self.check_switchable(&workflow)?;
        let token = format!("{:016x}", crate::workflow::random_number());
        let conn = live(&mut self.conn, &self.connector).await?;
        if !self.store.request_switch(conn, &token, timeout).await? {
            return Err(self.misfit(
                "somebody else has asked for the switch, and waits for it",
                "wait for the end of that (`converge move status`), or take it back: Ctrl-C there",
            ));
        }
        let mut asked = Asked { token, fenced: workflow.fenced_tables(), begun: false };
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = self.answer(&mut asked, timeout + GRACE) => match answer {
                Ok(None) => self.withdraw(&mut asked, LAST_LOOK).await?,
                Ok(answer) => answer,
                Err(error) => return Err(self.give_up(&asked, error).await),
            },
            _ = interrupted => {
                tracing::warn!("interrupted: the request is taken back; what was begun is undone, or is proven already");
                self.withdraw(&mut asked, GRACE).await?
            }
        };
        answer.ok_or_else(|| {
            let why = format!("the runner did not answer within {} s", begun.elapsed().as_secs());
            self.unanswered(&asked, &why)
        })
    }

    fn check_switchable(&self, workflow: &Workflow) -> Result<()> {
        let refuse = |help: &str| {
            let what = format!("traffic cannot be switched while it is {}", workflow.state);
            Err(self.misfit(what, help))
        };
        let error = || workflow.error.clone().unwrap_or_default();
        match workflow.state {
            State::Complete | State::Cancelled => refuse("this workflow has ended; start another one"),
            _ if workflow.stopped => Err(self.misfit(
                format!("the workflow has stopped, and nobody would carry out the switch: {}", error()),
                format!("{}; then try again", workflow.what_to_do.as_deref().unwrap_or("remove the reason")),
            )),
            State::Switching => refuse("a switch is under way; ask `converge move status` for its end"),
            _ if !Status::from(workflow).running => Err(self.misfit(
                format!("it is {}, and no runner is alive to carry out the switch", workflow.state),
                "start `converge move run`, and try again when `converge move status` says replicating",
            )),
            State::Copying | State::Indexing => refuse("wait until `converge move status` says replicating"),
            _ => Ok(()),
        }
    }

    /// What came of the request; `None`: nothing within the bound.
    async fn answer(&mut self, asked: &mut Asked, bound: Duration) -> Result<Option<Switched>> {
        let begun = Instant::now();
        while begun.elapsed() < bound {
            let workflow = match self.load().await {
                Ok(workflow) => workflow,
                Err(error) if error.is_transient() => {
                    tracing::debug!("{error}");
                    self.conn = None;
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            asked.begun = workflow.state == State::Switching;
            let answer = workflow.switch_outcome.as_ref().filter(|(answered, _)| *answered == asked.token);
            if let Some((_, outcome)) = answer {
                return match outcome.strip_prefix(SWITCHED) {
                    Some(position) => Ok(Some(Switched::of(&workflow, position.to_owned()))),
                    None => Err(self.misfit(
                        format!("traffic was not switched: {}", reason(outcome, &workflow)),
                        "writes go on at the source as before; remove the reason and try again",
                    )),
                };
            }
            if workflow.stopped {
                let why = workflow.error.unwrap_or_default();
                return Err(self.misfit(
                    format!("the workflow stopped before traffic was switched: {why}"),
                    "remove the reason and run the workflow again; it takes away a fence that was left",
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }

    /// Takes the request back, and says what came of it.
    async fn withdraw(&mut self, asked: &mut Asked, bound: Duration) -> Result<Option<Switched>> {
        self.take_back(asked).await?;
        self.answer(asked, bound).await
    }

    async fn take_back(&mut self, asked: &Asked) -> Result<()> {
        // Whatever the former connection was in the middle of is left to it.
        self.conn = None;
        let withdrawn = async {
            let conn = live(&mut self.conn, &self.connector).await?;
            self.store.withdraw_switch(conn, &asked.token).await
        };
        let withdrawn = withdrawn.await;
        withdrawn
            .map_err(|error| self.unanswered(asked, &format!("the request could not be taken back: {error}")))
    }

    /// The error to end with after `error`: nobody waits for the request any more, so that nobody is to carry it out.
    async fn give_up(&mut self, asked: &Asked, error: Error) -> Error {
        match self.take_back(asked).await {
            Ok(()) => error,
            Err(standing) => self.misfit(format!("{error}; {standing}"), standing.advice()),
        }
    }

    /// The end of a request of which nobody knows what became.
    fn unanswered(&self, asked: &Asked, why: &str) -> Error {
        let fenced = &asked.fenced;
        let so = match asked.begun {
            true => {
                format!("the source's tables were being fenced ({fenced}), and writers may be locked out")
            }
            false => format!("the source's tables may be fenced ({fenced})"),
        };
        self.misfit(
            format!("{why}; {so}"),
            "a fence stays until a runner reaches both servers again: it finishes the switch or takes the fence away; see \
             to it that both servers and `converge move run` are alive, and look at `converge move status`",
        )
    }

    async fn enter(&mut self, from: State, to: State) -> Result<bool> {
        self.store.enter(live(&mut self.conn, &self.connector).await?, from, to).await
    }

    /// Declares a switched workflow done. The fenced tables stay on the source; the answer names them.
    pub async fn complete(&mut self) -> Result<Workflow> {
        let workflow = self.load().await?;
        if workflow.state == State::Complete || self.enter(State::Switched, State::Complete).await? {
            return Ok(workflow);
        }
        let help = match workflow.state {
            State::Cancelled => {
                "it has ended already; another one begins with `converge move run` under another name"
            }
            _ => "`converge move switch-traffic` first, or `converge move cancel`",
        };
        Err(self.misfit(format!("it is {}, not switched", workflow.state), help))
    }

    /// Gives a workflow up. Nothing is dropped; the answer names the tables on the target, and is as the workflow was: a
    /// switch that no runner looks after any more may have left the source's tables fenced.
    pub async fn cancel(&mut self) -> Result<Workflow> {
        let workflow = self.load().await?;
        if workflow.state == State::Cancelled {
            return Ok(workflow);
        }
        for from in [State::Copying, State::Indexing, State::Replicating] {
            if self.enter(from, State::Cancelled).await? {
                return Ok(workflow);
            }
        }
        if workflow.state == State::Switching {
            if self.store.is_run(live(&mut self.conn, &self.connector).await?).await? {
                return Err(self.misfit(
                    "a switch is under way",
                    "wait for its end (`converge move status`), or take it back: Ctrl-C on `converge move switch-traffic`",
                ));
            }
            if self.enter(State::Switching, State::Cancelled).await? {
                return Ok(workflow);
            }
        }
        let help = match workflow.state {
            State::Complete => "it has ended already, and writes go to the target",
            _ => "after the switch writes go to the target: `converge move complete` ends the workflow",
        };
        Err(self.misfit(format!("it is {} and cannot be cancelled", workflow.state), help))
    }
}

/// Why a request had no success. Of one that nobody took up, the runner may have said what keeps it from that.
fn reason(outcome: &str, workflow: &Workflow) -> String {
    if outcome != WITHDRAWN {
        return outcome.to_owned();
    }
    let kept = workflow.error.as_ref().map_or_else(String::new, |error| format!(", which says: {error}"));
    format!("{outcome} before a runner had begun with it{kept}")
}
