//! VDiff's digest in the client: a row's image and its SHA-256, and the order-free sum over rows.
//!
//! Measured: framing six columns and hashing them; adding finished digests to a sum; reading digests as servers print
//! them. Not measured: what VDiff mostly does, which is to let the servers do this in SQL.

use std::hint::black_box;
use std::time::Duration;

use converge_benches::order;
use converge_mover::value::Value;
use converge_vdiff::digest::{Digest, Framing, RowDigest, parse_digest, push_piece, row_digest};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: i64 = 1000;

/// A column's text form, and how it is framed.
type Piece = (Framing, Option<Vec<u8>>);

fn pieces(id: i64) -> Vec<Piece> {
    let piece = |value: Value| match value {
        Value::Null => (Framing::Sized, None),
        Value::Int(n) => (Framing::Plain, Some(n.to_string().into_bytes())),
        Value::UInt(n) => (Framing::Plain, Some(n.to_string().into_bytes())),
        Value::Text(text) => (Framing::Plain, Some(text.into_bytes())),
        Value::Bytes(bytes) | Value::Json(bytes) => (Framing::Sized, Some(bytes)),
        Value::Float(_) | Value::Double(_) | Value::JsonSql(_) => unreachable!("the table has none"),
    };
    order(id, 1).into_iter().map(piece).collect()
}

fn digest_of(row: &[Piece], image: &mut Vec<u8>) -> RowDigest {
    image.clear();
    row.iter().for_each(|(framing, piece)| push_piece(image, *framing, piece.as_deref()));
    row_digest(image)
}

fn sum_of(digests: &[RowDigest]) -> Digest {
    let mut sum = Digest::default();
    digests.iter().for_each(|digest| sum.add(digest));
    sum
}

fn digests(c: &mut Criterion) {
    let rows: Vec<Vec<Piece>> = (0..ROWS).map(pieces).collect();
    let mut image = Vec::new();
    let digests: Vec<RowDigest> = rows.iter().map(|row| digest_of(row, &mut image)).collect();
    let printed: Vec<String> =
        digests.iter().map(|digest| digest.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let read: Vec<RowDigest> = printed.iter().filter_map(|hex| parse_digest(hex.as_bytes())).collect();
    assert_eq!(sum_of(&read), sum_of(&digests));
    assert_eq!(sum_of(&digests).rows, ROWS as u64);

    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("row image and SHA-256", |b| {
        b.iter(|| {
            let mut sum = Digest::default();
            rows.iter().for_each(|row| sum.add(&digest_of(black_box(row), &mut image)));
            sum
        });
    });
    group.bench_function("sum of finished digests", |b| b.iter(|| sum_of(black_box(&digests))));
    group.bench_function("digests read from hex", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(printed.len()),
            |out| out.extend(printed.iter().map(|hex| parse_digest(black_box(hex.as_bytes())))),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = digests
}
criterion_main!(benches);
