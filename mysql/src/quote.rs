//! Quoting of identifiers and byte strings for SQL text.

/// An identifier in backquotes: `` a`b `` becomes `` `a``b` ``.
pub fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `schema`.`table` ``.
pub fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", ident(schema), ident(table))
}

/// A string literal for text that is not row data (names, states, messages), in a session with backslash escapes.
pub fn text(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len() + 2);
    push_bytes(&mut out, value.as_bytes());
    String::from_utf8(out).expect("escaping ASCII bytes keeps UTF-8 valid")
}

/// Appends `bytes` as a quoted literal. Right only where the session's client character set is `binary` or
/// `utf8mb4` and `NO_BACKSLASH_ESCAPES` is off.
pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'\'');
    for &b in bytes {
        match b {
            0 => out.extend_from_slice(b"\\0"),
            b'\\' | b'\'' => out.extend_from_slice(&[b'\\', b]),
            0x1a => out.extend_from_slice(b"\\Z"),
            _ => out.push(b),
        }
    }
    out.push(b'\'');
}

/// A hexadecimal literal: `x'00ff'`.
pub fn hex(bytes: &[u8]) -> String {
    format!("x'{}'", hex_digits(bytes))
}

/// Lower-case hexadecimal digits.
pub fn hex_digits(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(ident("a`b"), "`a``b`");
        assert_eq!(text("it's \\ \0"), "'it\\'s \\\\ \\0'");
        assert_eq!(hex(&[0, 0xab]), "x'00ab'");
    }
}
