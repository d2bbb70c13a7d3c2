//! DECIMAL as the server stores it: groups of nine digits in four bytes, most significant first; the sign is the
//! first bit, set for positive numbers, and a negative number has all bits inverted (`decimal2bin` in the server).

use super::bytes::{Bytes, Truncated};
use super::digits::push_number;

/// Bytes of a group of 0 to 9 digits.
const GROUP_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Reads one DECIMAL(precision, scale) as the text that the server prints.
pub fn decode(bytes: &mut Bytes<'_>, precision: u8, scale: u8) -> Result<String, Truncated> {
    let (whole, fraction) = (usize::from(precision.saturating_sub(scale)), usize::from(scale));
    // At most 30 digits behind the point and 65 in all, in groups that may each be incomplete.
    let mut space = [0; 40];
    let taken = bytes.take(size(precision, scale))?;
    let raw = space.get_mut(..taken.len()).ok_or(Truncated)?;
    raw.copy_from_slice(taken);
    let negative = raw.first().is_some_and(|b| b & 0x80 == 0);
    if let Some(first) = raw.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        raw.iter_mut().for_each(|b| *b = !*b);
    }
    let mut raw = Bytes::new(raw);
    let mut text = String::with_capacity(whole + fraction + 3);
    text.push_str(if negative { "-" } else { "" });
    let start = text.len();
    push_whole(&mut raw, whole % 9, start, &mut text)?;
    for _ in 0..whole / 9 {
        push_whole(&mut raw, 9, start, &mut text)?;
    }
    text.push_str(if text.len() == start { "0" } else { "" });
    if fraction > 0 {
        text.push('.');
        for _ in 0..fraction / 9 {
            push_group(&mut raw, 9, &mut text)?;
        }
        push_group(&mut raw, fraction % 9, &mut text)?;
    }
    Ok(text)
}

/// Bytes of a DECIMAL(precision, scale).
pub fn size(precision: u8, scale: u8) -> usize {
    group_bytes(usize::from(precision.saturating_sub(scale))) + group_bytes(usize::from(scale))
}

fn group_bytes(digits: usize) -> usize {
    digits / 9 * 4 + GROUP_BYTES[digits % 9]
}

/// A group before the point: without zeros at the number's beginning, which is at `start`.
fn push_whole(raw: &mut Bytes<'_>, digits: usize, start: usize, out: &mut String) -> Result<(), Truncated> {
    let value = raw.uint_be(GROUP_BYTES[digits])?;
    match (out.len() > start, value) {
        (true, _) => push_number(out, value, digits),
        (false, 0) => {}
        (false, _) => push_number(out, value, 1),
    }
    Ok(())
}

fn push_group(raw: &mut Bytes<'_>, digits: usize, out: &mut String) -> Result<(), Truncated> {
    if digits > 0 {
        push_number(out, raw.uint_be(GROUP_BYTES[digits])?, digits);
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
