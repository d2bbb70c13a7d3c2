//! What the benches share: one table of orders and its rows, the same in every run, for the criterion benches; private
//! servers ([`lab`]) and tables to fill them with ([`sysbench`]) for the side-by-side runs.
//!
//! The criterion benches measure single functions in memory, without a server: they are for seeing what a change of
//! code does to its own cost. How fast a move is, only the side-by-side runs say.

pub mod lab;
pub mod minimal;
pub mod rows;
pub mod sysbench;

use converge_mover::schema::{Column, Kind, Table};
use converge_mover::value::{Row, Value};

/// The table that all benches use: a number, a foreign key, two strings, a sum of money and a time.
pub fn orders() -> Table {
    let text = || Kind::Char { charset: "utf8mb4".into(), collation: "utf8mb4_0900_ai_ci".into() };
    let columns: Vec<Column> = [
        ("id", Kind::Int { unsigned: false }, "bigint"),
        ("customer_id", Kind::Int { unsigned: true }, "int unsigned"),
        ("email", text(), "varchar(60)"),
        ("total", Kind::Decimal, "decimal(12,2)"),
        ("placed", Kind::DateTime(6), "datetime(6)"),
        ("note", text(), "text"),
    ]
    .map(|(name, kind, sql_type)| Column { name: name.into(), kind, sql_type: sql_type.into() })
    .into();
    Table {
        schema: "shop".into(),
        name: "orders".into(),
        ordinals: (0..columns.len()).map(Some).collect(),
        columns,
        key: vec![0],
        key_name: "PRIMARY".into(),
        rows_estimated: 0,
        row_bytes_estimated: 0,
        row_hashes: 0,
    }
}

/// The row of [`orders`] with a key, in a version. Every fourth row has no note.
pub fn order(id: i64, version: u64) -> Row {
    let n = id.unsigned_abs();
    let note = Value::Bytes(format!("leave it at the door, please; version {version}").into_bytes());
    vec![
        Value::Int(id),
        Value::UInt(n * 7 % 100_000),
        Value::Bytes(format!("customer{n}@example.com").into_bytes()),
        Value::Text(format!("{}.{:02}", n * 13 % 100_000, version % 100)),
        Value::Text(format!("2026-{:02}-{:02} 12:34:56.{:06}", n % 12 + 1, n % 28 + 1, n % 1_000_000)),
        if n.is_multiple_of(4) { Value::Null } else { note },
    ]
}
