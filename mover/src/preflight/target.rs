//! The target as a place: whether it takes writes, and whether what is there already can take the moved rows.

use converge_mysql::quote;

use super::grants::On;
use super::{Finding, Pair, Request, Server, Servers, keys, refusal};
use crate::error::{Result, Side};
use crate::schema::Table;

/// Checks whether a server takes writes at all: the target those of rows, the source those of marks.
pub fn writable(server: &mut Server<'_>) -> Finding {
    const NAME: &str = "read_only";
    const EXEMPT: [&str; 4] = ["SUPER", "CONNECTION_ADMIN", "READ_ONLY ADMIN", "READ ONLY ADMIN"];
    let side = server.side;
    let exempt = EXEMPT.iter().any(|p| server.grants.holds(p, On::Everything));
    let refuse = |name: &str, fix: &str| Finding::refuse(NAME, format!("the {side} has {name} = ON"), fix);
    let finding = if server.is_on("innodb_read_only") {
        refuse("innodb_read_only", &format!("start the {side} without --innodb-read-only"))
    } else if server.is_on("super_read_only") {
        refuse("super_read_only", "SET GLOBAL super_read_only = OFF, read_only = OFF")
    } else if server.variable("read_only").is_some_and(|v| !matches!(v, "OFF" | "0")) && !exempt {
        refuse("read_only", "SET GLOBAL read_only = OFF")
    } else {
        Finding::pass(NAME, format!("the {side} takes writes of this account"))
    };
    finding.on(side)
}

/// Checks the target as a server.
pub fn server(server: &mut Server<'_>) -> Vec<Finding> {
    let mut findings = vec![writable(server)];
    findings.extend(log_format(server).map(|finding| finding.on(Side::Target)));
    findings
}

/// InnoDB refuses to log statements at the isolation level that the mover works at.
fn log_format(server: &Server<'_>) -> Option<Finding> {
    const NAME: &str = "target_binlog_format";
    let format = server.variable("binlog_format").filter(|_| server.is_on("log_bin"))?;
    Some(match format.eq_ignore_ascii_case("STATEMENT") {
        false => Finding::pass(NAME, format!("the target logs with binlog_format = {format}")),
        true => Finding::refuse(
            NAME,
            "the target has binlog_format = STATEMENT, with which InnoDB takes no changes from the mover",
            "SET GLOBAL binlog_format = 'ROW'",
        ),
    })
}

/// What keys are to look like is compared with what the target says of them, in the words of its product.
pub fn deferral(servers: &Servers<'_>, request: &Request) -> Option<Finding> {
    const NAME: &str = "defer_secondary_keys";
    let (source, target) = (servers.source.info.flavor, servers.target.info.flavor);
    request.defer_secondary_keys.then(|| match source == target {
        true => Finding::pass(NAME, "keys can be built after the copy"),
        false => Finding::refuse(
            NAME,
            format!("secondary keys cannot be built later between {source} and {target}"),
            "run it without --defer-secondary-keys",
        ),
    })
}

/// Reads one table on both sides; what keeps it from being moved at all becomes a finding.
pub async fn pair(
    servers: &mut Servers<'_>,
    request: &Request,
    (from, to): (&String, &String),
    findings: &mut Vec<Finding>,
) -> Result<Pair> {
    let (schema, target_schema) = (&request.source.database, &request.target.database);
    let mut pair = Pair { from: from.clone(), to: to.clone(), source: None, target: None, creation: None };
    if schema == target_schema && from == to && servers.same_server().await? {
        let what = format!("source and target of {from} are the same table");
        findings.push(Finding::refuse("same_table", what, "move to another server, database or name"));
        return Ok(pair);
    }
    if !keys::usable(&mut servers.source, schema, from, request.accepted.no_key, findings).await? {
        return Ok(pair);
    }
    let read = Table::read(servers.source.conn(), Side::Source, schema, from).await;
    match refusal(read, "table", Side::Source, findings)? {
        Some(Some(table)) => {
            findings.push(engine(&mut servers.source, &table).await?);
            findings.extend(keys::over_periods(&mut servers.source, &table).await?);
            pair.source = Some(table);
        }
        Some(None) => findings.push(missing(schema, from)),
        None => {}
    }
    let read = Table::read(servers.target.conn(), Side::Target, target_schema, to).await;
    pair.target = refusal(read, "target_table", Side::Target, findings)?.flatten();
    if pair.source.is_some() && pair.target.is_none() {
        let name = quote::qualified(target_schema, to);
        let what = "not there: the move creates it with the source's definition";
        findings.push(Finding::pass("target_table", what).on(Side::Target).of(name));
    }
    Ok(pair)
}

/// The finding for a table that is not there.
fn missing(schema: &str, table: &str) -> Finding {
    let name = quote::qualified(schema, table);
    Finding::refuse(
        "table",
        format!("there is no table {name} on the source, or the account may not see it"),
        "check --tables and the database in --source; the account needs SELECT on the tables",
    )
    .on(Side::Source)
    .of(name)
}

/// Only InnoDB has the transactions that a move relies on.
async fn engine(server: &mut Server<'_>, table: &Table) -> Result<Finding> {
    let engine = engine_of(server, table).await?.unwrap_or_default();
    Ok(transactional(server, table, &engine))
}

/// The same of a table that may be gone, or have another name for the moment.
pub async fn engine_again(server: &mut Server<'_>, table: &Table) -> Result<Option<Finding>> {
    let engine = engine_of(server, table).await?;
    Ok(engine.map(|engine| transactional(server, table, &engine)))
}

async fn engine_of(server: &mut Server<'_>, table: &Table) -> Result<Option<String>> {
    let query = format!(
        "SELECT engine FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        quote::text(&table.schema),
        quote::text(&table.name)
    );
    let engine: Option<Option<String>> = server.first("reading a table's engine", &query).await?;
    Ok(engine.flatten())
}

fn transactional(server: &Server<'_>, table: &Table, engine: &str) -> Finding {
    let name = table.qualified();
    let finding = if engine.eq_ignore_ascii_case("InnoDB") {
        Finding::pass("engine", "InnoDB")
    } else {
        Finding::refuse(
            "engine",
            format!("{name} on the {} is a {engine} table, without transactions", server.side),
            format!("ALTER TABLE {name} ENGINE = InnoDB"),
        )
    };
    finding.on(server.side).of(name)
}

/// Checks a table that is already on the target: InnoDB, empty, and without columns that nobody fills.
pub async fn table(server: &mut Server<'_>, source: &Table, target: &Table) -> Result<Vec<Finding>> {
    let name = target.qualified();
    let row: Option<u8> =
        server.first("looking for rows on the target", &format!("SELECT 1 FROM {name} LIMIT 1")).await?;
    let empty = match row {
        None => Finding::pass("target_table", "there, and empty"),
        Some(_) => Finding::refuse(
            "target_table",
            format!("{name} on the target has rows"),
            format!("TRUNCATE TABLE {name}, or DROP TABLE {name}"),
        ),
    };
    let mut findings = vec![engine(server, target).await?, empty.on(Side::Target).of(&name)];
    let query = format!(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = {} AND table_name = {} \
         AND is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%' \
         AND extra NOT LIKE '%GENERATED%'",
        quote::text(&target.schema),
        quote::text(&target.name)
    );
    let needed: Vec<String> = server.query("reading columns", &query).await?;
    let extra = |c: &&String| !source.columns.iter().any(|s| s.name.eq_ignore_ascii_case(c));
    // Columns that the source generates are given no value either, but the target would have to generate them too.
    for column in needed.iter().filter(extra) {
        let shown = quote::ident(column);
        findings.push(
            Finding::refuse(
                "extra_columns",
                format!("column {shown} of {name} has no default, and the source has no values for it"),
                format!("ALTER TABLE {name} DROP COLUMN {shown}, or give it a default"),
            )
            .on(Side::Target)
            .of(&name),
        );
    }
    Ok(findings)
}
