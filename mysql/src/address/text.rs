//! Percent-encoding of a URL's parts, and hiding what must not be shown of a URL that does not parse. Pure.

/// Hides whatever stands between the first `:` after `//` (or at all, without one) and the last `@`, and every value
/// after the `?`.
pub fn redacted(text: &str) -> String {
    let Some(at) = text.rfind('@') else { return without_options(text) };
    let user = text[..at].find("//").map_or(0, |slashes| slashes + 2);
    let rest = without_options(&text[at..]);
    match text[user..at].find(':') {
        Some(colon) => format!("{}:***{rest}", &text[..user + colon]),
        None => format!("{}{rest}", &text[..at]),
    }
}

fn without_options(text: &str) -> String {
    match text.split_once('?') {
        Some((place, _)) => format!("{place}?…"),
        None => text.into(),
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn encoded(text: &str) -> String {
    encoded_but(text, b"")
}

/// A path as the value of an option: its slashes stay readable.
pub fn encoded_path(text: &str) -> String {
    encoded_but(text, b"/")
}

fn encoded_but(text: &str, spared: &[u8]) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || spared.contains(&b) {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

/// Undoes [`encoded`]; `None` where a `%` is not followed by two digits, or the result is no text.
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let (hi, lo) = (rest.next()?, rest.next()?);
            let digit = |d: u8| (d as char).to_digit(16);
            bytes.push((digit(hi)? * 16 + digit(lo)?) as u8);
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_stays() {
        for text in [
            "mysql://u:secret@h/db?x=1",
            "u:se?secret@h",
            "mysql://u:a@secret@h/db",
            "mysql://h/db?password=secret",
            "mysql://u@h/db?password=secret",
        ] {
            assert!(!redacted(text).contains("secret"), "{text}: {}", redacted(text));
        }
        assert_eq!(redacted("mysql://u@h/db?x=1"), "mysql://u@h/db?…");
    }
}
