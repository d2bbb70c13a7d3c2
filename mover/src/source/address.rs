//! MariaDB's UUID, INET6 and INET4 as they stand in row events, to the text that the server prints.
//!
//! Row events hold the bytes in the order in which they are written, whatever order the engine stores them in, and
//! without the zeros at the end. The text must be the server's to the letter: rows read by `SELECT` have it.

use std::fmt::Write as _;

use super::bytes::{Bytes, Truncated};
use crate::schema::Address;

/// The text of a value.
pub fn text(kind: Address, stripped: &[u8]) -> Result<String, Truncated> {
    Ok(match kind {
        Address::Uuid => super::event::uuid_text(&padded(stripped)?),
        Address::Inet4 => dotted(&padded::<4>(stripped)?),
        Address::Inet6 => inet6(&padded(stripped)?),
    })
}

fn padded<const N: usize>(stripped: &[u8]) -> Result<[u8; N], Truncated> {
    let mut whole = [0; N];
    whole.get_mut(..stripped.len()).ok_or(Truncated)?.copy_from_slice(stripped);
    Ok(whole)
}

fn dotted([a, b, c, d]: &[u8; 4]) -> String {
    format!("{a}.{b}.{c}.{d}")
}

/// The first longest run of two or more zero groups becomes `::`. Addresses of IPv4 in IPv6 keep their dots, also the
/// ones without `ffff`.
fn inet6(bytes: &[u8; 16]) -> String {
    let mut cursor = Bytes::new(bytes);
    let groups: [u64; 8] = std::array::from_fn(|_| cursor.uint_be(2).unwrap_or(0));
    let (start, length) = zero_run(&groups);
    let embedded = start == 0 && (length == 6 || length == 5 && groups[5] == 0xffff);
    let end = if embedded { 6 } else { 8 };
    let mut out = String::new();
    let mut i = 0;
    while i < end {
        if length > 1 && i == start {
            out.push_str("::");
            i += length;
            continue;
        }
        if !out.is_empty() && !out.ends_with(':') {
            out.push(':');
        }
        let _ = write!(out, "{:x}", groups[i]);
        i += 1;
    }
    if embedded {
        out.push_str(if out.ends_with(':') { "" } else { ":" });
        out.push_str(&dotted(&[bytes[12], bytes[13], bytes[14], bytes[15]]));
    }
    out
}

/// Where the first longest run of zero groups begins, and how long it is.
fn zero_run(groups: &[u64; 8]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut i = 0;
    while i < groups.len() {
        let length = groups[i..].iter().take_while(|g| **g == 0).count();
        if length > best.1 {
            best = (i, length);
        }
        i += length.max(1);
    }
    best
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_the_servers() {
        // Seen in row events and answers of MariaDB 10.11.
        let inet6 = |bytes: &[u8]| text(Address::Inet6, bytes).unwrap();
        assert_eq!(inet6(&[]), "::");
        assert_eq!(inet6(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "::0.1.0.0");
        assert_eq!(inet6(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "::1");
        assert_eq!(inet6(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4]), "::ffff:1.2.3.4");
        assert_eq!(inet6(&[0, 0xff]), "ff::");
        let uuid = text(Address::Uuid, &[1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 0xa, 0xb, 0xc, 0xd]).unwrap();
        assert_eq!(uuid, "01020304-0506-7708-890a-0b0c0d000000");
        assert_eq!(text(Address::Inet4, &[1]).unwrap(), "1.0.0.0");
        assert!(text(Address::Inet4, &[1, 2, 3, 4, 5]).is_err());
    }

    proptest! {
        #[test]
        fn addresses_read_back(words in prop::array::uniform8(prop_oneof![Just(0u16), Just(0xffff), any::<u16>()]), four: u32) {
            let address = Ipv6Addr::from(words);
            let stripped = |bytes: &[u8]| {
                let zeros = bytes.iter().rev().take_while(|b| **b == 0).count();
                bytes[..bytes.len() - zeros].to_vec()
            };
            let six = text(Address::Inet6, &stripped(&address.octets())).unwrap();
            prop_assert_eq!(six.parse::<Ipv6Addr>().unwrap(), address);
            let address = Ipv4Addr::from(four);
            prop_assert_eq!(text(Address::Inet4, &stripped(&address.octets())).unwrap(), address.to_string());
        }
    }
}
