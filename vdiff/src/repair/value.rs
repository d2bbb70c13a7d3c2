//! Values as SQL: what a canonical piece is when it is written, and how a row is recognised by it. Pure.
//!
//! Nothing here may lose a bit of a value, or recognise a row by a collation.

use converge_mysql::quote;

use crate::form::kind::Kind;
use crate::form::{Form, text};
use crate::schema::Column;

/// A value of a row as a server gave it, in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// All of it.
    Whole(Vec<u8>),
    /// Its SHA-256 in hexadecimal, for one that is too long to be held.
    Long(String),
}

/// What a canonical piece becomes when it is written to the target's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writes {
    /// Digits.
    Number,
    /// The number of an ENUM's member; 0 is the error value.
    Member,
    /// The bits of a double.
    Real,
    /// Text of ASCII letters, in quotes.
    Quoted,
    /// Bytes in a character set, `binary` included.
    Bytes(String),
    /// Text out of a list of members, each in hexadecimal.
    Members,
    /// Bytes in `utf8mb4` that may be marked as having no form in it.
    Marked,
    /// The SQL type of a JSON document, a space, and its text.
    Document,
}

/// A literal, and whether a strict server refuses it although a column can hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// SQL.
    pub sql: String,
    /// Only `sql_mode` without strictness lets it in: an ENUM's error value.
    pub lax: bool,
}

impl Writes {
    /// For a source column and its counterpart, compared in this form.
    pub fn of(source: &Column, target: &Column, form: &Form) -> Option<Self> {
        let kinds = [Kind::of(source).ok()?, Kind::of(target).ok()?];
        let same_members = source.members() == target.members();
        Some(match (kinds[0], kinds[1]) {
            (Kind::Enum, Kind::Enum) if same_members => Self::Member,
            (Kind::Set, Kind::Set) if same_members => Self::Number,
            (Kind::Set, Kind::Set) => Self::Members,
            (Kind::Integer | Kind::Decimal, Kind::Integer | Kind::Decimal) => Self::Number,
            (Kind::Real, Kind::Real) => Self::Real,
            (Kind::Temporal(_), Kind::Temporal(_)) => Self::Quoted,
            (Kind::Json, Kind::Json) => Self::Document,
            (Kind::Json, _) | (_, Kind::Json) | (Kind::Address, Kind::Address) => {
                Self::Bytes("utf8mb4".into())
            }
            (_, Kind::Bytes) => Self::Bytes("binary".into()),
            (Kind::Bytes, Kind::Text) => Self::Bytes(text::charset(target)),
            (Kind::Text, Kind::Text) if form.pieces[1] == as_bytes(&quote::ident(&target.name)) => {
                Self::Bytes(text::charset(target))
            }
            _ => Self::Marked,
        })
    }

    /// The literal of a piece that is held; `None` for one that the target has no form for.
    pub fn literal(&self, piece: &[u8]) -> Option<Written> {
        let plain = |sql: String| Some(Written { sql, lax: false });
        match self {
            Self::Number => plain(digits(piece)),
            Self::Member => Some(Written { sql: digits(piece), lax: piece == b"0" }),
            Self::Real => plain(real(piece)?),
            Self::Quoted => plain(quote::text(std::str::from_utf8(piece).ok()?)),
            Self::Bytes(charset) => plain(string(charset, piece)),
            Self::Members => plain(string("utf8mb4", &members(piece)?)),
            Self::Document => plain(document(piece)?),
            Self::Marked => match piece {
                [0xff, 0x00] => Some(Written { sql: "0".into(), lax: true }),
                [0xff, ..] => None,
                text => plain(string("utf8mb4", text)),
            },
        }
    }

    /// A document's text, without its type; any other piece as it is.
    pub fn text<'a>(&self, piece: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Document => typed(piece).map_or(piece, |(_, text)| text),
            _ => piece,
        }
    }

    /// SQL for a variable that holds the bytes of a long piece.
    pub fn variable(&self, name: &str) -> Option<String> {
        match self {
            Self::Bytes(charset) if charset == "binary" => Some(name.to_owned()),
            Self::Bytes(charset) => Some(format!("CONVERT({name} USING {charset})")),
            Self::Marked => Some(format!("CONVERT({name} USING utf8mb4)")),
            Self::Document => Some(format!("CONVERT(SUBSTR({name}, LOCATE(' ', {name}) + 1) USING utf8mb4)")),
            _ => None,
        }
    }
}

/// A value's bytes as SQL; a form in which two values are equal only if all their bytes are.
pub fn as_bytes(value: &str) -> String {
    format!("CAST({value} AS BINARY)")
}

/// The condition that a column of the target holds a value; `piece` is its canonical form there.
pub fn holds(column: &Column, piece: &str, value: &Value) -> String {
    let name = quote::ident(&column.name);
    let kind = Kind::of(column).ok();
    match value {
        Value::Null => format!("{name} IS NULL"),
        Value::Long(digest) => format!("SHA2({piece}, 256) <=> '{digest}'"),
        Value::Whole(bytes) if matches!(kind, Some(Kind::Integer | Kind::Decimal)) => {
            // A YEAR is compared with two digits as if they were four.
            let value =
                if column.data_type == "year" { format!("CAST({name} AS UNSIGNED)") } else { name.clone() };
            format!("{value} <=> {}", digits(bytes))
        }
        Value::Whole(bytes) => {
            let piece = if piece == as_bytes(&name) { piece.to_owned() } else { as_bytes(piece) };
            format!("{piece} <=> {}", string("binary", bytes))
        }
    }
}

/// A number as it is; what is none becomes text, which no server takes for SQL.
fn digits(piece: &[u8]) -> String {
    match piece.iter().all(|b| b.is_ascii_digit() || b"+-.".contains(b)) && !piece.is_empty() {
        true => String::from_utf8_lossy(piece).into_owned(),
        false => string("binary", piece),
    }
}

/// The SQL type of a document, and its text.
fn typed(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = piece.iter().position(|b| *b == b' ')?;
    Some((&piece[..space], &piece[space + 1..]))
}

/// A document that is the same again, its own SQL type included. That of what lies within it is not known here.
fn document(piece: &[u8]) -> Option<String> {
    let (kind, text) = typed(piece)?;
    let cast = |kind: &str| {
        let value = std::str::from_utf8(text).ok()?.trim_matches('"');
        let plain = value.bytes().all(|b| b.is_ascii_digit() || b"+-.: ".contains(&b));
        plain.then(|| format!("CAST(CAST('{value}' AS {kind}) AS JSON)"))
    };
    match kind {
        b"DATE" => cast("DATE"),
        b"DATETIME" => cast("DATETIME(6)"),
        b"TIME" => cast("TIME(6)"),
        b"DECIMAL" => {
            let digits = text.iter().filter(|b| b.is_ascii_digit()).count();
            let point = text.iter().position(|b| *b == b'.');
            let scale = point.map_or(0, |at| text.len() - at - 1);
            cast(&format!("DECIMAL({},{scale})", digits.max(1)))
        }
        // Shown as base64, which would be written as a string.
        b"BLOB" | b"BIT" | b"OPAQUE" => None,
        _ => Some(string("utf8mb4", text)),
    }
}

/// The shortest text of a double that is read back as the same double.
fn real(piece: &[u8]) -> Option<String> {
    let bits = u64::from_str_radix(std::str::from_utf8(piece).ok().filter(|h| h.len() == 16)?, 16).ok()?;
    let number = f64::from_bits(bits.swap_bytes());
    // A literal -0 loses its sign.
    Some(if number == 0.0 && number.is_sign_negative() { "'-0'".into() } else { format!("{number:e}") })
}

/// A string in a character set: in letters where they are all plain, else in hexadecimal.
pub fn string(charset: &str, bytes: &[u8]) -> String {
    let plain = |b: &u8| (b' '..=b'~').contains(b) && !b"'\\".contains(b);
    let ascii = !["ucs2", "utf16", "utf16le", "utf32"].contains(&charset);
    match (ascii && bytes.iter().all(plain), charset) {
        (true, "utf8mb4") => format!("'{}'", String::from_utf8_lossy(bytes)),
        (true, _) => format!("_{charset}'{}'", String::from_utf8_lossy(bytes)),
        (false, _) => format!("_{charset} {}", quote::hex(bytes)),
    }
}

/// Whether two documents are the same but for the types of their numbers.
pub fn same_numbers(a: &[u8], b: &[u8]) -> bool {
    use serde_json::Value;
    fn alike(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| alike(a, b)))
            }
            (a, b) => a == b,
        }
    }
    match (serde_json::from_slice(a), serde_json::from_slice(b)) {
        (Ok(a), Ok(b)) => alike(&a, &b),
        // What cannot be read may be alike.
        _ => true,
    }
}

/// The members of a SET by name, with commas between, out of its canonical form.
fn members(piece: &[u8]) -> Option<Vec<u8>> {
    let names = std::str::from_utf8(piece).ok()?.strip_prefix("m ")?;
    let decode = |name: &str| -> Option<Vec<u8>> {
        (0..name.len()).step_by(2).map(|i| u8::from_str_radix(name.get(i..i + 2)?, 16).ok()).collect()
    };
    let names: Option<Vec<Vec<u8>>> = names.split_terminator(' ').map(decode).collect();
    Some(names?.join(&b','))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(number: f64) -> String {
        format!("{:016X}", number.to_bits().swap_bytes())
    }

    #[test]
    fn strings_are_readable_where_that_is_safe() {
        assert_eq!(string("utf8mb4", b"it is"), "'it is'");
        assert_eq!(string("latin1", b"it's"), "_latin1 x'69742773'");
        assert_eq!(string("binary", b"a\\"), "_binary x'615c'");
        assert_eq!(string("utf16", b"\0a"), "_utf16 x'0061'");
        assert_eq!(string("binary", b""), "_binary''");
    }

    #[test]
    fn what_a_strict_server_refuses_is_marked() {
        assert!(Writes::Member.literal(b"0").unwrap().lax);
        assert!(!Writes::Member.literal(b"1").unwrap().lax);
        assert_eq!(Writes::Marked.literal(&[0xff, 0]).unwrap(), Written { sql: "0".into(), lax: true });
        assert_eq!(Writes::Marked.literal(&[0xff, 0x81]), None);
        assert_eq!(Writes::Members.literal(b"m 61 622c ").unwrap().sql, "'a,b,'");
        assert_eq!(Writes::Members.literal(b"m ").unwrap().sql, "''");
    }

    #[test]
    fn documents_keep_their_own_type() {
        let sql = |piece: &str| Writes::Document.literal(piece.as_bytes()).map(|written| written.sql);
        assert_eq!(sql("INTEGER 1").unwrap(), "'1'");
        assert_eq!(sql("OBJECT {\"a\": 1}").unwrap(), "'{\"a\": 1}'");
        assert_eq!(sql("DECIMAL -1.50").unwrap(), "CAST(CAST('-1.50' AS DECIMAL(3,2)) AS JSON)");
        assert_eq!(sql("DATE \"2024-01-01\"").unwrap(), "CAST(CAST('2024-01-01' AS DATE) AS JSON)");
        assert_eq!(sql("DATE \"' OR 1\""), None);
        assert_eq!(sql("BLOB \"base64:type252:AA==\""), None);
        assert_eq!(Writes::Document.text(b"STRING \"a b\""), b"\"a b\"");
    }

    #[test]
    fn numbers_of_documents_may_look_alike() {
        for (a, b, alike) in [
            ("1", "1.0", true),
            ("[1, {\"a\": 2.0}]", "[1.0, {\"a\": 2}]", true),
            ("1", "\"1\"", false),
            ("1", "2", false),
            ("[1]", "[1, 1]", false),
        ] {
            assert_eq!(same_numbers(a.as_bytes(), b.as_bytes()), alike, "{a} {b}");
        }
    }

    #[test]
    fn a_number_is_never_sql() {
        assert_eq!(digits(b"-1.50"), "-1.50");
        assert_eq!(digits(b"1 OR 1"), "_binary'1 OR 1'");
    }

    proptest! {
        #[test]
        fn doubles_keep_every_bit(bits_of in any::<u64>()) {
            let number = f64::from_bits(bits_of);
            prop_assume!(number.is_finite());
            let literal = Writes::Real.literal(bits(number).as_bytes()).unwrap().sql;
            let read: f64 = literal.trim_matches('\'').parse().unwrap();
            prop_assert_eq!(read.to_bits(), number.to_bits());
        }
    }
}
