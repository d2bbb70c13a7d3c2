//! What must be so before a move can be right. Everything found is said at once, each with the statement that fixes it.

use converge_mysql::position::binlog_status_statement;
use converge_mysql::{Flavor, ServerInfo, Version, quote, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde::Serialize;

use crate::error::{Error, OnSide, Result, Side};
use crate::schema::Table;
use crate::source::TIMEOUT;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The move may go on.
    Warn,
    /// The move could lose or alter rows.
    Refuse,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

fn refuse(what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { weight: Weight::Refuse, what: what.into(), fix: fix.into() }
}

/// Turns findings into an error if one of them forbids the move; warnings are logged.
pub fn judge(findings: &[Finding]) -> Result<()> {
    for finding in findings.iter().filter(|f| f.weight == Weight::Warn) {
        tracing::warn!("{}; {}", finding.what, finding.fix);
    }
    let refused: Vec<&Finding> = findings.iter().filter(|f| f.weight == Weight::Refuse).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let join = |texts: Vec<&str>| texts.join("; ");
    Err(Error::refused(
        join(refused.iter().map(|f| f.what.as_str()).collect()),
        join(refused.iter().map(|f| f.fix.as_str()).collect()),
    ))
}

async fn variable(conn: &mut Conn, side: Side, name: &str) -> Result<String> {
    let query = format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)");
    let value: Option<Option<String>> =
        within(TIMEOUT, &format!("reading @@{name}"), conn.query_first(query)).await.on(side)?;
    // MariaDB prints switches as words.
    Ok(match value.flatten().unwrap_or_default().as_str() {
        "ON" => "1".into(),
        "OFF" => "0".into(),
        other => other.to_owned(),
    })
}

/// Checks the source's settings.
pub async fn source_settings(conn: &mut Conn, info: &ServerInfo) -> Result<Vec<Finding>> {
    let mut wanted = vec![
        ("log_bin", "1", "start the source with --log-bin --server-id=N (needs a restart)"),
        ("binlog_format", "ROW", "SET GLOBAL binlog_format = 'ROW', then reconnect all sessions"),
        ("binlog_row_image", "FULL", "SET GLOBAL binlog_row_image = 'FULL', then reconnect all sessions"),
    ];
    if info.flavor == Flavor::MySql {
        wanted.push(("binlog_order_commits", "1", "SET GLOBAL binlog_order_commits = ON"));
        wanted.push((
            "binlog_row_value_options",
            "",
            "SET GLOBAL binlog_row_value_options = '', then reconnect all sessions",
        ));
    }
    let mut findings = Vec::new();
    for (name, value, fix) in wanted {
        let found = variable(conn, Side::Source, name).await?;
        if !found.eq_ignore_ascii_case(value) {
            let shown = if value.is_empty() { "empty" } else { value };
            findings.push(refuse(format!("the source has {name} = {found}, it must be {shown}"), fix));
        }
    }
    findings.extend(log_filters(conn, info).await?);
    findings.extend(replica_without_log(conn, info).await?);
    Ok(findings)
}

/// Databases that are left out of the log would be left out of the move.
async fn log_filters(conn: &mut Conn, info: &ServerInfo) -> Result<Option<Finding>> {
    let statement = binlog_status_statement(info);
    let row: Option<Row> = within(TIMEOUT, statement, conn.query_first(statement)).await.on_source()?;
    let filter = |row: &Row, i: usize| row.get::<Option<String>, _>(i).flatten().unwrap_or_default();
    Ok(row
        .map(|row| (filter(&row, 2), filter(&row, 3)))
        .filter(|(only, not)| !(only.is_empty() && not.is_empty()))
        .map(|(only, not)| {
            refuse(
                format!(
                    "the source filters its binary log (binlog-do-db: {only:?}, binlog-ignore-db: {not:?})"
                ),
                "start the source without --binlog-do-db and --binlog-ignore-db",
            )
        }))
}

/// A replica that does not log what it replicates has changes that nobody can follow.
async fn replica_without_log(conn: &mut Conn, info: &ServerInfo) -> Result<Option<Finding>> {
    let (variable_name, statement) = match info.is_mysql_since(Version(8, 4, 0)) {
        true => ("log_replica_updates", "SHOW REPLICA STATUS"),
        false => ("log_slave_updates", "SHOW SLAVE STATUS"),
    };
    if variable(conn, Side::Source, variable_name).await? == "1" {
        return Ok(None);
    }
    let replica: Option<Row> = within(TIMEOUT, statement, conn.query_first(statement)).await.on_source()?;
    Ok(replica.map(|_| {
        refuse(
            format!("the source is a replica with {variable_name} = 0: its log lacks what it replicates"),
            format!(
                "start the source with --{}=ON, or move from its own source",
                variable_name.replace('_', "-")
            ),
        )
    }))
}

/// Checks engine and foreign keys of a table on the source.
pub async fn source_table(conn: &mut Conn, info: &ServerInfo, table: &Table) -> Result<Vec<Finding>> {
    let (schema, name) = (quote::text(&table.schema), quote::text(&table.name));
    let mut findings = Vec::new();
    let engine: Option<Option<String>> = within(
        TIMEOUT,
        "reading a table's engine",
        conn.query_first(format!(
            "SELECT engine FROM information_schema.tables WHERE table_schema = {schema} AND table_name = {name}"
        )),
    )
    .await
    .on_source()?;
    let engine = engine.flatten().unwrap_or_default();
    if !engine.eq_ignore_ascii_case("InnoDB") {
        let fix = format!("ALTER TABLE {} ENGINE = InnoDB", table.qualified());
        findings
            .push(refuse(format!("{} is a {engine} table, without transactions", table.qualified()), fix));
    }
    // From MySQL 9.6 on the server logs what cascades change.
    if !info.is_mysql_since(Version(9, 6, 0)) {
        let cascades: Vec<String> = within(
            TIMEOUT,
            "reading foreign keys",
            conn.query(format!(
                "SELECT constraint_name FROM information_schema.referential_constraints WHERE constraint_schema = {schema} \
                 AND table_name = {name} AND (update_rule NOT IN ('RESTRICT', 'NO ACTION') \
                 OR delete_rule NOT IN ('RESTRICT', 'NO ACTION'))"
            )),
        )
        .await
        .on_source()?;
        for cascade in cascades {
            findings.push(refuse(
                format!(
                    "foreign key {cascade} of {} cascades: {info} does not log what it changes",
                    table.qualified()
                ),
                format!("ALTER TABLE {} DROP FOREIGN KEY {}", table.qualified(), quote::ident(&cascade)),
            ));
        }
    }
    Ok(findings)
}

/// A table whose rows nothing tells apart is moved only if the operator says so.
pub fn no_key(table: &Table, allowed: bool) -> Option<Finding> {
    let name = table.qualified();
    let what = format!("table {name} has neither a primary key nor a unique key without NULLs");
    match (table.key.is_empty(), allowed) {
        (false, _) => None,
        (true, false) => Some(refuse(
            what,
            format!(
                "ALTER TABLE {name} ADD PRIMARY KEY (…); or run with --allow-no-key: it is then copied from a snapshot \
                 that cannot be resumed, and each row that changes is looked for in the whole table"
            ),
        )),
        (true, true) => Some(Finding {
            weight: Weight::Warn,
            what,
            fix: "each of its rows that changes is looked for in the target's whole table".into(),
        }),
    }
}

/// Checks a table that is already on the target: it must be empty, without triggers, and take the same columns.
pub async fn target_table(conn: &mut Conn, source: &Table, target: &Table) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let name = target.qualified();
    let row: Option<u8> = within(
        TIMEOUT,
        "looking for rows on the target",
        conn.query_first(format!("SELECT 1 FROM {name} LIMIT 1")),
    )
    .await
    .on_target()?;
    if row.is_some() {
        findings.push(refuse(
            format!("{name} on the target has rows"),
            format!("TRUNCATE TABLE {name}, or DROP TABLE {name}"),
        ));
    }
    let triggers: Vec<String> = within(
        TIMEOUT,
        "reading the target's triggers",
        conn.query(format!(
            "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = {} AND event_object_table = {}",
            quote::text(&target.schema),
            quote::text(&target.name)
        )),
    )
    .await
    .on_target()?;
    for trigger in triggers {
        findings.push(refuse(
            format!("trigger {trigger} of {name} would fire again on the target"),
            format!(
                "DROP TRIGGER {} on the target, create it again after the switch",
                quote::ident(&trigger)
            ),
        ));
    }
    for column in &source.columns {
        match target.columns.iter().find(|c| c.name == column.name) {
            None => findings.push(refuse(
                format!("{name} on the target has no column {}", quote::ident(&column.name)),
                format!("ALTER TABLE {name} ADD {} {}", quote::ident(&column.name), column.sql_type),
            )),
            Some(there) if there.sql_type != column.sql_type => findings.push(Finding {
                weight: Weight::Warn,
                what: format!(
                    "column {} of {name} is {} there, {} on the source",
                    quote::ident(&column.name),
                    there.sql_type,
                    column.sql_type
                ),
                fix: "a value that does not fit stops the workflow".into(),
            }),
            Some(_) => {}
        }
    }
    let names = |t: &Table| t.key_columns().map(|c| c.name.clone()).collect::<Vec<_>>();
    if names(source) != names(target) {
        findings.push(refuse(
            format!(
                "{name} has the key ({}), the source has ({})",
                names(target).join(", "),
                names(source).join(", ")
            ),
            "give both the same primary key",
        ));
    }
    Ok(findings)
}

/// A text that is the same for two connections exactly if they reach the same server.
pub async fn identity(conn: &mut Conn, side: Side, info: &ServerInfo) -> Result<String> {
    let query = match info.flavor {
        Flavor::MySql => "SELECT @@server_uuid",
        Flavor::MariaDb => "SELECT CONCAT(@@hostname, ' ', @@port, ' ', @@datadir)",
    };
    let found: Option<String> =
        within(TIMEOUT, "reading the server's identity", conn.query_first(query)).await.on(side)?;
    Ok(found.unwrap_or_default())
}
