//! MySQL's binary JSON, as it stands in row events, to JSON text.
//!
//! The format is the one that MySQL documents in `sql-common/json_binary.h`: a type byte, then objects and arrays
//! whose entries point to values by offset from their own start. Numbers keep their type: a double is always
//! written with a fraction or an exponent, so that the server reads a double back.

use std::fmt::Write as _;

use super::bytes::{Bytes, Truncated};
use super::json_sql::{self, Node};
use super::temporal;
use crate::value::Value;

const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const SMALL_ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

// SQL types of opaque values.
const NEWDECIMAL: u8 = 246;
const DATE: u8 = 10;
const TIME: u8 = 11;
const DATETIME: u8 = 12;
const TIMESTAMP: u8 = 7;

/// Nesting that the server allows (`JSON_DOCUMENT_MAX_DEPTH`).
pub(super) const MAX_DEPTH: usize = 100;

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadJson(pub String);

impl From<Truncated> for BadJson {
    fn from(_: Truncated) -> Self {
        Self("the document ends early".into())
    }
}

type Result<T> = std::result::Result<T, BadJson>;

/// A document's text, and whether it says all: values of SQL types inside a document look like numbers and strings.
#[derive(Default)]
struct Out {
    text: String,
    opaque: bool,
}

/// The document as JSON text in UTF-8. An empty column value (as `INSERT IGNORE` leaves) is the literal null.
pub fn to_text(document: &[u8]) -> Result<Vec<u8>> {
    Ok(text_of(document)?.text.into_bytes())
}

fn text_of(document: &[u8]) -> Result<Out> {
    let mut out = Out::default();
    match document.split_first() {
        None => out.text.push_str("null"),
        Some((&kind, rest)) => write_value(kind, rest, 0, &mut out)?,
    }
    Ok(out)
}

/// The document as a value that keeps every type in it.
pub fn to_value(document: &[u8]) -> Result<Value> {
    let out = text_of(document)?;
    match document.split_first() {
        Some((&kind, rest)) if out.opaque => Ok(Value::JsonSql(node(kind, rest, 0)?.to_sql())),
        _ => Ok(Value::Json(out.text.into_bytes())),
    }
}

/// A part of a document as what makes it again.
fn node(kind: u8, data: &[u8], depth: usize) -> Result<Node> {
    let mut out = Out::default();
    write_value(kind, data, depth, &mut out)?;
    if !out.opaque {
        return Ok(Node::Text(out.text));
    }
    if kind == OPAQUE {
        let (kind, data) = opaque_parts(data)?;
        return Ok(Node::Sql(opaque_sql(kind, data)?));
    }
    let mut members = Vec::new();
    each_entry(kind, data, |key, kind, data| {
        let mut name = String::new();
        if let Some(key) = key {
            push_string(&mut name, key)?;
        }
        members.push((name, node(kind, data, depth + 1)?));
        Ok(())
    })?;
    Ok(match kind {
        SMALL_OBJECT | LARGE_OBJECT => Node::Object(members),
        _ => Node::Array(members.into_iter().map(|m| m.1).collect()),
    })
}

fn write_value(kind: u8, data: &[u8], depth: usize, out: &mut Out) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(BadJson("the document is nested too deeply".into()));
    }
    let mut bytes = Bytes::new(data);
    let text = &mut out.text;
    match kind {
        SMALL_OBJECT | LARGE_OBJECT | SMALL_ARRAY | LARGE_ARRAY => write_container(kind, data, depth, out)?,
        LITERAL => text.push_str(literal(bytes.u8()?)?),
        INT16 => push(text, bytes.u16()? as i16),
        UINT16 => push(text, bytes.u16()?),
        INT32 => push(text, bytes.u32()? as i32),
        UINT32 => push(text, bytes.u32()?),
        INT64 => push(text, bytes.u64()? as i64),
        UINT64 => push(text, bytes.u64()?),
        DOUBLE => push_double(text, f64::from_bits(bytes.u64()?)),
        STRING => {
            let length = variable_length(&mut bytes)?;
            push_string(text, bytes.take(length)?)?;
        }
        OPAQUE => {
            out.opaque = true;
            let (kind, data) = opaque_parts(data)?;
            write_opaque(kind, data, text)?;
        }
        other => return Err(BadJson(format!("unknown value type {other}"))),
    }
    Ok(())
}

fn opaque_parts(data: &[u8]) -> Result<(u8, &[u8])> {
    let mut bytes = Bytes::new(data);
    let kind = bytes.u8()?;
    let length = variable_length(&mut bytes)?;
    Ok((kind, bytes.take(length)?))
}

fn push(out: &mut String, number: impl std::fmt::Display) {
    let _ = write!(out, "{number}");
}

/// The shortest text that reads back the same, in the server's choice between digits and an exponent.
fn push_double(out: &mut String, value: f64) {
    let shortest = format!("{value:e}");
    let scientific = half_to_even(value, &shortest).unwrap_or(shortest);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    if (-15..=14).contains(&exponent) || exponent == 15 && digits == 17 {
        let mut plain = value.to_string();
        match mantissa.chars().next_back() {
            // Both end in the last digit that counts.
            Some(last) if value.fract() != 0.0 => {
                plain.replace_range(plain.len() - 1.., last.encode_utf8(&mut [0; 4]))
            }
            _ => plain.push_str(".0"),
        }
        out.push_str(&plain);
    } else {
        out.push_str(&scientific);
    }
}

/// Of two texts that are equally short and equally near, the server takes the one that ends in an even digit, Rust the
/// greater one: the server's, where they differ.
fn half_to_even(value: f64, shortest: &str) -> Option<String> {
    let (mantissa, exponent) = shortest.split_once('e')?;
    let (rest, last) = mantissa.split_at(mantissa.len() - 1);
    let last: u8 = last.parse().ok().filter(|digit| digit % 2 == 1)?;
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let below = format!("{rest}{}", last - 1);
    let half = if digits == 1 { format!("{below}.5") } else { format!("{below}5") };
    // In the middle, one digit more says all there is to say.
    let is_half = |precision: usize| {
        let exact = format!("{value:.precision$e}");
        exact
            .split_once('e')
            .and_then(|(exact, _)| exact.strip_prefix(&half))
            .is_some_and(|tail| tail.bytes().all(|b| b == b'0'))
    };
    let even = format!("{below}e{exponent}");
    (is_half(digits) && is_half(MOST_DIGITS) && even.parse() == Ok(value)).then_some(even)
}

/// Digits after the first that any double has.
const MOST_DIGITS: usize = 767;

fn literal(code: u8) -> Result<&'static str> {
    match code {
        0 => Ok("null"),
        1 => Ok("true"),
        2 => Ok("false"),
        other => Err(BadJson(format!("unknown literal {other}"))),
    }
}

/// Lengths are written 7 bits a byte, least significant first.
fn variable_length(bytes: &mut Bytes<'_>) -> Result<usize> {
    let mut length = 0usize;
    for shift in (0..35).step_by(7) {
        let b = bytes.u8()?;
        length |= usize::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(BadJson("a length is longer than five bytes".into()))
}

fn write_container(kind: u8, data: &[u8], depth: usize, out: &mut Out) -> Result<()> {
    let object = matches!(kind, SMALL_OBJECT | LARGE_OBJECT);
    out.text.push(if object { '{' } else { '[' });
    let mut first = true;
    each_entry(kind, data, |key, kind, data| {
        if !std::mem::take(&mut first) {
            out.text.push_str(", ");
        }
        if let Some(key) = key {
            push_string(&mut out.text, key)?;
            out.text.push_str(": ");
        }
        write_value(kind, data, depth + 1, out)
    })?;
    out.text.push(if object { '}' } else { ']' });
    Ok(())
}

/// Calls back with the key, if it is an object, the type and the data of each entry of a container.
fn each_entry<'a>(
    kind: u8,
    data: &'a [u8],
    mut visit: impl FnMut(Option<&'a [u8]>, u8, &'a [u8]) -> Result<()>,
) -> Result<()> {
    let large = matches!(kind, LARGE_OBJECT | LARGE_ARRAY);
    let object = matches!(kind, SMALL_OBJECT | LARGE_OBJECT);
    let offset = |bytes: &mut Bytes<'_>| -> Result<usize> {
        Ok(if large { bytes.u32()? as usize } else { usize::from(bytes.u16()?) })
    };
    let mut keys = Bytes::new(data);
    let count = offset(&mut keys)?;
    offset(&mut keys)?; // the size in bytes
    let mut entries = keys;
    if object {
        entries.take(count.saturating_mul(if large { 6 } else { 4 }))?;
    }
    for _ in 0..count {
        let key = match object {
            true => {
                let start = offset(&mut keys)?;
                Some(slice(data, start, usize::from(keys.u16()?))?)
            }
            false => None,
        };
        let kind = entries.u8()?;
        let inlined = matches!(kind, LITERAL | INT16 | UINT16) || large && matches!(kind, INT32 | UINT32);
        let entry = entries.take(if large { 4 } else { 2 })?;
        let value = match inlined {
            true => entry,
            false => data.get(offset(&mut Bytes::new(entry))?..).ok_or(Truncated)?,
        };
        visit(key, kind, value)?;
    }
    Ok(())
}

fn slice(data: &[u8], start: usize, length: usize) -> Result<&[u8]> {
    Ok(data.get(start..start.saturating_add(length)).ok_or(Truncated)?)
}

pub(super) fn push_string(out: &mut String, bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadJson("a string is not UTF-8".into()))?;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}

/// Values of SQL types inside a document, in the text form that the server itself prints.
fn write_opaque(kind: u8, data: &[u8], out: &mut String) -> Result<()> {
    match kind {
        NEWDECIMAL => out.push_str(&decimal_of(data)?),
        DATE | TIME | DATETIME | TIMESTAMP => push_string(out, temporal_of(kind, data)?.as_bytes())?,
        other => {
            let text = format!("base64:type{other}:{}", base64(data));
            push_string(out, text.as_bytes())?;
        }
    }
    Ok(())
}

/// The same as an expression of its SQL type.
fn opaque_sql(kind: u8, data: &[u8]) -> Result<String> {
    Ok(match kind {
        NEWDECIMAL => json_sql::decimal(&decimal_of(data)?),
        DATE | TIME | DATETIME | TIMESTAMP => {
            let text = temporal_of(kind, data)?;
            match kind {
                DATE => json_sql::date(&text),
                TIME => json_sql::time(&text),
                DATETIME => json_sql::datetime(&text),
                _ => json_sql::timestamp(&text),
            }
        }
        other => json_sql::binary(other, data).ok_or_else(|| {
            BadJson(format!("a document has a value of the SQL type {other}, which cannot be made again"))
        })?,
    })
}

fn decimal_of(data: &[u8]) -> Result<String> {
    let mut bytes = Bytes::new(data);
    let (precision, scale) = (bytes.u8()?, bytes.u8()?);
    Ok(super::decimal::decode(&mut bytes, precision, scale)?)
}

fn temporal_of(kind: u8, data: &[u8]) -> Result<String> {
    let packed = Bytes::new(data).u64()? as i64;
    Ok(match kind {
        TIME => temporal::packed_time(packed),
        DATE => temporal::packed_date(packed),
        _ => temporal::packed_datetime(packed),
    })
}

/// Bytes in a line of base64.
const LINE: usize = 57;

/// Lines of 76 digits, as the server breaks them.
pub(super) fn base64(data: &[u8]) -> String {
    data.chunks(LINE).map(base64_line).collect::<Vec<_>>().join("\n")
}

fn base64_line(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in data.chunks(3) {
        let bits = group.iter().fold(0u32, |a, &b| a << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(document: &[u8]) -> String {
        String::from_utf8(to_text(document).unwrap()).unwrap()
    }

    #[test]
    fn scalars_keep_their_type() {
        assert_eq!(text(&[LITERAL, 1]), "true");
        assert_eq!(text(&[INT16, 0xff, 0xff]), "-1");
        let mut double = vec![DOUBLE];
        double.extend(1f64.to_le_bytes());
        assert_eq!(text(&double), "1.0");
        assert_eq!(text(&[STRING, 3, b'a', b'"', b'\n']), "\"a\\\"\\n\"");
        assert_eq!(text(&[]), "null");
    }

    #[test]
    fn doubles_look_as_the_server_prints_them() {
        // Each as MySQL 9.7 printed it.
        for printed in [
            "0.0",
            "-0.0",
            "1.0",
            "-1.5",
            "1e15",
            "1e22",
            "1e-16",
            "0.000000000000001234",
            "100000000000000.0",
            "1234567890123456.8",
            "1.2345678901234568e17",
            "5e-324",
            "0.0000001",
            "1e300",
        ] {
            let mut out = String::new();
            push_double(&mut out, printed.parse().unwrap());
            assert_eq!(out, *printed);
        }
    }

    #[test]
    fn objects_find_their_keys_and_values() {
        // {"a": 1, "b": [true]}: counts, sizes and offsets are from the container's own start.
        let document = [
            SMALL_OBJECT,
            2,
            0,
            27,
            0,
            18,
            0,
            1,
            0,
            19,
            0,
            1,
            0,
            INT16,
            1,
            0,
            SMALL_ARRAY,
            20,
            0,
            b'a',
            b'b',
            1,
            0,
            7,
            0,
            LITERAL,
            1,
            0,
        ];
        assert_eq!(text(&document), "{\"a\": 1, \"b\": [true]}");
    }

    #[test]
    fn base64_pads() {
        assert_eq!(
            (base64(b"a"), base64(b"ab"), base64(b"abc")),
            ("YQ==".into(), "YWI=".into(), "YWJj".into())
        );
        assert_eq!(base64(&[0; 58]), format!("{}\nAA==", "A".repeat(76)));
    }

    #[test]
    #[allow(clippy::excessive_precision, reason = "the digits that lie in the middle are the point")]
    fn doubles_between_two_texts_end_in_an_even_digit() {
        // As MySQL 9.7 prints them.
        for (value, expected) in [
            (689_562_960_270_756.25, "689562960270756.2"),
            (689_562_960_270_756.75, "689562960270756.8"),
            (-562_949_953_421_312.125, "-562949953421312.1"),
            (1_125_899_906_842_625.25, "1125899906842625.2"),
            (0.1, "0.1"),
            (5e-324, "5e-324"),
            (5.0, "5.0"),
        ] {
            let mut out = String::new();
            push_double(&mut out, value);
            assert_eq!(out, expected);
        }
    }

    proptest! {
        #[test]
        fn doubles_read_back(value in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO) {
            let mut out = String::new();
            push_double(&mut out, value);
            prop_assert!(out.contains(['.', 'e']));
            prop_assert_eq!(out.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn any_bytes_end_in_text_or_an_error(document in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = to_value(&document);
        }
    }
}
