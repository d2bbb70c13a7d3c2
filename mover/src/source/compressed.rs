//! MariaDB's compressed events (`log_bin_compress`): a header byte `0x80 | algorithm << 4 | n`, the uncompressed
//! length in `n` bytes, most significant first, then a zlib stream.

use std::io::{Error, ErrorKind, Read, Result};

use flate2::read::ZlibDecoder;

/// The largest event that is taken for sound: the server's own limit of one packet.
const MAX_LENGTH: u64 = 1 << 30;

/// Decompresses what follows an event's plain header.
pub fn inflate(data: &[u8]) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::new(ErrorKind::InvalidData, format!("compressed event: {why}"));
    let (&first, rest) = data.split_first().ok_or_else(|| bad("it is empty"))?;
    if first & 0xf0 != 0x80 {
        return Err(bad("unknown algorithm"));
    }
    let n = usize::from(first & 7);
    let (length, stream) = rest.split_at_checked(n).ok_or_else(|| bad("it ends early"))?;
    let length = length.iter().fold(0u64, |value, &b| value << 8 | u64::from(b));
    if length > MAX_LENGTH {
        return Err(bad("it is too long"));
    }
    let mut out = Vec::with_capacity(length as usize);
    ZlibDecoder::new(stream).take(length + 1).read_to_end(&mut out)?;
    if out.len() as u64 != length {
        return Err(bad("its length is not the one it names"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_compressed_comes_back() {
        let mut encoder = flate2::write::ZlibEncoder::new(vec![0x82, 0, 5], flate2::Compression::fast());
        encoder.write_all(b"hello").unwrap();
        let mut event = encoder.finish().unwrap();
        assert_eq!(inflate(&event).unwrap(), b"hello");
        event[2] = 6;
        assert!(inflate(&event).is_err());
    }
}
