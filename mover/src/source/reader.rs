//! Reading chunks from a real server, in a task of its own, so that a chunk is read and decoded while the target works.
//! Never holds more of a table than a bounded number of bytes and one row.

use std::collections::HashMap;
use std::sync::Arc;

use converge_mysql::{Connector, Error as ServerError, Position, ServerInfo, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row as ServerRow, Value as ServerValue};
use tokio::task::JoinHandle;

use super::guard::Guard;
use super::json_question::{self, Question};
use super::{ChunkReader, Fetched, TIMEOUT, chunk, json_types, marks, snapshot};
use crate::change::Mark;
use crate::error::{Error, OnSide, Result};
use crate::planted::{Bug, is_planted};
use crate::schema::Table;
use crate::value::{Row, Value, row_weight};

/// Seconds that a locking read waits for others, while they wait for the rows it has.
const LOCK_WAIT: u32 = 2;
/// Seconds after which the source lets rows go that are locked by a mover which vanished from the network.
const LOCKED_FOR: u32 = 120;
/// Seconds that a connection without locks may be idle.
pub(super) const IDLE: u32 = 28_800;
/// Bytes after which a chunk ends, however many rows were asked for.
const MOST_BYTES: usize = 32 << 20;

/// Reads chunks over a connection of its own.
pub struct ServerReader {
    /// Lent to the task that reads.
    conn: Option<Conn>,
    /// Another server's connection that marks are written over.
    marks: Option<Conn>,
    guard: Option<Guard>,
    connector: Connector,
    info: ServerInfo,
    workflow: String,
    tables: Arc<[Table]>,
    /// What is asked about the documents of each table that was read from, by the columns that have some.
    questions: HashMap<usize, Vec<Question>>,
}

impl ServerReader {
    /// A reader of these tables over `conn`. `connector` makes connections that stop a statement.
    pub(super) fn new(
        conn: Conn,
        marks: Option<Conn>,
        guard: Option<Guard>,
        (connector, info): (Connector, ServerInfo),
        workflow: String,
        tables: Arc<[Table]>,
    ) -> Self {
        let questions = HashMap::new();
        Self { conn: Some(conn), marks, guard, connector, info, workflow, tables, questions }
    }

    fn conn(&mut self) -> Result<&mut Conn> {
        let lost = || ServerError::Lost { what: "reading chunks".into(), why: "a read was given up".into() };
        self.conn.as_mut().ok_or_else(lost).on_source()
    }

    async fn execute(&mut self, what: &str, statement: &str) -> Result<()> {
        within(TIMEOUT, what, self.conn()?.query_drop(statement)).await.on_source()
    }

    /// Reads the first rows behind a key. `locks` ends the query.
    async fn fetch(
        &mut self,
        table: usize,
        after: Option<&[Value]>,
        limit: usize,
        locks: &[u8],
    ) -> Result<Fetched> {
        let tables = self.tables.clone();
        let form = &tables[table];
        let mut questions = match self.questions.remove(&table) {
            Some(questions) => questions,
            None => self.first_questions(form, after).await?,
        };
        loop {
            let query = [chunk::query(form, &questions, after, limit).as_slice(), locks].concat();
            let (mut fetched, open) = self.fetch_once(table, &questions, query, limit).await?;
            if json_question::learn(&mut questions, form, &fetched.rows, &open) {
                continue;
            }
            self.questions.insert(table, questions);
            let conn = self.conn()?;
            for (row, column) in open {
                json_types::restore(conn, form, &mut fetched.rows[row], column).await?;
            }
            return Ok(fetched);
        }
    }

    /// What to ask about documents, as the first ones look.
    async fn first_questions(&mut self, table: &Table, after: Option<&[Value]>) -> Result<Vec<Question>> {
        let mut columns = vec![Vec::new(); json_types::columns(table).count()];
        if !columns.is_empty() {
            let query = chunk::sample_query(table, after);
            let what = format!("reading some documents of {}", table.qualified());
            let rows: Vec<ServerRow> = within(TIMEOUT, &what, self.conn()?.query(query))
                .await
                .on_source()
                .map_err(snapshot::altered)?;
            for row in rows {
                for (texts, value) in columns.iter_mut().zip(row.unwrap()) {
                    if let ServerValue::Bytes(text) = value {
                        texts.push(text);
                    }
                }
            }
        }
        Ok(json_question::learned(columns))
    }

    async fn fetch_once(
        &mut self,
        table: usize,
        questions: &[Question],
        query: Vec<u8>,
        limit: usize,
    ) -> Result<(Fetched, Open)> {
        self.conn()?;
        let Some(mut conn) = self.conn.take() else {
            return Ok((Fetched { rows: Vec::new(), bytes: 0, ended: false }, Vec::new()));
        };
        let (connector, tables) = (self.connector.clone(), self.tables.clone());
        let questions = questions.to_vec();
        let mut task = Task(tokio::spawn(async move {
            let fetched = fetch(&mut conn, &connector, &tables[table], &questions, query, limit).await;
            (conn, fetched)
        }));
        let joined = (&mut task.0).await;
        let position = || self.tables[table].qualified();
        let (conn, fetched) =
            joined.map_err(|e| Error::Unreadable { position: position(), why: e.to_string() })?;
        // Kept also after an error: a lock that is not had in time ends no connection.
        let conn = self.conn.insert(conn);
        let fetched = fetched?;
        if let Some(guard) = &mut self.guard {
            guard.check(conn, &self.tables[table]).await?;
        }
        Ok(fetched)
    }
}

/// Ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Rows and columns of JSON documents that are to be asked about by themselves.
type Open = Vec<(usize, usize)>;

/// Runs the query and decodes its rows as they come.
async fn fetch(
    conn: &mut Conn,
    connector: &Connector,
    table: &Table,
    questions: &[Question],
    query: Vec<u8>,
    limit: usize,
) -> Result<(Fetched, Open)> {
    let what = format!("reading a chunk of {}", table.qualified());
    let id = conn.id();
    let (mut rows, mut open, mut bytes) = (Vec::new(), Vec::new(), 0);
    // A prepared statement answers in binary form: FLOAT loses digits in text form.
    let begun = within(TIMEOUT, &what, conn.exec_iter(query, ())).await;
    if let Err(ServerError::TimedOut { .. }) = begun {
        // The server would go on with it, or wait for what it waits for, and the next session would send another.
        let _ = stop(connector, id).await;
    }
    let mut result = begun.on_source().map_err(snapshot::altered)?;
    while bytes < MOST_BYTES {
        let next: Option<ServerRow> =
            within(TIMEOUT, &what, result.next()).await.on_source().map_err(snapshot::altered)?;
        let Some(row) = next else {
            return Ok((Fetched { ended: rows.len() < limit, bytes, rows }, open));
        };
        let (row, columns) = chunk_row(table, questions, row)?;
        open.extend(columns.into_iter().map(|column| (rows.len(), column)));
        bytes += row_weight(&row);
        rows.push(row);
    }
    // The rest is left for the next chunk: the statement is stopped, and what is under way thrown away.
    if rows.len() < limit {
        stop(connector, id).await?;
    }
    let rest = within(TIMEOUT, &what, result.drop_result()).await;
    match rest {
        Err(e) if e.server_code() != Some(INTERRUPTED) => Err(e).on_source(),
        _ => Ok((Fetched { rows, bytes, ended: false }, open)),
    }
}

fn chunk_row(table: &Table, questions: &[Question], row: ServerRow) -> Result<(Row, Vec<usize>)> {
    chunk::row(table, questions, row).map_err(|why| Error::Unreadable { position: table.qualified(), why })
}

/// The answer of a statement that was stopped.
const INTERRUPTED: u16 = 1317;

/// Stops the statement of another connection; the connection, its transaction and its locks stay.
async fn stop(connector: &Connector, id: u32) -> Result<()> {
    let mut conn = connector.connect().await.on_source()?;
    let stopped =
        within(TIMEOUT, "stopping a read", conn.query_drop(format!("KILL QUERY {id}"))).await.on_source();
    converge_mysql::connect::close(conn).await;
    stopped
}

impl ChunkReader for ServerReader {
    async fn mark(&mut self, mark: &Mark) -> Result<()> {
        let workflow = self.workflow.clone();
        match &mut self.marks {
            Some(conn) => marks::write(conn, &workflow, mark).await,
            None => marks::write(self.conn()?, &workflow, mark).await,
        }
    }

    async fn read(&mut self, table: usize, after: Option<&[Value]>, limit: usize) -> Result<Fetched> {
        self.fetch(table, after, limit, b"").await
    }

    async fn lock(&mut self, table: usize, after: Option<&[Value]>, limit: usize) -> Result<Fetched> {
        // Gaps need no locks, and without them inserts go on.
        for statement in [
            format!("SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT}, wait_timeout = {LOCKED_FOR}"),
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
            "START TRANSACTION".to_owned(),
        ] {
            self.execute("preparing to lock a chunk", &statement).await?;
        }
        let locks = if is_planted(Bug::LockingWithoutLock) { b"" } else { chunk::LOCKING };
        self.fetch(table, after, limit, locks).await
    }

    async fn scan(
        &mut self,
        table: usize,
        limit: usize,
        mut pass_on: impl AsyncFnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()> {
        let tables = self.tables.clone();
        let table = &tables[table];
        let what = format!("reading {}", table.qualified());
        let questions = json_question::any(table);
        let query = chunk::scan_query(table, &questions);
        let mut result = within(TIMEOUT, &what, self.conn()?.exec_iter(query, ()))
            .await
            .on_source()
            .map_err(snapshot::altered)?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) =
            within(TIMEOUT, &what, result.next()).await.on_source().map_err(snapshot::altered)?
        {
            let (row, open) = chunk_row(table, &questions, row)?;
            if let Some(column) = open.first() {
                return Err(json_types::without_key(table, *column));
            }
            bytes += row_weight(&row);
            rows.push(row);
            if rows.len() >= limit || bytes >= MOST_BYTES {
                bytes = 0;
                pass_on(std::mem::take(&mut rows)).await?;
            }
        }
        if rows.is_empty() { Ok(()) } else { pass_on(rows).await }
    }

    async fn seen(&mut self) -> Result<Position> {
        let info = self.info;
        Position::current(self.conn()?, &info).await.on_source()
    }

    async fn holds(&mut self) -> Result<()> {
        // A transaction, and its locks with it, lives as long as its connection.
        self.execute("asking whether a chunk's rows are still locked", "DO 0").await
    }

    async fn release(&mut self) -> Result<()> {
        let what = "letting a chunk's locks go";
        self.execute(what, "ROLLBACK").await?;
        self.execute(what, &format!("SET SESSION wait_timeout = {IDLE}")).await
    }
}
