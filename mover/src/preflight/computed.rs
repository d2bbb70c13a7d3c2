//! Generated columns whose values are kept and depend on settings of the session that wrote the row: the target makes
//! them anew, in the mover's sessions.

use converge_mysql::quote;

use super::{Finding, Server, expressions};
use crate::error::{Result, Side};
use crate::schema::generated::{self, Generated};
use crate::schema::{Kind, Table};

const NAME: &str = "generated_columns";

/// A setting that a value depends on.
struct Dependence {
    /// What in the expression depends on it.
    what: &'static str,
    /// What every session of the mover has, as a statement sets it.
    pinned: &'static str,
    /// Whether new sessions of the source have something else.
    differs: bool,
}

/// Checks the generated columns of one table of the source.
pub async fn check(server: &mut Server<'_>, table: &Table) -> Result<Vec<Finding>> {
    let flavor = server.info.flavor;
    let columns = generated::read(server.conn(), Side::Source, flavor, &table.schema, &table.name).await?;
    let mut findings: Vec<Finding> = columns
        .iter()
        .filter(|c| c.kept)
        .filter_map(|column| finding(server, table, &columns, column))
        .collect();
    if findings.is_empty() {
        let what = match columns.is_empty() {
            true => "none".to_owned(),
            false => format!("{}: none keeps what depends on a session's settings", columns.len()),
        };
        findings.push(Finding::pass(NAME, what));
    }
    Ok(findings.into_iter().map(|f| f.on(Side::Source).of(table.qualified())).collect())
}

fn finding(
    server: &Server<'_>,
    table: &Table,
    generated: &[Generated],
    column: &Generated,
) -> Option<Finding> {
    let found = dependences(server, table, generated, &column.expression);
    let first = found.iter().max_by_key(|d| d.differs)?;
    let (name, shown) = (table.qualified(), quote::ident(&column.column.name));
    let whats: Vec<&str> = found.iter().map(|d| d.what).collect();
    let what = format!(
        "the values of generated column {shown} of {name} depend on the session that wrote them ({}); the target makes them \
         anew with {}",
        whats.join(", "),
        first.pinned
    );
    let fix = format!("make {shown} VIRTUAL without an index, or drop it until the switch");
    Some(match first.differs {
        true => Finding::refuse(NAME, format!("{what}, and the source has another setting"), fix),
        false => Finding::warn(
            NAME,
            what,
            format!("nothing, if no session of the source sets that for itself; else {fix}"),
        ),
    })
}

fn dependences(
    server: &Server<'_>,
    table: &Table,
    generated: &[Generated],
    expression: &str,
) -> Vec<Dependence> {
    let names: Vec<String> = expressions::columns(expression).map(|c| c.to_lowercase()).collect();
    let all = || table.columns.iter().chain(generated.iter().map(|g| &g.column));
    let named = |test: &dyn Fn(&Kind, &str) -> bool| {
        all().any(|c| names.contains(&c.name.to_lowercase()) && test(&c.kind, &c.sql_type.to_lowercase()))
    };
    let mut found = Vec::new();
    if named(&|kind, _| matches!(kind, Kind::Timestamp(_))) {
        found.push(Dependence {
            what: "a TIMESTAMP in its time zone",
            pinned: "time_zone = '+00:00'",
            differs: !is_utc(server),
        });
    }
    if expressions::has_operator(expression, '/') {
        found.push(Dependence {
            what: "a division with its digits",
            pinned: "div_precision_increment = 4",
            differs: server.number("div_precision_increment") != Some(4.0),
        });
    }
    if expressions::has_operator(expression, '-') && named(&|_, sql_type| sql_type.contains("unsigned")) {
        found.push(Dependence {
            what: "a difference of unsigned numbers",
            pinned: "a sql_mode without NO_UNSIGNED_SUBTRACTION",
            differs: server.variable("sql_mode").is_some_and(|m| m.contains("NO_UNSIGNED_SUBTRACTION")),
        });
    }
    found
}

fn is_utc(server: &Server<'_>) -> bool {
    let zone = match server.variable("time_zone") {
        Some("SYSTEM") => server.variable("system_time_zone"),
        zone => zone,
    };
    let zone = zone.unwrap_or_default().to_uppercase();
    ["+00:00", "-00:00", "UTC", "GMT", "ETC/UTC"].contains(&zone.as_str())
}
