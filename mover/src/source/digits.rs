//! Numbers, dates and times as the server prints them, put together digit by digit: rows are full of them, and the
//! formatting machinery of the standard library takes several times as long. Pure, and never reads a clock.

/// Appends `value` with at least `width` digits.
pub fn push_number(out: &mut String, value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let (mut rest, mut start) = (value, digits.len());
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let start = start.min(digits.len() - width.min(digits.len()));
    // Digits are always text.
    out.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

/// Appends `2024-02-29`.
pub fn push_date(out: &mut String, year: u64, month: u64, day: u64) {
    push_number(out, year, 4);
    out.push('-');
    push_number(out, month, 2);
    out.push('-');
    push_number(out, day, 2);
}

/// Appends `23:59:59`; hours may have three digits.
pub fn push_clock(out: &mut String, hour: u64, minute: u64, second: u64) {
    push_number(out, hour, 2);
    out.push(':');
    push_number(out, minute, 2);
    out.push(':');
    push_number(out, second, 2);
}

/// Appends a point and the first `digits` of the six digits of `micros`, or nothing for no digits.
pub fn push_fraction(out: &mut String, micros: u64, digits: u8) {
    let digits = u32::from(digits.min(6));
    if digits > 0 {
        out.push('.');
        push_number(out, micros / 10u64.pow(6 - digits), digits as usize);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(push: impl Fn(&mut String)) -> String {
        let mut out = "x".to_owned();
        push(&mut out);
        out
    }

    proptest! {
        #[test]
        fn all_is_as_the_standard_library_formats_it(
            value: u64, small in 0..2000u64, width in 0..21usize, micros in 0..1_000_000u64, digits in 1..=6u8,
        ) {
            for value in [value, small] {
                // No digit at all is not how a zero is printed, and nobody asks for it.
                let width = if value == 0 { width.max(1) } else { width };
                prop_assert_eq!(made(|out| push_number(out, value, width)), format!("x{value:0width$}"));
            }
            let date = format!("x{small:04}-{:02}-{:02}", small % 13, small % 32);
            prop_assert_eq!(made(|out| push_date(out, small, small % 13, small % 32)), date);
            let clock = format!("x{small:02}:{:02}:{:02}", small % 60, small % 7);
            prop_assert_eq!(made(|out| push_clock(out, small, small % 60, small % 7)), clock);
            let fraction = format!("x.{micros:06}");
            prop_assert_eq!(made(|out| push_fraction(out, micros, digits)), &fraction[..2 + usize::from(digits)]);
            prop_assert_eq!(made(|out| push_fraction(out, micros, 0)), "x");
        }
    }
}
