//! Bugs that alter a value on its way out of the log. In a build without them every value stays what it is.

use super::{Bug, ENABLED, is_planted};
use crate::value::Value;

/// What tells columns apart whose values look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Year,
    Timestamp,
    Bit,
    Member,
    Other,
}

/// What a value of the log is taken for.
#[inline]
pub(crate) fn bent(value: Value, shape: Shape) -> Value {
    if !ENABLED {
        return value;
    }
    match value {
        Value::UInt(v) => number(v, shape),
        Value::Int(0) if shape == Shape::Year && is_planted(Bug::YearZero) => Value::Int(2001),
        Value::Float(v) => Value::Float(float(v)),
        Value::Double(v) => Value::Double(double(v)),
        Value::Text(text) => Value::Text(plain_text(text, shape)),
        Value::Bytes(bytes) => string(bytes),
        Value::Json(bytes) => Value::Json(json(bytes)),
        other => other,
    }
}

/// What NULL is taken for in a column of strings.
#[inline]
pub(crate) fn bent_null(is_string: bool) -> Value {
    if is_string && is_planted(Bug::NullAsEmpty) { Value::Bytes(Vec::new()) } else { Value::Null }
}

fn number(v: u64, shape: Shape) -> Value {
    let rounded = (v as f64) as u64;
    if shape == Shape::Other && v > 1 << 63 && is_planted(Bug::UnsignedAsSigned) {
        return Value::Int(v as i64);
    }
    if shape == Shape::Other && rounded != v && is_planted(Bug::BigintViaDouble) {
        return Value::UInt(rounded);
    }
    if shape == Shape::Bit && v > 255 && is_planted(Bug::BitHighByteLost) {
        return Value::UInt(v & 255);
    }
    if shape == Shape::Member && v.count_ones() > 1 && is_planted(Bug::SetMembersLost) {
        return Value::UInt(v & v.wrapping_neg());
    }
    Value::UInt(v)
}

fn float(v: f32) -> f32 {
    let cut: f32 = format!("{v:.5e}").parse().unwrap_or(v);
    if cut.to_bits() != v.to_bits() && is_planted(Bug::FloatViaText) { cut } else { v }
}

fn double(v: f64) -> f64 {
    let cut: f64 = format!("{v:.14e}").parse().unwrap_or(v);
    if cut.to_bits() != v.to_bits() && is_planted(Bug::DoubleViaText) { cut } else { v }
}

/// Decimals, dates and times.
fn plain_text(text: String, shape: Shape) -> String {
    let bytes = text.as_bytes();
    let is_time = text.contains(':');
    if !is_time {
        let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let rounded = text.parse::<f64>().map(|v| format!("{v:.scale$}")).unwrap_or_default();
        let plain = !rounded.is_empty() && rounded != text && !text.starts_with("-0");
        return if plain && is_planted(Bug::DecimalViaDouble) { rounded } else { text };
    }
    if text.starts_with('-') && is_planted(Bug::TimeSignLost) {
        return text[1..].to_owned();
    }
    if let Some((whole, fraction)) = text.split_once('.')
        && fraction.len() == 6
        && &fraction[3..] != "000"
        && is_planted(Bug::FractionCut)
    {
        return format!("{whole}.{}000", &fraction[..3]);
    }
    let hour = bytes.get(11..13).and_then(|h| std::str::from_utf8(h).ok()?.parse::<u32>().ok());
    match hour {
        Some(hour) if shape == Shape::Timestamp && hour < 22 && is_planted(Bug::TimestampZone) => {
            format!("{}{:02}{}", &text[..11], hour + 1, &text[13..])
        }
        _ => text,
    }
}

fn string(mut bytes: Vec<u8>) -> Value {
    if bytes.is_empty() && is_planted(Bug::EmptyAsNull) {
        return Value::Null;
    }
    if bytes.last() == Some(&0) && is_planted(Bug::TrailingZeros) {
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1));
    }
    if bytes.last() == Some(&b' ') && is_planted(Bug::TrailingSpaces) {
        bytes.truncate(bytes.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1));
    }
    if bytes.len() > 255 && is_planted(Bug::LongValueCut) {
        bytes.truncate(255);
    }
    if let Ok(text) = std::str::from_utf8(&bytes)
        && text.chars().any(|c| c.len_utf8() == 4)
        && is_planted(Bug::FourByteLetters)
    {
        let flat: String = text.chars().map(|c| if c.len_utf8() == 4 { '?' } else { c }).collect();
        return Value::Bytes(flat.into_bytes());
    }
    Value::Bytes(bytes)
}

fn json(bytes: Vec<u8>) -> Vec<u8> {
    let is_double = |at: usize| {
        bytes[at..].starts_with(b".0")
            && at > 0
            && bytes[at - 1].is_ascii_digit()
            && !bytes.get(at + 2).is_some_and(|b| b.is_ascii_digit() || *b == b'e')
    };
    match (0..bytes.len()).find(|at| is_double(*at)) {
        Some(at) if is_planted(Bug::JsonNumbers) => [&bytes[..at], &bytes[at + 2..]].concat(),
        _ => bytes,
    }
}
