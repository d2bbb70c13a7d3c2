//! A real MySQL or MariaDB server as the source.

use std::sync::Arc;
use std::time::Duration;

use converge_mysql::connect::patient;
use converge_mysql::{Connector, Error as ServerError, Flavor, Position, ServerInfo, last_numbers, within};
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Sid};

use super::binlog::{self, Reader, heartbeat};
use super::fenced::Fences;
use super::guard::Guard;
use super::prepared::Prepared;
use super::reader::IDLE;
use super::replicated::Replicated;
use super::stream::ServerStream;
use super::{
    ChangeStream, ServerReader, Source, TIMEOUT, errant, fence, hold, marks, place, refused, snapshot,
    upstream, xa,
};
use crate::change::{Mark, StreamEvent};
use crate::error::{Error, OnSide, Result};
use crate::schema::Table;

/// How long a statement of the mover's waits for a table that somebody locks as a whole.
const TABLE_LOCK_WAIT: Duration = Duration::from_secs(30);

/// A server, the tables that are moved away from it, and the workflow that does it.
#[derive(Clone)]
pub struct ServerSource {
    connector: Connector,
    workflow: String,
    tables: Arc<[Table]>,
    info: ServerInfo,
    /// Identifies this reader among the server's replicas.
    server_id: u32,
    /// Where marks are written, if not here.
    marks: Option<Connector>,
    /// What it is, if it stands for the source.
    replica: Option<Replicated>,
    guarded: bool,
    /// Whether the fence may be up where streams begin.
    fenced: bool,
    /// A position that no XA transaction spans of which streams do not see that it is prepared.
    unprepared: Option<Position>,
}

impl ServerSource {
    /// `run` is a number that no other reader has at the same time.
    pub fn new(
        connector: Connector,
        info: ServerInfo,
        workflow: &str,
        tables: Arc<[Table]>,
        run: u64,
    ) -> Self {
        let (workflow, server_id) = (workflow.into(), server_id(run));
        Self {
            connector,
            workflow,
            tables,
            info,
            server_id,
            marks: None,
            replica: None,
            guarded: false,
            fenced: false,
            unprepared: None,
        }
    }

    /// Writes the marks of readers to another server, whose replica this one is and has to be.
    pub fn standing_for(mut self, server: Connector, replica: Replicated) -> Self {
        (self.marks, self.replica) = (Some(server), Some(replica));
        self
    }

    /// Lets readers see to it that tables are as the stream knows them, for strategies that need it.
    pub fn guarded(mut self, guarded: bool) -> Self {
        self.guarded = guarded;
        self
    }

    /// Says that the fence may be up where streams begin.
    pub fn perhaps_fenced(mut self, fenced: bool) -> Self {
        self.fenced = fenced;
        self
    }

    /// Ends streams where an XA transaction is committed behind `unprepared` that they did not see being prepared.
    pub fn unprepared(mut self, unprepared: Option<Position>) -> Self {
        self.unprepared = unprepared;
        self
    }

    /// A connection whose results are bytes in each column's own character set.
    async fn connect(&self) -> Result<Conn> {
        let mut conn = self.connector.connect().await.on_source()?;
        within(
            TIMEOUT,
            "setting up a session",
            // A copy that goes slowly leaves its connection idle for long. Keys may hold days that there are not. A table that
            // somebody keeps locked is told of before the mover's own patience is over, which would leave the statement waiting.
            conn.query_drop(format!(
                "SET SESSION sql_mode = 'ALLOW_INVALID_DATES', character_set_results = NULL, wait_timeout = {IDLE}, \
                 lock_wait_timeout = {}",
                patient(TABLE_LOCK_WAIT).as_secs().max(1)
            )),
        )
        .await
        .on_source()?;
        Ok(conn)
    }

    async fn reader_over(&self, conn: Conn) -> Result<ServerReader> {
        let marks = match &self.marks {
            Some(connector) => Some(connector.connect().await.on_source()?),
            None => None,
        };
        let guard = self.guarded.then(Guard::default);
        let server = (self.connector.clone(), self.info);
        Ok(ServerReader::new(conn, marks, guard, server, self.workflow.clone(), self.tables.clone()))
    }

    /// The tables that are moved away from it.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The position after the last transaction in the log.
    pub async fn position(&self, conn: &mut Conn) -> Result<Position> {
        Position::current(conn, &self.info).await.on_source()
    }

    /// A connection for short statements.
    pub async fn control(&self) -> Result<Conn> {
        self.connector.connect().await.on_source()
    }

    /// How far the fence is up.
    pub async fn raised(&self, conn: &mut Conn) -> Result<fence::Raised> {
        fence::raised(conn, &self.tables).await
    }

    /// Makes `conn` the only connection that may move the fence of `owner`.
    pub async fn hold_fence(&self, conn: &mut Conn, owner: &str) -> Result<()> {
        hold::hold(conn, owner).await
    }

    /// Whether the stream may begin behind a fence: `owner` has wanted one, or somebody's is up now.
    pub async fn may_be_fenced(&self, conn: &mut Conn, owner: &str) -> Result<bool> {
        Ok(fence::is_claimed(conn, &self.tables, owner).await? || fence::is_up(conn, &self.tables).await?)
    }

    /// Leaves on the source that `owner` is about to fence the tables; or says what is in the way of that.
    pub async fn claim_fence(&self, conn: &mut Conn, owner: &str) -> Result<Option<String>> {
        match upstream::upstreams(conn, &self.info).await {
            Ok(upstreams) if upstreams.is_empty() => {}
            Ok(upstreams) => {
                return Ok(Some(format!(
                    "the source is set up as a replica of {}, and a fence there keeps nobody out of the server that is \
                     written to; {}",
                    upstreams.join(", "),
                    upstream::way_out(&self.info)
                )));
            }
            Err(error @ ServerError::Denied { .. }) => {
                tracing::warn!(
                    "whether the source is a replica, where a fence helps nothing, cannot be seen: {error}"
                );
            }
            Err(error) => return Err(error).on_source(),
        }
        match fence::obstacle(conn, &self.tables).await? {
            None => fence::claim(conn, &self.tables, owner).await.map(|()| None),
            obstacle => Ok(obstacle),
        }
    }

    /// Whether `owner` was the last to claim the fence.
    pub async fn is_fence_of(&self, conn: &mut Conn, owner: &str) -> Result<bool> {
        fence::is_claimed(conn, &self.tables, owner).await
    }

    /// Removes the claims of `owner`.
    pub async fn disclaim_fence(&self, conn: &mut Conn, owner: &str) -> Result<()> {
        fence::disclaim(conn, owner).await
    }

    /// Whether a statement that fences or takes a fence away is under way on another connection.
    pub async fn is_fencing(&self, conn: &mut Conn) -> Result<bool> {
        fence::is_waiting(conn).await
    }

    /// Fences all tables, waiting for open transactions for at most `wait`.
    pub async fn fence(&self, conn: &mut Conn, wait: Duration) -> Result<()> {
        fence::raise(conn, &self.tables, wait).await
    }

    /// Takes the fence away, from as many tables as it can be.
    pub async fn unfence(&self, conn: &mut Conn) -> Result<()> {
        fence::lower(conn, &self.tables, Duration::from_secs(10)).await
    }

    /// Writes a mark over a connection of the caller's.
    pub async fn mark(&self, conn: &mut Conn, mark: &Mark) -> Result<()> {
        marks::write(conn, &self.workflow, mark).await
    }

    /// The transactions that the source has. What a replica of MariaDB's was set up with is not in its log, nor are domains in
    /// which nothing was written since.
    async fn known(&self, conn: &mut Conn) -> Result<Position> {
        let logged = self.position(conn).await?;
        let Position::MariaDbGtid(_) = &logged else { return Ok(logged) };
        let what = "reading gtid_slave_pos";
        let applied: Option<String> =
            within(TIMEOUT, what, conn.query_first("SELECT @@gtid_slave_pos")).await.on_source()?;
        let applied = applied.unwrap_or_default().parse().on_source()?;
        Ok(logged.joined(&Position::MariaDbGtid(applied)))
    }

    /// What a MariaDB knows of others' transactions, where that is less than `position`. Its own position does not tell: a
    /// domain's numbers go on whoever writes, so that a server which was put up from a backup comes to the same ones with
    /// transactions of its own.
    async fn never_had(&self, conn: &mut Conn, position: &Position) -> Result<Option<String>> {
        let Position::MariaDbGtid(position) = position else { return Ok(None) };
        let known = errant::known(conn).await?;
        // There may be several servers of a domain, of which a position has the last one only.
        let last = last_numbers(&known).on_source()?;
        let has_all = position.numbers().all(|(id, number)| last.get(&id) >= Some(&number));
        Ok((!has_all).then_some(known))
    }

    /// Refuses a source that does not have all which rows show that were copied ahead of the stream: what it does not have
    /// would stay on the target, and nothing in its log would mend it.
    pub async fn check_seen<'p>(
        &self,
        conn: &mut Conn,
        seen: impl Iterator<Item = &'p Position>,
    ) -> Result<()> {
        let now = self.known(conn).await?;
        for seen in seen {
            if now.covers(seen) != Some(true) || self.never_had(conn, seen).await?.is_some() {
                return Err(Error::refused(
                    format!(
                        "rows were copied from a source that stood at {seen}, and this one has only {now}: the target may show \
                         transactions that this source never had"
                    ),
                    "point --source at a server that has them; if they are lost, cancel the workflow, empty its tables on the \
                     target, and begin again under another name",
                ));
            }
        }
        Ok(())
    }

    /// Refuses a server in place of the one that was switched away from, unless it has all of that and its fence.
    pub async fn check_switched(&self, conn: &mut Conn, position: &Position) -> Result<()> {
        self.check_has(conn, position).await?;
        match self.raised(conn).await? {
            fence::Raised::All => Ok(()),
            _ => Err(Error::refused(
                "the workflow is switched, and the tables are not fenced on this server: writers can reach them there, and \
                 nothing is moved any more",
                "point --source at the server that was switched away from, or at one that has its fence; or see to it that \
                 nobody writes to the tables there, and end the workflow: `converge move complete`",
            )),
        }
    }

    /// Refuses a position that the source does not have yet.
    async fn check_has(&self, conn: &mut Conn, position: &Position) -> Result<()> {
        let now = self.known(conn).await?;
        match now.covers(position) {
            Some(true) => {
                if let Some(known) = self.never_had(conn, position).await? {
                    return Err(refused::never_had(position, &known));
                }
                Ok(())
            }
            Some(false) => {
                let (source_position, applied) = (now.to_string(), position.to_string());
                Err(Error::SourceWentBack { source_position, applied })
            }
            None => Err(Error::refused(
                format!("the checkpoint {position} is of another kind than the source's position {now}"),
                "point --source at a server of the same kind with the same GTID mode",
            )),
        }
    }

    /// Refuses a position that the source no longer has, or does not have yet.
    async fn check_position(&self, conn: &mut Conn, position: &Position) -> Result<()> {
        self.check_has(conn, position).await?;
        let Position::Gtid(applied) = position else { return Ok(()) };
        let purged: Option<String> =
            within(TIMEOUT, "reading gtid_purged", conn.query_first("SELECT @@gtid_purged"))
                .await
                .on_source()?;
        let purged = purged.unwrap_or_default();
        if applied.covers(&purged.parse().on_source()?) {
            return Ok(());
        }
        Err(Error::BinlogPurged {
            position: position.to_string(),
            message: format!("gtid_purged is {purged}"),
        })
    }

    async fn set_up_dump(&self, conn: &mut Conn, position: &Position) -> Result<()> {
        let nanoseconds = heartbeat().as_nanos();
        // A stream that waits for a slow target must not be given up by the source.
        let mut setup = vec![
            "SET SESSION net_write_timeout = 3600".into(),
            match self.info.flavor {
                Flavor::MySql => format!(
                    "SET @source_heartbeat_period = {nanoseconds}, @master_heartbeat_period = {nanoseconds}"
                ),
                Flavor::MariaDb => format!("SET @master_heartbeat_period = {nanoseconds}"),
            },
        ];
        if self.info.flavor == Flavor::MariaDb {
            setup.push("SET @mariadb_slave_capability = 4".into());
            if let Position::MariaDbGtid(at) = position {
                setup.push(format!("SET @slave_connect_state = '{at}', @slave_gtid_strict_mode = 1"));
            }
        }
        for statement in setup {
            within(TIMEOUT, "preparing to read the binary log", conn.query_drop(statement))
                .await
                .on_source()?;
        }
        Ok(())
    }

    /// How the fences stand at `position`.
    async fn fences_at(&self, position: &Position) -> Result<Fences> {
        if !self.fenced {
            return Ok(Fences::down(&self.tables));
        }
        let mut fences = Fences::unknown(&self.tables);
        // First: a renaming that comes after it is in the log, which goes before it.
        let now = fence::stands(&mut self.control().await?, &self.tables).await?;
        let log = self.log(position, self.request().with_non_blocking()).await?;
        binlog::learn(&mut fences, log, position).await?;
        fences.settle(&now);
        Ok(fences)
    }

    fn request(&self) -> BinlogStreamRequest<'_> {
        BinlogStreamRequest::new(self.server_id)
    }

    /// The log from `position` on.
    async fn log<'a>(
        &self,
        position: &'a Position,
        request: BinlogStreamRequest<'a>,
    ) -> Result<BinlogStream> {
        let mut conn = self.control().await?;
        self.check_position(&mut conn, position).await?;
        self.set_up_dump(&mut conn, position).await?;
        let stream = match position {
            Position::Gtid(set) => {
                let sids = set
                    .iter()
                    .map(|(uuid, tag, intervals)| sid(uuid, tag, intervals))
                    .collect::<Result<Vec<_>>>()?;
                conn.get_binlog_stream(request.with_gtid().with_gtid_set(sids).with_pos(4u64)).await
            }
            Position::MariaDbGtid(_) => conn.get_binlog_stream(request.with_pos(4u64)).await,
            Position::File(at) => {
                let offset = place::requested(at.offset);
                conn.get_binlog_stream(request.with_filename(at.file.as_bytes()).with_pos(offset)).await
            }
        };
        stream.map_err(|e| refused::reason(e, &position.to_string()))
    }
}

impl Source for ServerSource {
    type Reader = ServerReader;
    type Stream = ServerStream;

    async fn reader(&self) -> Result<ServerReader> {
        self.reader_over(self.connect().await?).await
    }

    async fn snapshot(&self, tables: &[usize]) -> Result<(ServerReader, Position)> {
        let (mut conn, mut other) = (self.connect().await?, self.control().await?);
        let tables: Vec<&Table> = tables.iter().map(|&i| &self.tables[i]).collect();
        // The stream begins here for the other tables too, and must not come between the two parts of an XA transaction that
        // changes them. Locking these as well would wait for every transaction of theirs.
        let locks_all = self.info.flavor == Flavor::MySql && tables.len() == self.tables.len();
        let sees_xa = xa::prepared(&mut other).await?.is_some();
        let every: Vec<&Table> = self.tables.iter().collect();
        let locked = if sees_xa { &tables } else { &every };
        let position =
            snapshot::open(&mut conn, &mut other, &self.info, locked, sees_xa && !locks_all).await?;
        snapshot::check_form(&mut other, &tables).await?;
        if let Some(replica) = &self.replica {
            replica.check_at(&mut other, &position).await?;
        }
        Ok((self.reader_over(conn).await?, position))
    }

    async fn stream(&self, position: &Position) -> Result<ServerStream> {
        let fences = self.fences_at(position).await?;
        let log = self.log(position, self.request()).await?;
        let (tables, replica) = (self.tables.clone(), self.replica.clone());
        let prepared = self.unprepared.clone().map(Prepared::since);
        let reader = Reader::new(log, position, tables, &self.workflow, fences);
        Ok(ServerStream::start(reader.beside(replica, prepared)))
    }
}

/// An id among the source's replicas for a reader with this number.
pub fn server_id(run: u64) -> u32 {
    // Ids of real servers are mostly small: the upper half is used.
    (run ^ run >> 32) as u32 | 0x8000_0000
}

fn sid(uuid: &str, tag: &str, intervals: &[(u64, u64)]) -> Result<Sid<'static>> {
    let tag = if tag.is_empty() { String::new() } else { format!("{tag}:") };
    let intervals: Vec<String> = intervals.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    let text = format!("{uuid}:{tag}{}", intervals.join(":"));
    text.parse::<Sid<'static>>()
        .map_err(|e| ServerError::BadPosition { text, why: e.to_string() })
        .on_source()
}

impl ChangeStream for ServerStream {
    fn ready(&mut self) -> Option<Result<StreamEvent>> {
        ServerStream::ready(self)
    }

    async fn next(&mut self) -> Result<StreamEvent> {
        ServerStream::next(self).await
    }
}
