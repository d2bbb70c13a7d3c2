//! A connection whose session settings are pinned, so that no server default changes what a statement returns.
//!
//! Nothing here writes; the session is read-only.

mod wire;

use std::time::Duration;

use converge_mysql::connect::SETUP;
use converge_mysql::{Address, Connector, Flavor, ServerInfo, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use crate::error::Error;
use crate::request::Side;
use wire::Wire;

pub use wire::cell;

/// One row as the text protocol gives it: bytes, or `None` for NULL.
pub type Cells = Vec<Option<Vec<u8>>>;

/// Bytes of a chunk's digests that MySQL is to keep in memory. What is more goes through InnoDB, which takes longer, and
/// counts it among the rows that were written.
const DIGESTS: u64 = 128 << 20;

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
    /// The address, to open a [`Wire`] to.
    origin: Address,
    wire: Option<Wire>,
    /// Whether the address is one for the driver only.
    no_wire: bool,
}

impl Session {
    /// Connects and pins the session. A statement that takes longer than `timeout` is given up, here and on the
    /// server.
    pub async fn open(side: Side, address: &Address, timeout: Duration) -> Result<Self, Error> {
        let fail = |inner| Error::server(side, &address.to_string(), inner);
        let database = address.require_database().map_err(fail)?.to_owned();
        let mut conn = Connector::new(address.clone()).connect().await.map_err(fail)?;
        let info = ServerInfo::read(&mut conn).await.map_err(fail)?;
        let mut session = Self {
            conn,
            side,
            info,
            address: address.to_string(),
            database,
            longest: 0,
            timeout,
            origin: address.clone(),
            wire: None,
            no_wire: false,
        };
        let pins = session.pins();
        session.query("setting up the session", &pins).await?;
        let longest = session.one("reading the server's limits", "SELECT @@max_allowed_packet").await?;
        session.longest = longest.first().and_then(number).unwrap_or(0);
        Ok(session)
    }

    /// The statement that makes results independent of the server's defaults.
    fn pins(&self) -> String {
        let common = "SET SESSION sql_mode = '', sql_select_limit = 18446744073709551615, sql_big_selects = 1, \
                      sql_auto_is_null = 0, character_set_results = NULL, net_write_timeout = 3600, wait_timeout = 86400";
        // The server's own limit is a little longer, so that the error is ours and tells what to do.
        let limit = self.timeout + Duration::from_secs(5);
        match self.info.flavor {
            Flavor::MySql => format!(
                "{common}, transaction_isolation = 'REPEATABLE-READ', transaction_read_only = ON, \
                 information_schema_stats_expiry = 0, \
                 tmp_table_size = CAST(GREATEST(@@tmp_table_size, {DIGESTS}) AS UNSIGNED), \
                 max_execution_time = {}",
                limit.as_millis()
            ),
            Flavor::MariaDb => format!(
                "{common}, tx_isolation = 'REPEATABLE-READ', tx_read_only = ON, query_cache_type = OFF, \
                 max_statement_time = {}",
                limit.as_secs()
            ),
        }
    }

    /// Runs a statement and returns all of its rows. `what` says what it is for, as in "reading the key".
    pub async fn query(&mut self, what: &str, sql: &str) -> Result<Vec<Cells>, Error> {
        tracing::trace!(side = %self.side, sql);
        let rows: Vec<Row> =
            within(self.timeout, what, self.conn.query(sql)).await.map_err(|inner| self.failed(inner))?;
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(bytes).collect()).collect())
    }

    /// Runs a statement and hands its rows out one by one as they arrive, holding none of them.
    pub async fn each(&mut self, what: &str, sql: &str, take: impl FnMut(Row) + Send) -> Result<(), Error> {
        tracing::trace!(side = %self.side, sql);
        let conn = &mut self.conn;
        let read = async {
            let mut result = conn.query_iter(sql).await?;
            result.for_each(take).await
        };
        within(self.timeout, what, read).await.map_err(|inner| self.failed(inner))
    }

    /// Opens a [`Wire`], if this is an address for one and none is open.
    pub async fn make_ready(&mut self) {
        if self.wire.is_none() && !self.no_wire {
            let pins = self.pins();
            let setup = [SETUP, &pins];
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
        tracing::trace!(side = %self.side, sql);
        within(self.timeout, what, wire.rows(sql, take)).await.map_err(|inner| self.failed(inner))?;
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
