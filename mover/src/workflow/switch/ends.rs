//! A last look at both sides once the target has everything: whether each table begins and ends with the same key. The
//! stream proves what the mover wrote. Of what others did to the target's tables meanwhile it notices only what is in its
//! way: a table that was emptied there takes all further inserts.
//!
//! It costs one statement a side, which an index answers. It is no comparison: rows in the middle are VDiff's.

use std::time::Duration;

use converge_mysql::{Error as ServerError, quote, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as ServerValue};

use crate::schema::{Kind, Table};

const TIMEOUT: Duration = Duration::from_secs(4);

/// The first and last numbers of tables' keys, in order; of a key that begins with something else, which the sides may
/// order differently, and without a key, whether there are rows.
pub async fn of(conn: &mut Conn, tables: &[Table]) -> Result<Vec<String>, ServerError> {
    let asked: Vec<String> = tables.iter().map(question).collect();
    let query = format!("SELECT {}", asked.join(", "));
    let row: Option<Row> = within(TIMEOUT, "reading the ends of the tables", conn.query_first(query)).await?;
    let text = |value| match value {
        ServerValue::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    };
    Ok(row.map(Row::unwrap).unwrap_or_default().into_iter().map(text).collect())
}

fn question(table: &Table) -> String {
    let name = table.qualified();
    let first = table.key_columns().next().filter(|column| matches!(column.kind, Kind::Int { .. }));
    match first.map(|column| quote::ident(&column.name)) {
        Some(key) => format!(
            "IFNULL(CONCAT('keys from ', (SELECT MIN({key}) FROM {name}), ' to ', (SELECT MAX({key}) FROM {name})), 'no rows')"
        ),
        None => format!("IF(EXISTS (SELECT 1 FROM {name}), 'rows', 'no rows')"),
    }
}

/// What differs, in words; `target`: the tables under their names there.
pub fn differing(source: &[String], there: &[String], target: &[Table]) -> Option<String> {
    let mut pairs = source.iter().zip(there).zip(target);
    let ((source, there), table) = pairs.find(|((source, there), _)| source != there)?;
    Some(format!(
        "the target's {} is not what was moved there: it has {there}, the source {source}; somebody else changed it, and \
         `converge vdiff` tells in which rows",
        table.qualified()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Column;

    #[test]
    fn only_numbers_are_compared_by_value() {
        let column = |kind| Column::for_tests("k", kind);
        let number = Table::for_tests(vec![column(Kind::Int { unsigned: true })], vec![0]);
        assert!(question(&number).contains("(SELECT MAX(`k`) FROM `s`.`t`)"));
        let text = Table::for_tests(vec![column(Kind::Json), column(Kind::Binary)], vec![1]);
        assert_eq!(question(&text), "IF(EXISTS (SELECT 1 FROM `s`.`t`), 'rows', 'no rows')");
        let none = Table::for_tests(vec![column(Kind::Int { unsigned: true })], vec![]);
        assert_eq!(question(&none), question(&text));
    }

    #[test]
    fn the_table_that_differs_is_named() {
        let tables = ["a", "b"].map(|name| Table { name: name.into(), ..Table::for_tests(vec![], vec![]) });
        let [source, there] = [["no rows", "keys from 1 to 9"], ["no rows", "keys from 8 to 9"]]
            .map(|side| side.map(str::to_owned));
        assert_eq!(differing(&source, &source, &tables), None);
        let told = differing(&source, &there, &tables).unwrap();
        assert!(
            told.contains("`s`.`b`") && told.contains("keys from 8 to 9, the source keys from 1"),
            "{told}"
        );
    }
}
