//! A connection whose session settings are pinned, so that no server default changes what a statement returns.
//!
//! Nothing here writes; the session is read-only.

pub mod running;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use converge_mysql::connect::SETUP;
use converge_mysql::{Address, Connector, Flavor, ServerInfo, Version, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use crate::error::Error;
use crate::request::Side;
use running::{Begun, Running};
use wire::Wire;

pub use wire::cell;

/// One row as the text protocol gives it: bytes, or `None` for NULL.
pub type Cells = Vec<Option<Vec<u8>>>;

/// Bytes of a chunk's digests that MySQL is to keep in memory. What is more goes through InnoDB, which takes longer, and
/// counts it among the rows that were written.
const DIGESTS: u64 = 128 << 20;

/// What MySQL may use, by default, to find out which rows a condition needs: with less it reads the whole table for a chunk.
const RANGES: u64 = 8 << 20;

/// A server's own limit is so much longer than ours, so that the error is ours and tells what to do.
const GRACE: Duration = Duration::from_secs(5);

/// Longer than any statement takes; MySQL takes little more.
const ENDLESS: Duration = Duration::from_secs(30 * 24 * 3600);

/// Logs, by what people call them.
const GENERAL_LOG: &str = "the general log";
const SLOW_LOG: &str = "the slow query log";

/// A pinned connection to one side.
pub struct Session {
    conn: Conn,
    /// Which of the two.
    pub side: Side,
    /// Product and version.
    pub info: ServerInfo,
    /// The address, password hidden.
    pub address: String,
    /// The default database.
    pub database: String,
    /// The most bytes that the server puts into one value.
    pub longest: u64,
    timeout: Duration,
    /// What makes results independent of the server's defaults.
    pins: String,
    /// The address, to open a [`Wire`] to.
    origin: Address,
    wire: Option<Wire>,
    /// Whether the address is one for the driver only.
    no_wire: bool,
    /// Where it is known what runs on the server.
    running: Running,
}

impl Session {
    /// Connects and pins the session. A statement that takes longer than `timeout` is given up, here and on the
    /// server.
    pub async fn open(side: Side, address: &Address, timeout: Duration) -> Result<Self, Error> {
        let fail = |inner| Error::server(side, &address.to_string(), inner);
        let database = address.require_database().map_err(fail)?.to_owned();
        let mut conn = Connector::new(address.clone()).connect().await.map_err(fail)?;
        let info = within(timeout, "reading the server's version", ServerInfo::read(&mut conn));
        let info = info.await.map_err(fail)?;
        let mut session = Self {
            conn,
            side,
            info,
            address: address.to_string(),
            database,
            longest: 0,
            timeout,
            pins: String::new(),
            origin: address.clone(),
            wire: None,
            no_wire: false,
            running: Running::current(),
        };
        let unlogged = session.unlogged().await?;
        session.pins = session.pins().await? + &unlogged;
        let pins = session.pins.clone();
        session.query("setting up the session", &pins).await?;
        if !unlogged.is_empty() {
            // Later it would be among what was written while tables were compared.
            session.make_ready().await;
        }
        let longest = session.one("reading the server's limits", "SELECT @@max_allowed_packet").await?;
        session.longest = longest.first().and_then(number).unwrap_or(0);
        Ok(session)
    }

    /// The statement that makes results independent of the server's defaults.
    async fn pins(&mut self) -> Result<String, Error> {
        // With another mode a date that is none, as tables may hold, could not be looked for. Virtual columns are computed as
        // the session that reads them divides, counts weeks and names days.
        let common = "SET SESSION sql_mode = 'ALLOW_INVALID_DATES', sql_select_limit = 18446744073709551615, sql_big_selects = 1, \
                      sql_auto_is_null = 0, character_set_results = NULL, net_write_timeout = 3600, wait_timeout = 86400, \
                      div_precision_increment = 4, default_week_format = 0, lc_time_names = 'en_US'";
        let limit = self.timeout + GRACE;
        let off = self.switched_off().await?;
        Ok(match self.info.flavor {
            Flavor::MySql => format!(
                "{common}{off}, transaction_isolation = 'REPEATABLE-READ', transaction_read_only = ON, \
                 information_schema_stats_expiry = 0, range_optimizer_max_mem_size = {RANGES}, \
                 tmp_table_size = CAST(GREATEST(@@tmp_table_size, {DIGESTS}) AS UNSIGNED), \
                 max_execution_time = {}{}",
                limit.as_millis(),
                self.all_columns()
            ),
            Flavor::MariaDb => format!(
                "{common}{off}, tx_isolation = 'REPEATABLE-READ', tx_read_only = ON, query_cache_type = OFF, \
                 system_versioning_asof = DEFAULT, max_statement_time = {}",
                limit.as_secs()
            ),
        })
    }

    /// What is not wanted, as far as this version has it: temporary tables on disk, which count as rows that were
    /// written, and engines that are told of a change later than InnoDB.
    async fn switched_off(&mut self) -> Result<String, Error> {
        let sql = "SHOW SESSION VARIABLES WHERE Variable_name IN ('big_tables', 'use_secondary_engine')";
        let known = self.query("reading which settings there are", sql).await?;
        Ok(known.iter().map(|row| format!(", {} = OFF", text(&row[0]))).collect())
    }

    /// What keeps this session out of logs that are tables, where there are such: each statement in them counts as a row that
    /// was written. (MySQL counts those of a session apart.) Without SUPER the general log has all statements.
    async fn unlogged(&mut self) -> Result<String, Error> {
        let logs = self.table_logs().await?;
        let mut pins = String::new();
        if logs.contains(&SLOW_LOG) {
            pins.push_str(", slow_query_log = OFF");
        }
        if logs.contains(&GENERAL_LOG) {
            let allowed = self.query("setting up the session", "SET SESSION sql_log_off = ON").await;
            pins.push_str(if allowed.is_ok() { ", sql_log_off = ON" } else { "" });
        }
        Ok(pins)
    }

    /// The logs in tables whose rows count among those that were written: of MariaDB.
    pub async fn table_logs(&mut self) -> Result<Vec<&'static str>, Error> {
        if self.info.flavor == Flavor::MySql {
            return Ok(Vec::new());
        }
        let sql = "SELECT FIND_IN_SET('TABLE', @@log_output) > 0 AND @@GLOBAL.general_log, \
                   FIND_IN_SET('TABLE', @@log_output) > 0 AND @@GLOBAL.slow_query_log";
        let row = self.one("reading where the server logs to", sql).await?;
        let logs = row.iter().zip([GENERAL_LOG, SLOW_LOG]);
        Ok(logs.filter(|(on, _)| number(on) == Some(1)).map(|(_, log)| log).collect())
    }

    /// A server may be told to hide the columns that it made for keys itself.
    fn all_columns(&self) -> &'static str {
        let hides = self.info.is_mysql_since(Version(8, 0, 30));
        if hides { ", show_gipk_in_create_table_and_information_schema = ON" } else { "" }
    }

    /// Runs a statement and returns all of its rows. `what` says what it is for, as in "reading the key".
    pub async fn query(&mut self, what: &str, sql: &str) -> Result<Vec<Cells>, Error> {
        self.query_within(self.timeout, what, sql).await
    }

    /// Like [`Session::query`], for a statement that may take as long as `bound`.
    pub async fn query_for(&mut self, bound: Duration, what: &str, sql: &str) -> Result<Vec<Cells>, Error> {
        if bound <= self.timeout {
            return self.query(what, sql).await;
        }
        let sql = self.limited(sql, bound + GRACE);
        self.query_within(bound, what, &sql).await
    }

    async fn query_within(&mut self, bound: Duration, what: &str, sql: &str) -> Result<Vec<Cells>, Error> {
        let begun = self.begun(self.conn.id(), sql);
        let done = within(bound, what, self.conn.query(sql)).await;
        let rows: Vec<Row> = self.ended(begun, done)?;
        Ok(rows.into_iter().map(cells).collect())
    }

    fn begun(&self, connection: u32, sql: &str) -> Begun {
        tracing::trace!(side = %self.side, sql);
        self.running.begin(&self.origin, connection, sql)
    }

    fn ended<T>(&self, begun: Begun, done: Result<T, converge_mysql::Error>) -> Result<T, Error> {
        use converge_mysql::Error::{Lost, TimedOut};
        // Of what was given up, and of what a lost connection ran, the server may know nothing.
        if !matches!(done, Err(TimedOut { .. } | Lost { .. })) {
            begun.over();
        }
        done.map_err(|inner| self.failed(inner))
    }

    /// Runs a statement and hands its rows out one by one as they arrive, holding none of them.
    pub async fn each(&mut self, what: &str, sql: &str, take: impl FnMut(Row) + Send) -> Result<(), Error> {
        let begun = self.begun(self.conn.id(), sql);
        let conn = &mut self.conn;
        let read = async {
            let mut result = conn.query_iter(sql).await?;
            result.for_each(take).await
        };
        let done = within(self.timeout, what, read).await;
        self.ended(begun, done)
    }

    /// Like [`Session::each`], for statements that may go on for as long as their rows arrive: given up after the time for a
    /// statement without a row. The server must send rows as it reads them.
    pub async fn flow(
        &mut self,
        what: &str,
        sql: &str,
        mut take: impl FnMut(Row) + Send,
    ) -> Result<(), Error> {
        let sql = self.limited(sql, ENDLESS);
        let begun = self.begun(self.conn.id(), &sql);
        let (conn, rows, timeout) = (&mut self.conn, AtomicU64::new(0), self.timeout);
        let done = async {
            let mut read = std::pin::pin!(async {
                let mut result = conn.query_iter(sql).await?;
                let counted = |row| {
                    rows.fetch_add(1, Ordering::Relaxed);
                    take(row);
                };
                result.for_each(counted).await
            });
            loop {
                let before = rows.load(Ordering::Relaxed);
                match within(timeout, what, &mut read).await {
                    Err(converge_mysql::Error::TimedOut { .. }) if rows.load(Ordering::Relaxed) > before => {}
                    done => return done,
                }
            }
        };
        let done = done.await;
        self.ended(begun, done)
    }

    /// A SELECT that the server ends by itself only after so long.
    fn limited(&self, sql: &str, limit: Duration) -> String {
        let (rest, limit) = (sql.strip_prefix("SELECT").unwrap_or(sql), limit.min(ENDLESS));
        match self.info.flavor {
            Flavor::MySql => format!("SELECT /*+ MAX_EXECUTION_TIME({}) */{rest}", limit.as_millis()),
            Flavor::MariaDb => format!("SET STATEMENT max_statement_time = {} FOR {sql}", limit.as_secs()),
        }
    }

    /// Opens a [`Wire`], if this is an address for one and none is open.
    pub async fn make_ready(&mut self) {
        if self.wire.is_none() && !self.no_wire {
            let setup = [SETUP, &self.pins];
            let opened = tokio::time::timeout(WIRE_BOUND, Wire::open(&self.origin, &setup)).await;
            self.wire = opened.unwrap_or(None);
            self.no_wire = self.wire.is_none();
        }
    }

    /// Runs a statement and hands out the payload of each row as it arrives, cells with their lengths in front: the
    /// same bytes whether the driver reads them or not.
    pub async fn packets(
        &mut self,
        what: &str,
        sql: &str,
        mut take: impl FnMut(&[u8]) + Send,
    ) -> Result<(), Error> {
        self.make_ready().await;
        // Taken out, so that one that broke off in the middle is not used again.
        let Some(mut wire) = self.wire.take() else {
            let mut packet = Vec::new();
            return self
                .each(what, sql, |row| {
                    wire::encode(&mut packet, (0..row.len()).map(|at| raw_cell(&row, at)));
                    take(&packet);
                })
                .await;
        };
        let begun = self.begun(wire.connection(), sql);
        let done = within(self.timeout, what, wire.rows(sql, take)).await;
        self.ended(begun, done)?;
        self.wire = Some(wire);
        Ok(())
    }

    /// Like [`Session::query`], for statements that give exactly one row.
    pub async fn one(&mut self, what: &str, sql: &str) -> Result<Cells, Error> {
        let rows = self.query(what, sql).await?;
        match <[Cells; 1]>::try_from(rows) {
            Ok([row]) => Ok(row),
            Err(rows) => Err(self.unexpected(what, &format!("{} rows instead of one", rows.len()))),
        }
    }

    /// How long a statement may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The connection, for plumbing that reads no rows of tables.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// An error about an answer that no server should give.
    pub fn unexpected(&self, what: &str, why: &str) -> Error {
        Error::Unexpected { side: self.side, what: what.into(), why: why.into() }
    }

    /// A connection's or statement's error on this side.
    pub fn failed(&self, inner: converge_mysql::Error) -> Error {
        Error::server(self.side, &self.address, inner)
    }

    /// Ends the connection politely.
    pub async fn close(self) {
        converge_mysql::connect::close(self.conn).await;
    }
}

/// How long opening a connection beside the driver's may take.
const WIRE_BOUND: Duration = Duration::from_secs(10);

/// A cell's bytes; `None` for NULL.
pub fn raw_cell(row: &Row, at: usize) -> Option<&[u8]> {
    match row.as_ref(at) {
        Some(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// A row's cells.
pub fn cells(row: Row) -> Cells {
    row.unwrap().into_iter().map(bytes).collect()
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(bytes),
        other => Some(other.as_sql(true).into_bytes()),
    }
}

/// A cell as text, invalid UTF-8 replaced; empty for NULL.
pub fn text(cell: &Option<Vec<u8>>) -> String {
    cell.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

/// A cell as a whole number.
pub fn number<T: std::str::FromStr>(cell: &Option<Vec<u8>>) -> Option<T> {
    std::str::from_utf8(cell.as_deref()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use mysql_common::constants::{CapabilityFlags, StatusFlags};
    use mysql_common::packets::HandshakePacket;
    use mysql_common::proto::MySerialize as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn write(stream: &mut TcpStream, sequence: u8, payload: &[u8]) {
        let length = (payload.len() as u32).to_le_bytes();
        stream.write_all(&[length[0], length[1], length[2], sequence]).await.unwrap();
        stream.write_all(payload).await.unwrap();
    }

    async fn read(stream: &mut TcpStream) -> Vec<u8> {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        payload
    }

    /// Lets a client in and sets up its session, but never answers a question.
    async fn silent(listener: TcpListener) {
        const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
        let (mut stream, _) = listener.accept().await.unwrap();
        let capabilities = CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_PLUGIN_AUTH
            | CapabilityFlags::CLIENT_CONNECT_WITH_DB;
        let greeting = HandshakePacket::new(
            10,
            &b"8.4.0"[..],
            1,
            [1; 8],
            Some(&b"123456789012\0"[..]),
            capabilities,
            45,
            StatusFlags::SERVER_STATUS_AUTOCOMMIT,
            Some(&b"mysql_native_password"[..]),
        );
        let mut payload = Vec::new();
        greeting.serialize(&mut payload);
        write(&mut stream, 0, &payload).await;
        read(&mut stream).await;
        write(&mut stream, 2, OK).await;
        while read(&mut stream).await.get(1..4) == Some(b"SET") {
            write(&mut stream, 1, OK).await;
        }
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for_without_end() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(silent(listener));
        let address: Address = format!("mysql://u@127.0.0.1:{port}/d").parse().unwrap();
        let opened = Session::open(Side::Source, &address, Duration::from_millis(300));
        let opened = tokio::time::timeout(Duration::from_secs(8), opened).await.expect("an end");
        let error = opened.err().expect("no session").to_string();
        assert!(error.contains("the server's version: no answer within"), "{error}");
        server.abort();
    }
}
