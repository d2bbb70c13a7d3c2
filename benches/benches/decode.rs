//! The mover's own decoder: row images of the binary log to changes.
//!
//! Measured: one cached plan over the images of many rows, as in a large row event, inserts and updates apart, and the
//! making of a plan from a table map. Not measured: reading the stream, framing its events, and expanding compressed
//! ones.

use std::hint::black_box;
use std::time::Duration;

use converge_benches::{order, orders};
use converge_mover::change::Change;
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

fn decode(c: &mut Criterion) {
    let data = table_map();
    let format = FormatDescriptionEvent::new(BinlogVersion::Version4);
    let context = BinlogCtx::new(data.len(), &format, EventType::TABLE_MAP_EVENT as u8);
    let map: TableMapEvent<'_> = ParseBuf(&data).parse(context).unwrap_or_else(|e| panic!("{e}"));
    let table = orders();
    let plan = Plan::new(0, &table, &map).unwrap_or_else(|e| panic!("{e:?}"));
    let new: Vec<Row> = (0..ROWS).map(|id| order(id, 1)).collect();
    let both: Vec<Row> = (0..ROWS).flat_map(|id| [order(id, 1), order(id, 2)]).collect();
    let (new_images, both_images) = (images(&new), images(&both));
    // What is measured is right.
    assert!(inserts(&plan, &new_images).iter().zip(&new).all(|(change, row)| change.after() == Some(row)));
    assert_eq!(updates(&plan, &both_images).len(), ROWS as usize);

    let mut group = c.benchmark_group("decode");
    group.bench_function("a plan from a table map", |b| b.iter(|| Plan::new(0, &table, black_box(&map))));
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("inserts to changes", |b| b.iter(|| inserts(&plan, black_box(&new_images))));
    group.bench_function("updates to changes", |b| b.iter(|| updates(&plan, black_box(&both_images))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = decode
}
criterion_main!(benches);
