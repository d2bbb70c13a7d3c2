//! One form for a JSON document, whichever server wrote its text: MySQL prints its binary form (keys sorted, numbers
//! re-rendered), MariaDB keeps the text it was given. Used only where one side has a JSON type and the other has text.
//!
//! Equal forms mean: the same types and values. `1`, `1.0` and `"1"` differ; `{"a":1,"b":2}` and `{"b": 2, "a": 1}`
//! do not; of duplicate members the last one counts, as on MySQL. Numbers with a fraction or exponent
//! compare as doubles up to 17 significant digits, and digit by digit beyond. Text that is no JSON is equal to nothing
//! but itself.

use std::collections::BTreeMap;

/// Nesting that MySQL refuses to exceed; deeper text is not taken for JSON.
const MAX_DEPTH: usize = 100;

/// The canonical form of a document.
pub fn canonical(text: &[u8]) -> Vec<u8> {
    parsed(text).map_or_else(|| [b"!", text].concat(), |(form, _)| form)
}

/// Whether a server that parses the text keeps its value: it is a document, and its numbers are doubles or of 64 bits.
pub fn is_kept(text: &[u8]) -> bool {
    parsed(text).is_some_and(|(_, kept)| kept)
}

/// The form of a document, and whether its numbers have no more digits than a server keeps.
fn parsed(text: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut parser = Parser { rest: text, kept: true };
    let mut out = Vec::with_capacity(text.len());
    parser.value(&mut out, 0)?;
    parser.space();
    parser.rest.is_empty().then_some((out, parser.kept))
}

struct Parser<'a> {
    rest: &'a [u8],
    kept: bool,
}

impl Parser<'_> {
    fn space(&mut self) {
        let blank = self.rest.iter().take_while(|b| b" \t\r\n".contains(b)).count();
        self.rest = &self.rest[blank..];
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn word(&mut self, word: &str, out: &mut Vec<u8>) -> Option<()> {
        self.rest = self.rest.strip_prefix(word.as_bytes())?;
        out.extend_from_slice(word.as_bytes());
        Some(())
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.space();
        match self.rest.first()? {
            b'{' => self.object(out, depth),
            b'[' => self.array(out, depth),
            b'"' => {
                let string = self.string()?;
                push_string(out, &string);
                Some(())
            }
            b't' => self.word("true", out),
            b'f' => self.word("false", out),
            b'n' => self.word("null", out),
            _ => self.number(out),
        }
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.next();
        out.push(b'[');
        self.space();
        if self.rest.first() == Some(&b']') {
            self.next();
        } else {
            loop {
                self.value(out, depth + 1)?;
                out.push(b',');
                self.space();
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return None,
                }
            }
        }
        out.push(b']');
        Some(())
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.next();
        let mut members = BTreeMap::new();
        self.space();
        if self.rest.first() == Some(&b'}') {
            self.next();
        } else {
            loop {
                self.space();
                let name = self.string()?;
                self.space();
                if self.next()? != b':' {
                    return None;
                }
                let mut value = Vec::new();
                self.value(&mut value, depth + 1)?;
                members.insert(name, value);
                self.space();
                match self.next()? {
                    b',' => {}
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        out.push(b'{');
        for (name, value) in members {
            push_string(out, &name);
            out.extend_from_slice(&value);
            out.push(b',');
        }
        out.push(b'}');
        Some(())
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        if self.next()? != b'"' {
            return None;
        }
        let mut out = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(out),
                b'\\' => match self.next()? {
                    b'b' => out.push(8),
                    b'f' => out.push(12),
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'u' => self.unicode(&mut out)?,
                    other @ (b'"' | b'\\' | b'/') => out.push(other),
                    _ => return None,
                },
                byte => out.push(byte),
            }
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    fn unicode(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let mut code = self.hex4()?;
        if (0xd800..0xdc00).contains(&code) {
            self.rest = self.rest.strip_prefix(b"\\u")?;
            let low = self.hex4()?;
            code = 0x10000 + ((code - 0xd800) << 10) + low.checked_sub(0xdc00)?;
        }
        let mut buffer = [0; 4];
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
        Some(())
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let length = self.rest.iter().take_while(|b| b"+-.eE0123456789".contains(b)).count();
        let (token, rest) = self.rest.split_at(length);
        let token = std::str::from_utf8(token).ok().filter(|t| is_number(t))?;
        self.rest = rest;
        let form = number_form(token)?;
        self.kept &= !form.starts_with('x');
        out.extend_from_slice(form.as_bytes());
        Some(())
    }
}

/// JSON's grammar of numbers.
fn is_number(token: &str) -> bool {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let token = token.strip_prefix('-').unwrap_or(token);
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (token, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

fn number_form(token: &str) -> Option<String> {
    if let Ok(number) = token.parse::<i128>()
        && (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number)
    {
        return Some(format!("i{number}"));
    }
    let mantissa = token.split(['e', 'E']).next()?;
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_start_matches('0').trim_end_matches('0').len();
    let double: f64 = token.parse().ok()?;
    if significant <= 17 && double.is_finite() {
        return Some(format!("d{:016x}", double.to_bits()));
    }
    // More digits than a double holds: digits and the power of ten of the last one, both normalised.
    let exponent: i64 = token.split(['e', 'E']).nth(1).map_or(Some(0), |e| e.parse().ok())?;
    let fraction = mantissa.split_once('.').map_or(0, |(_, f)| f.len()) as i64;
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let power = exponent.checked_sub(fraction)?.checked_add(zeros as i64)?;
    let sign = if token.starts_with('-') { "-" } else { "" };
    Some(format!("x{sign}{}e{power}", digits.trim_start_matches('0').trim_end_matches('0')))
}

fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("s{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_the_same_value_agree() {
        for (a, b) in [
            (r#"{"a": 1, "b": [1, 2]}"#, r#"{"b":[1,2],"a":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
            ("1e2", "100.0"),
            (r#""\u00e9\n\ud83d\ude00""#, "\"é\\n😀\""),
            ("-0", "0"),
            ("0.10000000000000001", "0.1"),
            ("0.123456789012345678901230", "0.12345678901234567890123"),
        ] {
            assert_eq!(canonical(a.as_bytes()), canonical(b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn a_server_keeps_documents_whose_numbers_it_has() {
        let kept = ["{\"a\": [1, -0.5e10, \"0.123456789012345678\"]}", "18446744073709551615", "0.1"];
        let lost = ["{\"a\":", "[0.1234567890123456789]", "1e999", "nonsense", ""];
        assert!(kept.iter().all(|text| is_kept(text.as_bytes())));
        assert!(!lost.iter().any(|text| is_kept(text.as_bytes())));
    }

    #[test]
    fn different_types_and_values_differ() {
        let all = [
            "1",
            "1.0",
            "\"1\"",
            "null",
            "\"null\"",
            "true",
            "0",
            "-0.0",
            "0.0",
            "[]",
            "{}",
            "[[]]",
            "[1]",
            "[1,1]",
            "\"\"",
            "",
            "nonsense",
            "[1,]",
            "01",
            r#"{"a":null}"#,
            r#"{"A":null}"#,
            "0.1",
            "0.30000000000000004",
            "0.3",
            "0.123456789012345678",
            "0.1234567890123456789",
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(canonical(a.as_bytes()), canonical(b.as_bytes()), "{a} {b}");
            }
        }
    }

    proptest! {
        #[test]
        fn doubles_compare_by_bits(a in any::<f64>().prop_filter("finite", |d| d.is_finite())) {
            let text = serde_json::to_string(&a).unwrap();
            let scientific = format!("{a:.16e}");
            prop_assert_eq!(canonical(text.as_bytes()), canonical(scientific.as_bytes()));
            let next = f64::from_bits(a.to_bits() ^ 1);
            if next.is_finite() {
                prop_assert_ne!(canonical(text.as_bytes()), canonical(format!("{next:.16e}").as_bytes()));
            }
        }
    }
}
