//! The beginning of a session: is this workflow ours to run, what are its tables, and, the first time, is all in order
//! and where does the stream begin?

use std::sync::Arc;
use std::time::{Duration, Instant};

use converge_mysql::connect::patient;
use converge_mysql::{Connector, Position, ServerInfo, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::replica::Replica;
use super::session::Memory;
use super::{Options, creation, definition};
use crate::error::{Error, OnSide, Result, Side};
use crate::preflight::{self, Accepted, Request, Servers};
use crate::schema::{Table, secondary};
use crate::source::errant::{self, Moved};
use crate::source::history::{Historian, LogIdentity};
use crate::source::{ServerSource, Source as _, TIMEOUT, fenced_name, marks, server_id};
use crate::state::resume::Remembered;
use crate::state::{State, Store, TableState, Workflow};
use crate::target::CopyProgress;

/// How long to wait for the lock of a runner that was just killed.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Half of how long a silent runner keeps its lock.
const LOCK_LEASE: Duration = Duration::from_secs(30);

/// Connections and facts that a session needs.
pub struct Setup {
    /// A connection to the source for short statements.
    pub source: Conn,
    /// The source's product and version.
    pub source_info: ServerInfo,
    /// The connection to the target that holds the workflow's lock.
    pub target: Conn,
    /// Makes connections to the target.
    pub target_connector: Connector,
    /// Makes connections to the source.
    pub source_connector: Connector,
    /// A replica's id for [`Historian`]s of this session.
    pub historian_id: u32,
    /// The workflow's state in the target.
    pub store: Store,
    /// The workflow as stored.
    pub workflow: Workflow,
    /// The tables under their names on the source.
    pub tables: Arc<[Table]>,
    /// The tables under their names on the target, with the source's columns.
    pub target_tables: Vec<Table>,
    /// A position that no XA transaction spans which was prepared before the first one, if this session made the workflow.
    pub unprepared: Option<Position>,
    /// Where the statement on a moved table stands that the operator applied on the target.
    pub passing: Option<String>,
}

/// Prepares a session of the runner `run`.
pub async fn prepare(options: &Options, run: u64, memory: &mut Memory) -> Result<Setup> {
    let target_connector = crate::session::connector(&options.target);
    let source_connector = crate::session::connector(&options.source);
    let mut target = target_connector.connect().await.on_target()?;
    let store = Store::new(&options.workflow, run);
    lock(&mut target, &options.workflow, &mut memory.holder).await?;
    store.end_former_writers(&mut target).await?;
    let mut source = source_connector.connect().await.on_source()?;
    memory.reached = true;
    let source_info = ServerInfo::read(&mut source).await.on_source()?;
    let stored = store.load(&mut target).await?;
    let resumes = stored.is_some();
    let (workflow, unprepared) = match stored {
        Some(workflow) => {
            check_same(options, &workflow)?;
            store.create(&mut target).await?;
            // What the former runner was committing is over then, one way or the other, and only now can be read.
            store.take_over(&mut target).await?;
            (store.reload(&mut target).await?, None)
        }
        None => {
            let (workflow, unprepared) =
                create(options, &store, &mut Servers::read(&mut source, &mut target).await?).await?;
            store.take_over(&mut target).await?;
            (workflow, Some(unprepared))
        }
    };
    memory.run = Some(run);
    let mut resumed = store.remembered(&mut target).await?;
    let historian_id = server_id(run.wrapping_add(1));
    if !workflow.state.is_final() {
        let mut historian = Historian {
            conn: &mut source,
            connector: &source_connector,
            info: &source_info,
            server_id: historian_id,
        };
        let log = check_log(&mut historian, &resumed, &workflow).await?;
        store.record_log(&mut target, &options.source.to_string(), &log).await?;
    }
    marks::create(&mut source).await?;
    let stream = |tables: &[Table]| {
        let (connector, name) = (source_connector.clone(), &workflow.name);
        ServerSource::new(connector, source_info, name, tables.into(), run.wrapping_add(2))
    };
    let (mut tables, passing) =
        define(options, &store, (&mut source, &source_info), &mut target, &workflow, &mut resumed, stream)
            .await?;
    let names: Vec<&str> = workflow.tables.iter().map(|t| t.target.as_str()).collect();
    creation::mark_json_as_text(&mut target, &workflow.target_schema, &mut tables, &names).await?;
    let target_tables: Vec<Table> = tables
        .iter()
        .zip(&workflow.tables)
        .map(|(t, state)| Table {
            schema: workflow.target_schema.clone(),
            name: state.target.clone(),
            ..t.clone()
        })
        .collect();
    let moves =
        matches!(workflow.state, State::Copying | State::Indexing | State::Replicating | State::Switching);
    if resumes && moves {
        let mut servers = Servers::read(&mut source, &mut target).await?;
        preflight::again(&mut servers, options.accepted, &tables, &target_tables).await?;
    }
    Ok(Setup {
        source,
        source_info,
        target,
        target_connector,
        source_connector,
        historian_id,
        store,
        workflow,
        tables: tables.into(),
        target_tables,
        unprepared,
        passing,
    })
}

/// Refuses a source that is not the workflow's any more; the log as it is now.
async fn check_log(
    historian: &mut Historian<'_>,
    before: &Remembered,
    workflow: &Workflow,
) -> Result<LogIdentity> {
    let position = &workflow.position;
    let mut now = historian.current().await?;
    if let Some(log) = &before.log {
        if let Some((what, help)) = &log.spoiled {
            return Err(Error::spoiled(what, help));
        }
        historian.check(log, &now, position).await?;
        if now.may_continue(log) {
            // Of a workflow that is switched nothing is followed any more.
            if matches!(position, Position::Gtid(_)) && workflow.state != State::Switched {
                historian.check_gtids(&log.file).await?;
            }
            (now.reached, now.reached_begun) = (log.reached.clone(), log.reached_begun);
        } else {
            tracing::warn!("the source is another server now; it must have everything up to {position}");
            if workflow.state == State::Switched {
                let tables = before.tables.clone().into();
                let (connector, info) = (historian.connector.clone(), *historian.info);
                let source = ServerSource::new(connector, info, &workflow.name, tables, 0);
                source.check_switched(historian.conn, position).await?;
            } else if let (Position::MariaDbGtid(at), Some(former)) = (position, &log.known) {
                let names = workflow.tables.iter().map(|table| table.source.as_str()).collect();
                errant::check(historian, former, at, &Moved { schema: &workflow.source_schema, names })
                    .await?;
            }
        }
    }
    Ok(now)
}

/// The definitions that the stream's rows have, and the statement that it may pass.
async fn define(
    options: &Options,
    store: &Store,
    (source, source_info): (&mut Conn, &ServerInfo),
    target: &mut Conn,
    workflow: &Workflow,
    before: &mut Remembered,
    stream: impl Fn(&[Table]) -> ServerSource,
) -> Result<(Vec<Table>, Option<String>)> {
    if before.tables.is_empty() {
        let tables = read_tables(source, workflow).await?;
        store.define(target, &tables).await?;
        return Ok((tables, None));
    }
    let tables = std::mem::take(&mut before.tables);
    match before.statement.take() {
        Some(at) if at.cleared => Ok((tables, Some(at.position))),
        Some(at) if options.skip_ddl => {
            let now = read_tables(source, workflow).await?;
            definition::check_keys(&tables, &now, &workflow.tables)?;
            let names: Vec<_> =
                workflow.tables.iter().map(|t| (workflow.target_schema.clone(), t.target.clone())).collect();
            definition::check_target((source, source_info), target, &tables, &now, &names).await?;
            let stream = stream(&now).stream(&workflow.position).await?;
            let until = Position::current(source, source_info).await.on_source()?;
            let checking = definition::check_alone(stream, &at.position, &workflow.position, &until);
            if let Some(statement) = keeping_awake(target, checking).await? {
                definition::check_rows(&statement, target, &tables, &names).await?;
            }
            store.clear_statement(target, &now).await?;
            Ok((now, Some(at.position)))
        }
        _ => Ok((tables, None)),
    }
}

/// One runner at a time: a lock that the server lets go when the runner's connection ends, or when the runner has said
/// nothing over it for twice the patience. Should that runner wake up, its checkpoints do not count any more: each
/// carries the number of its run. `own`: the connection by which this process held it last, which the server may not
/// know yet to be lost, as while it waits for disk space.
pub(super) async fn lock(conn: &mut Conn, workflow: &str, own: &mut Option<u32>) -> Result<()> {
    let name = quote::text(&Store::new(workflow, 0).lock_name());
    let what = "taking the workflow's lock";
    // If this machine vanishes from the network, the server must not keep the lock for hours.
    let lease = (2 * patient(LOCK_LEASE)).as_secs().max(1);
    let statement = format!("SET SESSION wait_timeout = {lease}");
    within(TIMEOUT, what, conn.query_drop(statement)).await.on_target()?;
    let give_up = Instant::now() + LOCK_WAIT;
    loop {
        let query = format!("SELECT GET_LOCK({name}, 0)");
        let got: Option<Option<u8>> = within(TIMEOUT, what, conn.query_first(query)).await.on_target()?;
        if got.flatten() == Some(1) {
            *own = Some(conn.id());
            return Ok(());
        }
        if Instant::now() >= give_up {
            let query = format!("SELECT IS_USED_LOCK({name})");
            let holder: Option<Option<u32>> =
                within(TIMEOUT, what, conn.query_first(query)).await.on_target()?;
            // It may have been let go just now.
            if let Some(holder) = holder.flatten() {
                return Err(match Some(holder) == *own {
                    true => Error::LockLingers { workflow: workflow.into(), holder },
                    false => Error::AlreadyRunning {
                        workflow: workflow.into(),
                        holder: format!("connection {holder} of the target"),
                    },
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Does something that may take long, and says a word over the connection that holds the workflow's lock now and then:
/// the server would take it for dead.
async fn keeping_awake<T>(conn: &mut Conn, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = std::pin::pin!(work);
    let mut turn = tokio::time::interval(patient(LOCK_LEASE) / 4);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = turn.tick() => within(TIMEOUT, "keeping the workflow's lock", conn.ping()).await.on_target()?,
        }
    }
}

fn check_same(options: &Options, workflow: &Workflow) -> Result<()> {
    let stored: Vec<(String, String)> =
        workflow.tables.iter().map(|t| (t.source.clone(), t.target.clone())).collect();
    let mismatch = |what: String| {
        Err(Error::Workflow {
            workflow: workflow.name.clone(),
            what,
            help: "run it as it was created, or choose another workflow name".into(),
        })
    };
    if workflow.state == State::Cancelled {
        return Err(Error::Workflow {
            workflow: workflow.name.clone(),
            what: "it was cancelled, and a cancelled workflow does not go on".into(),
            help: "begin again under another name, with target tables that are empty or not there".into(),
        });
    }
    if !options.tables.is_empty() && options.tables != stored {
        let names: Vec<String> = stored.iter().map(|(s, t)| format!("{s}={t}")).collect();
        return mismatch(format!("it moves {}, not the tables named now", names.join(",")));
    }
    if (&options.source.database, &options.target.database)
        != (&workflow.source_schema, &workflow.target_schema)
    {
        return mismatch(format!("it moves {} to {}", workflow.source_schema, workflow.target_schema));
    }
    // What was copied is followed in the same way whichever way it was copied.
    if options.strategy.name() != workflow.strategy && workflow.state == State::Copying {
        return mismatch(format!("it copies with --copy-strategy {}", workflow.strategy));
    }
    Ok(())
}

/// Reads the source's tables; a fenced one has another name for the moment.
async fn read_tables(conn: &mut Conn, workflow: &Workflow) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for t in &workflow.tables {
        let schema = &workflow.source_schema;
        let found = match Table::read(conn, Side::Source, schema, &t.source).await? {
            Some(table) => Some(table),
            None => Table::read(conn, Side::Source, schema, &fenced_name(&t.source)).await?,
        };
        let table = found.ok_or_else(|| missing(schema, &t.source))?;
        tables.push(Table { name: t.source.clone(), ..table });
    }
    Ok(tables)
}

fn missing(schema: &str, table: &str) -> Error {
    Error::refused(
        format!(
            "there is no table {} on the source, or the account may not see it",
            quote::qualified(schema, table)
        ),
        "check --tables and the database in --source; the account needs SELECT on the tables",
    )
}

/// Makes and stores a new workflow: checks everything, creates the tables on the target, and takes the position where
/// the stream begins. The position comes before the first mark, so that the copy sees all that stands before it. The second
/// one is behind it, and no XA transaction spans that which was prepared before the first.
async fn create(options: &Options, store: &Store, servers: &mut Servers<'_>) -> Result<(Workflow, Position)> {
    let (from, to) = (&options.source.database, &options.target.database);
    let request = Request {
        source: options.source.clone(),
        target: options.target.clone(),
        tables: options.tables.clone(),
        strategy: options.strategy,
        defer_secondary_keys: options.defer_secondary_keys,
        accepted: Accepted { no_key: options.allow_no_key, ..options.accepted },
    };
    let (report, pairs) = preflight::examine(servers, &request).await?;
    report.judge()?;
    let source_info = servers.source.info;
    let (source, target) = (servers.source.conn(), servers.target.conn());
    store.create(target).await?;
    for pair in pairs.iter().filter(|p| options.defer_secondary_keys && p.target.is_some()) {
        tracing::warn!("table {} is there already: it is left as it is, with its secondary keys", pair.to);
    }
    for pair in &pairs {
        let Some(mut statement) = pair.creation.clone() else { continue };
        if options.defer_secondary_keys {
            // Remembered before the table is made without them, so that a run killed in between loses none.
            let split = secondary::split(&statement);
            store.defer_keys(target, &pair.to, &split.keys).await?;
            statement = split.definition;
        }
        creation::execute(target, &pair.to, statement).await?;
    }
    let states = pairs
        .iter()
        .map(|pair| TableState {
            source: pair.from.clone(),
            target: pair.to.clone(),
            rows_estimated: pair.source.as_ref().map_or(0, |t| t.rows_estimated),
            created: pair.target.is_none(),
            progress: CopyProgress::default(),
        })
        .collect();
    let position = match &options.copy_from {
        Some(address) => {
            let mut replica = Replica::connect(address).await?;
            replica.check(source, &source_info).await?;
            replica.catch_up(source, &source_info).await?
        }
        None => Position::current(source, &source_info).await.on_source()?,
    };
    let unprepared = preflight::xa::none_before(source, &source_info, &position).await?;
    // A statement before the position is not in the stream any more.
    for table in pairs.iter().filter_map(|p| p.source.as_ref()) {
        let now = Table::read(source, Side::Source, from, &table.name).await?;
        if !now.is_some_and(|now| now.same_form(table)) {
            return Err(Error::refused(
                format!("{} was altered while the workflow was made", table.qualified()),
                "drop the table that was made on the target and run again",
            ));
        }
    }
    let workflow = Workflow {
        name: store.name().into(),
        state: State::Copying,
        source: options.source.to_string(),
        source_schema: from.clone(),
        target_schema: to.clone(),
        strategy: options.strategy.to_string(),
        tables: states,
        position,
        source_position: None,
        lag_seconds: None,
        error: None,
        what_to_do: None,
        stopped: false,
        silent_seconds: None,
        switch: None,
        switch_outcome: None,
        switch_times: None,
    };
    store.insert(target, &workflow).await?;
    Ok((workflow, unprepared))
}
