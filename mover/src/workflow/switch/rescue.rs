//! A run that ends with an error in the middle of a switch: no runner will look after the fence, so it is taken away
//! first, over connections of its own. Where that cannot be done, the error says what stays fenced and how writers get
//! in again.

use std::time::{Duration, Instant};

use converge_mysql::ServerInfo;
use mysql_async::Conn;
use tokio::sync::watch;

use super::{ServerFence, StoredVerdict, Switch};
use crate::apply::Followed;
use crate::error::{Error, OnSide, Result, Side};
use crate::preflight;
use crate::source::ServerSource;
use crate::state::resume::Remembered;
use crate::state::{State, Store};
use crate::workflow::session::Memory;
use crate::workflow::setup;
use crate::workflow::{Options, random_number};

/// How long it is tried again after an error that may go away.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(1);

/// Undoes the switch that the run which `error` ended was in, if any. The error to end with: the same one, or one that
/// says what is still fenced.
pub async fn rescue(options: &Options, memory: &mut Memory, error: Error) -> Error {
    let nothing_to_do = match &error {
        Error::AlreadyRunning { .. } => true,
        // Servers that were not reached for so long are not reached for what is not there.
        Error::GaveUp { .. } => memory.fence.is_none(),
        _ => false,
    };
    if nothing_to_do {
        return error;
    }
    let begun = Instant::now();
    loop {
        let failure = match undo(options, memory, &error).await {
            Ok(()) => return error,
            Err(failure) => failure,
        };
        let hopeless = !failure.is_transient() || begun.elapsed() >= PATIENCE;
        if hopeless || matches!(error, Error::GaveUp { .. }) {
            return still_fenced(memory, error, &failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn still_fenced(memory: &Memory, error: Error, failure: &Error) -> Error {
    match (&memory.fence, failure) {
        // It never came to a fence.
        (None, _) => error,
        (Some(_), Error::StillFenced { why, tables, help }) => match &error {
            Error::StillFenced { .. } => error,
            _ => Error::StillFenced {
                why: format!("{error}; and {why}"),
                tables: tables.clone(),
                help: help.clone(),
            },
        },
        (Some(fence), _) => Error::StillFenced {
            why: format!("{error}; and the fence could not be taken away: {failure}"),
            tables: fence.tables.clone(),
            help: format!(
                "{}; they stay fenced until a runner reaches both servers: run the workflow again, which finishes the \
                 switch or takes the fence away, or let writers in by hand, on the source: {}",
                error.advice(),
                fence.way_back
            ),
        },
    }
}

async fn undo(options: &Options, memory: &mut Memory, error: &Error) -> Result<()> {
    let connector = crate::session::connector(&options.target);
    let mut target = connector.connect().await.on_target()?;
    let store = Store::new(&options.workflow, 0);
    let interrupted = match store.load(&mut target).await? {
        Some(workflow) if is_due(workflow.state, memory) => workflow,
        _ => return Ok(()),
    };
    if interrupted.state == State::Switching {
        memory.saw(&interrupted);
    }
    match setup::lock(&mut target, &options.workflow, &mut memory.holder).await {
        // Who runs it now looks after the fence.
        Err(Error::AlreadyRunning { .. }) => return Ok(()),
        // The lock of this runner's own lost connection keeps everybody else away.
        Ok(()) | Err(Error::LockLingers { .. }) => {}
        Err(other) => return Err(other),
    }
    let workflow = store.reload(&mut target).await?;
    if !is_due(workflow.state, memory) {
        return Ok(());
    }
    let remembered = store.remembered(&mut target).await?;
    let owner = store.birth(&mut target).await?;
    let source_connector = crate::session::connector(&options.source);
    let mut conn = source_connector.connect().await.on_source()?;
    let info = ServerInfo::read(&mut conn).await.on_source()?;
    check_server(&mut conn, &info, &remembered).await?;
    let tables = remembered.tables.into();
    let source = ServerSource::new(source_connector, info, &workflow.name, tables, random_number());
    source.hold_fence(&mut conn, &owner).await?;
    let (_sender, followed) = watch::channel(Followed::default());
    let mut known = workflow.state;
    let mut switch = Switch {
        fence: ServerFence { source: &source, conn: &mut conn, owner: &owner },
        verdict: StoredVerdict {
            store: &store,
            conn: &mut target,
            known: &mut known,
            connector: &connector,
            tables: &[],
        },
        followed,
    };
    match workflow.state {
        State::Switching => {
            switch.undo(workflow.switch.as_ref(), &format!("the runner stopped: {error}")).await?;
        }
        _ => switch.mend().await?,
    }
    memory.fence = None;
    Ok(())
}

/// Whether there may be a fence to take away: in a switch, and where one that this runner was in was given up without it.
fn is_due(state: State, memory: &Memory) -> bool {
    match state {
        State::Switching => true,
        State::Replicating | State::Cancelled => memory.fence.is_some(),
        _ => false,
    }
}

/// On another server than the one that was fenced no fence would be found. A failover that a session has accepted is
/// remembered as the workflow's server.
async fn check_server(conn: &mut Conn, info: &ServerInfo, remembered: &Remembered) -> Result<()> {
    let now = preflight::identity(conn, Side::Source, info).await?;
    if remembered.log.as_ref().is_none_or(|log| log.server == now) {
        return Ok(());
    }
    Err(Error::refused(
        "--source names another server than the one whose tables a switch may have fenced",
        "run the workflow with its former --source",
    ))
}
