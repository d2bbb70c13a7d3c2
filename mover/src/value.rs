//! Column values in one canonical form, whichever way they were read.
//!
//! A row read by `SELECT` and the same row read from the binary log must give equal values: the watermark
//! algorithm compares keys from both. Nothing here knows a connection.

use std::io::Write as _;

use converge_mysql::quote;

use crate::schema::{Column, Kind};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// Signed integers and YEAR.
    Int(i64),
    /// Unsigned integers, BIT, the index of an ENUM, the mask of a SET.
    UInt(u64),
    /// FLOAT, bit for bit.
    Float(f32),
    /// DOUBLE, bit for bit.
    Double(f64),
    /// DECIMAL, the temporal types (TIMESTAMP in UTC), UUID and INET in the server's own text form.
    Text(String),
    /// Strings in their column's character set, and binary strings.
    Bytes(Vec<u8>),
    /// A JSON document as text in utf8mb4.
    Json(Vec<u8>),
    /// A JSON document with values of SQL types inside, which no text can say: an SQL expression that makes it.
    JsonSql(Vec<u8>),
}

/// Values in the order of [`crate::schema::Table::columns`].
pub type Row = Vec<Value>;

impl Value {
    /// Bytes of memory, roughly.
    pub fn weight(&self) -> usize {
        16 + match self {
            Self::Text(t) => t.len(),
            Self::Bytes(b) | Self::Json(b) | Self::JsonSql(b) => b.len(),
            _ => 0,
        }
    }

    /// Appends a form that is equal exactly for equal values, for use as a key in maps.
    fn push_key(&self, out: &mut Vec<u8>) {
        let mut framed = |tag: u8, bytes: &[u8]| {
            out.push(tag);
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Null => framed(0, &[]),
            Self::Int(v) => framed(1, &v.to_be_bytes()),
            Self::UInt(v) => framed(2, &v.to_be_bytes()),
            Self::Float(v) => framed(3, &v.to_bits().to_be_bytes()),
            Self::Double(v) => framed(4, &v.to_bits().to_be_bytes()),
            Self::Text(v) => framed(5, v.as_bytes()),
            Self::Bytes(v) => framed(6, v),
            Self::Json(v) => framed(7, v),
            Self::JsonSql(v) => framed(8, v),
        }
    }

    /// A text form for checkpoints: a letter and the value, bytes in hexadecimal.
    pub fn to_token(&self) -> String {
        match self {
            Self::Null => "n".into(),
            Self::Int(v) => format!("i{v}"),
            Self::UInt(v) => format!("u{v}"),
            Self::Float(v) => format!("f{:08x}", v.to_bits()),
            Self::Double(v) => format!("d{:016x}", v.to_bits()),
            Self::Text(v) => format!("t{}", quote::hex_digits(v.as_bytes())),
            Self::Bytes(v) => format!("b{}", quote::hex_digits(v)),
            Self::Json(v) => format!("j{}", quote::hex_digits(v)),
            Self::JsonSql(v) => format!("q{}", quote::hex_digits(v)),
        }
    }

    /// Reads a checkpoint's text form back.
    pub fn from_token(token: &str) -> Option<Self> {
        let (kind, rest) = token.split_at_checked(1)?;
        let bytes = || -> Option<Vec<u8>> {
            let pair = |i: usize| u8::from_str_radix(rest.get(i..i + 2)?, 16).ok();
            (rest.len() % 2 == 0).then(|| (0..rest.len()).step_by(2).map(pair).collect())?
        };
        Some(match kind {
            "n" => Self::Null,
            "i" => Self::Int(rest.parse().ok()?),
            "u" => Self::UInt(rest.parse().ok()?),
            "f" => Self::Float(f32::from_bits(u32::from_str_radix(rest, 16).ok()?)),
            "d" => Self::Double(f64::from_bits(u64::from_str_radix(rest, 16).ok()?)),
            "t" => Self::Text(String::from_utf8(bytes()?).ok()?),
            "b" => Self::Bytes(bytes()?),
            "j" => Self::Json(bytes()?),
            "q" => Self::JsonSql(bytes()?),
            _ => return None,
        })
    }

    /// Appends the text form of a number or a time. Floats are written as the double that they are exactly: their own
    /// shortest form could be rounded twice. Bytes are appended as they are.
    pub fn push_plain(&self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Null => Ok(()),
            Self::Int(v) => write!(out, "{v}"),
            Self::UInt(v) => write!(out, "{v}"),
            Self::Float(v) => write!(out, "{:e}", f64::from(*v)),
            Self::Double(v) => write!(out, "{v:e}"),
            Self::Text(v) => out.write_all(v.as_bytes()),
            Self::Bytes(v) | Self::Json(v) | Self::JsonSql(v) => out.write_all(v),
        };
        debug_assert!(written.is_ok(), "memory takes everything");
    }

    /// Appends the SQL literal that stores this value in `column`, whatever the session's character set.
    pub fn push_literal(&self, column: &Column, out: &mut Vec<u8>) {
        match (self, &column.kind) {
            (Self::Null, _) => out.extend_from_slice(b"NULL"),
            // Without a character set the text would be taken for the bytes themselves.
            (Self::Text(v), Kind::Address(_)) => out.extend_from_slice(format!("_utf8mb4'{v}'").as_bytes()),
            (Self::Text(v), kind) if *kind != Kind::Decimal => {
                out.extend_from_slice(format!("'{v}'").as_bytes());
            }
            (Self::Int(_) | Self::UInt(_) | Self::Float(_) | Self::Double(_) | Self::Text(_), _) => {
                self.push_plain(out);
            }
            (Self::Bytes(v), Kind::Char { charset, .. }) => {
                // utf8mb3 is a part of utf8mb4, and naming it draws a deprecation warning.
                let charset = if charset.starts_with("utf8") { "utf8mb4" } else { charset };
                out.extend_from_slice(format!("_{charset}").as_bytes());
                quote::push_bytes(out, v);
            }
            (Self::Bytes(v), _) => {
                out.extend_from_slice(b"_binary");
                quote::push_bytes(out, v);
            }
            (Self::JsonSql(v), _) => out.extend_from_slice(v),
            (Self::Json(v), _) => {
                out.extend_from_slice(b"_utf8mb4");
                quote::push_bytes(out, v);
            }
        }
    }
}

/// The values of `columns` (indexes into the row) as one byte string, equal exactly for equal values.
pub fn key_of(row: &[Value], columns: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(columns.len() * 17);
    for &i in columns {
        row[i].push_key(&mut out);
    }
    out
}

/// Bytes of memory of a row, roughly.
pub fn row_weight(row: &[Value]) -> usize {
    row.iter().map(Value::weight).sum()
}

/// Bytes of memory of some rows, roughly.
pub fn rows_weight(rows: &[Row]) -> usize {
    rows.iter().map(|row| row_weight(row)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_do_not_run_into_each_other() {
        let text = |t: &str| Value::Bytes(t.as_bytes().to_vec());
        let all = [0, 1];
        assert_ne!(key_of(&[text("ab"), text("c")], &all), key_of(&[text("a"), text("bc")], &all));
        assert_ne!(key_of(&[Value::Int(1)], &[0]), key_of(&[Value::UInt(1)], &[0]));
    }

    proptest! {
        #[test]
        fn tokens_read_back(int in any::<i64>(), uint in any::<u64>(), double in any::<f64>(), text in ".*", bytes: Vec<u8>) {
            let all = [
                Value::Null, Value::Int(int), Value::UInt(uint), Value::Double(double), Value::Text(text),
                Value::Bytes(bytes.clone()), Value::Json(bytes.clone()), Value::JsonSql(bytes),
            ];
            for value in all {
                prop_assert_eq!(Value::from_token(&value.to_token()), Some(value));
            }
        }

        #[test]
        fn float_literals_read_back_exactly(bits in any::<u32>(), bits64 in any::<u64>()) {
            let column = Column::for_tests("f", Kind::Float);
            let read = |value: Value| {
                let mut out = Vec::new();
                value.push_literal(&column, &mut out);
                String::from_utf8(out).unwrap().parse::<f64>().unwrap()
            };
            let (float, double) = (f32::from_bits(bits), f64::from_bits(bits64));
            prop_assume!(float.is_finite() && double.is_finite());
            prop_assert_eq!((read(Value::Float(float)) as f32).to_bits(), float.to_bits());
            prop_assert_eq!(read(Value::Double(double)).to_bits(), double.to_bits());
        }
    }
}
