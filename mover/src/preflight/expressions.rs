//! Expressions of generated columns, as servers print them: whether two are the same, and what their values depend on
//! besides the row. Pure.

/// The text with what stands in quotes apart: pieces outside and inside of quotes in turn, beginning outside. Those inside
/// keep their quotes.
fn pieces(text: &str) -> Vec<String> {
    let mut list = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars().peekable();
    let push = |list: &mut Vec<String>, c| {
        if let Some(last) = list.last_mut() {
            last.push(c)
        }
    };
    while let Some(c) = chars.next() {
        match quote {
            None if matches!(c, '\'' | '`' | '"') => {
                quote = Some(c);
                list.push(c.to_string());
            }
            None => push(&mut list, c),
            Some(q) => {
                push(&mut list, c);
                if c == '\\' && q != '`' {
                    chars.next().into_iter().for_each(|c| push(&mut list, c));
                } else if c == q && chars.peek() == Some(&q) {
                    chars.next().into_iter().for_each(|c| push(&mut list, c));
                } else if c == q {
                    quote = None;
                    list.push(String::new());
                }
            }
        }
    }
    list
}

/// An expression in one spelling: no spaces, no upper case and no character set of literals outside of quotes.
fn plain(expression: &str) -> String {
    let pieces = pieces(expression);
    let outside = |(i, piece): (usize, &String)| {
        if i % 2 == 1 {
            return if piece.starts_with('`') { piece.to_lowercase() } else { piece.replace("\\'", "''") };
        }
        let text = piece.to_lowercase();
        let literal = pieces.get(i + 1).is_some_and(|next| next.starts_with('\''));
        let introducer = text.rfind('_').filter(|at| {
            let word = &text[at + 1..];
            literal
                && !word.is_empty()
                && word.chars().all(|c| c.is_ascii_alphanumeric())
                && !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric())
        });
        text[..introducer.unwrap_or(text.len())].split_whitespace().collect()
    };
    pieces.iter().enumerate().map(outside).collect()
}

/// Whether two expressions are the same. Between products only where they surely are: they set parentheses and name
/// functions otherwise.
pub fn same(here: &str, there: &str, same_flavor: bool) -> bool {
    let (here, there) = (plain(here), plain(there));
    if here == there {
        return true;
    }
    let bare = |text: &str| -> String {
        let pieces = pieces(text);
        let kept = pieces
            .iter()
            .enumerate()
            .map(|(i, p)| if i % 2 == 0 { p.replace(['(', ')'], "") } else { p.clone() });
        kept.collect()
    };
    // Without parentheses two operators may be any two of each other's order.
    !same_flavor && operators(&here) <= 1 && bare(&here) == bare(&there)
}

fn operators(expression: &str) -> usize {
    let outside: String = pieces(expression).iter().step_by(2).map(String::as_str).collect();
    let words = [
        "and", "or", "not", "xor", "div", "mod", "like", "between", "in", "is", "case", "interval", "collate",
    ];
    let named =
        outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| words.contains(w)).count();
    named + outside.chars().filter(|c| "+-*/%<>=!|&^~".contains(*c)).count()
}

/// Names of the columns in an expression.
pub fn columns(expression: &str) -> impl Iterator<Item = String> {
    let pieces = pieces(expression);
    pieces.into_iter().filter_map(|p| Some(p.strip_prefix('`')?.strip_suffix('`')?.replace("``", "`")))
}

/// Whether an operator of one character stands outside of quotes.
pub fn has_operator(expression: &str, operator: char) -> bool {
    pieces(expression).iter().step_by(2).any(|piece| piece.contains(operator))
}

/// Whether one of these words stands outside of quotes, with a parenthesis behind it: `(` behind the name of a function, `)`
/// behind `as` and a type.
pub fn calls(expression: &str, words: &[&str]) -> bool {
    let pieces = pieces(expression);
    let outside: Vec<String> = pieces.iter().step_by(2).map(|piece| piece.to_lowercase()).collect();
    let is_called = |word: &str| {
        outside.iter().any(|piece| {
            piece.match_indices(word).any(|(at, _)| {
                let begins = !piece[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                let end = if word.starts_with("as ") { ['(', ')'] } else { ['(', '('] };
                begins && piece[at + word.len()..].trim_start().starts_with(end)
            })
        })
    };
    words.iter().any(|word| is_called(word))
}

/// The strings in a text, without their quotes and escapes.
pub fn literals(text: &str) -> impl Iterator<Item = String> {
    let pieces = pieces(text);
    pieces.into_iter().filter_map(|p| {
        let inner = p.strip_prefix('\'')?.strip_suffix('\'')?;
        let mut out = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => out.extend(chars.next().map(|c| match c {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '0' => '\0',
                    other => other,
                })),
                '\'' => {
                    chars.next();
                    out.push('\'');
                }
                other => out.push(other),
            }
        }
        Some(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_count_and_meaning_does() {
        for (a, b) in [
            ("concat(`a`,_utf8mb4'x')", "concat(`A`, 'x')"),
            ("concat(`a`,_latin1'it\\'s')", "CONCAT(`a`,'it''s')"),
        ] {
            assert!(same(a, b, true), "{a} and {b}");
        }
        for (a, b) in [
            ("concat(`a`,'X')", "concat(`a`,'x')"),
            ("(`a` + `b`)", "(`a` + `c`)"),
            ("((`a` + `b`) * `c`)", "(`a` + (`b` * `c`))"),
            ("concat(`a`,' ')", "concat(`a`,'')"),
        ] {
            assert!(!same(a, b, true) && !same(a, b, false), "{a} and {b}");
        }
        assert!(same("(`a` + 1)", "`a` + 1", false), "between products one operator needs no parentheses");
        assert!(!same("((`a` + `b`) * `c`)", "`a` + `b` * `c`", false));
        assert!(!same("(`a` + 1)", "`a` + 1", true));
    }

    #[test]
    fn what_stands_in_quotes_is_no_operator() {
        assert!(has_operator("(`a` / 3)", '/') && !has_operator("concat(`a/b`,'/')", '/'));
        assert_eq!(columns("concat(`a``b`,'`c`')").collect::<Vec<_>>(), ["a`b"]);
        let members: Vec<String> = literals("'a','it''s','x\\\\y',''").collect();
        assert_eq!(members, ["a", "it's", "x\\y", ""]);
    }
}
