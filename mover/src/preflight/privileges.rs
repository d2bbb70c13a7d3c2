//! Privileges on both servers. Where a statement that does nothing and waits for nobody can ask the server, its answer
//! counts: the rules by which grants add up are the server's. For the rest the grants are read.

use converge_mysql::{Error as ServerError, Flavor, quote};

use super::grants::On;
use super::{Finding, Pair, Request, Server, Servers};
use crate::copy::Strategy;
use crate::error::{OnSide, Result};
use crate::schema;
use crate::source::{fenced_name, marks};

const NAME: &str = "privileges";
const RENAMING: [&str; 4] = ["ALTER", "DROP", "CREATE", "INSERT"];

/// Privileges on one object, and how to ask for them.
struct Wanted {
    on: Option<(String, String)>,
    /// Each with a statement that needs it and does nothing, if there is one.
    privileges: Vec<(&'static str, Option<String>)>,
    /// Whether only a switch needs them.
    for_switch: bool,
}

impl Wanted {
    fn on(schema: &str, table: &str, privileges: &[&'static str]) -> Self {
        let on = Some((schema.to_owned(), table.to_owned()));
        let name = quote::qualified(schema, table);
        let privileges = privileges.iter().map(|p| (*p, probe(p, &name))).collect();
        Self { on, privileges, for_switch: false }
    }

    /// What can be granted on all tables of a database only.
    fn on_database(schema: &str, privileges: &[&'static str]) -> Self {
        let privileges = privileges.iter().map(|p| (*p, None)).collect();
        Self { on: Some((schema.to_owned(), String::new())), privileges, for_switch: false }
    }

    fn everywhere(privileges: &[(&'static str, Option<&str>)]) -> Self {
        let privileges = privileges.iter().map(|(p, sql)| (*p, sql.map(ToOwned::to_owned))).collect();
        Self { on: None, privileges, for_switch: false }
    }
}

/// A statement that the server refuses without `privilege` on `table`, there or not, and that changes nothing. There
/// is none for writing: EXPLAIN of a writing statement waits for whoever holds a lock on the table.
fn probe(privilege: &str, table: &str) -> Option<String> {
    (privilege == "SELECT").then(|| format!("SELECT * FROM {table} LIMIT 0"))
}

/// Checks everything that a run needs, and what a switch needs besides.
pub async fn check(servers: &mut Servers<'_>, request: &Request, pairs: &[Pair]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let source = on_source(&servers.source, request, pairs);
    for wanted in source {
        findings.push(ask(&mut servers.source, &wanted).await?);
    }
    let target = on_target(servers, request, pairs).await?;
    for wanted in target {
        findings.push(ask(&mut servers.target, &wanted).await?);
    }
    Ok(findings)
}

fn on_source(server: &Server<'_>, request: &Request, pairs: &[Pair]) -> Vec<Wanted> {
    let schema = &request.source.database;
    let status = converge_mysql::position::binlog_status_statement(&server.info);
    let log: &[(&str, Option<&str>)] = match server.info.flavor {
        Flavor::MySql => &[("REPLICATION SLAVE", None), ("REPLICATION CLIENT", Some(status))],
        Flavor::MariaDb => &[
            ("REPLICATION SLAVE", None),
            ("BINLOG MONITOR", Some(status)),
            ("SLAVE MONITOR", Some("SHOW SLAVE STATUS")),
        ],
    };
    let mut wanted = vec![Wanted::everywhere(log)];
    wanted.push(Wanted::on(marks::SCHEMA, marks::TABLE, &["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE"]));
    if locks(server, request, pairs) {
        wanted.push(Wanted::on_database(schema, &["LOCK TABLES"]));
    }
    // A table that was found not to be movable is another finding's; one that cannot be seen may lack a grant.
    for pair in pairs {
        wanted.push(Wanted::on(schema, &pair.from, &["SELECT"]));
        let switch = |w: Wanted| Wanted { for_switch: true, ..w };
        // Renaming needs the first two on the old name and the others on the new one, and it may have to be undone.
        wanted.push(switch(Wanted::on(schema, &pair.from, &RENAMING)));
        // The last look at both sides reads what is fenced.
        let fenced = [&RENAMING[..], &["SELECT"]].concat();
        wanted.push(switch(Wanted::on(schema, &fenced_name(&pair.from), &fenced)));
    }
    wanted
}

/// Whether tables are locked for a moment, so that a snapshot and a position belong together.
fn locks(server: &Server<'_>, request: &Request, pairs: &[Pair]) -> bool {
    let without_key = || pairs.iter().filter_map(|p| p.source.as_ref()).any(|table| table.key.is_empty());
    server.info.flavor == Flavor::MySql && (request.strategy == Strategy::Snapshot || without_key())
}

async fn on_target(servers: &mut Servers<'_>, request: &Request, pairs: &[Pair]) -> Result<Vec<Wanted>> {
    const ROWS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    let mut wanted =
        vec![Wanted::on(marks::SCHEMA, "applied", &["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE"])];
    for pair in pairs {
        let mut privileges = ROWS.to_vec();
        if let (Some(source), None) = (&pair.source, &pair.target) {
            privileges.push("CREATE");
            let server = &mut servers.source;
            let side = server.side;
            let definition = schema::definition(server.conn(), side, &source.schema, &source.name).await?;
            if String::from_utf8_lossy(&definition).contains(" FOREIGN KEY (") {
                privileges.push("REFERENCES");
            }
        }
        wanted.push(Wanted::on(&request.target.database, &pair.to, &privileges));
    }
    Ok(wanted)
}

async fn ask(server: &mut Server<'_>, wanted: &Wanted) -> Result<Finding> {
    let on = match &wanted.on {
        Some((schema, table)) => On::Table(schema, table),
        None => On::Everything,
    };
    let mut missing = Vec::new();
    for (privilege, probe) in &wanted.privileges {
        let answer = match probe {
            Some(sql) => conclusion(server.probe(sql).await).on(server.side)?,
            None => None,
        };
        if !answer.unwrap_or_else(|| server.grants.holds(privilege, on)) {
            missing.push(*privilege);
        }
    }
    Ok(finding(server, wanted, &missing))
}

/// What a probe says: held, missing, or nothing, because something else went wrong with it.
fn conclusion(
    answer: std::result::Result<(), ServerError>,
) -> std::result::Result<Option<bool>, ServerError> {
    match answer {
        Ok(()) => Ok(Some(true)),
        Err(ServerError::Denied { .. }) => Ok(Some(false)),
        Err(e) if e.is_refusal() => Ok(None),
        Err(e) => Err(e),
    }
}

fn finding(server: &Server<'_>, wanted: &Wanted, missing: &[&str]) -> Finding {
    let names = |list: &[&str]| list.join(", ");
    let scope = match &wanted.on {
        None => "*.*".to_owned(),
        Some((schema, table)) if schema == marks::SCHEMA || table.is_empty() => {
            format!("{}.*", quote::ident(schema))
        }
        Some((schema, table)) => quote::qualified(schema, table),
    };
    let (side, account) = (server.side, &server.account);
    let finding = if missing.is_empty() {
        let all: Vec<&str> = wanted.privileges.iter().map(|p| p.0).collect();
        Finding::pass(NAME, format!("{account} has {} on {scope}", names(&all)))
    } else {
        let what = format!("the account {account} of the {side} lacks {} on {scope}", names(missing));
        let grant = format!("GRANT {} ON {scope} TO {account}", names(missing));
        match wanted.for_switch {
            true => Finding::warn(NAME, format!("{what}, which switch-traffic needs"), grant),
            false => Finding::refuse(NAME, what, grant),
        }
    };
    finding.on(side)
}
