//! Where the statements of a repair go: into a script for the `mysql` client, or to the target.
//!
//! Nothing here lets a statement pass that did not change exactly the rows that it was made for: what it belongs to is
//! rolled back then.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use converge_mysql::{Address, Connector, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::error::Error;
use crate::request::Side;

/// Rows and bytes after which a transaction is committed.
const ROWS: u64 = 500;
const BYTES: usize = 8 << 20;

/// Lets zero dates, id 0 and all that a column can hold in; nothing is cut to fit.
const STRICT: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";
/// For what only a lax server takes, as an ENUM's error value.
const LAX: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";
/// Foreign keys are off so that nothing cascades, and so that rows may come in any order; MariaDB must not show rows as they
/// were at another time.
const SESSION: &str = "SET SESSION time_zone = '+00:00', foreign_key_checks = 0, unique_checks = 1, sql_safe_updates = 0, \
    autocommit = 1, completion_type = 0 /*M!100304 , system_versioning_asof = DEFAULT */";

/// What the server says of values that a row cannot have: its key or a unique value is somebody else's (1062), a column
/// cannot hold them (1048, 1264, 1265, 1292, 1300, 1366, 1406, 1416, 1977, 3140, 3643, 3854, 6136), no partition takes the row (1526),
/// or a CHECK refuses it (3819, MariaDB 4025).
const REFUSALS: [u16; 17] =
    [1048, 1062, 1264, 1265, 1292, 1300, 1366, 1406, 1416, 1526, 1977, 3140, 3643, 3819, 3854, 4025, 6136];

/// Another transaction holds a lock on the row for longer than is waited for.
const LOCKED: u16 = 1205;
/// How long is waited for a row's lock, holding those of the rows before it: one that is held for longer is left alone.
const PATIENCE: &str = "SET SESSION innodb_lock_wait_timeout = 5";
/// There is no savepoint of this name: the server has undone the whole transaction (innodb_rollback_on_timeout).
const NO_SAVEPOINT: u16 = 1305;

/// The table name of the error that ends a script.
const MISSED: &str = "converge: a row has changed since it was compared";

/// Why a row was missed whose statement found none, or changed nothing.
pub const CHANGED_THERE: &str = "the row has changed on the target since it was compared";

/// Why something was rolled back.
pub type Missed = String;

/// A script or a server.
pub enum Sink {
    /// A file.
    Script(Script),
    /// The target.
    Server(Server),
}

/// A script that is being written.
pub struct Script {
    path: PathBuf,
    out: BufWriter<File>,
    open: bool,
}

/// The target, connected to for this alone.
pub struct Server {
    conn: Conn,
    address: String,
    timeout: Duration,
    open: bool,
}

/// What the statements of one transaction amount to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    rows: u64,
    bytes: usize,
}

impl Load {
    /// Adds a statement.
    pub fn add(&mut self, rows: u64, sql: &str) {
        self.rows += rows;
        self.bytes += sql.len();
    }

    /// Whether it is time to commit.
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= BYTES
    }
}

impl Sink {
    /// A new script that begins with these lines of comment.
    pub fn script(path: &Path, comment: &[String]) -> Result<Self, Error> {
        let fail =
            |e: std::io::Error| Error::RepairFile { path: path.display().to_string(), why: e.to_string() };
        let mut out = BufWriter::new(File::create(path).map_err(fail)?);
        for line in comment.iter().flat_map(|text| text.lines()) {
            writeln!(out, "-- {}", crate::report::show::visible(line)).map_err(fail)?;
        }
        writeln!(out, "\nSET NAMES utf8mb4;\n{STRICT};\n{SESSION};").map_err(fail)?;
        Ok(Self::Script(Script { path: path.to_owned(), out, open: false }))
    }

    /// A connection of its own to the target.
    pub async fn server(address: &Address, timeout: Duration) -> Result<Self, Error> {
        let connector =
            Connector::new(address.clone()).with_setup(STRICT).with_setup(SESSION).with_setup(PATIENCE);
        let conn =
            connector.connect().await.map_err(|e| Error::server(Side::Target, &address.to_string(), e))?;
        Ok(Self::Server(Server { conn, address: address.to_string(), timeout, open: false }))
    }

    /// What follows stands or falls together.
    pub async fn begin(&mut self) -> Result<(), Error> {
        match self {
            Self::Script(script) if !script.open => {
                script.open = true;
                // Should the client go on after an error (--force), nothing of before is committed by what follows.
                script.line("\nROLLBACK;\nSTART TRANSACTION;\nSET @converge_missed = 0;")
            }
            Self::Script(_) => Ok(()),
            Self::Server(server) => {
                if !server.open {
                    server.run("START TRANSACTION").await?;
                    server.open = true;
                }
                server.run("SAVEPOINT converge_row").await
            }
        }
    }

    /// A statement that changes no row.
    pub async fn run(&mut self, sql: &str) -> Result<(), Error> {
        match self {
            Self::Script(script) => script.line(&format!("{sql};")),
            Self::Server(server) => server.run(sql).await,
        }
    }

    /// The texts that a query gives, in the open transaction. A script cannot look.
    pub async fn ask(&mut self, sql: &str) -> Result<Vec<String>, Error> {
        match self {
            Self::Script(_) => Ok(Vec::new()),
            Self::Server(server) => {
                let answer = within(server.timeout, "reading what was repaired", server.conn.query(sql));
                answer.await.map_err(|e| server.failed(e))
            }
        }
    }

    /// A statement that must change so many rows. Where it does not, everything since [`Sink::begin`] is undone.
    pub async fn change(&mut self, sql: &str, rows: u64, lax: bool) -> Result<Result<(), Missed>, Error> {
        if lax {
            self.run(LAX).await?;
        }
        let done = match self {
            Self::Script(script) => {
                let check = format!("SET @converge_missed = @converge_missed + (ROW_COUNT() <> {rows});");
                script.line(&format!("{sql};\n{check}"))?;
                Ok(())
            }
            Self::Server(server) => server.change(sql, rows).await?,
        };
        if lax {
            self.run(STRICT).await?;
        }
        Ok(done)
    }

    /// Undoes everything since [`Sink::begin`]. A script cannot: it is given up.
    pub async fn abandon(&mut self, why: &str) -> Result<(), Error> {
        match self {
            Self::Script(script) => Err(Error::RepairFile {
                path: script.path.display().to_string(),
                why: format!("a row of it: {why}; run the comparison again"),
            }),
            Self::Server(server) => server.run("ROLLBACK TO SAVEPOINT converge_row").await,
        }
    }

    /// Ends the transaction, if one is open.
    pub async fn commit(&mut self) -> Result<(), Error> {
        match self {
            Self::Script(script) if script.open => {
                script.open = false;
                // A statement that fails where rows were missed ends the client, and with it the transaction.
                script.line(&format!(
                    "SET @converge_end = IF(@converge_missed = 0, 'COMMIT', 'SELECT 1 FROM `information_schema`.`{MISSED}`');\n\
                     PREPARE converge_end FROM @converge_end;\nEXECUTE converge_end;"
                ))
            }
            Self::Script(_) => Ok(()),
            Self::Server(server) => {
                if std::mem::take(&mut server.open) {
                    server.run("COMMIT").await?;
                }
                Ok(())
            }
        }
    }

    /// Commits, and lets go of the file or the connection.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.commit().await?;
        match self {
            Self::Script(mut script) => {
                script.out.flush().map_err(|e| script.failed(&e))?;
                script.out.get_ref().sync_all().map_err(|e| script.failed(&e))
            }
            Self::Server(server) => {
                converge_mysql::connect::close(server.conn).await;
                Ok(())
            }
        }
    }
}

impl Script {
    fn line(&mut self, text: &str) -> Result<(), Error> {
        writeln!(self.out, "{text}").map_err(|e| self.failed(&e))
    }

    fn failed(&self, why: &std::io::Error) -> Error {
        Error::RepairFile { path: self.path.display().to_string(), why: why.to_string() }
    }
}

impl Server {
    async fn run(&mut self, sql: &str) -> Result<(), Error> {
        within(self.timeout, "repairing", self.conn.query_drop(sql)).await.map_err(|e| self.failed(e))
    }

    async fn change(&mut self, sql: &str, rows: u64) -> Result<Result<(), Missed>, Error> {
        let done = within(self.timeout, "repairing", self.conn.query_drop(sql)).await;
        let missed = match done {
            Ok(()) if self.conn.affected_rows() == rows => return Ok(Ok(())),
            Ok(()) => CHANGED_THERE.to_owned(),
            Err(converge_mysql::Error::Server { code, message, .. }) if REFUSALS.contains(&code) => message,
            Err(e) if e.server_code() == Some(LOCKED) => return self.locked(e).await,
            Err(e) => return Err(self.failed(e)),
        };
        self.run("ROLLBACK TO SAVEPOINT converge_row").await?;
        Ok(Err(missed))
    }

    /// Leaves a row alone that somebody else has locked, if the server kept what was done to the rows before it.
    async fn locked(&mut self, refusal: converge_mysql::Error) -> Result<Result<(), Missed>, Error> {
        let gone = |inner: &converge_mysql::Error| inner.server_code() == Some(NO_SAVEPOINT);
        match self.run("ROLLBACK TO SAVEPOINT converge_row").await {
            Ok(()) => Ok(Err(format!("another transaction holds a lock on it: {refusal}"))),
            Err(Error::Server { inner, .. }) if gone(&inner) => Err(self.failed(refusal)),
            Err(error) => Err(error),
        }
    }

    fn failed(&self, inner: converge_mysql::Error) -> Error {
        match inner {
            converge_mysql::Error::Denied { why, .. } => {
                Error::RepairDenied { address: self.address.clone(), why }
            }
            other => Error::server(Side::Target, &self.address, other),
        }
    }
}
