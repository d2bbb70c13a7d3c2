//! What values a column of somebody's table takes: read from its definition, drawn as SQL literals.
//!
//! [`Domain::draw`] draws any value, the ends of the range among them; [`Domain::nth`] gives values of keys, each number
//! another one for as long as [`Domain::capacity`] lasts. Nothing here asks a server.

use converge_mysql::quote;

use crate::load::values::{Dice, Value, words};

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Whole numbers in this range.
    Int { min: i128, max: i128 },
    /// Decimal numbers with so many digits before and after the point.
    Decimal { whole: u32, fraction: u32, unsigned: bool },
    /// `FLOAT` or `DOUBLE`.
    Float { double: bool, unsigned: bool },
    /// `BIT(n)`.
    Bits(u32),
    /// Text of up to so many characters, none of them above the highest.
    Text { chars: u64, highest: char },
    /// Bytes, up to so many, or exactly.
    Bytes { most: u64, fixed: bool },
    /// One of the members.
    Enum(Vec<String>),
    /// Any of the members.
    Set(Vec<String>),
    /// `DATE`.
    Date,
    /// `DATETIME` with so many digits of a second.
    DateTime(u32),
    /// `TIMESTAMP` with so many digits of a second.
    Timestamp(u32),
    /// `TIME` with so many digits of a second.
    Time(u32),
    /// `YEAR`.
    Year,
    /// `JSON`.
    Json,
    /// `UUID`.
    Uuid,
    /// `INET4`, `INET6`.
    Inet { six: bool },
    /// `POINT` or any geometry, in the system of coordinates with this number.
    Point(u32),
}

/// Days from 1970 on that keys of dates are spread over.
const DAYS: u64 = 20_000;
/// The longest text or bytes that are drawn; larger ones are a plan's large values.
const LONGEST: u64 = 600;

impl Domain {
    /// The domain of a column, from `COLUMN_TYPE` (`int(10) unsigned`) and its character set. `None`: no value for it can
    /// be made up.
    pub fn of(column_type: &str, charset: Option<&str>) -> Option<Self> {
        let text = column_type.trim();
        let lower = text.to_ascii_lowercase();
        let name: String = lower.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        let unsigned = lower.contains("unsigned");
        let inside = text.find('(').zip(text.rfind(')')).map_or("", |(from, to)| &text[from + 1..to]);
        let mut numbers = inside.split(',').map(|n| n.trim().parse::<u32>().ok());
        let (first, second) = (numbers.next().flatten(), numbers.next().flatten());
        let int = |bits: u32| {
            let (min, max) = if unsigned {
                (0, (1i128 << bits) - 1)
            } else {
                (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
            };
            Self::Int { min, max }
        };
        let string = |most: u64| match charset {
            Some("binary") | None => Self::Bytes { most, fixed: false },
            Some("utf8mb4") => Self::Text { chars: most, highest: char::MAX },
            Some("utf8mb3" | "utf8" | "ucs2") => Self::Text { chars: most, highest: '\u{ffff}' },
            Some(_) => Self::Text { chars: most, highest: '~' },
        };
        let fraction = first.unwrap_or(0);
        Some(match name.as_str() {
            "tinyint" | "bool" | "boolean" => int(8),
            "smallint" => int(16),
            "mediumint" => int(24),
            "int" | "integer" => int(32),
            "bigint" => int(64),
            "decimal" | "numeric" => {
                let (digits, fraction) = (first.unwrap_or(10), second.unwrap_or(0));
                Self::Decimal { whole: digits.saturating_sub(fraction), fraction, unsigned }
            }
            "float" | "double" | "real" => Self::Float { double: name != "float", unsigned },
            "bit" => Self::Bits(first.unwrap_or(1)),
            "char" | "varchar" => string(u64::from(first.unwrap_or(1))),
            // A character may take four bytes.
            "tinytext" => string(255 / 4),
            "text" | "mediumtext" | "longtext" => string(LONGEST),
            "binary" => Self::Bytes { most: u64::from(first.unwrap_or(1)), fixed: true },
            "varbinary" => Self::Bytes { most: u64::from(first.unwrap_or(1)), fixed: false },
            "tinyblob" => Self::Bytes { most: 255, fixed: false },
            "blob" | "mediumblob" | "longblob" => Self::Bytes { most: LONGEST, fixed: false },
            "enum" => Self::Enum(members(inside)),
            "set" => Self::Set(members(inside)),
            "date" => Self::Date,
            "datetime" => Self::DateTime(fraction),
            "timestamp" => Self::Timestamp(fraction),
            "time" => Self::Time(fraction),
            "year" => Self::Year,
            "json" => Self::Json,
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet { six: false },
            "inet6" => Self::Inet { six: true },
            "point" | "geometry" => Self::Point(0),
            _ => return None,
        })
    }

    /// How many different values [`Domain::nth`] has.
    pub fn capacity(&self) -> u64 {
        match self {
            Self::Int { max, .. } => u64::try_from((*max).max(1)).unwrap_or(u64::MAX),
            Self::Decimal { whole, .. } => 10u64.saturating_pow(*whole).saturating_sub(1).max(1),
            Self::Bits(n) => 1u64.checked_shl(*n).unwrap_or(u64::MAX),
            Self::Text { chars: n, .. } | Self::Bytes { most: n, .. } => {
                16u64.saturating_pow(u32::try_from(*n).unwrap_or(u32::MAX)).max(1)
            }
            Self::Enum(members) => members.len() as u64,
            Self::Set(members) => 1 << members.len().min(40),
            Self::Date => DAYS,
            Self::Year => 200,
            Self::Time(_) => 800 * 3600,
            Self::Json | Self::Point(_) => 1,
            Self::Float { .. } => 1 << 24,
            Self::DateTime(_) | Self::Timestamp(_) => DAYS * 86_400,
            Self::Uuid | Self::Inet { .. } => 1 << 32,
        }
    }

    /// The nth value of a key; whole numbers count from 1.
    pub fn nth(&self, n: u64) -> String {
        let n = n % self.capacity();
        let date = |days: u64| {
            // Months of 28 days: every day exists.
            format!("{:04}-{:02}-{:02}", 1971 + days / 336, days / 28 % 12 + 1, days % 28 + 1)
        };
        let clock =
            |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        match self {
            Self::Int { .. } | Self::Decimal { .. } | Self::Float { .. } => (n + 1).to_string(),
            Self::Bits(_) => format!("b'{n:b}'"),
            Self::Text { .. } => quote::text(&format!("{n:x}")),
            Self::Bytes { most, .. } => {
                let digits = format!("{n:x}");
                let width = usize::try_from(*most).unwrap_or(8).min(8);
                let bytes: Vec<u8> = digits.bytes().rev().take(width).collect();
                quote::hex(&bytes.into_iter().rev().collect::<Vec<_>>())
            }
            Self::Enum(members) => quote::text(&members[n as usize]),
            Self::Set(members) => {
                let chosen = members.iter().enumerate().filter(|(bit, _)| n >> bit & 1 == 1);
                quote::text(&chosen.map(|(_, member)| member.as_str()).collect::<Vec<_>>().join(","))
            }
            Self::Date => format!("'{}'", date(n)),
            Self::DateTime(_) | Self::Timestamp(_) => format!("'{} {}'", date(n / 86_400), clock(n % 86_400)),
            Self::Time(_) => format!("'{}'", clock(n)),
            Self::Year => (1902 + n).to_string(),
            Self::Json => "'null'".into(),
            Self::Uuid => format!("'00000000-0000-4000-8000-{n:012x}'"),
            Self::Inet { six: true } => format!("'2001:db8::{:x}:{:x}'", n >> 16, n & 0xffff),
            Self::Inet { six: false } => {
                format!("'{}.{}.{}.{}'", n >> 24 & 255, n >> 16 & 255, n >> 8 & 255, n & 255)
            }
            Self::Point(system) => point(0, 0, *system),
        }
    }

    /// Any value, the ends of the range among them.
    pub fn draw(&self, dice: &mut Dice) -> String {
        match self {
            Self::Int { min, max } => int(dice, *min, *max),
            Self::Decimal { whole, fraction, unsigned } => decimal(dice, *whole, *fraction, *unsigned),
            Self::Float { double, unsigned } => float(dice, *double, *unsigned),
            Self::Bits(n) => match dice.below(6) {
                0 => "b'0'".into(),
                1 => format!("b'{}'", "1".repeat(*n as usize)),
                _ => format!("b'{:b}'", dice.below(1u64.checked_shl(*n).unwrap_or(u64::MAX))),
            },
            Self::Text { chars, highest } => text(dice, *chars, *highest),
            Self::Bytes { most, fixed } => bytes(dice, *most, *fixed),
            Self::Enum(members) => quote::text(dice.pick::<String>(members)),
            Self::Set(members) => {
                let chosen: Vec<&str> =
                    members.iter().map(String::as_str).filter(|_| dice.chance(0.4)).collect();
                quote::text(&chosen.join(","))
            }
            Self::Date => match dice.below(20) {
                0 => "'1000-01-01'".into(),
                1 => "'9999-12-31'".into(),
                _ => Value::Date.draw(dice),
            },
            Self::DateTime(digits) => match dice.below(20) {
                0 => cut("'1000-01-01 00:00:00.000000'", *digits),
                1 => cut("'9999-12-31 23:59:59.499999'", *digits),
                _ => cut(&Value::DateTime.draw(dice), *digits),
            },
            Self::Timestamp(digits) => cut(&Value::Timestamp.draw(dice), (*digits).min(3)),
            Self::Time(digits) => cut(&Value::Time.draw(dice), (*digits).min(3)),
            Self::Year => Value::Year.draw(dice),
            Self::Json => Value::Json.draw(dice),
            Self::Point(system) => point(dice.between(-90, 90), dice.between(-90, 90), *system),
            Self::Uuid | Self::Inet { .. } => self.nth(dice.below(1 << 32)),
        }
    }
}

fn point(x: i64, y: i64, system: u32) -> String {
    format!("ST_GeomFromText('POINT({x} {y})', {system})")
}

/// The members of `'a','it''s'`.
fn members(list: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut rest = list.chars().peekable();
    while rest.find(|c| *c == '\'').is_some() {
        let mut member = String::new();
        while let Some(c) = rest.next() {
            match c {
                '\'' if rest.peek() == Some(&'\'') => member.extend(rest.next()),
                '\'' => break,
                c => member.push(c),
            }
        }
        members.push(member);
    }
    members
}

fn int(dice: &mut Dice, min: i128, max: i128) -> String {
    match dice.below(16) {
        0 => min.to_string(),
        1 => max.to_string(),
        2 => min.max(-1).to_string(),
        3 => "0".into(),
        // Most numbers in real tables are small.
        4..12 => (i128::from(dice.below(10_000)) % (max + 1)).to_string(),
        _ => {
            let width = (max - min + 1) as u128;
            (min + (u128::from(dice.below(u64::MAX)) % width) as i128).to_string()
        }
    }
}

fn digits(dice: &mut Dice, count: u32) -> String {
    (0..count).map(|_| char::from(b'0' + dice.below(10) as u8)).collect()
}

fn decimal(dice: &mut Dice, whole: u32, fraction: u32, unsigned: bool) -> String {
    let sign = if !unsigned && dice.chance(0.3) { "-" } else { "" };
    let (before, after) = match dice.below(10) {
        0 => ("9".repeat(whole as usize), "9".repeat(fraction as usize)),
        1 => ("0".into(), "0".repeat(fraction as usize)),
        _ => {
            let count = dice.below(u64::from(whole) + 1) as u32;
            (digits(dice, count), digits(dice, fraction))
        }
    };
    let before = if before.is_empty() { "0".into() } else { before };
    if fraction == 0 { format!("{sign}{before}") } else { format!("{sign}{before}.{after}") }
}

fn float(dice: &mut Dice, double: bool, unsigned: bool) -> String {
    let drawn = match (dice.below(12), double) {
        (0, true) => "1.7976931348623157e308".into(),
        (0, false) => "3.4028234e38".into(),
        (1, true) => "2.2250738585072014e-308".into(),
        (1, false) => "1.17549435e-38".into(),
        (2, _) => "0".into(),
        (_, true) => Value::Double.draw(dice),
        (_, false) => Value::Float.draw(dice),
    };
    if unsigned { drawn.trim_start_matches('-').to_owned() } else { drawn }
}

fn text(dice: &mut Dice, chars: u64, highest: char) -> String {
    let most = chars.min(LONGEST) as usize;
    let drawn: String = match dice.below(14) {
        0 => String::new(),
        // As long as it may be.
        1 => "x".repeat(most),
        2 => "9 ".repeat(most / 2),
        _ => {
            let part = words(dice, 6, most.max(1));
            part.chars().filter(|c| *c <= highest).collect()
        }
    };
    quote::text(&drawn.chars().take(most).collect::<String>())
}

fn bytes(dice: &mut Dice, most: u64, fixed: bool) -> String {
    let most = most.min(LONGEST);
    let length = if fixed || dice.chance(0.1) { most } else { dice.below(most + 1) };
    let mut drawn = match dice.below(10) {
        0 => vec![0; length as usize],
        1 => vec![255; length as usize],
        _ => dice.bytes(length),
    };
    if let Some(last) = drawn.last_mut().filter(|_| dice.chance(0.3)) {
        *last = 0;
    }
    quote::hex(&drawn)
}

/// A quoted time with so many digits of a second.
fn cut(literal: &str, digits: u32) -> String {
    let inner = literal.trim_matches('\'');
    match inner.split_once('.') {
        Some((whole, _)) if digits == 0 => format!("'{whole}'"),
        Some((whole, part)) => format!("'{whole}.{}'", &part[..part.len().min(digits as usize)]),
        None => literal.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TYPES: [&str; 24] = [
        "int(11)",
        "tinyint unsigned",
        "bigint(20) unsigned",
        "decimal(12,2)",
        "decimal(3,3)",
        "float",
        "double unsigned",
        "bit(3)",
        "varchar(2)",
        "longtext",
        "binary(16)",
        "varbinary(3)",
        "enum('a','it''s, (b)')",
        "set('x','y')",
        "date",
        "datetime(6)",
        "timestamp",
        "time(2)",
        "year(4)",
        "json",
        "uuid",
        "inet6",
        "inet4",
        "point",
    ];

    #[test]
    fn every_common_type_has_values_and_its_keys_differ() {
        for text in TYPES {
            let domain = Domain::of(text, Some("utf8mb4")).unwrap_or_else(|| panic!("{text}"));
            let count = domain.capacity().min(2000);
            let keys: HashSet<String> = (0..count).map(|n| domain.nth(n)).collect();
            assert_eq!(keys.len() as u64, count, "{text}");
            let mut dice = Dice::new(1, 2, 3, 4);
            (0..200).for_each(|_| assert!(!domain.draw(&mut dice).is_empty()));
        }
        assert_eq!(Domain::of("vector(3)", None), None);
    }

    #[test]
    fn definitions_are_read() {
        assert_eq!(members("'a','it''s, (b)'"), ["a", "it's, (b)"]);
        assert_eq!(Domain::of("tinyint(3) unsigned", None), Some(Domain::Int { min: 0, max: 255 }));
        assert_eq!(Domain::of("mediumint", None), Some(Domain::Int { min: -8_388_608, max: 8_388_607 }));
        let decimal = Domain::Decimal { whole: 8, fraction: 2, unsigned: false };
        assert_eq!(Domain::of("decimal(10,2)", None), Some(decimal));
        assert_eq!(cut("'1 2.123456'", 0), "'1 2'");
        assert_eq!(cut("'1 2.123456'", 3), "'1 2.123'");
    }
}
