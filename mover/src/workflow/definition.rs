//! The definitions of the moved tables over the life of a workflow.
//!
//! Rows in the log before a statement that changes a table have the old definition, rows after it the new one, while
//! the source shows nothing but its newest. So the stream reads by the *recorded* definitions. They are renewed at one
//! point only: the workflow stands at such a statement, everything before it is applied, and the operator says that
//! the target was changed too. Until then no row of the new form is read or written.
//!
//! What this cannot do: two such statements with rows of the table between them. The form between the two is shown
//! nowhere any more. The log is read ahead to find that out; it is refused, and the table must be moved again.

use std::collections::BTreeMap;

use converge_mysql::{Position, ServerInfo, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::change::StreamEvent;
use crate::error::{Error, OnSide, Result, Side};
use crate::preflight::fits::{Fit, fit};
use crate::preflight::{Weight, values};
use crate::schema::{Column, Kind, Table};
use crate::source::statement::{self, Fate};
use crate::source::{ChangeStream, TIMEOUT, fenced_name};
use crate::state::TableState;

/// Holds the target's tables against the source's new definitions: refused, with the difference, if the operator
/// forgot one.
pub async fn check_target(
    (source, source_info): (&mut Conn, &ServerInfo),
    conn: &mut Conn,
    before: &[Table],
    now: &[Table],
    names: &[(String, String)],
) -> Result<()> {
    let flavors = [source_info.flavor, ServerInfo::read(conn).await.on_target()?.flavor];
    let mut missing = Vec::new();
    for ((old, new), (schema, name)) in before.iter().zip(now).zip(names) {
        match Table::read(conn, Side::Target, schema, name).await? {
            Some(there) => {
                missing.extend(differences(old, new, &there));
                if flavors[0] == flavors[1] {
                    missing.extend(filled_otherwise(source, conn, old, new, &there).await?);
                }
                let computed = values::computed([source, conn], flavors, new, &there).await?;
                missing.extend(computed.into_iter().filter(|f| f.weight == Weight::Refuse).map(|f| f.what));
            }
            None => missing.push(format!("there is no table {}", quote::qualified(schema, name))),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::refused(
        format!("the target was not changed as the source was: {}", missing.join("; ")),
        "apply the statement to the target's table, then run with --skip-ddl again",
    ))
}

/// Refuses a statement that changed a key by which a table is being copied: the place that the copy has reached means
/// nothing in another order, and rows that are not copied yet would be passed over.
pub fn check_keys(before: &[Table], now: &[Table], states: &[TableState]) -> Result<()> {
    let is_under_way = |state: &TableState| !state.progress.done && state.progress.last_key.is_some();
    let changed = before.iter().zip(now).zip(states).find(|((old, new), state)| {
        is_under_way(state) && !old.key_columns().map(ordering).eq(new.key_columns().map(ordering))
    });
    let Some(((old, new), _)) = changed else { return Ok(()) };
    Err(Error::refused(
        format!(
            "{} was being copied in the order of its key ({}), and the statement made it ({}): rows that are not copied \
             yet could not be told from those that are",
            old.qualified(),
            spelled(old),
            spelled(new)
        ),
        "cancel the workflow and start again from empty target tables; once a table is copied its key may change",
    ))
}

/// What says how values of a key's column are ordered. Wider numbers and texts are ordered as before.
fn ordering(column: &Column) -> (&str, &Kind, Option<&str>) {
    let widens = matches!(column.kind, Kind::Int { .. } | Kind::Char { .. });
    (&column.name, &column.kind, (!widens).then_some(&*column.sql_type))
}

/// A key's columns with their types, and with their collations.
fn spelled(table: &Table) -> String {
    let column = |column: &Column| {
        let collation = match &column.kind {
            Kind::Char { collation, .. } => format!(" COLLATE {collation}"),
            _ => String::new(),
        };
        format!("{} {}{collation}", quote::ident(&column.name), column.sql_type)
    };
    table.key_columns().map(column).collect::<Vec<_>>().join(", ")
}

/// Columns that came with the statement, and that each server filled by another default.
async fn filled_otherwise(
    source: &mut Conn,
    target: &mut Conn,
    old: &Table,
    new: &Table,
    there: &Table,
) -> Result<Vec<String>> {
    let here = defaults(source, Side::Source, new).await?;
    let filled = defaults(target, Side::Target, there).await?;
    let is_new = |name: &&String| old.columns.iter().all(|column| column.name != **name);
    let mut list = Vec::new();
    for name in here.keys().filter(is_new) {
        let shown =
            |default: Option<&Option<String>>| default.cloned().flatten().unwrap_or_else(|| "none".into());
        let [ours, theirs] = [&here, &filled].map(|side| shown(side.get(name)));
        let (table, column) = (there.qualified(), quote::ident(name));
        if ours != theirs {
            list.push(format!(
                "column {column} of {table} has the default {theirs}, {ours} on the source: rows that were there already differ"
            ));
        } else if is_of_the_moment(&ours) {
            tracing::warn!(
                "column {column} of {table} has the default {ours}, which each server worked out for the rows that were there: \
                 compare the table with `converge vdiff --repair` before the switch"
            );
        }
    }
    Ok(list)
}

/// Whether a default may be another one with each statement.
fn is_of_the_moment(default: &str) -> bool {
    let default = default.to_lowercase();
    ["current_", "now", "uuid", "rand", "time", "date", "user", "connection_id"]
        .iter()
        .any(|w| default.contains(w))
}

/// The defaults of a table's columns, as their server shows them.
async fn defaults(conn: &mut Conn, side: Side, table: &Table) -> Result<BTreeMap<String, Option<String>>> {
    let query = format!(
        "SELECT column_name, column_default FROM information_schema.columns WHERE table_schema = {} AND table_name = {}",
        quote::text(&table.schema),
        quote::text(&table.name)
    );
    let rows: Vec<(String, Option<String>)> =
        within(TIMEOUT, "reading the columns' defaults", conn.query(query)).await.on(side)?;
    Ok(rows.into_iter().collect())
}

/// Reads the log ahead, from the statement at `at` to `until`, which was the log's end after the definitions were read:
/// rows of moved tables and then another such statement would mean that those rows have a form that is shown nowhere.
/// Returns the statement.
pub async fn check_alone(
    mut stream: impl ChangeStream,
    at: &str,
    from: &Position,
    until: &Position,
) -> Result<Option<String>> {
    let mut here = from.clone();
    let (mut rows, mut statement) = (false, None);
    while here.covers(until) == Some(false) {
        match stream.next().await? {
            StreamEvent::Change(_) => rows = true,
            StreamEvent::Commit { advance, .. } => advance.apply_to(&mut here),
            StreamEvent::Statement { text, position } if position != at && rows => {
                return Err(Error::refused(
                    format!(
                        "after the statement at {at} the table was changed once more, at {position} ({text}), and rows \
                         were written in between: their form is shown nowhere any more"
                    ),
                    "cancel the workflow and start again from empty target tables",
                ));
            }
            StreamEvent::Statement { text, position } if position == at => statement = Some(text),
            _ => {}
        }
    }
    Ok(statement)
}

/// Holds the target's rows against what the statement made of the source's, as far as one look can tell: the workflow
/// stands in front of it, and nobody has written to the target since. `names`: schema and name of each table there.
pub async fn check_rows(
    statement: &str,
    conn: &mut Conn,
    tables: &[Table],
    names: &[(String, String)],
) -> Result<()> {
    let emptied = match statement::fate(statement) {
        Fate::Same => return Ok(()),
        Fate::Emptied(name) => Some(name),
        Fate::Others => None,
    };
    let is_emptied = |(table, _): &(&Table, _)| {
        let is = |name: &str| emptied.as_ref().is_some_and(|emptied| statement::may_be(emptied, name));
        is(&table.name) || is(&fenced_name(&table.name))
    };
    let of: Vec<_> = tables.iter().zip(names).filter(is_emptied).collect();
    if of.is_empty() {
        tracing::warn!(
            "{statement}: whether the target has the same rows since is not looked at; what to do: compare the tables with \
             `converge vdiff --workflow` before traffic is switched"
        );
    }
    let mut full = Vec::new();
    for (_, (schema, name)) in of {
        let name = quote::qualified(schema, name);
        let query = format!("SELECT 1 FROM {name} LIMIT 1");
        let row: Option<u8> =
            within(TIMEOUT, "looking for rows on the target", conn.query_first(query)).await.on_target()?;
        if row.is_none() {
            return Ok(());
        }
        full.push(name);
    }
    match full.is_empty() {
        true => Ok(()),
        false => Err(Error::refused(
            format!("the target was not changed as the source was: {} still has rows", full.join(" or ")),
            format!(
                "carry out on the target what was done on the source ({statement}), and run again with --skip-ddl"
            ),
        )),
    }
}

/// What changed from `old` to `new` and is not so in `there`.
fn differences(old: &Table, new: &Table, there: &Table) -> Vec<String> {
    let name = there.qualified();
    let find = |table: &Table, column: &Column| table.columns.iter().find(|c| c.name == column.name).cloned();
    let mut list = Vec::new();
    for column in &new.columns {
        let ident = quote::ident(&column.name);
        let was = find(old, column);
        match find(there, column) {
            None => list.push(format!("{name} has no column {ident} {}", column.sql_type)),
            // A target that had a type of its own from the beginning keeps it.
            Some(is)
                if was
                    .as_ref()
                    .is_some_and(|w| w.sql_type == is.sql_type && w.sql_type != column.sql_type) =>
            {
                list.push(format!(
                    "column {ident} of {name} is still {}, on the source it is {}",
                    is.sql_type, column.sql_type
                ));
            }
            Some(is) if was.as_ref() != Some(column) && matches!(fit(column, &is), Fit::Alters(_)) => {
                list.push(format!(
                    "column {ident} of {name} is {}, which does not hold the source's {}",
                    is.sql_type, column.sql_type
                ));
            }
            Some(_) => {}
        }
    }
    for column in &old.columns {
        if find(new, column).is_none() && find(there, column).is_some() {
            list.push(format!("{name} still has the column {}", quote::ident(&column.name)));
        }
    }
    let key = |t: &Table| t.key_columns().map(|c| quote::ident(&c.name)).collect::<Vec<_>>().join(", ");
    if key(new) != key(there) {
        list.push(format!("{name} has the key ({}), the source has ({})", key(there), key(new)));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    fn table(columns: &[(&str, &str)], key: Vec<usize>) -> Table {
        let column = |(name, sql_type): &(&str, &str)| Column {
            sql_type: (*sql_type).into(),
            ..Column::for_tests(name, Kind::Int { unsigned: false })
        };
        Table::for_tests(columns.iter().map(column).collect(), key)
    }

    #[test]
    fn what_the_target_lacks_is_named() {
        let old = table(&[("a", "int"), ("b", "int"), ("c", "int")], vec![0]);
        let new = table(&[("a", "int"), ("b", "bigint"), ("d", "int")], vec![0]);
        assert!(differences(&old, &new, &new).is_empty());
        let found = differences(&old, &new, &old).join("; ");
        for words in ["no column `d`", "`b` of `s`.`t` is still int", "still has the column `c`"] {
            assert!(found.contains(words), "{found}");
        }
        let other_key = table(&[("a", "int"), ("b", "bigint"), ("d", "int")], vec![1]);
        assert!(differences(&old, &new, &other_key).join("").contains("key (`b`)"));
    }

    #[test]
    fn a_new_column_must_hold_the_sources_values() {
        let decimal =
            |sql_type: &str| Column { sql_type: sql_type.into(), ..Column::for_tests("d", Kind::Decimal) };
        let with =
            |column: Column| Table::for_tests(vec![Column::for_tests("a", Kind::Date), column], vec![0]);
        let (old, new) = (table(&[("a", "int")], vec![0]), with(decimal("decimal(10,4)")));
        let found = differences(&old, &new, &with(decimal("decimal(10,2)"))).join("; ");
        assert!(found.contains("`d` of `s`.`t` is decimal(10,2), which does not hold"), "{found}");
        assert!(differences(&old, &new, &with(decimal("decimal(12,4)"))).is_empty());
    }

    #[test]
    fn a_type_of_the_targets_own_is_kept() {
        let old = table(&[("a", "int")], vec![0]);
        let new = table(&[("a", "int"), ("b", "int")], vec![0]);
        let there = table(&[("a", "bigint"), ("b", "bigint")], vec![0]);
        assert!(differences(&old, &new, &there).is_empty());
    }
}
