//! The tables that the move makes on the target, with the source's definitions: word by word on a server of the same
//! product, translated on one of the other.

use std::collections::BTreeSet;

use converge_mysql::{Flavor, ServerInfo, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::error::{Error, OnSide, Result, Side};
use crate::preflight::Finding;
use crate::schema::{self, Column, Kind, Table};
use crate::source::TIMEOUT;
use crate::target::{Dialect, translate};

/// What to do about a table that cannot be made by itself.
const BY_HAND: &str = "create the table on the target by hand, with the same columns and keys, and run again";

/// The statement that makes a table on the target, or why there is none. Nothing is written.
pub async fn statement(
    (source, source_info): (&mut Conn, &ServerInfo),
    (target, target_info): (&mut Conn, &ServerInfo),
    from: (&str, &str),
    to: (&str, &str),
) -> Result<std::result::Result<String, Vec<Finding>>> {
    let name = quote::qualified(from.0, from.1);
    let refuse = |why: &str| {
        Finding::refuse("definition", format!("{name} cannot be made on the target: {why}"), BY_HAND)
            .on(Side::Target)
    };
    let printed = schema::definition(source, Side::Source, from.0, from.1).await?;
    let Ok(mut definition) = String::from_utf8(printed) else {
        return Ok(Err(vec![refuse("a default is of bytes that are no text")]));
    };
    if source_info.flavor != target_info.flavor {
        let collations = collations(target, target_info.flavor).await?;
        let dialect = Dialect { to: target_info.flavor, collations: &collations };
        definition = match translate(&definition, dialect) {
            Ok(definition) => definition,
            Err(reasons) => return Ok(Err(reasons.iter().map(|why| refuse(why)).collect())),
        };
    } else if let Some(sequence) = missing_sequence(target, &definition).await? {
        return Ok(Err(vec![refuse(&format!(
            "a default needs the sequence {sequence}, which is not there"
        ))]));
    }
    crate::target::creation(&definition, from.1, to.0, to.1)
        .map(Ok)
        .ok_or_else(|| Error::refused(format!("the definition of {name} has an unknown form"), BY_HAND))
}

/// A sequence that a default takes its values from and that the target does not have.
async fn missing_sequence(target: &mut Conn, definition: &str) -> Result<Option<String>> {
    for named in definition.split("nextval(`").skip(1) {
        let Some((schema, rest)) = named.split_once("`.`") else { continue };
        let Some((sequence, _)) = rest.split_once("`)") else { continue };
        let query = format!(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
            quote::text(schema),
            quote::text(sequence)
        );
        let found: Option<u8> =
            within(TIMEOUT, "looking for a sequence", target.query_first(query)).await.on_target()?;
        if found.is_none() {
            return Ok(Some(quote::qualified(schema, sequence)));
        }
    }
    Ok(None)
}

/// Sees to it that MySQL adds no column of its own to a table without a primary key.
async fn forbid_other_columns(target: &mut Conn) -> Result<()> {
    const NAME: &str = "sql_generate_invisible_primary_key";
    let what = "preparing to create a table";
    // Only some versions have it, and only some accounts may set it: mostly there is nothing to set.
    let query = format!("SHOW SESSION VARIABLES LIKE '{NAME}'");
    let found: Option<(String, String)> =
        within(TIMEOUT, what, target.query_first(query)).await.on_target()?;
    if found.is_none_or(|(_, value)| value != "ON") {
        return Ok(());
    }
    let set = format!("SET SESSION {NAME} = OFF");
    match within(TIMEOUT, what, target.query_drop(set)).await {
        Err(e) if e.is_refusal() => Err(Error::refused(
            format!("the target has {NAME} = ON, and the account may not change it for itself: {e}"),
            format!("SET GLOBAL {NAME} = OFF, or GRANT SESSION_VARIABLES_ADMIN ON *.* to the account"),
        )),
        other => other.on_target(),
    }
}

/// Makes a table by its statement.
pub async fn execute(target: &mut Conn, name: &str, statement: String) -> Result<()> {
    if !statement.contains("PRIMARY KEY (") {
        forbid_other_columns(target).await?;
    }
    let session =
        "SET SESSION foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";
    within(TIMEOUT, "preparing to create a table", target.query_drop(session)).await.on_target()?;
    let what = format!("creating table {name} on the target");
    match within(TIMEOUT, &what, target.query_drop(statement)).await {
        Err(e) if e.is_refusal() && !e.is_transient() => Err(Error::refused(e.to_string(), BY_HAND)),
        other => other.on_target(),
    }
}

/// All collations of a server, with their character sets.
async fn collations(conn: &mut Conn, flavor: Flavor) -> Result<BTreeSet<String>> {
    // MariaDB lists its newer ones without their character set, in a table that older versions have another form of.
    let query = match flavor {
        Flavor::MySql => "SELECT collation_name FROM information_schema.collations",
        Flavor::MariaDb => {
            "SELECT IF(collation_name LIKE CONCAT(character_set_name, '%'), collation_name, \
             CONCAT(character_set_name, '_', collation_name)) \
             FROM information_schema.collation_character_set_applicability"
        }
    };
    let names: Vec<String> =
        within(TIMEOUT, "reading the target's collations", conn.query(query)).await.on_target()?;
    Ok(names.into_iter().map(|n| n.to_lowercase()).collect())
}

/// What values of the table may lose on a server of the other product, where nothing can be done about it.
pub fn losses(table: &Table, source: Flavor, target: Flavor) -> Vec<Finding> {
    let warn = |what: &str, name: &str, fix: &str| {
        let what = format!("column {} of {}: {what}", quote::ident(name), table.qualified());
        Finding::warn("values", what, fix)
    };
    if (source, target) != (Flavor::MySql, Flavor::MariaDb) {
        return Vec::new();
    }
    let finding = |column: &Column| match column.kind {
        Kind::Json => Some(warn(
            "MariaDB keeps JSON as text: decimals, dates and binary strings inside keep their text, not their SQL type",
            &column.name,
            "nothing to do where programs read the text",
        )),
        Kind::Float | Kind::Double => Some(warn(
            "MariaDB has no negative zero: -0 arrives as 0, and VDiff says so",
            &column.name,
            "UPDATE … SET column = 0 WHERE column = 0 on the source, if there is any",
        )),
        _ => None,
    };
    table.columns.iter().filter_map(finding).collect()
}

/// Marks JSON columns whose counterpart on the target is not of MySQL's type: what they hold arrives as text.
pub async fn mark_json_as_text(
    target: &mut Conn,
    schema: &str,
    tables: &mut [Table],
    names: &[&str],
) -> Result<()> {
    for (table, name) in tables.iter_mut().zip(names) {
        if !table.columns.iter().any(|c| c.kind == Kind::Json) {
            continue;
        }
        let Some(there) = Table::read(target, Side::Target, schema, name).await? else { continue };
        for column in table.columns.iter_mut().filter(|c| c.kind == Kind::Json) {
            let counterpart = there.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name));
            if counterpart.is_some_and(|c| c.kind != Kind::Json) {
                column.kind = Kind::JsonText;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_by_column() {
        let columns = ["i", "j", "f"].into_iter().zip([Kind::Date, Kind::Json, Kind::Float]);
        let table =
            Table::for_tests(columns.map(|(name, kind)| Column::for_tests(name, kind)).collect(), vec![0]);
        let named: Vec<String> =
            losses(&table, Flavor::MySql, Flavor::MariaDb).into_iter().map(|f| f.what).collect();
        assert!(named.len() == 2 && named[0].contains("`j`") && named[1].contains("`f`"), "{named:?}");
        assert!(losses(&table, Flavor::MySql, Flavor::MySql).is_empty());
    }
}
