//! Chunks of a table by key: the query, and its rows as values.

use converge_mysql::quote;
use mysql_async::{Row as ServerRow, Value as ServerValue};

use super::{json_types, temporal};
use crate::key_range::{push_after, push_through};
use crate::schema::{Column, Kind, Table};
use crate::value::{Row, Value};

/// The query for the first `limit` rows after the key `after`, in the order of the key.
pub fn query(table: &Table, after: Option<&[Value]>, limit: usize) -> Vec<u8> {
    let index = quote::ident(&table.key_name);
    let mut sql = [scan_query(table).as_slice(), format!(" FORCE INDEX ({index})").as_bytes()].concat();
    if let Some(after) = after {
        sql.extend_from_slice(b" WHERE ");
        push_after(&mut sql, table, after);
    }
    let order: Vec<String> = table.key_columns().map(|c| quote::ident(&c.name)).collect();
    sql.extend_from_slice(format!(" ORDER BY {} LIMIT {limit}", order.join(", ")).as_bytes());
    sql
}

/// The query for the keys of the rows in a range, see [`row`]; the table is one of [`Table::keys_only`].
pub fn range_query(table: &Table, after: Option<&[Value]>, through: Option<&[Value]>) -> Vec<u8> {
    let index = quote::ident(&table.key_name);
    let mut sql =
        [scan_query(table).as_slice(), format!(" FORCE INDEX ({index}) WHERE TRUE").as_bytes()].concat();
    if let Some(after) = after {
        sql.extend_from_slice(b" AND ");
        push_after(&mut sql, table, after);
    }
    if let Some(through) = through {
        sql.extend_from_slice(b" AND ");
        push_through(&mut sql, table, through);
    }
    sql
}

/// The query for all rows of a table, in no order.
pub fn scan_query(table: &Table) -> Vec<u8> {
    let mut columns: Vec<String> = table.columns.iter().map(selected).collect();
    columns.extend(json_types::columns(table).map(|i| json_types::flag(&table.columns[i])));
    format!("SELECT {} FROM {}", columns.join(", "), table.qualified()).into_bytes()
}

/// [`query`] with locks that keep the rows from changing. Both products know this form; it needs no more than SELECT.
pub fn locking_query(table: &Table, after: Option<&[Value]>, limit: usize) -> Vec<u8> {
    [query(table, after, limit).as_slice(), b" LOCK IN SHARE MODE"].concat()
}

/// ENUM and SET cross by number: their text may be ambiguous, and the log has numbers too.
fn selected(column: &Column) -> String {
    let name = quote::ident(&column.name);
    match column.kind {
        Kind::Enum | Kind::Set => format!("CAST({name} AS UNSIGNED)"),
        _ => name,
    }
}

/// One row of the query's result, and its columns whose JSON documents lack the types of the values inside. `Err` names
/// a column whose value has an unexpected form.
pub fn row(table: &Table, row: ServerRow) -> Result<(Row, Vec<usize>), String> {
    let mut values = row.unwrap().into_iter();
    // Collected into a result, it would grow step by step.
    let mut row = Row::with_capacity(table.columns.len());
    for (column, answer) in table.columns.iter().zip(&mut values) {
        row.push(value(column, answer)?);
    }
    let typed =
        json_types::columns(table).zip(values).filter(|(_, flag)| matches!(flag, ServerValue::Int(1)));
    Ok((row, typed.map(|(column, _)| column).collect()))
}

fn value(column: &Column, value: ServerValue) -> Result<Value, String> {
    use ServerValue as S;
    let date = |y: u16, m: u8, d: u8| (u64::from(y), u64::from(m), u64::from(d));
    let clock = |h: u8, i: u8, s: u8| (u64::from(h), u64::from(i), u64::from(s));
    Ok(match (&column.kind, value) {
        (_, S::NULL) => Value::Null,
        (Kind::Int { unsigned: true } | Kind::Enum | Kind::Set, S::UInt(v)) => Value::UInt(v),
        (Kind::Int { unsigned: true } | Kind::Enum | Kind::Set, S::Int(v)) => Value::UInt(v as u64),
        (Kind::Int { unsigned: false } | Kind::Year, S::Int(v)) => Value::Int(v),
        (Kind::Int { unsigned: false } | Kind::Year, S::UInt(v)) => Value::Int(v as i64),
        (Kind::Float, S::Float(v)) => Value::Float(v),
        (Kind::Double, S::Double(v)) => Value::Double(v),
        (Kind::Bit, S::Bytes(b)) if b.len() <= 8 => {
            Value::UInt(b.iter().fold(0, |value, &b| value << 8 | u64::from(b)))
        }
        (Kind::Decimal | Kind::Address(_), S::Bytes(b)) => {
            Value::Text(String::from_utf8(b).map_err(|_| unexpected(column, "text that is not ASCII"))?)
        }
        (Kind::Date, S::Date(y, m, d, ..)) => Value::Text(temporal::date_text(y.into(), m.into(), d.into())),
        (Kind::DateTime(n) | Kind::Timestamp(n), S::Date(y, m, d, h, i, s, micros)) => {
            Value::Text(temporal::datetime_text(date(y, m, d), clock(h, i, s), micros.into(), *n))
        }
        (Kind::Time(n), S::Time(negative, days, h, i, s, micros)) => {
            let hours = u64::from(days) * 24 + u64::from(h);
            Value::Text(temporal::time_text(negative, (hours, i.into(), s.into()), micros.into(), *n))
        }
        (Kind::Char { .. } | Kind::Binary, S::Bytes(b)) => Value::Bytes(b),
        (Kind::FixedBinary(width), S::Bytes(mut b)) => {
            b.resize((*width).max(b.len()), 0);
            Value::Bytes(b)
        }
        (Kind::Json | Kind::JsonText, S::Bytes(b)) => Value::Json(b),
        (_, other) => return Err(unexpected(column, &format!("{other:?}"))),
    })
}

fn unexpected(column: &Column, what: &str) -> String {
    format!("column {} ({}) was answered with {what}", quote::ident(&column.name), column.sql_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(key: Vec<usize>) -> Table {
        let columns = vec![
            Column::for_tests("a", Kind::Int { unsigned: false }),
            Column::for_tests("b", Kind::Char { charset: "latin1".into(), collation: "latin1_bin".into() }),
            Column::for_tests("c", Kind::Enum),
        ];
        Table::for_tests(columns, key)
    }

    #[test]
    fn enums_are_read_by_number() {
        let text = String::from_utf8(query(&table(vec![0]), None, 7)).unwrap();
        assert_eq!(
            text,
            "SELECT `a`, `b`, CAST(`c` AS UNSIGNED) FROM `s`.`t` FORCE INDEX (`PRIMARY`) ORDER BY `a` LIMIT 7"
        );
    }
}
