//! Text in a column's character set and length.

use super::super::value::{Long, Writes, string};
use super::{Fit, Room, argument};
use crate::form::kind::Kind;
use crate::form::text::{charset, is_of_bytes};
use crate::schema::Column;

/// What a column measures its length in.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Letters(u64),
    Bytes(u64),
}

/// What MySQL's latin1 has where ISO 8859-1 has control characters.
const CP1252: &str = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ";

/// Sets that have every character.
const WIDE: [&str; 4] = ["utf8mb4", "utf16", "utf16le", "utf32"];

impl Room<'_> {
    /// The set that the bytes of a piece are in.
    fn set_of_pieces(&self) -> &str {
        match self.writes {
            Writes::Bytes(set) => set,
            _ => "utf8mb4",
        }
    }

    /// A text that is held.
    pub(super) fn text(&self, piece: &[u8]) -> Fit {
        let (column, own) = (self.columns[1], charset(self.columns[1]));
        let set = self.set_of_pieces();
        if !set.starts_with("utf8") {
            return self.raw(piece);
        }
        let Ok(text) = std::str::from_utf8(piece) else {
            // The mark of an ENUM's error value, or halves of surrogate pairs.
            return if piece.first() == Some(&0xff) { Fit::Lacks } else { Fit::Unsure };
        };
        // A CHAR gives its value without spaces at the end.
        if column.data_type == "char" && text.ends_with(' ') {
            return Fit::Lacks;
        }
        let known = text.chars().try_fold(true, |all, letter| Some(all && has(&own, letter)?));
        let bytes = text.chars().try_fold(0, |sum, letter| Some(sum + width(&own, letter)?));
        let room = match (limit(column), bytes) {
            (Limit::Letters(most), _) => Fit::sure(text.chars().count() as u64 <= most),
            (Limit::Bytes(most), Some(bytes)) => Fit::sure(bytes <= most),
            (Limit::Bytes(_), None) => Fit::Holds,
        };
        room.and(match known {
            Some(all) => Fit::sure(all),
            None => Fit::Asks(returns(&string("utf8mb4", piece), &own, column.octets)),
        })
    }

    /// Bytes that are written as those of the column's own set.
    fn raw(&self, piece: &[u8]) -> Fit {
        let (column, own) = (self.columns[1], charset(self.columns[1]));
        if column.data_type == "char" && piece.last() == Some(&b' ') {
            return Fit::Lacks;
        }
        let any =
            own == "latin1" || piece.is_ascii() && !["ucs2", "utf16", "utf16le", "utf32"].contains(&&*own);
        let legal = if any || !self.is_of_raw_bytes() { Fit::Holds } else { Fit::Unsure };
        legal.and(within(limit(column), piece.len() as u64, None, &own))
    }

    /// Whether the source has bytes that need not be text.
    fn is_of_raw_bytes(&self) -> bool {
        matches!(Kind::of(self.columns[0]), Ok(Kind::Bytes))
    }

    /// A value that is not held: by what is known of it.
    pub(super) fn long(&self, long: &Long) -> Fit {
        let [source, column] = self.columns;
        match Kind::of(column) {
            Ok(Kind::Bytes) => return self.bytes(long.length),
            Ok(Kind::Json) if *self.writes == Writes::Document => return Fit::Holds,
            Ok(Kind::Text) => {}
            _ => return Fit::Unsure,
        }
        let (own, set) = (charset(column), self.set_of_pieces());
        let plain = set.starts_with("utf8") && long.letters == Some(long.length);
        let whole = match own.as_str() {
            set if WIDE.contains(&set) => true,
            "utf8mb3" | "ucs2" if has_basic_plane_only(source) => true,
            "swe7" => false,
            _ => plain || own == charset(source),
        };
        // Whether there are spaces at its end is not known.
        let cut = column.data_type == "char" && source.data_type != "char";
        let legal = if whole && !cut && !self.is_of_raw_bytes() { Fit::Holds } else { Fit::Unsure };
        let converted = set != own && !(set.starts_with("utf8") && own.starts_with("utf8")) && !plain;
        legal.and(match (limit(column), converted) {
            // No letter takes more.
            (Limit::Bytes(most), true) => match long.letters.unwrap_or(long.length) * 4 <= most {
                true => Fit::Holds,
                false => Fit::Unsure,
            },
            (Limit::Bytes(most), false) if plain => {
                Fit::sure(long.length * width(&own, 'a').unwrap_or(1) <= most)
            }
            (limit, _) => within(limit, long.length, long.letters, &own),
        })
    }
}

/// Whether bytes of a set are not too many, or their letters are not, as far as it is known how many these are.
fn within(limit: Limit, bytes: u64, letters: Option<u64>, set: &str) -> Fit {
    let [least, most] = match set {
        "utf16" | "utf16le" => [2, 4],
        "ucs2" => [2, 2],
        "utf32" => [4, 4],
        "latin1" | "ascii" => [1, 1],
        _ => [1, 4],
    };
    match (limit, letters) {
        (Limit::Bytes(room), _) => Fit::sure(bytes <= room),
        (Limit::Letters(room), Some(letters)) => Fit::sure(letters <= room),
        (Limit::Letters(room), None) if bytes.div_ceil(least) <= room => Fit::Holds,
        (Limit::Letters(room), None) if bytes.div_ceil(most) > room => Fit::Lacks,
        _ => Fit::Unsure,
    }
}

fn limit(column: &Column) -> Limit {
    match (column.data_type.ends_with("char"), argument(column)) {
        (true, Some(letters)) => Limit::Letters(letters),
        _ => Limit::Bytes(column.octets),
    }
}

/// Whether no character of a column lies beyond the basic plane.
fn has_basic_plane_only(column: &Column) -> bool {
    let set = charset(column);
    !is_of_bytes(column) && !WIDE.contains(&set.as_str()) && set != "gb18030"
}

/// Whether a set has a character, as far as that is known here.
fn has(set: &str, letter: char) -> Option<bool> {
    match set {
        set if WIDE.contains(&set) => Some(true),
        "utf8mb3" | "ucs2" => Some(letter <= '\u{ffff}'),
        "ascii" => Some(letter.is_ascii()),
        "latin1" if ('\u{80}'..='\u{9f}').contains(&letter) => None,
        "latin1" => Some(letter <= '\u{ff}' || CP1252.contains(letter)),
        // A national variant of ASCII.
        "swe7" => letter.is_ascii_alphanumeric().then_some(true),
        _ => letter.is_ascii().then_some(true),
    }
}

/// Bytes that a character takes in a set, as far as that is known here.
fn width(set: &str, letter: char) -> Option<u64> {
    match set {
        "utf8mb4" | "utf8mb3" => Some(letter.len_utf8() as u64),
        "utf16" | "utf16le" | "ucs2" => Some(2 * letter.len_utf16() as u64),
        "utf32" => Some(4),
        "latin1" | "ascii" => Some(1),
        _ => letter.is_ascii().then_some(1),
    }
}

/// SQL: whether a text comes back from a set as it was, and has not more bytes in it than these.
fn returns(literal: &str, set: &str, most: u64) -> String {
    let there = format!("CONVERT({literal} USING {set})");
    format!(
        "(CAST(CONVERT({there} USING utf8mb4) AS BINARY) <=> CAST({literal} AS BINARY) AND LENGTH({there}) <= {most})"
    )
}
