//! The predicate that finds one row by all its values: in tables without a key, and to prove that it is there. It must be true of a row exactly if
//! the row is the same: not of one that a collation, a number's sign or a JSON document's types make only look alike.

use converge_mysql::quote;

use super::render::{Expect, Statement};
use crate::key_range::push_comparison;
use crate::schema::{Column, Kind, Table};
use crate::value::{Row, Value};

/// Deletes as many rows as are given, all of them equal to the first.
pub fn delete(table: &Table, rows: &[Row]) -> Statement {
    let mut sql = format!("DELETE FROM {} WHERE ", table.qualified()).into_bytes();
    push_same_row(&mut sql, table, rows.first().map(Vec::as_slice).unwrap_or_default());
    sql.extend_from_slice(format!(" LIMIT {}", rows.len()).as_bytes());
    // Sent alone, so that each may take as long as a whole table takes.
    Statement { alone: true, scans: true, ..Statement::new(table, sql, Expect::Rows(rows.len() as u64)) }
}

/// The predicate.
pub fn push_same_row(sql: &mut Vec<u8>, table: &Table, row: &[Value]) {
    for (i, (column, value)) in table.columns.iter().zip(row).enumerate() {
        sql.extend_from_slice(if i > 0 { b" AND " } else { b"" });
        push_same(sql, column, value);
    }
}

fn push_same(sql: &mut Vec<u8>, column: &Column, value: &Value) {
    let name = quote::ident(&column.name);
    match (&column.kind, value) {
        (_, Value::Null) => sql.extend_from_slice(format!("{name} IS NULL").as_bytes()),
        (_, Value::Float(v)) => push_float(sql, column, value, *v == 0.0, v.is_sign_negative()),
        (_, Value::Double(v)) => push_float(sql, column, value, *v == 0.0, v.is_sign_negative()),
        // The bytes in the source's character set, whatever the collation takes for equal.
        (Kind::Char { charset, .. }, Value::Bytes(bytes)) => {
            let charset = if charset.starts_with("utf8") { "utf8mb4" } else { charset };
            push_bytes(sql, &format!("CAST(CONVERT({name} USING {charset}) AS BINARY)"), bytes);
        }
        (Kind::Binary, Value::Bytes(bytes)) => push_bytes(sql, &format!("CAST({name} AS BINARY)"), bytes),
        // By the server's own text, which tells 1 from 1.0; documents as such compare by numbers' values.
        (Kind::Json, Value::Json(_)) => {
            sql.extend_from_slice(format!("CAST({name} AS CHAR) = CAST(CAST(").as_bytes());
            value.push_literal(column, sql);
            sql.extend_from_slice(b" AS JSON) AS CHAR)");
        }
        // Without the cast it may be compared as a double, or as a signed integer.
        (Kind::Set, Value::UInt(v)) => {
            sql.extend_from_slice(format!("CAST({name} AS UNSIGNED) = {v}").as_bytes())
        }
        // A YEAR that is compared as such takes 0 for 2000.
        (Kind::Year, Value::Int(v)) => sql.extend_from_slice(format!("{name} + 0 = {v}").as_bytes()),
        _ => push_comparison(sql, column, "=", value),
    }
}

fn push_bytes(sql: &mut Vec<u8>, expression: &str, bytes: &[u8]) {
    sql.extend_from_slice(format!("{expression} = _binary").as_bytes());
    quote::push_bytes(sql, bytes);
}

/// Zero has a sign that no comparison sees.
fn push_float(sql: &mut Vec<u8>, column: &Column, value: &Value, zero: bool, negative: bool) {
    push_comparison(sql, column, "=", value);
    if zero {
        let operator = if negative { "=" } else { "<>" };
        let name = quote::ident(&column.name);
        sql.extend_from_slice(format!(" AND LEFT(CONCAT({name}), 1) {operator} '-'").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_compared_for_what_it_is() {
        let char = Kind::Char { charset: "latin1".into(), collation: "latin1_swedish_ci".into() };
        let columns = vec![
            Column::for_tests("a", Kind::Int { unsigned: false }),
            Column::for_tests("c", char),
            Column::for_tests("d", Kind::Double),
        ];
        let table = Table::for_tests(columns, Vec::new());
        let row = vec![Value::Null, Value::Bytes(b"x".to_vec()), Value::Double(-0.0)];
        let statement = delete(&table, &[row.clone(), row]);
        assert_eq!(
            String::from_utf8(statement.sql).unwrap(),
            "DELETE FROM `s`.`t` WHERE `a` IS NULL AND CAST(CONVERT(`c` USING latin1) AS BINARY) = _binary'x' \
             AND `d` = -0e0 AND LEFT(CONCAT(`d`), 1) = '-' LIMIT 2"
        );
        assert_eq!(statement.expect, Expect::Rows(2));
    }
}
