//! Generated columns whose values are kept and depend on settings of the session that wrote the row: the target makes
//! them anew, in the mover's sessions.

use converge_mysql::{Flavor, quote};

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
    differs: Differs,
}

/// Whether another setting has made other values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Differs {
    /// Only if a session set it for itself.
    No,
    /// Only of what is no day of the calendar.
    InvalidDays,
    /// Of any value.
    Yes,
}

impl From<bool> for Differs {
    fn from(differs: bool) -> Self {
        if differs { Self::Yes } else { Self::No }
    }
}

/// Functions whose values depend on the session's time zone.
const ZONED: &[&str] = &["from_unixtime", "unix_timestamp"];
/// Those that name months and days.
const NAMED: &[&str] = &["date_format", "dayname", "monthname", "time_format"];
/// Those that count weeks.
const WEEKS: &[&str] = &["week"];
/// Those that make a date of a text or number: what is none becomes NULL or is kept.
const DATES: &[&str] = &["as date", "as datetime", "str_to_date", "date", "timestamp"];
/// Those whose cipher a variable names.
const CIPHERS: &[&str] = &["aes_encrypt", "aes_decrypt"];

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
    let unless = |none: &str| format!("nothing, if {none}; else {fix}");
    Some(match first.differs {
        Differs::Yes => Finding::refuse(NAME, format!("{what}, and the source has another setting"), fix),
        Differs::InvalidDays => {
            Finding::warn(NAME, what, unless("none of the source's rows has a day there that does not exist"))
        }
        Differs::No => Finding::warn(NAME, what, unless("no session of the source sets that for itself")),
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
    let calls = |functions: &[&str]| expressions::calls(expression, functions);
    let has_mode =
        |mode: &str| server.variable("sql_mode").is_some_and(|modes| modes.split(',').any(|m| m == mode));
    let mut found = Vec::new();
    let mut depends = |on: bool, what: &'static str, pinned: &'static str, differs: Differs| {
        found.extend(on.then_some(Dependence { what, pinned, differs }));
    };
    depends(
        named(&|kind, _| matches!(kind, Kind::Timestamp(_))),
        "a TIMESTAMP in its time zone",
        UTC,
        (!is_utc(server)).into(),
    );
    depends(calls(ZONED), "seconds since 1970 as a time in its time zone", UTC, (!is_utc(server)).into());
    depends(
        expressions::has_operator(expression, '/'),
        "a division with its digits",
        "div_precision_increment = 4",
        (server.number("div_precision_increment") != Some(4.0)).into(),
    );
    depends(
        expressions::has_operator(expression, '-') && named(&|_, sql_type| sql_type.contains("unsigned")),
        "a difference of unsigned numbers",
        "a sql_mode without NO_UNSIGNED_SUBTRACTION",
        has_mode("NO_UNSIGNED_SUBTRACTION").into(),
    );
    depends(
        calls(NAMED),
        "names of days and months",
        "lc_time_names = 'en_US'",
        server.variable("lc_time_names").is_some_and(|l| l != "en_US").into(),
    );
    // MySQL keeps the format in the expression.
    let weeks = calls(WEEKS) && server.variable("default_week_format").is_some_and(|f| f != "0");
    depends(
        weeks && server.info.flavor == Flavor::MariaDb,
        "the number of a week",
        "default_week_format = 0",
        Differs::Yes,
    );
    depends(
        calls(CIPHERS),
        "a cipher",
        "block_encryption_mode = 'aes-128-ecb'",
        server.variable("block_encryption_mode").is_some_and(|m| m != "aes-128-ecb").into(),
    );
    depends(
        has_mode("PAD_CHAR_TO_FULL_LENGTH") && named(&|_, sql_type| sql_type.starts_with("char(")),
        "a CHAR with the spaces at its end",
        "a sql_mode without PAD_CHAR_TO_FULL_LENGTH",
        Differs::Yes,
    );
    let cuts = has_mode("TIME_TRUNCATE_FRACTIONAL") || has_mode("TIME_ROUND_FRACTIONAL");
    let timed = |kind: &Kind, _: &str| matches!(kind, Kind::Time(_) | Kind::DateTime(_) | Kind::Timestamp(_));
    depends(
        cuts && named(&timed),
        "fractions of a second, rounded or cut",
        "a sql_mode without TIME_TRUNCATE_FRACTIONAL and TIME_ROUND_FRACTIONAL",
        Differs::Yes,
    );
    // Days that do not exist are moved with the columns that hold them, and so are allowed.
    let dated = |kind: &Kind, _: &str| matches!(kind, Kind::Date | Kind::DateTime(_) | Kind::Timestamp(_));
    let other = named(&|kind, sql_type| !dated(kind, sql_type));
    depends(calls(DATES) && other, "a date made of something else", "sql_mode = 'ALLOW_INVALID_DATES'", {
        if has_mode("ALLOW_INVALID_DATES") { Differs::No } else { Differs::InvalidDays }
    });
    found
}

const UTC: &str = "time_zone = '+00:00'";

fn is_utc(server: &Server<'_>) -> bool {
    let zone = match server.variable("time_zone") {
        Some("SYSTEM") => server.variable("system_time_zone"),
        zone => zone,
    };
    let zone = zone.unwrap_or_default().to_uppercase();
    ["+00:00", "-00:00", "UTC", "GMT", "ETC/UTC"].contains(&zone.as_str())
}
