//! Chunks of a table by key: the query, and its rows as values.

use converge_mysql::quote;
use mysql_async::{Row as ServerRow, Value as ServerValue};

use super::json_question::{Answer, Question};
use super::{json_types, temporal};
use crate::key_range::{push_after, push_through};
use crate::schema::{Column, Kind, Table};
use crate::value::{Row, Value};

/// Bytes of a stored document that others are expected to look like.
const SAMPLE_BYTES: usize = 4096;
/// Rows whose documents are looked at first.
const SAMPLE_ROWS: usize = 64;

/// The query for the first `limit` rows after the key `after`, in the order of the key; with a question for each column of
/// JSON documents.
pub fn query(table: &Table, questions: &[Question], after: Option<&[Value]>, limit: usize) -> Vec<u8> {
    first_rows(scan_query(table, questions), table, after, limit)
}

/// The query for some documents after the key `after`: of each of the columns that may hold SQL types.
pub fn sample_query(table: &Table, after: Option<&[Value]>) -> Vec<u8> {
    let documents: Vec<String> = json_types::columns(table)
        .map(|i| quote::ident(&table.columns[i].name))
        .map(|name| format!("IF(JSON_STORAGE_SIZE({name}) <= {SAMPLE_BYTES}, {name}, NULL)"))
        .collect();
    let sql = format!("SELECT {} FROM {}", documents.join(", "), table.qualified());
    first_rows(sql.into_bytes(), table, after, SAMPLE_ROWS)
}

fn first_rows(mut sql: Vec<u8>, table: &Table, after: Option<&[Value]>, limit: usize) -> Vec<u8> {
    let index = quote::ident(&table.key_name);
    sql.extend_from_slice(format!(" FORCE INDEX ({index})").as_bytes());
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
        [scan_query(table, &[]).as_slice(), format!(" FORCE INDEX ({index}) WHERE TRUE").as_bytes()].concat();
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

/// The query for all rows of a table, in no order; with a question for each column of JSON documents.
pub fn scan_query(table: &Table, questions: &[Question]) -> Vec<u8> {
    let mut columns: Vec<String> = table.columns.iter().map(selected).collect();
    let documents = json_types::columns(table).map(|i| &table.columns[i]);
    columns.extend(questions.iter().zip(documents).map(|(question, column)| question.sql(column)));
    format!("SELECT {} FROM {}", columns.join(", "), table.qualified()).into_bytes()
}

/// Added to a [`query`]: locks that keep the rows from changing. Both products know this form; it needs no more than SELECT.
pub const LOCKING: &[u8] = b" LOCK IN SHARE MODE";

/// ENUM and SET cross by number: their text may be ambiguous, and the log has numbers too.
fn selected(column: &Column) -> String {
    let name = quote::ident(&column.name);
    match column.kind {
        Kind::Enum | Kind::Set => format!("CAST({name} AS UNSIGNED)"),
        _ => name,
    }
}

/// One row of the query's result, and its columns whose JSON documents are to be asked about by themselves. `Err` names a
/// column whose value has an unexpected form.
pub fn row(table: &Table, questions: &[Question], row: ServerRow) -> Result<(Row, Vec<usize>), String> {
    let mut values = row.unwrap().into_iter();
    // Collected into a result, it would grow step by step.
    let mut row = Row::with_capacity(table.columns.len());
    for (column, answer) in table.columns.iter().zip(&mut values) {
        row.push(value(column, answer)?);
    }
    let mut open = Vec::new();
    for ((i, question), answer) in json_types::columns(table).zip(questions).zip(values) {
        let Value::Json(text) = &row[i] else { continue };
        match question.answer(text, &answer).map_err(|e| e.0)? {
            Answer::Plain => {}
            Answer::Typed(value) => row[i] = value,
            Answer::Open => open.push(i),
        }
    }
    Ok((row, open))
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
            let text = String::from_utf8(b).map_err(|_| unexpected(column, "text that is not ASCII"))?;
            Value::Text(if column.kind == Kind::Decimal { without_zeros(text) } else { text })
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

/// A DECIMAL without the zeros that ZEROFILL puts in front of it, as the log has it.
fn without_zeros(text: String) -> String {
    let zeros = text.bytes().take_while(|b| *b == b'0').count();
    let has_more = text[zeros..].starts_with(|c: char| c.is_ascii_digit());
    match if has_more { zeros } else { zeros.saturating_sub(1) } {
        0 => text,
        surplus => text[surplus..].to_owned(),
    }
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
        let text = String::from_utf8(query(&table(vec![0]), &[], None, 7)).unwrap();
        assert_eq!(
            text,
            "SELECT `a`, `b`, CAST(`c` AS UNSIGNED) FROM `s`.`t` FORCE INDEX (`PRIMARY`) ORDER BY `a` LIMIT 7"
        );
    }

    #[test]
    fn a_zerofill_decimal_is_read_as_the_log_has_it() {
        let column = Column::for_tests("d", Kind::Decimal);
        let read = |text: &str| value(&column, ServerValue::Bytes(text.into())).unwrap();
        for (printed, logged) in [
            ("0000000001.50", "1.50"),
            ("0000000000.05", "0.05"),
            ("000", "0"),
            ("0", "0"),
            ("10.00", "10.00"),
            ("-0.50", "-0.50"),
        ] {
            assert_eq!(read(printed), Value::Text(logged.into()), "{printed}");
        }
    }
}
