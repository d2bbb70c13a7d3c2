//! Values as SQL: what a canonical piece is when it is written, and how a row is recognised by it. Pure.
//!
//! Nothing here may lose a bit of a value, or recognise a row by a collation.

use converge_mysql::quote;

use crate::digest::Framing;
use crate::form::kind::Kind;
use crate::form::{Form, Literal, text};
use crate::schema::Column;

/// A value of a row as a server gave it, in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// All of it.
    Whole(Vec<u8>),
    /// One that is too long to be held.
    Long(Long),
}

/// What is known of a value that is too long to be held.
#[derive(Debug, Clone)]
pub struct Long {
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its first bytes: by them one that has no form is recognised.
    pub head: [u8; HEAD],
    /// Its length in characters, where it is text on its side.
    pub letters: Option<u64>,
}

/// By what both sides know: one of them may have bytes where the other has text.
impl PartialEq for Long {
    fn eq(&self, other: &Self) -> bool {
        (&self.sha256, self.length) == (&other.sha256, other.length)
    }
}

impl Eq for Long {}

/// Bytes of a long value that are held.
pub const HEAD: usize = 8;

/// What a canonical piece becomes when it is written to the target's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writes {
    /// Digits.
    Number,
    /// The number of an ENUM's member, but for those in doubt; 0 is the error value.
    Member(Vec<u64>),
    /// The bits of a SET's members, but for those in doubt.
    Bits(u64),
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
    /// The same, but for letters beyond the basic plane: by them a server may find another member than the one of that
    /// name, since its collation need not tell them apart and its catalogue does not.
    MarkedInPlane,
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
    /// Under what condition the SQL stands for the value: a server makes NULL, with a warning, of what it cannot build.
    pub sure: Option<String>,
}

impl Written {
    /// A literal that any server takes.
    pub fn plain(sql: String) -> Self {
        Self { sql, lax: false, sure: None }
    }
}

impl Writes {
    /// For a source column and its counterpart, compared in this form.
    pub fn of(source: &Column, target: &Column, form: &Form) -> Option<Self> {
        let kinds = [Kind::of(source).ok()?, Kind::of(target).ok()?];
        // By the form and not by the members alone: it says what the piece is.
        let by_number = form.equality == Some(Literal::Number);
        let doubtful = doubtful([source, target]);
        Some(match (kinds[0], kinds[1]) {
            (Kind::Enum, Kind::Enum) if by_number => Self::Member(doubtful.iter().map(|i| i + 1).collect()),
            (Kind::Set, Kind::Set) if by_number => {
                Self::Bits(doubtful.iter().fold(0, |mask, i| mask | 1 << (i % 64)))
            }
            (Kind::Enum, Kind::Enum) | (Kind::Set, Kind::Set) if !doubtful.is_empty() => Self::MarkedInPlane,
            (Kind::Set, Kind::Set) if form.framing == Framing::Plain => Self::Members,
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
        let plain = |sql: String| Some(Written::plain(sql));
        match self {
            Self::Number => plain(digits(piece)),
            Self::Member(doubtful) if number(piece).is_none_or(|n| doubtful.contains(&n)) => None,
            Self::Bits(doubtful) if number(piece).is_none_or(|bits| bits & doubtful != 0) => None,
            Self::Bits(_) => plain(digits(piece)),
            Self::Member(_) => Some(Written { lax: piece == b"0", ..Written::plain(digits(piece)) }),
            Self::Real => plain(real(piece)?),
            Self::Quoted => plain(quote::text(std::str::from_utf8(piece).ok()?)),
            Self::Bytes(charset) if !is_in(charset, piece) => None,
            Self::Bytes(charset) => plain(string(charset, piece)),
            Self::Members => plain(string("utf8mb4", &members(piece)?)),
            Self::Document => plain(document(piece)?),
            // Only they take four bytes in UTF-8, of which the first is this or more.
            Self::MarkedInPlane if piece.first() != Some(&0xff) && piece.iter().any(|byte| *byte >= 0xf0) => {
                None
            }
            Self::Marked | Self::MarkedInPlane => match piece {
                [0xff, 0x00] => Some(Written { lax: true, ..Written::plain("0".into()) }),
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

    /// SQL for a variable that holds the bytes of a long piece; `None` for one that the target has no form for.
    pub fn variable(&self, name: &str, long: &Long) -> Option<Written> {
        let sure = |bytes: &str| Some(format!("SHA2({bytes}, 256) <=> '{}'", long.sha256));
        let converted = |charset: &str| {
            let sql = format!("CONVERT({name} USING {charset})");
            Some(Written { sure: sure(&as_bytes(&sql)), ..Written::plain(sql) })
        };
        match self {
            Self::Bytes(charset) if charset == "binary" => {
                Some(Written { sure: sure(name), ..Written::plain(name.to_owned()) })
            }
            Self::Bytes(charset) => converted(charset),
            Self::Marked if long.head[0] == 0xff => None,
            Self::Marked => converted("utf8mb4"),
            Self::Document if is_opaque(typed(&long.head)?.0) => None,
            Self::Document => {
                let sql = format!("CONVERT(SUBSTR({name}, LOCATE(' ', {name}) + 1) USING utf8mb4)");
                Some(Written { sure: sure(name), ..Written::plain(sql) })
            }
            _ => None,
        }
    }
}

/// The members of two lists whose names are not known: outside the basic plane, the catalogue shows `?` for a letter.
fn doubtful(columns: [&Column; 2]) -> Vec<u64> {
    // Those cannot have such letters.
    let plain = |c: &Column| ["ascii", "latin1", "utf8mb3"].contains(&text::charset(c).as_str());
    let lists = columns.map(|c| if plain(c) { Vec::new() } else { c.members() });
    let mut doubtful: Vec<u64> = (lists.iter())
        .flat_map(|list| (0u64..).zip(list))
        .filter(|(_, name)| name.contains('?'))
        .map(|(i, _)| i)
        .collect();
    doubtful.sort_unstable();
    doubtful.dedup();
    doubtful
}

fn number(piece: &[u8]) -> Option<u64> {
    std::str::from_utf8(piece).ok()?.parse().ok()
}

/// Whether a server takes bytes for text, as far as that is known here. MariaDB takes halves of surrogate pairs.
fn is_in(charset: &str, bytes: &[u8]) -> bool {
    if !charset.starts_with("utf8") {
        return true;
    }
    let mut letters = bytes.to_vec();
    for at in 0..letters.len().saturating_sub(2) {
        if let [0xed, 0xa0..=0xbf, 0x80..=0xbf] = letters[at..at + 3] {
            letters[at..at + 3].fill(b'?');
        }
    }
    let narrow = charset == "utf8mb3";
    std::str::from_utf8(&letters).is_ok_and(|text| !narrow || text.chars().all(|c| c <= '\u{ffff}'))
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
        Value::Long(long) => format!("SHA2({piece}, 256) <=> '{}'", long.sha256),
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
        kind if is_opaque(kind) => None,
        _ => Some(string("utf8mb4", text)),
    }
}

/// Documents that are shown as base64, which would be written as a string.
fn is_opaque(kind: &[u8]) -> bool {
    [&b"BLOB"[..], b"BIT", b"OPAQUE"].contains(&kind)
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
pub fn members(piece: &[u8]) -> Option<Vec<u8>> {
    let names = std::str::from_utf8(piece).ok()?.strip_prefix("m ")?;
    let decode = |name: &str| -> Option<Vec<u8>> {
        (0..name.len()).step_by(2).map(|i| u8::from_str_radix(name.get(i..i + 2)?, 16).ok()).collect()
    };
    let names: Option<Vec<Vec<u8>>> = names.split_terminator(' ').map(decode).collect();
    Some(names?.join(&b','))
}

#[cfg(test)]
mod tests {
    use converge_mysql::Flavor;
    use proptest::prelude::*;

    use super::*;
    use crate::form::Pairing;

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
        assert!(Writes::Member(Vec::new()).literal(b"0").unwrap().lax);
        assert!(!Writes::Member(Vec::new()).literal(b"1").unwrap().lax);
        let error = Writes::Marked.literal(&[0xff, 0]).unwrap();
        assert_eq!((error.sql.as_str(), error.lax), ("0", true));
        assert_eq!(Writes::Marked.literal(&[0xff, 0x81]), None);
        assert_eq!(Writes::Members.literal(b"m 61 622c ").unwrap().sql, "'a,b,'");
        assert_eq!(Writes::Members.literal(b"m ").unwrap().sql, "''");
    }

    fn long(head: &[u8; HEAD]) -> Long {
        Long { sha256: "ab".into(), length: 1000, head: *head, letters: None }
    }

    #[test]
    fn a_long_value_is_written_only_if_it_is_whole() {
        let written =
            |writes: Writes, head| writes.variable("@v", &long(head)).map(|w| (w.sql, w.sure.unwrap()));
        let (sql, sure) = written(Writes::Bytes("latin1".into()), b"aaaaaaaa").unwrap();
        assert_eq!(sql, "CONVERT(@v USING latin1)");
        assert_eq!(sure, "SHA2(CAST(CONVERT(@v USING latin1) AS BINARY), 256) <=> 'ab'");
        assert!(written(Writes::Marked, b"aaaaaaaa").is_some());
        assert!(written(Writes::Marked, b"\xffaaaaaaa").is_none());
        assert!(written(Writes::Bytes("binary".into()), b"\xffaaaaaaa").is_some());
        assert!(written(Writes::Document, b"OBJECT {").is_some());
        assert!(written(Writes::Document, b"BLOB \"ba").is_none());
    }

    #[test]
    fn members_whose_names_are_not_known_are_left_alone() {
        let column = |list: &str| Column {
            data_type: list.split('(').next().unwrap_or_default().into(),
            column_type: list.into(),
            ..Column::default()
        };
        let writes = |lists: [&str; 2]| {
            let columns = lists.map(column);
            let pairing = Pairing { columns: [&columns[0], &columns[1]], flavors: [Flavor::MySql; 2] };
            // A form by numbers, whatever is thought of such names when rows are compared.
            let form = Form { equality: Some(Literal::Number), ..pairing.form().unwrap() };
            Writes::of(&columns[0], &columns[1], &form).unwrap()
        };
        let members = writes(["enum('a','?','c')"; 2]);
        assert_eq!(["1", "2", "3"].map(|n| members.literal(n.as_bytes()).is_some()), [true, false, true]);
        let bits = writes(["set('a','b','??')"; 2]);
        assert_eq!(
            ["0", "3", "4", "7"].map(|n| bits.literal(n.as_bytes()).is_some()),
            [true, true, false, false]
        );
    }

    #[test]
    fn bytes_that_are_no_text_have_no_literal() {
        let has = |charset: &str, piece: &[u8]| Writes::Bytes(charset.into()).literal(piece).is_some();
        assert!(has("utf8mb4", "a\u{1f600}".as_bytes()) && !has("utf8mb3", "a\u{1f600}".as_bytes()));
        assert!(!has("utf8mb4", b"a\xff") && has("binary", b"a\xff") && has("latin1", b"a\xff"));
        assert!(has("utf8mb4", b"a\xed\xa0\x80") && !has("utf8mb4", b"a\xed\xa0"));
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
