//! One spelling for what MySQL and MariaDB word differently in their catalogues: defaults, expressions, rules. Pure.
//!
//! Two texts of one family are compared as they stand; only across families is the spelling evened out, and what is
//! not known to be mere spelling stays different.

use converge_mysql::{Flavor, quote};

use super::Column;

/// A column's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultValue {
    /// None, or NULL.
    None,
    /// A value.
    Value(Vec<u8>),
    /// An expression.
    Expression(Vec<String>),
}

/// The default of a column as its family words it.
pub fn default(column: &Column, flavor: Flavor) -> DefaultValue {
    let Some(text) = column.default.as_deref() else { return DefaultValue::None };
    let value = match flavor {
        Flavor::MySql if column.extra.to_uppercase().contains("DEFAULT_GENERATED") => {
            return DefaultValue::Expression(expression(text));
        }
        Flavor::MySql => text.as_bytes().to_vec(),
        Flavor::MariaDb if text.eq_ignore_ascii_case("NULL") => return DefaultValue::None,
        Flavor::MariaDb => match literal(text) {
            Some(value) => value,
            None => return DefaultValue::Expression(expression(text)),
        },
    };
    DefaultValue::Value(if column.data_type.contains("binary") { bytes(&value) } else { value })
}

/// The value of a text that is one literal: a string in quotes, a number, bits.
fn literal(text: &str) -> Option<Vec<u8>> {
    if text.starts_with('\'') {
        let (value, rest) = string(text)?;
        return rest.is_empty().then(|| value.into_bytes());
    }
    let number = text.parse::<f64>().is_ok() && text.contains(|c: char| c.is_ascii_digit());
    (number || text.starts_with("b'") || text.starts_with("x'")).then(|| text.as_bytes().to_vec())
}

/// Bytes of a default of BINARY or VARBINARY: MySQL shows them in hexadecimal, and only MariaDB shows the padding.
fn bytes(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value).into_owned();
    let mut bytes = match text.strip_prefix("0x").filter(|hex| hex.len() % 2 == 0) {
        Some(hex) => hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(b'?'))
            .collect(),
        None => value.to_vec(),
    };
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// Reads a string in quotes; returns its value and what follows.
fn string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\'' if letters.next_if(|(_, c)| *c == '\'').is_some() => value.push('\''),
            '\'' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                '0' => '\0',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// An expression as tokens, without what families add or leave out: backquotes, introducers of the character set, spaces,
/// parentheses around the whole, and second names of functions.
pub fn expression(text: &str) -> Vec<String> {
    // MySQL's catalogue escapes the quotes of strings.
    let text = if text.contains("\\'") { text.replace("\\'", "'") } else { text.to_owned() };
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let Some((value, after)) = string(rest) else { break };
            if tokens.last().is_some_and(|t| t.starts_with("_utf8") || t == "_latin1" || t == "_binary") {
                tokens.pop();
            }
            tokens.push(quote::text(&value));
            rest = after;
        } else if first == '`' {
            let end = rest[1..].find('`').map_or(rest.len(), |at| at + 2);
            tokens.push(rest[..end].trim_matches('`').to_lowercase());
            rest = &rest[end..];
        } else if first.is_alphanumeric() || first == '_' || first == '@' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_@$.".contains(c))).unwrap_or(rest.len());
            tokens.push(synonym(&rest[..end].to_lowercase()).to_owned());
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    without_empty_calls(&mut tokens);
    while is_wrapped(&tokens) {
        tokens = tokens[1..tokens.len() - 1].to_vec();
    }
    tokens
}

fn synonym(word: &str) -> &str {
    match word {
        "ucase" => "upper",
        "lcase" => "lower",
        "substring" | "mid" => "substr",
        "now" | "localtimestamp" | "localtime" => "current_timestamp",
        "curdate" => "current_date",
        "curtime" => "current_time",
        "power" => "pow",
        "char_length" | "character_length" => "char_length",
        other => other,
    }
}

/// `current_timestamp()` is `current_timestamp`.
fn without_empty_calls(tokens: &mut Vec<String>) {
    let mut at = 0;
    while at + 2 < tokens.len() {
        if tokens[at].starts_with("current_") && tokens[at + 1] == "(" && tokens[at + 2] == ")" {
            tokens.drain(at + 1..at + 3);
        }
        at += 1;
    }
}

/// Whether the first token is a parenthesis that the last one closes.
fn is_wrapped(tokens: &[String]) -> bool {
    if tokens.len() < 2 || tokens[0] != "(" {
        return false;
    }
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        depth += i32::from(token == "(") - i32::from(token == ")");
        if depth == 0 {
            return at + 1 == tokens.len();
        }
    }
    false
}

/// How alike two texts of expressions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The same, as far as can be told.
    Same,
    /// The same but for parentheses, which the families set differently.
    Parentheses,
    /// Different.
    Different,
}

/// Compares two expressions, each as its family words it.
pub fn alike(texts: [&str; 2], flavors: [Flavor; 2]) -> Likeness {
    if texts[0] == texts[1] {
        return Likeness::Same;
    }
    if flavors[0] == flavors[1] {
        return Likeness::Different;
    }
    let [a, b] = texts.map(expression);
    let bare = |tokens: &[String]| -> Vec<String> {
        tokens.iter().filter(|t| *t != "(" && *t != ")").cloned().collect()
    };
    if a == b {
        Likeness::Same
    } else if bare(&a) == bare(&b) {
        Likeness::Parentheses
    } else {
        Likeness::Different
    }
}

/// `utf8` under its present name, in names of character sets and collations.
pub fn charset(name: Option<&str>) -> String {
    match name {
        Some("utf8") => "utf8mb3".into(),
        Some(name) => name.strip_prefix("utf8_").map_or(name.to_owned(), |rest| format!("utf8mb3_{rest}")),
        None => String::new(),
    }
}

/// What a column takes on its own when its row is changed: `current_timestamp(3)`, or nothing.
pub fn on_update(column: &Column) -> String {
    let extra = column.extra.to_lowercase();
    extra.split_once("on update ").map_or(String::new(), |(_, rest)| {
        rest.split_whitespace().next().unwrap_or_default().trim_end_matches("()").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(data_type: &str, default: &str, extra: &str) -> Column {
        Column {
            data_type: data_type.into(),
            default: Some(default.into()),
            extra: extra.into(),
            ..Column::default()
        }
    }

    #[test]
    fn defaults_are_read_as_each_family_words_them() {
        for (kind, mysql, extra, mariadb) in [
            ("varchar", "it's", "", "'it''s'"),
            ("varchar", "", "", "''"),
            ("varchar", "NULL", "", "'NULL'"),
            ("decimal", "1.50", "", "1.50"),
            ("bit", "b'101'", "", "b'101'"),
            ("binary", "0x6162", "", "'ab\\0'"),
            ("date", "2020-01-01", "", "'2020-01-01'"),
            ("datetime", "CURRENT_TIMESTAMP(3)", "DEFAULT_GENERATED", "current_timestamp(3)"),
            ("timestamp", "CURRENT_TIMESTAMP", "DEFAULT_GENERATED", "current_timestamp()"),
            ("char", "uuid()", "DEFAULT_GENERATED", "uuid()"),
            ("varchar", "concat(_utf8mb4\\'a\\',_utf8mb4\\'b\\')", "DEFAULT_GENERATED", "concat('a','b')"),
        ] {
            let a = default(&column(kind, mysql, extra), Flavor::MySql);
            let b = default(&column(kind, mariadb, ""), Flavor::MariaDb);
            assert_eq!(a, b, "{mysql} {mariadb}");
            assert_ne!(a, DefaultValue::None);
        }
        assert_eq!(default(&column("int", "NULL", ""), Flavor::MariaDb), DefaultValue::None);
        let word = default(&column("varchar", "uuid()", ""), Flavor::MySql);
        assert_ne!(word, default(&column("char", "uuid()", ""), Flavor::MariaDb), "a word is no call");
    }

    #[test]
    fn spelling_is_no_difference_and_meaning_is() {
        let across = |a, b| alike([a, b], [Flavor::MySql, Flavor::MariaDb]);
        assert_eq!(
            across("((`b` > 0) and (`s` <> _utf8mb4\\'x\\'))", "`b` > 0 and `s` <> 'x'"),
            Likeness::Parentheses
        );
        assert_eq!(
            across("concat(`s`,_utf8mb4\\'x\\',upper(`s`))", "concat(`s`,'x',ucase(`s`))"),
            Likeness::Same
        );
        assert_eq!(across("(`a` + 1)", "`a` + 1"), Likeness::Same);
        assert_eq!(across("(`a` + 1)", "`a` + 2"), Likeness::Different);
        assert_eq!(across("(`a` = _utf8mb4\\'x\\')", "`a` = 'X'"), Likeness::Different);
        assert_eq!(alike(["(a)", "a"], [Flavor::MySql; 2]), Likeness::Different);
        assert_eq!(charset(Some("utf8_general_ci")), "utf8mb3_general_ci");
    }
}
