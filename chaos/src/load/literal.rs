//! The values that SQL literals stand for, as the history names rows by them.

use std::borrow::Cow;

use crate::history::key_text;

/// A key of literals as the history writes it: the values as a comparison shows them.
pub fn key_of<'a>(literals: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<Cow<'_, str>> = literals.map(value_of).collect();
    key_text(values.iter().map(|value| &**value))
}

/// The value of a literal: a text without its quotes, bytes as `0x…`.
fn value_of(literal: &str) -> Cow<'_, str> {
    if let Some(digits) = literal.strip_prefix("x'").and_then(|rest| rest.strip_suffix('\'')) {
        return format!("0x{}", digits.to_ascii_lowercase()).into();
    }
    let Some(inner) = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) else {
        return literal.into();
    };
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|escaped| match escaped {
                '0' => '\0',
                'Z' => '\u{1a}',
                other => other,
            })),
            // A quote is doubled.
            '\'' => value.extend(chars.next()),
            other => value.push(other),
        }
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use converge_mysql::quote;

    use super::*;

    #[test]
    fn a_key_is_written_as_a_comparison_shows_it() {
        let key = |literals: &[&str]| key_of(literals.iter().copied());
        assert_eq!(key(&["x'00FF'", "7", "'plain'"]), "0x00ff/7/plain");
        assert_eq!(key(&[&quote::text("it's a \\ and \0"), "'it''s'"]), "it's a \\ and \0/it's");
        assert_eq!(key(&["''", "x''", "-1.5"]), "/0x/-1.5");
    }
}
