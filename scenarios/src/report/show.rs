//! Hostile text made harmless for readers: nothing that moves a cursor, hides letters or turns their direction around
//! is shown as itself.

/// Whether a character would be seen as what it is.
fn is_plain(c: char) -> bool {
    // Zero-width and direction marks, direction overrides and isolates, the BOM; spaces that are none.
    let hidden =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
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
/// ends are shown as `␠`.
pub fn window(text: &str, from: usize, most: usize) -> String {
    let inner = text.trim_matches(' ');
    let leading = if inner.is_empty() { 0 } else { text.len() - text.trim_start_matches(' ').len() };
    let trailing = text.len() - inner.len() - leading;
    let marked = format!("{}{inner}{}", "␠".repeat(leading), "␠".repeat(trailing));
    let length = marked.chars().count();
    let shown: String = marked.chars().skip(from).take(most).collect();
    let before = if from > 0 { "…" } else { "" };
    match length.saturating_sub(from + most) {
        0 => format!("{before}{}", visible(&shown)),
        _ => format!("{before}{}… ({length} characters)", visible(&shown)),
    }
}

/// Where to begin showing two texts so that their first difference is seen.
pub fn first_difference(a: &str, b: &str, context: usize) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    if same > 2 * context { same - context } else { 0 }
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
        assert_eq!([" a  ", "  ", ""].map(|text| window(text, 0, 9)), ["␠a␠␠", "␠␠", ""]);
    }

    #[test]
    fn thousands_are_apart() {
        let shown = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
