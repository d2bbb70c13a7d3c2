//! DECIMAL as the server stores it: groups of nine digits in four bytes, most significant first; the sign is the
//! first bit, set for positive numbers, and a negative number has all bits inverted (`decimal2bin` in the server).

use super::bytes::{Bytes, Truncated};

/// Bytes of a group of 0 to 9 digits.
const GROUP_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Reads one DECIMAL(precision, scale) as the text that the server prints.
pub fn decode(bytes: &mut Bytes<'_>, precision: u8, scale: u8) -> Result<String, Truncated> {
    let (whole, fraction) = (usize::from(precision.saturating_sub(scale)), usize::from(scale));
    let length = group_bytes(whole) + group_bytes(fraction);
    let mut raw = bytes.take(length)?.to_vec();
    let negative = raw.first().is_some_and(|b| b & 0x80 == 0);
    if let Some(first) = raw.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        raw.iter_mut().for_each(|b| *b = !*b);
    }
    let mut raw = Bytes::new(&raw);
    let mut digits = String::with_capacity(whole + fraction + 2);
    push_group(&mut raw, whole % 9, &mut digits)?;
    for _ in 0..whole / 9 {
        push_group(&mut raw, 9, &mut digits)?;
    }
    let trimmed = digits.trim_start_matches('0');
    let mut text = String::with_capacity(digits.len() + 3);
    text.push_str(if negative { "-" } else { "" });
    text.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if fraction > 0 {
        text.push('.');
        for _ in 0..fraction / 9 {
            push_group(&mut raw, 9, &mut text)?;
        }
        push_group(&mut raw, fraction % 9, &mut text)?;
    }
    Ok(text)
}

fn group_bytes(digits: usize) -> usize {
    digits / 9 * 4 + GROUP_BYTES[digits % 9]
}

fn push_group(raw: &mut Bytes<'_>, digits: usize, out: &mut String) -> Result<(), Truncated> {
    use std::fmt::Write as _;
    if digits > 0 {
        let value = raw.uint_be(GROUP_BYTES[digits])?;
        let _ = write!(out, "{value:0digits$}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_documented_example_reads_back() {
        // 1234567890.1234 as DECIMAL(14,4), from the comment above decimal2bin.
        let positive = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        let negative = positive.map(|b| !b);
        assert_eq!(decode(&mut Bytes::new(&positive), 14, 4).unwrap(), "1234567890.1234");
        assert_eq!(decode(&mut Bytes::new(&negative), 14, 4).unwrap(), "-1234567890.1234");
        assert_eq!(decode(&mut Bytes::new(&[0x80, 0x00]), 3, 0).unwrap(), "0");
        assert_eq!(decode(&mut Bytes::new(&[0x80]), 2, 2).unwrap(), "0.00");
        assert!(decode(&mut Bytes::new(&[0x80]), 14, 4).is_err());
    }
}
