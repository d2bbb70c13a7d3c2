//! How a session spelled the statements that it left in the log: in its own character set, with its own quotes.
//!
//! Statements are handed on in UTF-8 and in the default mode of quotes. Where it cannot be told in which of two ways a
//! text is to be read, both are handed on: whoever looks for a name must look in both. Pure.

/// How a session's statements are to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spelling {
    /// The number of a collation of the client's character set.
    charset: Option<u16>,
    /// The session's `sql_mode`.
    mode: u64,
}

/// `"a"` is a name.
const ANSI_QUOTES: u64 = 1 << 2;
/// A backslash is nothing but itself.
const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// In a log event's status variables: their codes, and what is between them and the character set.
mod variable {
    pub const FLAGS: u8 = 0;
    pub const SQL_MODE: u8 = 1;
    pub const OLD_CATALOG: u8 = 2;
    pub const AUTO_INCREMENT: u8 = 3;
    pub const CHARSET: u8 = 4;
    pub const TIME_ZONE: u8 = 5;
    pub const CATALOG: u8 = 6;
}

impl Spelling {
    /// Reads a QUERY event's status variables. What is wanted of them stands in front of those that not all servers know.
    pub fn read(mut variables: &[u8]) -> Self {
        let mut spelling = Self::default();
        while let Some((&code, rest)) = variables.split_first() {
            let length = match code {
                variable::FLAGS | variable::AUTO_INCREMENT => 4,
                variable::SQL_MODE => 8,
                variable::CHARSET => 6,
                variable::TIME_ZONE | variable::CATALOG => 1 + rest.first().map_or(0, |&n| usize::from(n)),
                variable::OLD_CATALOG => 2 + rest.first().map_or(0, |&n| usize::from(n)),
                _ => break,
            };
            let Some((value, rest)) = rest.split_at_checked(length) else { break };
            match (code, value) {
                (variable::SQL_MODE, &[a, b, c, d, e, f, g, h]) => {
                    spelling.mode = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                }
                (variable::CHARSET, &[low, high, ..]) => {
                    spelling.charset = Some(u16::from_le_bytes([low, high]));
                }
                _ => {}
            }
            variables = rest;
        }
        spelling
    }

    /// A statement's text in each way in which it can be read. What is not UTF-8 has U+FFFD for its characters.
    pub fn readings(&self, text: &[u8]) -> Vec<String> {
        // What a server writes itself has names in UTF-8, whatever the session's character set is.
        let as_it_is = String::from_utf8_lossy(text);
        let mut readings = vec![self.in_default_mode(&as_it_is)];
        if !text.is_ascii() && self.charset.is_some_and(|charset| !is_utf8(charset)) {
            readings.push(self.in_default_mode(&veiled(text, leads(self.charset.unwrap_or_default()))));
        }
        readings
    }

    /// The same statement as a session with the default `sql_mode` would spell it.
    fn in_default_mode(&self, text: &str) -> String {
        let [ansi, plain] = [ANSI_QUOTES, NO_BACKSLASH_ESCAPES].map(|mode| self.mode & mode != 0);
        if !ansi && !plain || !text.contains(['"', '\\']) {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() + 16);
        let mut chars = text.chars().peekable();
        // The quote that is open.
        let mut open = None;
        while let Some(c) = chars.next() {
            match (open, c) {
                (None, '`' | '\'' | '"') => {
                    open = Some(c);
                    out.push(if ansi && c == '"' { '`' } else { c });
                }
                (None, c) => out.push(c),
                (Some('"'), '"') if ansi => {
                    // A doubled one is a part of the name.
                    match chars.next_if_eq(&'"') {
                        Some(quote) => out.push(quote),
                        None => {
                            out.push('`');
                            open = None;
                        }
                    }
                }
                (Some('"'), '`') if ansi => out.push_str("``"),
                (Some(quote), '\\') if quote != '`' && !(ansi && quote == '"') => {
                    out.push(c);
                    match plain {
                        true => out.push(c),
                        false => out.extend(chars.next()),
                    }
                }
                (Some(quote), c) => {
                    out.push(c);
                    // One that is doubled closes and opens again, which comes to the same.
                    open = (c != quote).then_some(quote);
                }
            }
        }
        out
    }
}

/// Whether a collation is one of UTF-8, or of ASCII.
fn is_utf8(collation: u16) -> bool {
    match collation {
        // ASCII.
        11 | 65 => true,
        // Of three bytes and of four, of both products.
        33 | 76 | 83 | 192..=215 | 223 | 45 | 46 | 224..=247 | 255..=323 => true,
        // MariaDB's own: Croatian and others, those without padding, and those of Unicode 14.
        576..=610 | 1057 | 1107 | 1216 | 1238 | 1069 | 1070 | 1248 | 1270 | 2048..=2559 => true,
        _ => false,
    }
}

/// The bytes that take the next one with them, though that may look like ASCII. MariaDB's collations without padding have
/// 1024 more.
fn leads(collation: u16) -> fn(u8) -> bool {
    match collation % 1024 {
        // Shift-JIS and CP932, which have characters of one byte in between.
        13 | 88 | 95 | 96 => |byte| matches!(byte, 0x81..=0x9f | 0xe0..=0xfc),
        // Big5, GBK and GB 18030, of which four bytes are two such pairs.
        1 | 84 | 28 | 87 | 248..=250 => |byte| matches!(byte, 0x81..=0xfe),
        _ => |_| false,
    }
}

/// The text with U+FFFD for whatever is not ASCII.
fn veiled(text: &[u8], leads: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte.is_ascii() {
            out.push(char::from(byte));
            continue;
        }
        out.push(char::REPLACEMENT_CHARACTER);
        if leads(byte) {
            bytes.next();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(charset: u16, mode: u64) -> Spelling {
        Spelling { charset: Some(charset), mode }
    }

    #[test]
    fn variables_are_read_up_to_what_is_not_known() {
        let mut variables = vec![0, 0, 0, 0, 0, 1, 4, 0, 16, 0, 0, 0, 0, 0, 6, 3, b's', b't', b'd'];
        variables.extend([3, 1, 0, 1, 0, 4, 28, 0, 28, 0, 45, 0, 5, 1, b'X', 200, 4, 9, 9, 9, 9, 9, 9]);
        assert_eq!(Spelling::read(&variables), spelling(28, ANSI_QUOTES | NO_BACKSLASH_ESCAPES));
        assert_eq!(Spelling::read(&variables[..8]), Spelling::default());
        assert_eq!(Spelling::read(&[]), Spelling::default());
    }

    #[test]
    fn quotes_of_other_modes_become_those_of_the_default() {
        let read = |mode, text: &str| spelling(45, mode).readings(text.as_bytes()).concat();
        for (mode, text, expected) in [
            (0, r#"RENAME "x\" TO "y""#, r#"RENAME "x\" TO "y""#),
            (ANSI_QUOTES, r#"RENAME TABLE "x\" TO "y", a TO b"#, r"RENAME TABLE `x\` TO `y`, a TO b"),
            (ANSI_QUOTES, r#"DROP TABLE "a""`b", c"#, r#"DROP TABLE `a"``b`, c"#),
            (ANSI_QUOTES, r#"SELECT 'it\'s "x"', "y""#, r#"SELECT 'it\'s "x"', `y`"#),
            (NO_BACKSLASH_ESCAPES, r"SELECT '\', 'a''b\n'", r"SELECT '\\', 'a''b\\n'"),
            (NO_BACKSLASH_ESCAPES, r#"SELECT "\", `\`"#, r#"SELECT "\\", `\`"#),
            (ANSI_QUOTES | NO_BACKSLASH_ESCAPES, r#"DROP TABLE "\", 'x\'"#, r"DROP TABLE `\`, 'x\\'"),
        ] {
            assert_eq!(read(mode, text), expected, "{text}");
        }
    }

    #[test]
    fn text_of_another_character_set_is_read_both_ways() {
        let veil = char::REPLACEMENT_CHARACTER;
        // In GBK these two bytes are one character; in UTF-8 they are another.
        let drop = [&b"DROP TABLE "[..], &[0xc4, 0xbf]].concat();
        assert_eq!(
            spelling(28, 0).readings(&drop),
            ["DROP TABLE Ŀ".to_owned(), format!("DROP TABLE {veil}")]
        );
        assert_eq!(spelling(45, 0).readings(&drop), ["DROP TABLE Ŀ"]);
        assert_eq!(spelling(28, 0).readings(b"COMMIT"), ["COMMIT"]);
        let latin = spelling(8, 0).readings(&drop);
        assert_eq!(latin[1], format!("DROP TABLE {veil}{veil}"));
        // A backquote as the second byte of a character.
        let rename = [&b"RENAME TABLE "[..], &[0x83, b'`'], b" TO x, a TO c"].concat();
        assert_eq!(spelling(95, 0).readings(&rename)[1], format!("RENAME TABLE {veil} TO x, a TO c"));
        // Half a width: the backquote is one.
        let drop = [&b"DROP TABLE `"[..], &[0xb1], b"`, a"].concat();
        assert_eq!(spelling(13, 0).readings(&drop)[1], format!("DROP TABLE `{veil}`, a"));
    }
}
