//! Strings: by their bytes in one character set, never by a collation.

use converge_mysql::{Flavor, quote};

use super::kind::Kind;
use super::{Form, Literal, Pairing, ShownAs};
use crate::digest::Framing;
use crate::schema::Column;

/// A column's character set under its present name; empty where it has none.
pub fn charset(column: &Column) -> String {
    match column.charset.as_deref() {
        Some("utf8") => "utf8mb3".into(),
        Some(charset) => charset.into(),
        None => String::new(),
    }
}

/// Whether an ENUM's or SET's members are bytes, which need not be text.
pub fn is_of_bytes(column: &Column) -> bool {
    matches!(column.charset.as_deref(), None | Some("binary"))
}

/// Whether the same bytes are the same characters in both sets.
fn shares_bytes(a: &str, b: &str) -> bool {
    let utf8 = |c: &str| c == "utf8mb3" || c == "utf8mb4";
    a == b || (utf8(a) && utf8(b))
}

/// SQL of the mark in front of bytes that no text was made of.
pub const MARK: &str = "CONCAT(x'ff', ";

/// Bytes in `utf8mb4`. Where the conversion loses something (a byte that stands for nothing becomes `?`), the
/// original bytes are kept under a mark that no UTF-8 text begins with.
fn converted(value: &str, charset: &str) -> String {
    let utf8 = format!("CONVERT({value} USING utf8mb4)");
    if charset.is_empty() || charset.starts_with("utf8") {
        return format!("CAST({utf8} AS BINARY)");
    }
    let returns = format!("CAST(CONVERT({utf8} USING {charset}) AS BINARY) = CAST({value} AS BINARY)");
    // Some sets have a character twice: then only one of its codes returns. Nothing is lost all the same where there
    // are as many characters as before, and none of them has become a `?` or U+FFFD.
    let whole = match charset {
        // Their characters may have the byte of a `?` in them, and each has one code.
        "ucs2" | "utf16" | "utf16le" | "utf32" => String::new(),
        _ => format!(
            " OR (CHAR_LENGTH({utf8}) = CHAR_LENGTH({value}) AND {} = {} \
             AND LOCATE(x'efbfbd', CAST({utf8} AS BINARY)) = 0)",
            question_marks(&utf8),
            question_marks(value)
        ),
    };
    format!("IF({returns}{whole}, CAST({utf8} AS BINARY), {MARK}CAST({value} AS BINARY)))")
}

/// Whether bytes are characters of a set, as far as servers do not agree on it: MariaDB keeps halves of surrogate pairs, which
/// MySQL does not take from a client.
pub fn is_text(set: &str, bytes: &[u8]) -> bool {
    let units = |from: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        rest.is_empty() && char::decode_utf16(pairs.iter().map(|pair| from(*pair))).all(|c| c.is_ok())
    };
    match set {
        "utf8mb4" => std::str::from_utf8(bytes).is_ok(),
        "utf8mb3" => std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| c <= '\u{ffff}')),
        "utf16" | "ucs2" => units(u16::from_be_bytes),
        "utf16le" => units(u16::from_le_bytes),
        "utf32" => {
            let (letters, rest) = bytes.as_chunks::<4>();
            rest.is_empty() && letters.iter().all(|c| char::from_u32(u32::from_be_bytes(*c)).is_some())
        }
        _ => true,
    }
}

/// How many bytes of a text are those of a `?`.
fn question_marks(value: &str) -> String {
    format!("(LENGTH({value}) - LENGTH(REPLACE(CAST({value} AS BINARY), x'3f', x'')))")
}

/// The last of the characters that a set has without a gap, but for the control characters from U+0080 on.
fn last_of(set: &str) -> Option<char> {
    match set {
        "utf8mb4" | "utf16" | "utf16le" | "utf32" => Some(char::MAX),
        "utf8mb3" | "ucs2" => Some('\u{ffff}'),
        "latin1" => Some('\u{ff}'),
        // National variants of ASCII.
        "swe7" | "" => None,
        _ => Some('\u{7f}'),
    }
}

/// A literal that finds a text on both sides: in their one set, or with those characters only that both sets have.
fn equality(sets: &[String; 2]) -> Option<Literal> {
    match sets {
        [a, b] if a == b => Some(Literal::Text(a.clone())),
        [a, b] => Some(Literal::Common(last_of(a)?.min(last_of(b)?))),
    }
}

/// Whether `<` and `>=` may leave values out between them: a server orders the index in another way than it compares. MariaDB
/// orders that of a CHAR by values filled up with spaces, and compares them without where the collation does not pad; both
/// families fill up values in Thai before they put their vowels in order.
fn is_torn(column: &Column, flavor: Flavor) -> bool {
    let collation = column.collation.as_deref().unwrap_or_default();
    let pads = !collation.contains("nopad") && !collation.contains("_0900_");
    flavor == Flavor::MariaDb && column.data_type == "char" && !pads || collation.starts_with("tis620_thai")
}

impl Pairing<'_> {
    /// Any two kinds that compare as text: strings, ENUM and SET by their names, addresses by their text.
    pub(super) fn texts(&self, kinds: [Kind; 2]) -> Form {
        let sets = self.columns.map(charset);
        let raw = shares_bytes(&sets[0], &sets[1]);
        let mut form = self.plain(ShownAs::Text, str::to_owned);
        for (((piece, column), kind), set) in form.pieces.iter_mut().zip(self.columns).zip(kinds).zip(&sets) {
            let name = quote::ident(&column.name);
            let value = if kind == Kind::Text { name.clone() } else { format!("CAST({name} AS CHAR)") };
            // CAST … AS CHAR gives the session's utf8mb4.
            let set = if kind == Kind::Text { set.as_str() } else { "utf8mb4" };
            *piece = if raw && kind == Kind::Text {
                format!("CAST({value} AS BINARY)")
            } else {
                converted(&value, set)
            };
            if kind == Kind::Enum {
                // Index 0 is the error value; its text is '' like that of a member '' may be.
                *piece = format!("IF(CAST({name} AS UNSIGNED) = 0, x'ff00', {piece})");
            }
        }
        // CONVERT of one side only would compare two character sets' bytes.
        if raw && kinds != [Kind::Text; 2] {
            for ((piece, column), kind) in form.pieces.iter_mut().zip(self.columns).zip(kinds) {
                if kind == Kind::Text {
                    *piece = converted(&quote::ident(&column.name), &charset(column));
                }
            }
        }
        // A text form would make one of all bytes that stand for no character.
        for ((piece, column), kind) in form.pieces.iter_mut().zip(self.columns).zip(kinds) {
            if [Kind::Enum, Kind::Set].contains(&kind) && is_of_bytes(column) {
                let name = quote::ident(&column.name);
                *piece = match kind {
                    Kind::Enum => {
                        format!("IF(CAST({name} AS UNSIGNED) = 0, x'ff00', CAST({name} AS BINARY))")
                    }
                    _ => format!("CAST({name} AS BINARY)"),
                };
            }
        }
        form.framing = self.string_framing();
        form.literal = self.same_order(kinds, &sets).map(Literal::Text);
        if kinds == [Kind::Text; 2] && form.framing == Framing::Sized {
            form.equality = equality(&sets);
        }
        form
    }

    /// The character set for literals, where both sides surely sort alike: the same collation of the same family, or
    /// a collation by code point that both families have.
    fn same_order(&self, kinds: [Kind; 2], sets: &[String; 2]) -> Option<String> {
        const BY_CODE_POINT: [&str; 4] = ["utf8mb4_bin", "utf8mb3_bin", "ascii_bin", "latin1_bin"];
        let [a, b] = self.columns.map(|c| c.collation.as_deref());
        let collation = a.filter(|_| a == b && kinds == [Kind::Text; 2])?;
        let family = self.flavors[0] == self.flavors[1];
        let short = self.string_framing() == Framing::Sized;
        let torn = self.columns.iter().zip(self.flavors).any(|(column, flavor)| is_torn(column, flavor));
        (short && !torn && (family || BY_CODE_POINT.contains(&collation))).then(|| sets[0].clone())
    }
}
