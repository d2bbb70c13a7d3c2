//! Row images of the binary log to rows of values.
//!
//! A [`Plan`] is made once per table map and used for all its row events. The wire types come from the table map;
//! signedness, width of BINARY and character sets come from the table's definition, which cannot have changed
//! without a statement that the stream reports first.

use mysql_common::binlog::events::TableMapEvent;

use super::bytes::{Bytes, Truncated};
use super::{address, decimal, json, temporal};
use crate::planted::{Shape, bent, bent_null};
use crate::schema::{Address, Kind, Table};
use crate::value::{Row, Value};

/// How one column's bytes are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wire {
    Int {
        bytes: usize,
        unsigned: bool,
    },
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Year,
    Date,
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    OldTime,
    OldDateTime,
    OldTimestamp,
    /// ENUM and SET: an integer of so many bytes.
    Index(usize),
    /// BIT: so many bytes, most significant first.
    Bit(usize),
    /// A length of so many bytes, then the value.
    Prefixed(usize),
    /// The same, padded with zeros to a width.
    Padded {
        prefix: usize,
        width: usize,
    },
    /// A length of so many bytes, then MySQL's binary JSON.
    Json {
        prefix: usize,
        /// Whether SQL types inside documents are kept.
        typed: bool,
    },
    /// MariaDB's UUID, INET6 and INET4: a length of one byte, then the bytes without zeros at the end.
    Address(Address),
}

/// How the rows of one table are read.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The table's index in the workflow.
    pub table: usize,
    wires: Vec<(Wire, Option<usize>)>,
    stored: usize,
    key: Vec<usize>,
}

/// Why a row could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow(pub String);

impl From<Truncated> for BadRow {
    fn from(_: Truncated) -> Self {
        Self("the event ends in the middle of a row".into())
    }
}

impl Plan {
    /// Matches a table map with the table's definition.
    pub fn new(index: usize, table: &Table, map: &TableMapEvent<'_>) -> Result<Self, BadRow> {
        let count = map.columns_count() as usize;
        if count != table.ordinals.len() + table.row_hashes {
            return Err(BadRow(format!(
                "{} has {} columns, its row events have {count}",
                table.qualified(),
                table.ordinals.len() + table.row_hashes
            )));
        }
        let mut wires = Vec::with_capacity(count);
        // What is behind the columns nobody is told of but who reads the log.
        let ordinals = table.ordinals.iter().copied().chain(std::iter::repeat_n(None, table.row_hashes));
        for (i, stored) in ordinals.enumerate() {
            let kind = stored.map(|s| &table.columns[s].kind);
            let raw = map.get_raw_column_type(i).ok().flatten().map_or(0, |t| t as u8);
            let wire = wire(raw, map.get_column_metadata(i).unwrap_or(&[]), kind).ok_or_else(|| {
                BadRow(format!("column {} of {} has the unknown type {raw}", i + 1, table.qualified()))
            })?;
            wires.push((wire, stored));
        }
        Ok(Self { table: index, wires, stored: table.columns.len(), key: table.key.clone() })
    }

    /// The number of columns of a row image.
    pub fn width(&self) -> usize {
        self.wires.len()
    }

    /// Reads one full row image: a NULL bitmap, then the values that are not NULL.
    pub fn read(&self, bytes: &mut Bytes<'_>) -> Result<Row, BadRow> {
        self.read_columns(bytes, |_| true)
    }

    /// Reads the image of a row that is no more: of a table with a key only the key's values, which say all that the
    /// target needs to know, and NULL for the others.
    pub fn read_before(&self, bytes: &mut Bytes<'_>) -> Result<Row, BadRow> {
        self.read_columns(bytes, |column| self.key.is_empty() || self.key.contains(&column))
    }

    fn read_columns(&self, bytes: &mut Bytes<'_>, wanted: impl Fn(usize) -> bool) -> Result<Row, BadRow> {
        let nulls = bytes.take(self.wires.len().div_ceil(8))?;
        let mut row = vec![Value::Null; self.stored];
        for (i, (wire, stored)) in self.wires.iter().enumerate() {
            if nulls[i / 8] >> (i % 8) & 1 == 1 {
                if let Some(stored) = stored {
                    row[*stored] = bent_null(matches!(wire, Wire::Prefixed(_)));
                }
                continue;
            }
            match stored {
                // A key that is read wrongly is noticed by the first change that does not fit.
                Some(stored) if self.key.contains(stored) => row[*stored] = wire.read(bytes)?,
                Some(stored) if wanted(*stored) => row[*stored] = bent(wire.read(bytes)?, wire.shape()),
                _ => wire.skip(bytes)?,
            }
        }
        Ok(row)
    }
}

impl Wire {
    /// What a planted bug goes by.
    fn shape(&self) -> Shape {
        match self {
            Self::Year => Shape::Year,
            Self::Timestamp(_) => Shape::Timestamp,
            Self::Bit(_) => Shape::Bit,
            Self::Index(_) => Shape::Member,
            _ => Shape::Other,
        }
    }

    fn read(&self, bytes: &mut Bytes<'_>) -> Result<Value, BadRow> {
        Ok(match self {
            Self::Int { bytes: n, unsigned: true } => Value::UInt(bytes.uint(*n)?),
            Self::Int { bytes: n, unsigned: false } => {
                let unused = 64 - 8 * *n as u32;
                Value::Int((bytes.uint(*n)? << unused) as i64 >> unused)
            }
            Self::Float => Value::Float(f32::from_bits(bytes.u32()?)),
            Self::Double => Value::Double(f64::from_bits(bytes.u64()?)),
            Self::Decimal { precision, scale } => Value::Text(decimal::decode(bytes, *precision, *scale)?),
            Self::Year => match bytes.u8()? {
                0 => Value::Int(0),
                year => Value::Int(1900 + i64::from(year)),
            },
            Self::Date => Value::Text(temporal::date(bytes)?),
            Self::Time(digits) => Value::Text(temporal::time(bytes, *digits)?),
            Self::DateTime(digits) => Value::Text(temporal::datetime(bytes, *digits)?),
            Self::Timestamp(digits) => Value::Text(temporal::timestamp(bytes, *digits)?),
            Self::OldTime => Value::Text(temporal::old_time(bytes)?),
            Self::OldDateTime => Value::Text(temporal::old_datetime(bytes)?),
            Self::OldTimestamp => Value::Text(temporal::old_timestamp(bytes)?),
            Self::Index(n) => Value::UInt(bytes.uint(*n)?),
            Self::Bit(n) => Value::UInt(bytes.uint_be(*n)?),
            Self::Prefixed(n) => Value::Bytes(prefixed(bytes, *n)?.to_vec()),
            Self::Padded { prefix, width } => {
                let mut value = prefixed(bytes, *prefix)?.to_vec();
                // The log strips the zeros at the end of a BINARY(n).
                value.resize((*width).max(value.len()), 0);
                Value::Bytes(value)
            }
            Self::Address(kind) => Value::Text(address::text(*kind, prefixed(bytes, 1)?)?),
            Self::Json { prefix, typed } => {
                let document = prefixed(bytes, *prefix)?;
                let value =
                    if *typed { json::to_value(document) } else { json::to_text(document).map(Value::Json) };
                value.map_err(|e| BadRow(e.0))?
            }
        })
    }

    fn skip(&self, bytes: &mut Bytes<'_>) -> Result<(), BadRow> {
        match self {
            Self::Prefixed(n) | Self::Padded { prefix: n, .. } | Self::Json { prefix: n, .. } => {
                prefixed(bytes, *n)?;
            }
            Self::Address(_) => drop(prefixed(bytes, 1)?),
            Self::Decimal { precision, scale } => drop(bytes.take(decimal::size(*precision, *scale))?),
            Self::Date | Self::OldTime => drop(bytes.take(3)?),
            Self::OldDateTime => drop(bytes.take(8)?),
            Self::OldTimestamp => drop(bytes.take(4)?),
            Self::Time(digits) => drop(bytes.take(3 + usize::from(digits.div_ceil(2)))?),
            Self::DateTime(digits) => drop(bytes.take(5 + usize::from(digits.div_ceil(2)))?),
            Self::Timestamp(digits) => drop(bytes.take(4 + usize::from(digits.div_ceil(2)))?),
            other => {
                other.read(bytes)?;
            }
        }
        Ok(())
    }
}

fn prefixed<'a>(bytes: &mut Bytes<'a>, prefix: usize) -> Result<&'a [u8], BadRow> {
    let length = bytes.uint(prefix)? as usize;
    Ok(bytes.take(length)?)
}

/// `kind` is `None` for generated columns, whose values are passed over.
fn wire(raw: u8, meta: &[u8], kind: Option<&Kind>) -> Option<Wire> {
    let unsigned = matches!(kind, Some(Kind::Int { unsigned: true }));
    let int = |bytes| Some(Wire::Int { bytes, unsigned });
    let byte = |i: usize| meta.get(i).copied();
    match raw {
        1 => int(1),
        2 => int(2),
        9 => int(3),
        3 => int(4),
        8 => int(8),
        4 => Some(Wire::Float),
        5 => Some(Wire::Double),
        246 => Some(Wire::Decimal { precision: byte(0)?, scale: byte(1)? }),
        13 => Some(Wire::Year),
        10 | 14 => Some(Wire::Date),
        19 => Some(Wire::Time(byte(0)?)),
        18 => Some(Wire::DateTime(byte(0)?)),
        17 => Some(Wire::Timestamp(byte(0)?)),
        11 => Some(Wire::OldTime),
        12 => Some(Wire::OldDateTime),
        7 => Some(Wire::OldTimestamp),
        16 => Some(Wire::Bit(usize::from(byte(1)?) + usize::from(byte(0)? > 0))),
        // VARCHAR: the column's largest length in bytes says how long the prefix is.
        15 | 253 => Some(Wire::Prefixed(if u16::from_le_bytes([byte(0)?, byte(1)?]) < 256 { 1 } else { 2 })),
        252 | 255 | 242 => Some(Wire::Prefixed(usize::from(byte(0)?))),
        245 => Some(Wire::Json { prefix: usize::from(byte(0)?), typed: kind == Some(&Kind::Json) }),
        254 => fixed_string(byte(0)?, byte(1)?, kind),
        _ => None,
    }
}

/// CHAR, BINARY, ENUM and SET share a type code. The first metadata byte is the real type, with two bits of the
/// length mixed in for CHARs of more than 255 bytes.
fn fixed_string(first: u8, second: u8, kind: Option<&Kind>) -> Option<Wire> {
    const ENUM: u8 = 247;
    const SET: u8 = 248;
    if first == ENUM || first == SET {
        return Some(Wire::Index(usize::from(second)));
    }
    let length = usize::from(second) | usize::from(first & 0x30 ^ 0x30) << 4;
    let prefix = if length < 256 { 1 } else { 2 };
    Some(match kind {
        Some(Kind::Address(address)) => Wire::Address(*address),
        Some(Kind::FixedBinary(width)) => Wire::Padded { prefix, width: *width },
        _ => Wire::Prefixed(prefix),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: Wire, data: &[u8]) -> Value {
        wire.read(&mut Bytes::new(data)).unwrap()
    }

    #[test]
    fn medium_integers_keep_their_sign() {
        let lowest = [0, 0, 0x80];
        assert_eq!(read(Wire::Int { bytes: 3, unsigned: false }, &lowest), Value::Int(-8_388_608));
        assert_eq!(read(Wire::Int { bytes: 3, unsigned: true }, &lowest), Value::UInt(8_388_608));
        assert_eq!(read(Wire::Int { bytes: 8, unsigned: false }, &[0xff; 8]), Value::Int(-1));
    }

    #[test]
    fn binary_gets_its_zeros_back() {
        let wire = Wire::Padded { prefix: 1, width: 4 };
        assert_eq!(read(wire, &[2, 0, 7]), Value::Bytes(vec![0, 7, 0, 0]));
    }

    #[test]
    fn year_zero_is_not_1900() {
        assert_eq!(read(Wire::Year, &[0]), Value::Int(0));
        assert_eq!(read(Wire::Year, &[70]), Value::Int(1970));
    }

    #[test]
    fn long_chars_have_two_byte_lengths() {
        // CHAR(255) in utf8mb4 takes up to 1020 bytes: 0x3fc, whose upper bits are inverted in the type byte.
        assert_eq!(fixed_string(254 ^ 0x30, 0xfc, None), Some(Wire::Prefixed(2)));
        assert_eq!(fixed_string(254, 40, None), Some(Wire::Prefixed(1)));
        assert_eq!(fixed_string(247, 2, None), Some(Wire::Index(2)));
    }

    #[test]
    fn what_is_passed_over_is_as_long_as_what_is_read() {
        let wires = [
            Wire::Int { bytes: 3, unsigned: false },
            Wire::Float,
            Wire::Double,
            Wire::Decimal { precision: 65, scale: 30 },
            Wire::Decimal { precision: 14, scale: 4 },
            Wire::Decimal { precision: 2, scale: 2 },
            Wire::Year,
            Wire::Date,
            Wire::Time(3),
            Wire::DateTime(6),
            Wire::Timestamp(1),
            Wire::OldTime,
            Wire::OldDateTime,
            Wire::OldTimestamp,
            Wire::Index(2),
            Wire::Bit(5),
            Wire::Prefixed(2),
            Wire::Padded { prefix: 1, width: 9 },
            Wire::Address(Address::Inet6),
        ];
        // A length of five where one is read; digits that are digits.
        let data = [&[5, 0][..], &[1; 60]].concat();
        for wire in wires {
            let (mut read, mut skipped) = (Bytes::new(&data), Bytes::new(&data));
            wire.read(&mut read).unwrap();
            wire.skip(&mut skipped).unwrap();
            assert_eq!(read.rest().len(), skipped.rest().len(), "{wire:?}");
        }
    }

    #[test]
    fn truncated_rows_are_errors() {
        assert!(Wire::Prefixed(1).read(&mut Bytes::new(&[5, 1])).is_err());
    }
}
