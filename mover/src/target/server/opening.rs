//! Opening connections to the target: the first one asks what the others need to know as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use converge_mysql::{Connector, Flavor, ServerInfo, Version, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::OnceCell;

use super::super::{TIMEOUT, render};
use super::{ServerTarget, lock_wait};
use crate::error::{OnSide, Result, Side};
use crate::schema::{Kind, Table};
use crate::session::COMPUTED_WITH;
use crate::state::Store;

/// Whether this process said that the target takes no files.
static SLOW_WAY_TOLD: AtomicBool = AtomicBool::new(false);

/// What goes for all of a session's connections to the target.
pub struct Known {
    /// The tables under their names on the target, with the source's columns: values are in the source's terms.
    pub tables: Vec<Table>,
    /// For each table, whether its rows may be written over in place.
    pub in_place: Vec<bool>,
    /// For each table, whether its columns are of the same kinds as the source's: then the bytes are the same too.
    pub alike: Vec<bool>,
    /// For each table, whether the server computes something of its rows that may draw warnings of its own.
    pub computes: Vec<bool>,
    /// For each table, whether that was seen to draw any.
    pub warns: Vec<AtomicBool>,
    /// Whether new rows can be given a name; the function VALUES() draws a warning where they can.
    pub alias: bool,
    /// The server's `max_allowed_packet`.
    pub largest_packet: usize,
    /// Whether the server takes `LOAD DATA LOCAL INFILE`.
    pub takes_files: bool,
    /// Whether a LOAD DATA with a SET takes a zero for a number that is to be counted: MariaDB's does.
    pub counts_from_zero: bool,
}

impl Known {
    async fn ask(conn: &mut Conn, mut tables: Vec<Table>) -> Result<Self> {
        let query = "SELECT @@max_allowed_packet, @@local_infile";
        let limits: Option<(u64, bool)> =
            within(TIMEOUT, "reading the server's limits", conn.query_first(query)).await.on_target()?;
        let (largest, takes_files) = limits.unwrap_or((u64::MAX, false));
        if !takes_files && !SLOW_WAY_TOLD.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the target does not take files, so the copy writes by INSERT, which is slower; \
                 to speed it up: SET GLOBAL local_infile = ON on the target, and run the workflow again"
            );
        }
        let info = ServerInfo::read(conn).await.on_target()?;
        let (mut in_place, mut alike, mut computes) = (Vec::new(), Vec::new(), Vec::new());
        for table in &mut tables {
            in_place.push(render::has_other_columns(table) && only_key_is_unique(conn, table).await?);
            computes.push(has_expressions(conn, info.flavor, table).await?);
            let there = Table::read(conn, Side::Target, &table.schema, &table.name).await?;
            alike.push(there.as_ref().is_some_and(|there| has_same_kinds(table, there)));
            // The same columns may be the key there under another name.
            if let Some(there) = there.filter(|there| !there.key_name.is_empty()) {
                table.key_name = there.key_name;
            }
        }
        Ok(Self {
            warns: tables.iter().map(|_| AtomicBool::new(false)).collect(),
            tables,
            in_place,
            alike,
            computes,
            alias: info.is_mysql_since(Version(8, 0, 19)),
            largest_packet: usize::try_from(largest).unwrap_or(usize::MAX),
            takes_files,
            counts_from_zero: info.flavor == Flavor::MariaDb,
        })
    }
}

/// Whether the target's table has no unique index but that of the key.
async fn only_key_is_unique(conn: &mut Conn, table: &Table) -> Result<bool> {
    let query = format!(
        "SELECT COUNT(DISTINCT index_name) FROM information_schema.statistics \
         WHERE table_schema = {} AND table_name = {} AND non_unique = 0",
        quote::text(&table.schema),
        quote::text(&table.name)
    );
    let found: Option<u64> =
        within(TIMEOUT, "reading the target's indexes", conn.query_first(query)).await.on_target()?;
    Ok(found == Some(1))
}

/// Whether the target's table has a generated column, an index over an expression, or a CHECK that is looked at: MariaDB's
/// are not, in these sessions.
async fn has_expressions(conn: &mut Conn, flavor: Flavor, table: &Table) -> Result<bool> {
    let (schema, name) = (quote::text(&table.schema), quote::text(&table.name));
    let of_table = format!("table_schema = {schema} AND table_name = {name}");
    let mut query = format!(
        "SELECT EXISTS (SELECT 1 FROM information_schema.columns WHERE {of_table} AND extra LIKE '% GENERATED%') \
         OR EXISTS (SELECT 1 FROM information_schema.statistics WHERE {of_table} AND column_name IS NULL)"
    );
    if flavor == Flavor::MySql {
        query += &format!(
            " OR EXISTS (SELECT 1 FROM information_schema.table_constraints \
             WHERE {of_table} AND constraint_type = 'CHECK')"
        );
    }
    let found: Option<bool> =
        within(TIMEOUT, "reading the target's expressions", conn.query_first(query)).await.on_target()?;
    Ok(found == Some(true))
}

/// Whether values have the same form in both tables. Of a DECIMAL that goes by its digits.
fn has_same_kinds(table: &Table, there: &Table) -> bool {
    table.columns.iter().all(|column| {
        let twin = there.columns.iter().find(|c| c.name == column.name);
        twin.is_some_and(|twin| {
            let digits = column.kind == Kind::Decimal && twin.sql_type != column.sql_type;
            twin.kind == column.kind && !digits
        })
    })
}

/// Opens a session's connections to the target.
pub struct Opening {
    connector: Connector,
    store: Store,
    tables: Vec<Table>,
    known: OnceCell<Arc<Known>>,
}

impl Opening {
    /// Connections that write these tables, under their names on the target.
    pub fn new(connector: &Connector, store: Store, tables: Vec<Table>) -> Self {
        // Values arrive as literals that name their character set; the session itself must not convert anything.
        // Rows that a CHECK of the source came to late are rows too; MySQL cannot be told so.
        // Without strict mode a value that does not fit is a warning, and each warning is an alarm.
        let connector = connector
            .clone()
            .with_found_rows()
            .with_setup("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")
            .with_setup(format!(
                "SET SESSION foreign_key_checks = 0, innodb_lock_wait_timeout = {}, sql_notes = 0, \
                 {COMPUTED_WITH} /*M! , check_constraint_checks = 0 */",
                lock_wait().as_secs().max(1)
            ))
            .with_setup("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .with_setup("SET NAMES binary");
        Self { connector, store, tables, known: OnceCell::new() }
    }

    /// Opens one.
    pub async fn connect(&self) -> Result<ServerTarget> {
        let mut conn = self.connector.connect().await.on_target()?;
        self.store.enlist(&mut conn).await?;
        let ask = async { Known::ask(&mut conn, self.tables.clone()).await.map(Arc::new) };
        let known = self.known.get_or_try_init(|| ask).await?.clone();
        Ok(ServerTarget {
            conn,
            store: self.store.clone(),
            known,
            in_transaction: false,
            sent: 0,
            at: String::new(),
        })
    }
}
