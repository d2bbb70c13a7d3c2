//! The canonical form of a column: SQL on each side whose results are byte for byte the same exactly when the
//! values are. Pure: nothing here talks to a server.
//!
//! Never a form that maps two values of one column to one piece (rounded floats, collations, trimmed spaces), and never
//! one that turns a value into NULL.

pub(crate) mod kind;
pub(crate) mod text;

use converge_mysql::{Flavor, quote};

use crate::digest::Framing;
use crate::schema::Column;
use kind::Kind;

/// How one column is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Unframed piece on the source and on the target; NULL exactly for NULL.
    pub pieces: [String; 2],
    /// Two columns that tell the same values apart as the piece, and more cheaply, where they are only read. The second is
    /// empty only where the server could not send it.
    pub streamed: Option<[String; 2]>,
    /// How a piece is framed.
    pub framing: Framing,
    /// Whether the piece is JSON text that the client canonicalises and digests.
    pub client_json: bool,
    /// What a literal of it looks like in a range predicate, where both sides are sure to order it alike.
    pub literal: Option<Literal>,
    /// What a literal of it looks like that finds the value by equality on either side. What it finds may be more than
    /// the value (a collation may call others equal), never less.
    pub equality: Option<Literal>,
    /// How the value is shown.
    pub shown: ShownAs,
    /// What is different about the two columns although their values compare.
    pub notes: Vec<String>,
}

/// How a piece becomes a SQL literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// As it is.
    Number,
    /// In quotes.
    Quoted,
    /// Bytes, in hexadecimal.
    Bytes,
    /// Bytes in a character set, in hexadecimal.
    Text(String),
    /// Text that two character sets can hold, which both have the characters up to this one: a server refuses to compare
    /// a column with what its character set lacks.
    Common(char),
    /// The bits of a double, in hexadecimal as they lie in memory.
    Bits,
}

impl Literal {
    /// Whether it can be said of a piece.
    pub fn can_hold(&self, piece: &[u8]) -> bool {
        match self {
            // Bytes that stand for no character are kept under a mark that is no text.
            Self::Text(set) => text::is_text(set, piece),
            Self::Common(last) => std::str::from_utf8(piece).is_ok_and(|text| {
                text.chars().all(|c| {
                    // Those control characters are missing in sets that have what comes after them.
                    c <= *last && !('\u{80}'..='\u{9f}').contains(&c)
                })
            }),
            _ => true,
        }
    }

    /// SQL for a piece.
    pub fn sql(&self, piece: &[u8]) -> String {
        let plain = || String::from_utf8_lossy(piece).into_owned();
        match self {
            Self::Number => plain(),
            Self::Quoted => quote::text(&plain()),
            Self::Bytes => quote::hex(piece),
            Self::Text(charset) => format!("_{charset} {}", quote::hex(piece)),
            Self::Common(_) => format!("_utf8mb4 {}", quote::hex(piece)),
            // A server reads the shortest text that stands for a double, with an exponent, as that double.
            Self::Bits => real(&plain()).map_or("NULL".into(), |number| format!("{number:e}")),
        }
    }
}

/// A literal for people: text as such where its bytes are known to be text, else as it is.
pub fn readable(literal: &str) -> String {
    let text = || {
        let (set, hex) = literal.strip_prefix('_')?.split_once(" x'")?;
        let hex = hex.strip_suffix('\'')?;
        let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?;
        let plain = set.starts_with("utf8") || ["ascii", "latin1"].contains(&set) && bytes.is_ascii();
        String::from_utf8(bytes).ok().filter(|_| plain)
    };
    text().map_or_else(|| literal.to_owned(), |text| quote::text(&text))
}

/// The double whose little-endian bytes are given in hexadecimal.
pub fn real(hex: &str) -> Option<f64> {
    u64::from_str_radix(hex, 16)
        .ok()
        .filter(|_| hex.len() == 16)
        .map(|bits| f64::from_bits(bits.swap_bytes()))
}

/// How a value is shown to people and in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownAs {
    /// A whole number.
    Integer,
    /// Text.
    Text,
    /// Hexadecimal digits.
    Hex,
    /// The piece's bits as a floating-point number.
    Real,
}

/// A column on both sides and the servers' families.
#[derive(Debug, Clone, Copy)]
pub struct Pairing<'a> {
    /// The column on the source and on the target.
    pub columns: [&'a Column; 2],
    /// The family of the source and of the target.
    pub flavors: [Flavor; 2],
}

impl Pairing<'_> {
    /// The form, or why the two columns' values cannot be compared.
    pub fn form(&self) -> Result<Form, String> {
        let kinds = [Kind::of(self.columns[0])?, Kind::of(self.columns[1])?];
        let mut form = match (kinds[0], kinds[1]) {
            (Kind::Integer, Kind::Integer) => self.integers(),
            (Kind::Integer | Kind::Decimal, Kind::Integer | Kind::Decimal) => self.decimals(kinds)?,
            (Kind::Real, Kind::Real) => self.reals(),
            (Kind::Temporal(a), Kind::Temporal(b)) => self.temporals([a, b])?,
            (Kind::Enum, Kind::Enum) | (Kind::Set, Kind::Set) if self.has_unreadable_members() => {
                self.texts(kinds)
            }
            (Kind::Enum, Kind::Enum) | (Kind::Set, Kind::Set)
                if self.same_members() && !self.hides_members() =>
            {
                self.members_by_number()
            }
            (Kind::Set, Kind::Set) if !self.hides_members() => self.sets(),
            (Kind::Set, Kind::Set) if !self.starts_alike() => {
                return Err(
                    "the server does not tell the names of members with characters beyond U+FFFF".into()
                );
            }
            (Kind::Json, Kind::Json) => self.json_pair(),
            (Kind::Json, Kind::Text) | (Kind::Text, Kind::Json) => self.json_and_text(),
            (Kind::Bytes, Kind::Bytes) | (Kind::Bytes, Kind::Text) | (Kind::Text, Kind::Bytes) => {
                self.bytes()
            }
            (a, b) if a.is_text() && b.is_text() => self.texts(kinds),
            (Kind::Address, Kind::Address) => self.addresses(),
            _ => {
                let [a, b] = self.columns;
                return Err(format!("{} and {} have no form in common", a.column_type, b.column_type));
            }
        };
        if form.literal.is_some() {
            form.equality.clone_from(&form.literal);
        }
        Ok(form)
    }

    fn plain(&self, shown: ShownAs, piece: impl Fn(&str) -> String) -> Form {
        let pieces = self.columns.map(|c| piece(&quote::ident(&c.name)));
        let (framing, client_json, notes) = (Framing::Plain, false, Vec::new());
        Form { pieces, streamed: None, framing, client_json, literal: None, equality: None, shown, notes }
    }

    fn members_by_number(&self) -> Form {
        let mut form = self.plain(ShownAs::Text, |c| format!("CAST(CAST({c} AS UNSIGNED) AS CHAR)"));
        form.equality = Some(Literal::Number);
        form
    }

    fn integers(&self) -> Form {
        let mut form = self.plain(ShownAs::Integer, str::to_owned);
        form.pieces = self.columns.map(kind::integer_text);
        form.literal = Some(Literal::Number);
        form
    }

    fn decimals(&self, kinds: [Kind; 2]) -> Result<Form, String> {
        let scale = self.columns[0].scale.max(self.columns[1].scale);
        let whole = self.columns.map(kind::whole_digits);
        let same = kinds == [Kind::Decimal; 2] && self.columns[0].scale == self.columns[1].scale;
        if !same && (scale > 30 || whole[0].max(whole[1]) + scale > 65) {
            return Err("the two decimal types have no common type".into());
        }
        let mut form = self.plain(ShownAs::Text, |c| {
            if same {
                format!("CAST({c} AS CHAR)")
            } else {
                format!("CAST(CAST({c} AS DECIMAL(65,{scale})) AS CHAR)")
            }
        });
        // ZEROFILL would put zeros in front of the text form.
        if same && self.columns.iter().any(|c| c.column_type.contains("zerofill")) {
            let digits = whole[0].max(whole[1]) + scale;
            form.pieces = self.columns.map(|c| {
                format!("CAST(CAST({} AS DECIMAL({digits},{scale})) AS CHAR)", quote::ident(&c.name))
            });
        }
        form.literal = Some(Literal::Number);
        Ok(form)
    }

    /// The eight bytes of the IEEE 754 double, out of the only function on both families that returns them: a point's
    /// internal form is SRID (4 bytes), byte order (1), type (4), x (8), y (8). A FLOAT widens exactly.
    fn reals(&self) -> Form {
        let mut form = self.plain(ShownAs::Real, |c| format!("HEX(SUBSTR(POINT({c}, 0), 10, 8))"));
        // With a number of digits, what a literal is rounded or cut to may be another value than what is stored.
        let rounded = self.columns.iter().any(|c| c.column_type.contains('('));
        form.equality = (!rounded).then_some(Literal::Bits);
        form
    }

    fn temporals(&self, kinds: [kind::Temporal; 2]) -> Result<Form, String> {
        let fraction = self.columns[0].fraction.max(self.columns[1].fraction);
        let dated = |k| k != kind::Temporal::Time;
        if dated(kinds[0]) != dated(kinds[1]) {
            return Err("a time and a date have no form in common".into());
        }
        let dates_only = kinds == [kind::Temporal::Date; 2];
        let mut form = self.plain(ShownAs::Text, str::to_owned);
        for ((piece, column), kind) in form.pieces.iter_mut().zip(self.columns).zip(kinds) {
            let mut pad = String::new();
            if kind == kind::Temporal::Date && !dates_only {
                pad.push_str(" 00:00:00");
            }
            if column.fraction < fraction {
                pad.push_str(if column.fraction == 0 { "." } else { "" });
                pad.push_str(&"0".repeat((fraction - column.fraction) as usize));
            }
            let text = format!("CAST({} AS CHAR)", quote::ident(&column.name));
            *piece = if pad.is_empty() { text } else { format!("CONCAT({text}, '{pad}')") };
        }
        form.literal = (kinds[0] == kinds[1]).then_some(Literal::Quoted);
        Ok(form)
    }

    fn same_members(&self) -> bool {
        self.columns[0].members() == self.columns[1].members()
    }

    /// Whether members may have other names than those that were read: the catalogue has a `?` for each character beyond
    /// the basic plane. Their values have to be compared as text then.
    fn hides_members(&self) -> bool {
        let may_hide = |c: &Column| !["ascii", "latin1", "utf8mb3"].contains(&text::charset(c).as_str());
        self.columns.iter().any(|c| may_hide(c) && c.members().iter().any(|name| name.contains('?')))
    }

    /// Whether one list begins with the other: then the members of a SET stand in one order on both sides.
    fn starts_alike(&self) -> bool {
        let [a, b] = self.columns.map(Column::members);
        a.starts_with(&b) || b.starts_with(&a)
    }

    /// Whether two members of a side may be shown alike. Bytes that stand for no character are: by MariaDB as `?`, by MySQL,
    /// which has them in an ENUM only, as a text like their digits.
    fn has_unreadable_members(&self) -> bool {
        let unsure = |c: &Column| c.data_type == "enum" || c.column_type.contains('?');
        self.columns.iter().any(|column| text::is_of_bytes(column) && unsure(column))
    }

    /// Members by name in one order, for lists that are declared differently.
    fn sets(&self) -> Form {
        let mut form = self.plain(ShownAs::Text, str::to_owned);
        form.pieces = self.columns.map(|column| {
            let mut members: Vec<(String, usize)> =
                column.members().into_iter().enumerate().map(|(bit, name)| (name, bit)).collect();
            members.sort();
            let parts: Vec<String> = members
                .iter()
                .map(|(name, bit)| {
                    let name = quote::hex_digits(name.as_bytes());
                    format!(
                        "IF(CAST({} AS UNSIGNED) & {}, '{name} ', '')",
                        quote::ident(&column.name),
                        1u64 << (bit % 64)
                    )
                })
                .collect();
            // The column's own NULL must stay NULL: CONCAT of IFs alone would make it ''.
            let c = quote::ident(&column.name);
            format!("IF({c} IS NULL, NULL, CONCAT('m ', {}))", parts.join(", "))
        });
        form
    }

    fn json_pair(&self) -> Form {
        // 1.0 may be a DECIMAL or a DOUBLE, "2024-01-01" a DATE or a string: the text does not say. Of signedness
        // nothing depends but the name.
        let kind = |c: &str| format!("REPLACE(JSON_TYPE({c}), 'UNSIGNED ', '')");
        let mut form =
            self.plain(ShownAs::Text, |c| format!("CONCAT({}, ' ', NULLIF(CAST({c} AS CHAR), ''))", kind(c)));
        form.streamed = Some(self.columns.map(|column| {
            let name = quote::ident(&column.name);
            format!("{}, {name}", kind(&name))
        }));
        form.framing = Framing::Hashed;
        form
    }

    /// MySQL makes an empty string of a document whose text is longer than max_allowed_packet. No document's text is
    /// empty: NULL says that it could not be built.
    fn never_cut_short(&self, form: &mut Form) {
        for (piece, column) in form.pieces.iter_mut().zip(self.columns) {
            if column.data_type == "json" {
                *piece = format!("NULLIF({piece}, '')");
            }
        }
    }

    fn json_and_text(&self) -> Form {
        let mut form = self.plain(ShownAs::Text, |c| format!("CONVERT({c} USING utf8mb4)"));
        form.client_json = true;
        self.never_cut_short(&mut form);
        form.framing = Framing::Hashed;
        form.notes.push("JSON against text: compared by types and values, not by text".into());
        form
    }

    fn bytes(&self) -> Form {
        let [a, b] = self.columns;
        let mut form = self.plain(ShownAs::Hex, |c| format!("CAST({c} AS BINARY)"));
        form.framing = self.string_framing();
        if a.data_type == b.data_type && a.octets == b.octets && a.data_type.contains("binary") {
            form.literal = Some(Literal::Bytes);
        }
        form
    }

    fn addresses(&self) -> Form {
        let mut form = self.plain(ShownAs::Text, |c| format!("CAST({c} AS CHAR)"));
        form.framing = Framing::Sized;
        form.equality = Some(Literal::Quoted);
        form
    }

    /// Strings that may be long enter a row's image by their digest, so that images stay small.
    fn string_framing(&self) -> Framing {
        // All CHAR, VARCHAR, BINARY and VARBINARY columns together have at most 65,535 bytes in a row.
        let in_row = |c: &Column| {
            let kind = c.data_type.as_str();
            kind.ends_with("char") || kind.ends_with("binary") || ["enum", "set"].contains(&kind)
        };
        let short = |c: &Column| in_row(c) || (1..=1024).contains(&c.octets);
        if self.columns.iter().all(|c| short(c)) { Framing::Sized } else { Framing::Hashed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_shown_as_what_they_stand_for() {
        for (literal, shown) in [
            ("42", "42"),
            ("_utf8mb4 x'c3a927'", "'é\\''"),
            ("_latin1 x'61'", "'a'"),
            ("_latin1 x'e9'", "_latin1 x'e9'"),
            ("_utf16 x'6161'", "_utf16 x'6161'"),
            ("_utf8mb4 x'ff'", "_utf8mb4 x'ff'"),
            ("x'00'", "x'00'"),
            ("'2024-02-31'", "'2024-02-31'"),
        ] {
            assert_eq!(readable(literal), shown);
        }
    }

    #[test]
    fn a_literal_has_only_what_both_sides_can_hold() {
        let holds = |last, text: &str| Literal::Common(last).can_hold(text.as_bytes());
        assert!(holds('\u{ff}', "aé") && !holds('\u{ff}', "😀") && !holds('\u{ff}', "\u{81}"));
        assert!(holds('\u{7f}', "a~") && !holds('\u{7f}', "é"));
        assert!(!Literal::Common(char::MAX).can_hold(&[0xff]));
    }

    #[test]
    fn what_a_server_refuses_in_a_literal_has_none() {
        let holds = |set: &str, bytes: &[u8]| Literal::Text(set.into()).can_hold(bytes);
        let half = [0xed, 0xa0, 0x80];
        assert!(!holds("utf8mb4", &half) && !holds("utf8mb3", &half) && holds("utf8mb3", "é".as_bytes()));
        assert!(holds("utf8mb4", "😀".as_bytes()) && !holds("utf8mb3", "😀".as_bytes()));
        assert!(
            !holds("utf32", &[0, 0, 0xd8, 0])
                && holds("utf32", &[0, 1, 0xf6, 0])
                && !holds("utf32", &[0, 0, 0])
        );
        assert!(!holds("utf16", &[0xd8, 0]) && holds("utf16", &[0xd8, 0x3d, 0xde, 0]));
        assert!(!holds("utf16le", &[0, 0xd8]) && holds("utf16le", &[0x61, 0]) && !holds("ucs2", &[0xdc, 0]));
        assert!(holds("latin1", &[0xff]));
    }
}
