//! Whether a column of the target holds a value exactly: known from its definition, before anything is written. Pure.
//!
//! Strict servers round fractions and cut trailing spaces without a word, and end a script at what they do refuse. Where
//! the definition does not tell, nothing here guesses.

mod text;

use std::net::Ipv4Addr;

use converge_mysql::Flavor;

use super::sink::Missed;
use super::value::{Value, Writes};
use crate::canonical_json;
use crate::form::kind::{Kind, Temporal, declared_type, integer_range};
use crate::form::{real, text::charset};
use crate::schema::Column;

/// What is known of a value and a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// The column holds it, to the last bit.
    Holds,
    /// It does where this SQL is true on the target.
    Asks(String),
    /// That shows only when it is written.
    Unsure,
    /// The column refuses it, or makes another value of it.
    Lacks,
}

impl Fit {
    /// What holds, holds; what does not, never will.
    fn sure(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Lacks }
    }

    /// The worse of two answers about parts of a value; of two questions, both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lacks, _) | (_, Self::Lacks) => Self::Lacks,
            (Self::Unsure, _) | (_, Self::Unsure) => Self::Unsure,
            (Self::Asks(a), Self::Asks(b)) => Self::Asks(format!("{a} AND {b}")),
            (Self::Holds, fit) | (fit, Self::Holds) => fit,
        }
    }
}

/// A column of the target as the place of values of its counterpart.
#[derive(Debug, Clone, Copy)]
pub struct Room<'a> {
    /// The source's column, and the target's.
    pub columns: [&'a Column; 2],
    /// The target's family.
    pub flavor: Flavor,
    /// What its pieces become.
    pub writes: &'a Writes,
}

/// A double's -0, as a piece.
const MINUS_ZERO: &[u8] = b"0000000000000080";

impl Room<'_> {
    /// Whether both sides declare the column in the same way, so that it holds the same values, but for what families do
    /// not have in common.
    pub fn is_alike(&self) -> bool {
        let [a, b] = self.columns;
        let same = [a, b].map(|c| (declared_type(c), charset(c), c.members(), c.fraction, is_short_year(c)));
        same[0] == same[1]
    }

    /// Whether the column holds a value, in its canonical form.
    pub fn fit(&self, value: &Value) -> Fit {
        let Value::Whole(piece) = value else {
            return match value {
                Value::Long(long) if !self.is_alike() => self.long(long),
                _ => Fit::Holds,
            };
        };
        let kind = Kind::of(self.columns[1]).ok();
        let everywhere = self.of_family(kind, piece);
        if everywhere != Fit::Holds || self.is_alike() {
            return everywhere;
        }
        match (kind, self.writes) {
            // Two lists of the same members.
            (_, Writes::Member(_) | Writes::Bits(_)) => Fit::Holds,
            (Some(Kind::Integer | Kind::Decimal), _) => self.number(piece),
            (Some(Kind::Real), _) => self.real(piece),
            (Some(Kind::Temporal(kind)), _) => self.moment(kind, piece),
            (Some(Kind::Enum | Kind::Set), _) => self.member(piece),
            (Some(Kind::Address), _) => self.address(piece),
            (Some(Kind::Json), Writes::Document) => Fit::Holds,
            (Some(Kind::Json), _) => Fit::sure(canonical_json::is_kept(piece)),
            (Some(Kind::Bytes), _) => self.bytes(piece.len() as u64),
            (Some(Kind::Text), _) => self.text(piece),
            (None, _) => Fit::Unsure,
        }
    }

    /// What a family's servers cannot keep in any column of a kind.
    fn of_family(&self, kind: Option<Kind>, piece: &[u8]) -> Fit {
        let (mysql, text) = (self.flavor == Flavor::MySql, String::from_utf8_lossy(piece));
        match kind {
            Some(Kind::Real) => Fit::sure(mysql || piece != MINUS_ZERO),
            Some(Kind::Temporal(Temporal::Time)) if mysql => {
                let beyond = text.trim_start_matches('-').strip_prefix("838:59:59");
                Fit::sure(beyond.is_none_or(|fraction| fraction.bytes().all(|b| b"0.".contains(&b))))
            }
            Some(Kind::Temporal(Temporal::Timestamp)) if !is_zero_date(&text) => {
                // Texts of one length order as moments do.
                if text.get(..19).is_none_or(|moment| moment > "2038-01-19 03:14:07") {
                    // Later versions of MariaDB have moments of this century's end.
                    return match mysql || !is_date(&text) {
                        true => Fit::Lacks,
                        false => Fit::Asks(format!("UNIX_TIMESTAMP('{text}') > 0")),
                    };
                }
                Fit::sure(!mysql || *text >= *"1970-01-01 00:00:01")
            }
            _ => Fit::Holds,
        }
    }

    fn number(&self, piece: &[u8]) -> Fit {
        let column = self.columns[1];
        let text = String::from_utf8_lossy(piece);
        let (negative, digits) = text.strip_prefix('-').map_or((false, &*text), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        if column.data_type == "decimal" {
            let places = column.precision.saturating_sub(column.scale) as usize;
            let signed = !negative || !is_unsigned(column);
            return Fit::sure(signed && whole.len() <= places && fraction.len() <= column.scale as usize);
        }
        let number = if whole.is_empty() { Ok(0) } else { whole.parse::<i128>() };
        let Ok(number) = number.map(|number| if negative { -number } else { number }) else {
            return Fit::Lacks;
        };
        if column.data_type == "year" {
            // Of fewer digits a server makes another year.
            return match is_short_year(column) {
                true => Fit::Unsure,
                false => Fit::sure(fraction.is_empty() && (number == 0 || (1901..=2155).contains(&number))),
            };
        }
        Fit::sure(fraction.is_empty() && range(column).is_some_and(|range| range.contains(&number)))
    }

    fn real(&self, piece: &[u8]) -> Fit {
        let column = self.columns[1];
        let Some(number) = real(&String::from_utf8_lossy(piece)) else { return Fit::Unsure };
        if is_unsigned(column) && number < 0.0 {
            return Fit::Lacks;
        }
        let kept = column.data_type == "double" || f64::from(number as f32).to_bits() == number.to_bits();
        // With a number of digits, servers round in their own ways.
        let rounded = if column.column_type.contains('(') { Fit::Unsure } else { Fit::Holds };
        Fit::sure(kept).and(rounded)
    }

    fn moment(&self, kind: Temporal, piece: &[u8]) -> Fit {
        let text = String::from_utf8_lossy(piece);
        let (fraction, digits) =
            (self.columns[1].fraction as usize, text.split_once('.').unwrap_or_default().1);
        let rounded = digits.bytes().skip(fraction).any(|digit| digit != b'0');
        Fit::sure(
            !rounded
                && match kind {
                    Temporal::Date => text.bytes().skip(10).all(|b| b" 0:.".contains(&b)),
                    Temporal::Timestamp => {
                        is_zero_date(&text) || is_date(&text) && *text > *"1970-01-01 00:00:00.000000"
                    }
                    Temporal::DateTime | Temporal::Time => true,
                },
        )
    }

    /// By name, letter for letter. A SET gives its members in its own order.
    fn member(&self, piece: &[u8]) -> Fit {
        let column = self.columns[1];
        let (members, is_set) = (column.members(), column.data_type == "set");
        if piece == [0xff, 0] {
            return Fit::sure(!is_set);
        }
        let by_name = *self.writes == Writes::Members;
        let names = if by_name { super::value::members(piece) } else { Some(piece.to_vec()) };
        let Some(names) = names.and_then(|names| String::from_utf8(names).ok()) else { return Fit::Unsure };
        // Which letters those of other columns stand for is not known, nor what a `?` in the catalogue does.
        if names.contains('?') || crate::form::text::is_of_bytes(column) && !names.is_ascii() {
            return Fit::Unsure;
        }
        let place = |name: &str| members.iter().position(|member| member == name);
        if !is_set {
            return Fit::sure(place(&names).is_some());
        }
        let names = names.split(',').filter(|_| !names.is_empty());
        let places: Option<Vec<usize>> = names.map(place).collect();
        Fit::sure(places.is_some_and(|places| by_name || places.is_sorted_by(|a, b| a < b)))
    }

    fn address(&self, piece: &[u8]) -> Fit {
        let text = String::from_utf8_lossy(piece);
        let is_uuid = || {
            text.len() == 36
                && text.bytes().enumerate().all(|(at, byte)| match at {
                    8 | 13 | 18 | 23 => byte == b'-',
                    _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                })
        };
        match self.columns[1].data_type.as_str() {
            "uuid" if is_uuid() => Fit::Holds,
            "inet4" if text.parse::<Ipv4Addr>().is_ok_and(|address| address.to_string() == *text) => {
                Fit::Holds
            }
            _ => Fit::Unsure,
        }
    }

    fn bytes(&self, length: u64) -> Fit {
        let [source, target] = self.columns;
        match target.data_type.as_str() {
            // Filled up with zeros.
            "binary" => Fit::sure(length == target.octets),
            kind if kind.contains("binary") || kind.ends_with("blob") => Fit::sure(length <= target.octets),
            "geometry" if is_geometry(source) => Fit::Holds,
            _ => Fit::Unsure,
        }
    }

    /// Why a row is left alone for the sake of such a value.
    pub fn why(&self, value: &Value, fit: &Fit) -> Missed {
        let target = self.columns[1];
        let (name, [there, here]) = (&target.name, self.columns.map(described));
        let types = format!("it is {here} on the target, {there} on the source");
        if matches!(value, Value::Whole(piece) if piece == MINUS_ZERO) && Kind::of(target) == Ok(Kind::Real) {
            return format!(
                "column {name} is -0 on the source, of which MariaDB makes 0: write 0 on the source"
            );
        }
        match fit {
            Fit::Unsure => format!(
                "whether column {name} holds the source's value exactly shows only when it is written ({types}): alter the \
                 target's column first"
            ),
            _ if self.is_alike() => format!(
                "column {name} cannot hold the source's value exactly, although it is {here} on both sides: change the value \
                 on the source"
            ),
            _ => format!(
                "column {name} cannot hold the source's value exactly ({types}): alter the target's column first"
            ),
        }
    }

    /// Why a row was put back as it was after it had been written.
    pub fn made_another(&self) -> Missed {
        let [there, here] = self.columns.map(described);
        format!(
            "the target makes another value of the source's in column {} ({here} on the target, {there} on the source): \
             alter the target's column first",
            self.columns[1].name
        )
    }
}

/// A type for people, with its character set.
fn described(column: &Column) -> String {
    match &column.charset {
        Some(charset) => format!("{} in {charset}", column.column_type),
        None => column.column_type.clone(),
    }
}

fn is_unsigned(column: &Column) -> bool {
    column.column_type.contains("unsigned")
}

/// Whether it has two digits for four, as MariaDB still has them.
fn is_short_year(column: &Column) -> bool {
    column.column_type == "year(2)"
}

fn is_geometry(column: &Column) -> bool {
    let kind = column.data_type.as_str();
    matches!(Kind::of(column), Ok(Kind::Bytes)) && !kind.contains("b") && kind != "vector"
}

/// The number in a type's brackets.
fn argument(column: &Column) -> Option<u64> {
    let (_, rest) = column.column_type.split_once('(')?;
    rest.split([')', ',']).next()?.trim().parse().ok()
}

/// The whole numbers of a type.
fn range(column: &Column) -> Option<std::ops::RangeInclusive<i128>> {
    if column.data_type == "bit" {
        return Some(0..=(1i128 << argument(column)?.min(64)) - 1);
    }
    integer_range(column).map(|(least, most)| least..=most)
}

fn is_zero_date(text: &str) -> bool {
    text.bytes().all(|b| b"0-:. ".contains(&b))
}

/// Whether the text begins with a day that there was: some columns hold others.
fn is_date(text: &str) -> bool {
    let part = |from, to| text.get(from..to).and_then(|digits: &str| digits.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (part(0, 4), part(5, 7), part(8, 10)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
mod tests;
