//! The digest: a row's image, its SHA-256, and the order-free sum over many rows.
//!
//! A row image is the concatenation of its columns' pieces, each framed so that no two different rows have the
//! same image: `N,` for NULL, `123,` for numbers and times, `LENGTH:BYTES,` for strings, `SHA-256 in hex,` for long
//! strings. The digest of many rows is their count and, for each of the first two 64-bit parts of the rows' SHA-256,
//! the exact sum: 128 bits are enough, and each further part would cost a server a tenth of the whole digest. Sums do
//! not depend on order, merge over chunks and shards, and no pair of equal edits cancels (as it does in an XOR of CRC32).
//!
//! Servers compute the same from SQL; the functions here are its definition, used where the client has to compute.

use sha2::{Digest as _, Sha256};

/// SHA-256 of one row image.
pub type RowDigest = [u8; 32];

/// The digest of a set of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    /// Sums of the rows' digests' first 128 bits, by 64-bit part, most significant first.
    pub sums: [u128; 2],
}

impl Digest {
    /// Adds a row.
    pub fn add(&mut self, row: &RowDigest) {
        self.rows += 1;
        for (sum, part) in self.sums.iter_mut().zip(row.chunks_exact(8)) {
            // 2^64 rows of 2^64 each do not overflow 128 bits.
            *sum += part.iter().fold(0u128, |n, b| (n << 8) | u128::from(*b));
        }
    }

    /// Adds a row by the xxh3-128 that the client made of its image.
    pub fn add_xxh3(&mut self, row: u128) {
        self.rows += 1;
        self.sums[0] += row >> 64;
        self.sums[1] += row & u128::from(u64::MAX);
    }

    /// Adds all rows of another set.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum += more;
        }
    }
}

/// Whether a piece is written with its length in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Digits, signs, points, colons, letters and spaces; never a comma; never `N` alone.
    Plain,
    /// Any bytes, with their length in front.
    Sized,
    /// Any bytes, as their SHA-256.
    Hashed,
}

/// Appends one column's piece to a row image. `None` is NULL.
pub fn push_piece(image: &mut Vec<u8>, framing: Framing, piece: Option<&[u8]>) {
    match piece {
        None => image.push(b'N'),
        Some(bytes) => match framing {
            Framing::Plain => image.extend_from_slice(bytes),
            Framing::Sized => {
                image.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
                image.extend_from_slice(bytes);
            }
            Framing::Hashed => {
                image.extend_from_slice(converge_mysql::quote::hex_digits(&row_digest(bytes)).as_bytes());
            }
        },
    }
    image.push(b',');
}

/// Takes one piece off the front of an image, as [`push_piece`] wrote it; a hashed piece stays hashed.
/// `None`: the image is malformed.
pub fn pop_piece<'a>(image: &mut &'a [u8], framing: Framing) -> Option<Option<&'a [u8]>> {
    if let Some(rest) = image.strip_prefix(b"N,") {
        *image = rest;
        return Some(None);
    }
    let stop = |wanted: u8| image.iter().position(|b| *b == wanted);
    let (from, to) = match framing {
        Framing::Plain => (0, stop(b',')?),
        Framing::Sized => {
            let colon = stop(b':')?;
            let length: usize = std::str::from_utf8(&image[..colon]).ok()?.parse().ok()?;
            (colon + 1, (colon + 1).checked_add(length)?)
        }
        Framing::Hashed => (0, 64),
    };
    let piece = image.get(from..to)?;
    *image = image.get(to..)?.strip_prefix(b",")?;
    Some(Some(piece))
}

/// SHA-256 of bytes.
pub fn row_digest(image: &[u8]) -> RowDigest {
    Sha256::digest(image).into()
}

/// Reads the 64 hexadecimal digits that `SHA2(…, 256)` gives.
pub fn parse_digest(hex: &[u8]) -> Option<RowDigest> {
    if hex.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |d: u8| (d as char).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(row: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut out = Vec::new();
        row.iter().for_each(|piece| push_piece(&mut out, Framing::Sized, piece.as_deref()));
        out
    }

    fn rows(columns: usize) -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
        // Few letters, among them those that frame, so that near-collisions are tried.
        let byte = prop::sample::select(b"N,:012a".to_vec());
        prop::collection::vec(prop::option::of(prop::collection::vec(byte, 0..4)), columns)
    }

    #[test]
    fn one_edit_in_an_even_number_of_rows_does_not_cancel() {
        for copies in [2u64, 4, 8] {
            let digest = |change: u8| {
                let mut sum = Digest::default();
                (0..copies)
                    .for_each(|id| sum.add(&row_digest(&image(&[Some(vec![id as u8]), Some(vec![change])]))));
                sum
            };
            assert_ne!(digest(b'x'), digest(b'y'));
        }
    }

    proptest! {
        #[test]
        fn framing_is_injective(a in rows(3), b in rows(3)) {
            prop_assert_eq!(image(&a) == image(&b), a == b);
        }

        #[test]
        fn framing_round_trips(row in rows(4)) {
            let bytes = image(&row);
            let mut rest = bytes.as_slice();
            for piece in &row {
                prop_assert_eq!(pop_piece(&mut rest, Framing::Sized).unwrap(), piece.as_deref());
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn digests_do_not_depend_on_order_or_cuts(
            rows in prop::collection::vec(any::<[u8; 32]>(), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let sum = |rows: &[RowDigest]| {
                rows.iter().fold(Digest::default(), |mut sum, row| { sum.add(row); sum })
            };
            let cut = cut.index(rows.len() + 1);
            let mut merged = sum(&rows[cut..]);
            merged.merge(&sum(&rows[..cut]));
            prop_assert_eq!(merged, sum(&rows));
        }
    }
}
