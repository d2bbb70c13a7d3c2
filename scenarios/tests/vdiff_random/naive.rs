//! The truth about two tables by a full dump: every value is fetched and compared here, with nothing of VDiff's.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use super::spec::{Read, Spec};

/// One value: NULL, or bytes that are the same exactly when the values are.
type Cell = Option<Vec<u8>>;

/// A row, and its key as VDiff words it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Dumped {
    cells: Vec<Cell>,
    shown: Vec<String>,
}

/// A difference: kind, key, columns, copies.
pub type Difference = (String, Vec<String>, BTreeSet<String>, u64);

async fn dump(conn: &mut Conn, table: &str, spec: &Spec, across: bool) -> Vec<Dumped> {
    let columns: Vec<String> = (0..spec.width())
        .map(|i| match spec.of(i).read {
            Read::Number => format!("c{i} + 0, CAST(c{i} + 0 AS CHAR)"),
            Read::Plain => format!("CAST(c{i} AS CHAR), CAST(c{i} AS CHAR)"),
            Read::Text if spec.of(i).declared.starts_with("ENUM") => {
                format!("CONCAT(c{i} + 0, ':', HEX(CONVERT(CAST(c{i} AS CHAR) USING utf8mb4))), CAST(c{i} AS CHAR)")
            }
            Read::Text => format!("HEX(CONVERT(CAST(c{i} AS CHAR) USING utf8mb4)), CAST(c{i} AS CHAR)"),
            Read::Bytes => format!("HEX(c{i}), CONCAT('0x', LOWER(HEX(c{i})))"),
            Read::Real => format!("c{i}, ''"),
            Read::Json => format!("CAST(c{i} AS CHAR), ''"),
        })
        .collect();
    // The binary protocol carries FLOAT and DOUBLE as they are.
    let sql = format!("SELECT {} FROM {table}", columns.join(", "));
    let rows: Vec<Row> = conn.exec(&sql, ()).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    rows.into_iter()
        .map(|row| {
            let values = row.unwrap();
            let cells = (0..spec.width()).map(|i| cell(&values[2 * i], spec.of(i).read, across)).collect();
            let shown = (0..spec.width()).map(|i| text(&values[2 * i + 1])).collect();
            Dumped { cells, shown }
        })
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_sql(true),
    }
}

fn cell(value: &Value, read: Read, across: bool) -> Cell {
    match value {
        Value::NULL => None,
        Value::Float(number) => Some(f64::from(*number).to_bits().to_be_bytes().to_vec()),
        Value::Double(number) => Some(number.to_bits().to_be_bytes().to_vec()),
        Value::Bytes(bytes) if read == Read::Json && across => {
            let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            Some(format!("{document:?}").into_bytes())
        }
        Value::Bytes(bytes) => Some(bytes.clone()),
        other => Some(other.as_sql(true).into_bytes()),
    }
}

/// Every difference between the two copies of a table.
pub async fn differences(
    conns: &mut [Conn; 2],
    table: &str,
    spec: &Spec,
    across: bool,
) -> BTreeSet<Difference> {
    let [source, target] = conns;
    let (source, target) = (dump(source, table, spec, across).await, dump(target, table, spec, across).await);
    if spec.key().is_empty() { multisets(&source, &target) } else { keyed(&source, &target, spec) }
}

/// Equal rows stand against each other; what is left over is extra.
fn multisets(source: &[Dumped], target: &[Dumped]) -> BTreeSet<Difference> {
    let mut counts: BTreeMap<&Vec<Cell>, (i64, &Dumped)> = BTreeMap::new();
    for (rows, step) in [(source, 1), (target, -1)] {
        for row in rows {
            counts.entry(&row.cells).or_insert((0, row)).0 += step;
        }
    }
    let kind = |count: i64| if count > 0 { "extra_source" } else { "extra_target" };
    let row = |(count, row): &(i64, &Dumped)| {
        (kind(*count).to_owned(), row.shown.clone(), BTreeSet::new(), count.unsigned_abs())
    };
    counts.values().filter(|(count, _)| *count != 0).map(row).collect()
}

/// Rows by the exact bytes of their keys. Where the target's key is not unique, several rows may share one.
fn keyed(source: &[Dumped], target: &[Dumped], spec: &Spec) -> BTreeSet<Difference> {
    let key = spec.key();
    let mut groups: BTreeMap<Vec<Cell>, [Vec<&Dumped>; 2]> = BTreeMap::new();
    for (side, rows) in [source, target].into_iter().enumerate() {
        for row in rows {
            let cells = key.iter().map(|i| row.cells[*i].clone()).collect();
            groups.entry(cells).or_default()[side].push(row);
        }
    }
    let mut found = BTreeSet::new();
    for [mut a, mut b] in groups.into_values() {
        // Equal rows stand against each other first.
        a.retain(|row| match b.iter().position(|other| other.cells == row.cells) {
            Some(at) => {
                b.remove(at);
                false
            }
            None => true,
        });
        let both = a.len().min(b.len());
        let shown = |row: &Dumped| -> Vec<String> { key.iter().map(|i| row.shown[*i].clone()).collect() };
        if both > 0 {
            let differs = |i: &usize| a[0].cells[*i] != b[0].cells[*i];
            let columns = (0..spec.width()).filter(differs).map(|i| format!("c{i}")).collect();
            found.insert(("mismatched".into(), shown(a[0]), columns, both as u64));
        }
        for (kind, rows) in [("extra_source", &a), ("extra_target", &b)] {
            let more = rows.len() - both;
            if more > 0 {
                found.insert((kind.into(), shown(rows[0]), BTreeSet::new(), more as u64));
            }
        }
    }
    found
}
