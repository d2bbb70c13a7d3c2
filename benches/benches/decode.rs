//! The mover's own decoder: row images of the binary log to changes.
//!
//! Measured: one cached plan over the images of many rows, as in a large row event, inserts and updates apart; the row
//! events of sysbench's write-only transactions, one row each; and the making of a plan from a table map. Not measured:
//! reading the stream, framing its events, and expanding compressed ones.

use std::hint::black_box;
use std::time::Duration;

use converge_benches::{order, orders};
use converge_mover::change::Change;
use converge_mover::schema::{Column, Kind, Table};
use converge_mover::source::{Bytes, Plan};
use converge_mover::value::{Row, Value};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mysql_common::binlog::BinlogCtx;
use mysql_common::binlog::consts::{BinlogVersion, EventType};
use mysql_common::binlog::events::{FormatDescriptionEvent, TableMapEvent};
use mysql_common::io::ParseBuf;

const ROWS: i64 = 1000;

/// The table map of `orders`, as a server writes it, without optional metadata.
fn table_map() -> Vec<u8> {
    let mut event = vec![1, 0, 0, 0, 0, 0, 1, 0];
    for name in ["shop", "orders"] {
        event.push(name.len() as u8);
        event.extend_from_slice(name.as_bytes());
        event.push(0);
    }
    // BIGINT, INT, VARCHAR, NEWDECIMAL, DATETIME2, BLOB.
    event.extend_from_slice(&[6, 8, 3, 15, 246, 18, 252]);
    // 60 characters of 4 bytes; 12 digits, 2 of them fraction; 6 digits of fraction; a length of 2 bytes.
    event.extend_from_slice(&[6, 240, 0, 12, 2, 6, 2]);
    event.push(0b10_0000);
    event
}

/// A row image: the bitmap of NULLs, then the values that are not.
fn push_image(out: &mut Vec<u8>, row: &[Value]) {
    out.push(if row[5] == Value::Null { 0b10_0000 } else { 0 });
    for (column, value) in row.iter().enumerate() {
        match (column, value) {
            (_, Value::Int(n)) => out.extend_from_slice(&n.to_le_bytes()),
            (_, Value::UInt(n)) => out.extend_from_slice(&(*n as u32).to_le_bytes()),
            (5, Value::Bytes(bytes)) => {
                out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            (_, Value::Bytes(bytes)) => {
                out.push(bytes.len() as u8);
                out.extend_from_slice(bytes);
            }
            (3, Value::Text(text)) => push_decimal(out, text),
            (_, Value::Text(text)) => push_datetime(out, text),
            _ => {}
        }
    }
}

/// A positive DECIMAL(12,2): the tenth digit before the point, nine digits, two digits after it; the first bit set.
fn push_decimal(out: &mut Vec<u8>, text: &str) {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let (whole, fraction): (u64, u8) = (whole.parse().unwrap_or(0), fraction.parse().unwrap_or(0));
    out.push((whole / 1_000_000_000) as u8 ^ 0x80);
    out.extend_from_slice(&((whole % 1_000_000_000) as u32).to_be_bytes());
    out.push(fraction);
}

/// A DATETIME(6): years and months, days, hours, minutes and seconds in 40 bits, microseconds in 24.
fn push_datetime(out: &mut Vec<u8>, text: &str) {
    let n: Vec<u64> =
        text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0)).collect();
    let packed = 1 << 39 | (n[0] * 13 + n[1]) << 22 | n[2] << 17 | n[3] << 12 | n[4] << 6 | n[5];
    out.extend_from_slice(&packed.to_be_bytes()[3..]);
    out.extend_from_slice(&(n[6] as u32).to_be_bytes()[1..]);
}

fn images(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::new();
    rows.iter().for_each(|row| push_image(&mut out, row));
    out
}

fn next(plan: &Plan, bytes: &mut Bytes<'_>) -> Row {
    plan.read(bytes).unwrap_or_else(|e| panic!("{e:?}"))
}

fn inserts(plan: &Plan, data: &[u8]) -> Vec<Change> {
    let (mut bytes, mut out) = (Bytes::new(data), Vec::with_capacity(ROWS as usize));
    while !bytes.is_empty() {
        out.push(Change::Insert { table: 0, after: next(plan, &mut bytes) });
    }
    out
}

fn updates(plan: &Plan, data: &[u8]) -> Vec<Change> {
    let (mut bytes, mut out) = (Bytes::new(data), Vec::with_capacity(ROWS as usize));
    while !bytes.is_empty() {
        // Of the row before the stream reads the key only.
        let before = plan.read_before(&mut bytes).unwrap_or_else(|e| panic!("{e:?}"));
        let after = next(plan, &mut bytes);
        out.push(Change::Update { table: 0, before, after });
    }
    out
}

/// The table map of sysbench's table, in utf8mb4.
fn sysbench_map() -> Vec<u8> {
    let mut event = vec![1, 0, 0, 0, 0, 0, 1, 0];
    for name in ["sbtest", "sbtest1"] {
        event.push(name.len() as u8);
        event.extend_from_slice(name.as_bytes());
        event.push(0);
    }
    // INT, INT, CHAR(120), CHAR(60): the latter two with their bytes, of which the upper two bits stand in the type.
    event.extend_from_slice(&[4, 3, 3, 254, 254]);
    event.extend_from_slice(&[4, 0xee, 0xe0, 0xfe, 0xf0]);
    event.push(0);
    event
}

fn sysbench_table() -> Table {
    let text = || Kind::Char { charset: "utf8mb4".into(), collation: "utf8mb4_0900_ai_ci".into() };
    let int = || Kind::Int { unsigned: false };
    let columns: Vec<Column> =
        [("id", int(), "int"), ("k", int(), "int"), ("c", text(), "char(120)"), ("pad", text(), "char(60)")]
            .map(|(name, kind, sql_type)| Column { name: name.into(), kind, sql_type: sql_type.into() })
            .into();
    let ordinals = (0..columns.len()).map(Some).collect();
    Table { name: "sbtest1".into(), columns, ordinals, ..orders() }
}

fn sysbench_image(id: i32, k: i32) -> Vec<u8> {
    let digits = |groups: usize| format!("{:011}-", u64::from(k.unsigned_abs()) * 7919).repeat(groups);
    let (c, pad) = (digits(10), digits(5));
    let mut out = vec![0];
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&k.to_le_bytes());
    out.extend_from_slice(&(c.len() as u16).to_le_bytes());
    out.extend_from_slice(c.as_bytes());
    out.push(pad.len() as u8);
    out.extend_from_slice(pad.as_bytes());
    out
}

/// A row event with one row, as all of sysbench's are.
struct RowEvent {
    images: Vec<u8>,
    before: bool,
    after: bool,
}

/// The row events of sysbench's write-only transactions: two updates, a delete, an insert.
fn write_only(transactions: i32) -> Vec<RowEvent> {
    let event = |before: Option<Vec<u8>>, after: Option<Vec<u8>>| RowEvent {
        before: before.is_some(),
        after: after.is_some(),
        images: [before, after].into_iter().flatten().flatten().collect(),
    };
    let image = |id, k| Some(sysbench_image(id, k));
    let transaction = |t: i32| {
        [
            event(image(3 * t, t), image(3 * t, t + 1)),
            event(image(3 * t + 1, t), image(3 * t + 1, t)),
            event(image(3 * t + 2, t), None),
            event(None, image(3 * t + 2, t + 5)),
        ]
    };
    (0..transactions).flat_map(transaction).collect()
}

fn row_event(plan: &Plan, event: &RowEvent) -> Change {
    let mut bytes = Bytes::new(&event.images);
    let before = event.before.then(|| plan.read_before(&mut bytes).unwrap_or_else(|e| panic!("{e:?}")));
    let after = event.after.then(|| next(plan, &mut bytes));
    match (before, after) {
        (Some(before), Some(after)) => Change::Update { table: 0, before, after },
        (Some(before), None) => Change::Delete { table: 0, before },
        (_, after) => Change::Insert { table: 0, after: after.unwrap_or_default() },
    }
}

fn with_plan(data: &[u8], table: &Table, then: impl FnOnce(&TableMapEvent<'_>, Plan)) {
    let format = FormatDescriptionEvent::new(BinlogVersion::Version4);
    let context = BinlogCtx::new(data.len(), &format, EventType::TABLE_MAP_EVENT as u8);
    let map: TableMapEvent<'_> = ParseBuf(data).parse(context).unwrap_or_else(|e| panic!("{e}"));
    let plan = Plan::new(0, table, &map).unwrap_or_else(|e| panic!("{e:?}"));
    then(&map, plan);
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let table = orders();
    with_plan(&table_map(), &table, |map, plan| {
        let new: Vec<Row> = (0..ROWS).map(|id| order(id, 1)).collect();
        let both: Vec<Row> = (0..ROWS).flat_map(|id| [order(id, 1), order(id, 2)]).collect();
        let (new_images, both_images) = (images(&new), images(&both));
        // What is measured is right.
        let read = inserts(&plan, &new_images);
        assert!(read.iter().zip(&new).all(|(change, row)| change.after() == Some(row)));
        assert_eq!(updates(&plan, &both_images).len(), ROWS as usize);
        group.bench_function("a plan from a table map", |b| b.iter(|| Plan::new(0, &table, black_box(map))));
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("inserts to changes", |b| b.iter(|| inserts(&plan, black_box(&new_images))));
        group.bench_function("updates to changes", |b| b.iter(|| updates(&plan, black_box(&both_images))));
    });
    let table = sysbench_table();
    with_plan(&sysbench_map(), &table, |_, plan| {
        let events = write_only(250);
        let inserted = row_event(&plan, &events[3]);
        assert_eq!(inserted.after().map(|row| &row[..2]), Some(&[Value::Int(2), Value::Int(5)][..]));
        assert!(matches!(&inserted.after().unwrap_or(&Row::new())[3], Value::Bytes(pad) if pad.len() == 60));
        group.throughput(Throughput::Elements(events.len() as u64));
        group.bench_function("sysbench's write-only row events to changes", |b| {
            b.iter(|| events.iter().for_each(|event| drop(black_box(row_event(&plan, event)))));
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = decode
}
criterion_main!(benches);
