//! Hostile text made harmless for readers: nothing that moves a cursor, hides letters or turns their direction around
//! is shown as itself. For all reports on rows.

/// Whether a character would be seen as what it is.
fn is_plain(c: char) -> bool {
    // Zero-width and direction marks, direction overrides and isolates, the BOM; what is no character at all (XML cannot
    // hold it); spaces that are none.
    let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    c == ' ' || !c.is_control() && !c.is_whitespace() && !hidden
}

/// One line in which every character can be seen: control characters as their pictures, such as `␊`, other hidden ones
/// as escapes.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if is_plain(c) => out.push(c),
            '\u{7f}' => out.push('␡'),
            c if c.is_ascii_control() => out.extend(char::from_u32(0x2400 + u32::from(c))),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// A sentence on one line: runs of white space become one space.
pub fn line(text: &str) -> String {
    visible(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// At most `most` characters of a value from the `from`th on, with marks where something was left out. Spaces at its
/// ends are shown as `␣`.
pub fn window(text: &str, from: usize, most: usize) -> String {
    let inner = text.trim_matches(' ');
    let leading = if inner.is_empty() { 0 } else { text.len() - text.trim_start_matches(' ').len() };
    let trailing = text.len() - inner.len() - leading;
    let marked = format!("{}{inner}{}", "␣".repeat(leading), "␣".repeat(trailing));
    let length = marked.chars().count();
    let shown: String = marked.chars().skip(from).take(most).collect();
    let before = if from > 0 { "…" } else { "" };
    match length.saturating_sub(from + most) {
        0 => format!("{before}{}", visible(&shown)),
        _ => format!("{before}{}{}", visible(&shown), left_out(&marked, length)),
    }
}

/// What stands for the rest of a text. How long one is that the server has cut before is not known here.
fn left_out(text: &str, length: usize) -> String {
    if text.ends_with('…') { "…".into() } else { format!("… ({length} characters)") }
}

/// Where to begin showing two texts so that their first difference is seen. Never between the two digits of a byte in
/// hexadecimal.
pub fn first_difference(a: &str, b: &str, context: usize) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    if same > 2 * context && a != b { (same - context) & !1 } else { 0 }
}

/// What is told behind a value that is shown in part only: how long it is, and what tells it from the other side's.
pub fn told(bytes: u64, what: &str) -> String {
    format!(" ({bytes} bytes, {what})")
}

/// A value as it is shown, and what is [`told`] behind it.
pub fn without_told(text: &str) -> (&str, &str) {
    let told = || {
        let at = text.rfind(" (")?;
        let (bytes, what) = text[at..].strip_prefix(" (")?.split_once(" bytes, ")?;
        let what = what.strip_suffix(')')?;
        let known = what.starts_with(DIGEST) || what.starts_with(FIRST);
        (known && bytes.parse::<u64>().is_ok()).then(|| text.split_at(at))
    };
    told().unwrap_or((text, ""))
}

/// How what is [`told`] begins: with a digest, or with the place of the first difference.
pub const DIGEST: &str = "digest ";
/// See [`DIGEST`].
pub const FIRST: &str = "differs from byte ";

/// Whether a text is bytes in hexadecimal.
fn is_hex(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| digits.trim_end_matches('…').bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A text beside the one that it is compared with, cut so that what differs can be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Marked {
    /// What both have in front, its end.
    pub before: String,
    /// What only this one has.
    pub differing: String,
    /// What both have behind, its beginning.
    pub after: String,
}

/// Two texts, what differs between them set apart: at most `context` characters of what they share on either side, and
/// `most` of what they do not.
pub fn marked(a: &str, b: &str, context: usize, most: usize) -> [Marked; 2] {
    let ((a, told_of_a), (b, told_of_b)) = (without_told(a), without_told(b));
    let in_pairs = is_hex(a) && is_hex(b);
    let tail = usize::from(a.ends_with('…') && b.ends_with('…'));
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut front = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    if in_pairs && front < a.len().max(b.len()) {
        front &= !1;
    }
    let shorter = a.len().min(b.len()) - front;
    let mut back = a.iter().rev().zip(b.iter().rev()).take(shorter).take_while(|(x, y)| x == y).count();
    if in_pairs && back > tail {
        back -= (back - tail) % 2;
    }
    [(a, told_of_a), (b, told_of_b)].map(|(letters, told)| {
        let text = |from: usize, to: usize| letters[from..to].iter().collect::<String>();
        let length = letters.len();
        let (start, end) = (front.saturating_sub(context), (length - back + context).min(length));
        let cut = |there: bool| if there { "…" } else { "" };
        let (middle, all) = (text(front, (length - back).min(front + most)), length - back - front);
        let whole = text(0, length);
        let left_out = if all > most { left_out(&whole, all) } else { String::new() };
        Marked {
            before: format!("{}{}", cut(start > 0), visible(&text(start, front))),
            differing: format!("{}{left_out}", spaces_shown(&middle)),
            after: format!("{}{}{told}", visible(&text(length - back, end)), cut(end < length)),
        }
    })
}

/// Visible text in which spaces at the ends are shown as `␣`.
fn spaces_shown(text: &str) -> String {
    window(text, 0, usize::MAX / 2)
}

/// A whole number with its thousands apart.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_not_known_is_not_told() {
        let cut = format!("{}…", "x".repeat(200));
        assert_eq!(window(&cut, 0, 3), "xxx…");
        let [a, b] = marked(&cut, &format!("y{}…", "x".repeat(100)), 5, 20);
        assert!(![a.differing, b.differing].concat().contains("characters"));
    }

    #[test]
    fn what_could_deceive_is_escaped() {
        assert_eq!(visible("a\u{1b}[2Jb\n\u{202e}ü\u{a0}\\n"), "a␛[2Jb␊\\u{202e}ü\\u{a0}\\n");
        assert_eq!(line(" a\n  b\u{9b} "), "a b\\u{9b}");
    }

    #[test]
    fn a_difference_far_inside_is_in_the_window() {
        let (a, b) = (format!("{}x{}", "a".repeat(500), "a".repeat(500)), format!("{}y", "a".repeat(500)));
        let from = first_difference(&a, &b, 20);
        assert!(window(&a, from, 60).contains("aax") && window(&b, from, 60).contains("aay"));
        assert!(window(&a, from, 60).ends_with("… (1001 characters)"));
        assert_eq!(first_difference("abc", "abd", 20), 0);
        assert_eq!(window("abc", 0, 3), "abc");
        assert_eq!([" a  ", "  ", ""].map(|text| window(text, 0, 9)), ["␣a␣␣", "␣␣", ""]);
    }

    #[test]
    fn bytes_in_hexadecimal_are_not_torn() {
        let (a, b) = (format!("0x{}61", "00".repeat(60)), format!("0x{}62ff", "00".repeat(60)));
        assert_eq!(first_difference(&a, &b, 20) % 2, 0);
        let [a, b] = marked(&a, &b, 4, 20);
        assert_eq!((a.before.as_str(), a.differing.as_str(), b.differing.as_str()), ("…0000", "61", "62ff"));
        let [a, b] = marked("0x0a1b…", "0x0c1b…", 4, 20);
        assert_eq!((a.differing.as_str(), b.differing.as_str(), a.after.as_str()), ("0a", "0c", "1b…"));
    }

    #[test]
    fn what_is_told_of_a_value_is_not_a_part_of_it() {
        for what in ["digest 0123456789ab…", "differs from byte 7 on"] {
            let text = format!("x (y{}", told(900, what));
            assert_eq!(without_told(&text), ("x (y", told(900, what).as_str()));
        }
        for text in ["x", "x (9 bytes)", "x (many bytes, digest 1)", " (", "x (9 bytes, 1)"] {
            assert_eq!(without_told(text), (text, ""));
        }
        let [a, b] = ["a", "b"].map(|digest| format!("same{}", told(900, &format!("digest {digest}…"))));
        assert_eq!(first_difference(without_told(&a).0, without_told(&b).0, 1), 0);
        let [a, _] = marked(&a, &b, 9, 9);
        assert_eq!((a.differing.as_str(), a.after.as_str()), ("", " (900 bytes, digest a…)"));
    }

    #[test]
    fn what_differs_is_set_apart() {
        let parts = |m: &Marked| [m.before.clone(), m.differing.clone(), m.after.clone()];
        let [a, b] = marked("Jose Ruiz", "José Ruiz", 3, 20);
        assert_eq!(
            (parts(&a), parts(&b)),
            (["Jos", "e", " Ru…"].map(String::from), ["Jos", "é", " Ru…"].map(String::from))
        );
        let [a, b] = marked("a", "a ", 3, 20);
        assert_eq!(
            (parts(&a), parts(&b)),
            (["a", "", ""].map(String::from), ["a", "␣", ""].map(String::from))
        );
        let [a, b] = marked("aaa", "aa", 3, 20);
        assert_eq!((a.differing.as_str(), b.differing.as_str()), ("a", ""));
        let [a, _] = marked(&"x".repeat(50), &"y".repeat(9), 3, 20);
        assert_eq!(a.differing, format!("{}… (50 characters)", "x".repeat(20)));
    }

    #[test]
    fn thousands_are_apart() {
        let shown = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
