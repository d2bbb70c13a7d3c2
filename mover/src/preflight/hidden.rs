//! What the source does not show of a table that the move creates: both products put `?` in the place of characters that
//! their information_schema cannot hold, also in the statement that is to make the table.
//!
//! Where the truth can be had in another way it is; where it cannot, or is another one, the column is refused.

use converge_mysql::{Flavor, quote};

use super::fits::beyond_what_is_shown;
use super::{Finding, Server, expressions};
use crate::error::{Result, Side};
use crate::schema::Table;
use crate::schema::generated::decoded;

const NAME: &str = "definition";

/// Checks one table of the source.
pub async fn check(server: &mut Server<'_>, table: &Table) -> Result<Vec<Finding>> {
    let mut hidden = members(server, table).await?;
    hidden.extend(match server.info.flavor {
        Flavor::MySql => mysql_expressions(server, table).await?,
        Flavor::MariaDb => mariadb_defaults(server, table).await?,
    });
    let name = table.qualified();
    let finding = |what: String| {
        Finding::refuse(
            NAME,
            format!("{what} of {name} has a character that the source shows as ?"),
            "create the table on the target by hand, with the true characters, and run again",
        )
        .on(Side::Source)
        .of(&name)
    };
    Ok(hidden.into_iter().map(finding).collect())
}

/// The condition for one table in `information_schema`.
fn of(table: &Table) -> String {
    format!("table_schema = {} AND table_name = {}", quote::text(&table.schema), quote::text(&table.name))
}

/// ENUM and SET columns with such a member.
async fn members(server: &mut Server<'_>, table: &Table) -> Result<Vec<String>> {
    let query = format!(
        "SELECT column_name, column_type, character_set_name FROM information_schema.columns WHERE {} \
         AND data_type IN ('enum', 'set') AND column_type LIKE '%?%'",
        of(table)
    );
    let columns: Vec<(String, String, String)> = server.query("reading members", &query).await?;
    let mut hidden = Vec::new();
    for (column, sql_type, charset) in columns {
        if beyond_what_is_shown(&charset) && !members_are_true(server, table, &column, &sql_type).await? {
            hidden.push(format!("a member of column {}", quote::ident(&column)));
        }
    }
    Ok(hidden)
}

/// Whether the members with a `?` have one. MariaDB has variables of a column's type, MySQL has nothing.
async fn members_are_true(
    server: &mut Server<'_>,
    table: &Table,
    column: &str,
    sql_type: &str,
) -> Result<bool> {
    if server.info.flavor == Flavor::MySql {
        return Ok(false);
    }
    let list =
        sql_type.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(list, _)| list);
    let set = sql_type.starts_with("set");
    for (i, member) in expressions::literals(list).enumerate().filter(|(_, member)| member.contains('?')) {
        let number = if set { 1u64 << i } else { i as u64 + 1 };
        let query = format!(
            "BEGIN NOT ATOMIC DECLARE x TYPE OF {}.{}; SET x = {number}; SELECT x; END",
            table.qualified(),
            quote::ident(column)
        );
        let found: Option<String> = server.first("reading a member", &query).await?;
        if found.as_deref() != Some(&member) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// MySQL's SHOW CREATE TABLE has `?` for what its information_schema shows byte for byte.
async fn mysql_expressions(server: &mut Server<'_>, table: &Table) -> Result<Vec<String>> {
    let of = of(table);
    let query = format!(
        "SELECT CONCAT('column ', column_name), generation_expression FROM information_schema.columns \
         WHERE {of} AND generation_expression <> '' \
         UNION ALL SELECT CONCAT('the default of column ', column_name), column_default FROM information_schema.columns \
         WHERE {of} AND extra LIKE '%DEFAULT\\_GENERATED%' \
         UNION ALL SELECT CONCAT('the index ', index_name), expression FROM information_schema.statistics \
         WHERE {of} AND expression IS NOT NULL \
         UNION ALL SELECT CONCAT('the constraint ', constraint_name), check_clause FROM \
         information_schema.check_constraints JOIN information_schema.table_constraints \
         USING (constraint_schema, constraint_name) WHERE {of}"
    );
    let expressions: Vec<(String, Option<String>)> = server.query("reading expressions", &query).await?;
    let shown =
        |text: &str| decoded(text).is_some_and(|t| !t.contains("????") && t.chars().all(|c| c <= '\u{ffff}'));
    let hidden = expressions.into_iter().filter(|(_, text)| !text.as_deref().is_none_or(shown));
    Ok(hidden.map(|(what, _)| what).collect())
}

/// MariaDB's has it in plain defaults, which the function DEFAULT tells as they are.
async fn mariadb_defaults(server: &mut Server<'_>, table: &Table) -> Result<Vec<String>> {
    let query = format!(
        "SELECT column_name, column_default FROM information_schema.columns WHERE {} \
         AND column_default LIKE '''%?%''' AND character_set_name IS NOT NULL",
        of(table)
    );
    let columns: Vec<(String, String)> = server.query("reading defaults", &query).await?;
    let mut hidden = Vec::new();
    for (column, default) in columns {
        let shown = quote::ident(&column);
        let query = format!(
            "SELECT CAST(DEFAULT({shown}) AS CHAR) FROM (SELECT 1) one LEFT JOIN {} ON FALSE",
            table.qualified()
        );
        let truth: Option<Option<String>> = server.first("reading a default", &query).await?;
        let literal = expressions::literals(&default).next();
        if truth.flatten() != literal {
            hidden.push(format!("the default of column {shown}"));
        }
    }
    Ok(hidden)
}
