//! Temporal types as the server stores them in row events, to the text that the server prints.
//!
//! The formats are those of MySQL 5.6 and later (`my_time.cc`); MariaDB uses the same ones, and the older ones for
//! tables made with `mysql56_temporal_format=OFF`.

use super::bytes::{Bytes, Truncated};
use super::digits::{push_clock, push_date, push_fraction};

type Result<T> = std::result::Result<T, Truncated>;

/// Characters of the longest text, so that none grows while it is made.
const LONGEST: usize = 26;

/// Reads the fraction behind a value: two digits a byte, big-endian; the result is microseconds.
fn read_fraction(bytes: &mut Bytes<'_>, digits: u8) -> Result<u64> {
    let n = usize::from(digits.div_ceil(2));
    Ok(bytes.uint_be(n)? * 10u64.pow(6 - 2 * n as u32))
}

/// DATE: three bytes, little-endian, 5 bits day, 4 bits month, the rest the year.
pub fn date(bytes: &mut Bytes<'_>) -> Result<String> {
    let v = bytes.uint(3)?;
    Ok(date_text(v >> 9, v >> 5 & 15, v & 31))
}

/// `2024-02-29`.
pub fn date_text(year: u64, month: u64, day: u64) -> String {
    let mut text = String::with_capacity(10);
    push_date(&mut text, year, month, day);
    text
}

/// DATETIME(digits): five bytes, big-endian, sign, 17 bits year*13+month, 5 day, 5 hour, 6 minute, 6 second.
pub fn datetime(bytes: &mut Bytes<'_>, digits: u8) -> Result<String> {
    let v = bytes.uint_be(5)? & 0x7f_ffff_ffff;
    let micros = read_fraction(bytes, digits)?;
    Ok(packed_text(v, micros, digits))
}

fn packed_text(v: u64, micros: u64, digits: u8) -> String {
    let (months, day, hour, minute, second) = (v >> 22, v >> 17 & 31, v >> 12 & 31, v >> 6 & 63, v & 63);
    datetime_text((months / 13, months % 13, day), (hour, minute, second), micros, digits)
}

/// `2024-02-29 23:59:59.999999` of year, month and day, hour, minute and second, and microseconds.
pub fn datetime_text(date: (u64, u64, u64), clock: (u64, u64, u64), micros: u64, digits: u8) -> String {
    let mut text = String::with_capacity(LONGEST);
    push_date(&mut text, date.0, date.1, date.2);
    text.push(' ');
    push_clock(&mut text, clock.0, clock.1, clock.2);
    push_fraction(&mut text, micros, digits);
    text
}

/// TIMESTAMP(digits): four bytes, big-endian seconds since 1970; the text is in UTC. Zero is the zero date.
pub fn timestamp(bytes: &mut Bytes<'_>, digits: u8) -> Result<String> {
    let seconds = bytes.uint_be(4)?;
    let micros = read_fraction(bytes, digits)?;
    Ok(timestamp_text(seconds, micros, digits))
}

fn timestamp_text(seconds: u64, micros: u64, digits: u8) -> String {
    if seconds == 0 && micros == 0 {
        return datetime_text((0, 0, 0), (0, 0, 0), 0, digits);
    }
    let clock = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    datetime_text(civil(seconds / 86_400), clock, micros, digits)
}

/// Year, month and day of a day number since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", for days that are not negative).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day_of_year - (153 * m + 2) / 5 + 1)
}

/// TIME(digits): three bytes and the fraction as one big-endian number, offset by half its range, so that negative
/// times with a fraction borrow from the seconds.
pub fn time(bytes: &mut Bytes<'_>, digits: u8) -> Result<String> {
    let n = usize::from(digits.div_ceil(2));
    let raw = bytes.uint_be(3 + n)? as i64;
    let units = raw - (0x80_0000i64 << (8 * n));
    let magnitude = units.unsigned_abs();
    let micros = (magnitude & ((1 << (8 * n)) - 1)) * 10u64.pow(6 - 2 * n as u32);
    Ok(packed_clock(units < 0, magnitude >> (8 * n), micros, digits))
}

/// `v`: 10 bits hour, 6 minute, 6 second.
fn packed_clock(negative: bool, v: u64, micros: u64, digits: u8) -> String {
    time_text(negative, (v >> 12 & 1023, v >> 6 & 63, v & 63), micros, digits)
}

/// `-838:59:59.000000` of hour, minute and second, and microseconds.
pub fn time_text(negative: bool, clock: (u64, u64, u64), micros: u64, digits: u8) -> String {
    let mut text = String::with_capacity(LONGEST);
    text.push_str(if negative { "-" } else { "" });
    push_clock(&mut text, clock.0, clock.1, clock.2);
    push_fraction(&mut text, micros, digits);
    text
}

/// The old four-byte TIMESTAMP without fraction.
pub fn old_timestamp(bytes: &mut Bytes<'_>) -> Result<String> {
    Ok(timestamp_text(bytes.uint(4)?, 0, 0))
}

/// The old eight-byte DATETIME: the number YYYYMMDDhhmmss.
pub fn old_datetime(bytes: &mut Bytes<'_>) -> Result<String> {
    let v = bytes.u64()?;
    let (date, time) = (v / 1_000_000, v % 1_000_000);
    let date = (date / 10_000, date / 100 % 100, date % 100);
    let clock = (time / 10_000, time / 100 % 100, time % 100);
    Ok(datetime_text(date, clock, 0, 0))
}

/// The old three-byte TIME: the signed number hhmmss.
pub fn old_time(bytes: &mut Bytes<'_>) -> Result<String> {
    let raw = bytes.uint(3)? as i64;
    let v = if raw >= 0x80_0000 { raw - 0x100_0000 } else { raw };
    let m = v.unsigned_abs();
    Ok(time_text(v < 0, (m / 10_000, m / 100 % 100, m % 100), 0, 0))
}

/// A DATETIME inside a JSON document: 24 bits of microseconds below the fields of DATETIME.
pub fn packed_datetime(packed: i64) -> String {
    let v = packed.unsigned_abs();
    packed_text(v >> 24, v & 0xff_ffff, 6)
}

/// A DATE inside a JSON document.
pub fn packed_date(packed: i64) -> String {
    packed_datetime(packed)[..10].to_owned()
}

/// A TIME inside a JSON document.
pub fn packed_time(packed: i64) -> String {
    let v = packed.unsigned_abs();
    packed_clock(packed < 0, v >> 24, v & 0xff_ffff, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(24_855), (2038, 1, 19));
    }

    #[test]
    fn zero_and_largest_timestamps() {
        assert_eq!(timestamp(&mut Bytes::new(&[0, 0, 0, 0, 0, 0]), 3).unwrap(), "0000-00-00 00:00:00.000");
        let most = [0x7f, 0xff, 0xff, 0xff, 0x0f, 0x42, 0x3f];
        assert_eq!(timestamp(&mut Bytes::new(&most), 6).unwrap(), "2038-01-19 03:14:07.999999");
    }

    #[test]
    fn negative_times_borrow() {
        // -00:00:00.5 with two digits: one unit of 1/256 below zero counts downwards from 0x80000000.
        let half = (0x8000_0000u32 - 50).to_be_bytes();
        assert_eq!(time(&mut Bytes::new(&half), 2).unwrap(), "-00:00:00.50");
        let most = (0x80_0000u32 - (838 << 12 | 59 << 6 | 59)).to_be_bytes();
        assert_eq!(time(&mut Bytes::new(&most[1..]), 0).unwrap(), "-838:59:59");
    }
}
