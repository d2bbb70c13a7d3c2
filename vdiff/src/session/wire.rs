//! Reading rows as the packets that they come in, without making values of them: for whoever only digests rows, the
//! driver's own way costs several times as much as the digest.
//!
//! Only plain TCP and the two common ways to log in; for all else the driver is used. Never a way around encryption:
//! nothing is opened here for an address that asks for it.

use std::io;

use converge_mysql::Address;
use converge_mysql::tls::TlsMode;
use mysql_async::Error as DriverError;
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, ErrPacket, HandshakePacket, HandshakeResponse};
use mysql_common::proto::MySerialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// A packet of this length goes on in the next one.
const FULL: usize = 0xff_ff_ff;

const COM_QUERY: u8 = 3;

/// A connection that hands out packets.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer is filled and not yet taken.
    filled: std::ops::Range<usize>,
    /// A packet that came in several parts.
    joined: Vec<u8>,
    /// The number that the next part must have.
    sequence: u8,
    /// The server's number for it.
    connection: u32,
}

impl Wire {
    /// Logs in and runs the given statements. `None`: this address is one for the driver.
    pub async fn open(address: &Address, setup: &[&str]) -> Option<Self> {
        if address.tls.mode != TlsMode::Disabled || address.socket.is_some() {
            return None;
        }
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let mut wire = Self::over(stream);
        wire.log_in(address).await.ok()??;
        for statement in setup {
            wire.rows(statement, |_| {}).await.ok()?;
        }
        Some(wire)
    }

    /// The server's number for it.
    pub fn connection(&self) -> u32 {
        self.connection
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; BLOCK], filled: 0..0, joined: Vec::new(), sequence: 0, connection: 0 }
    }

    async fn log_in(&mut self, address: &Address) -> io::Result<Option<()>> {
        let greeting = self.packet().await?.to_vec();
        let Ok(greeting) = ParseBuf(&greeting).parse::<HandshakePacket<'_>>(()) else { return Ok(None) };
        self.connection = greeting.connection_id();
        let plugin = greeting.auth_plugin().unwrap_or(AuthPlugin::MysqlNativePassword);
        let Some(answer) = proof(&plugin, &address.password, &greeting.nonce()) else { return Ok(None) };
        let wanted = CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_LONG_FLAG
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_PLUGIN_AUTH;
        let response = HandshakeResponse::new(
            Some(answer.as_slice()),
            greeting.server_version_parsed().unwrap_or((5, 7, 0)),
            Some(address.user.as_bytes()),
            Some(address.database.as_bytes()).filter(|name| !name.is_empty()),
            Some(plugin.borrow()),
            wanted,
            None,
            1 << 30,
        );
        let mut payload = Vec::new();
        response.serialize(&mut payload);
        self.send(&payload).await?;
        let mut reply = self.packet().await?.to_vec();
        if reply.first() == Some(&0xfe) {
            // The account uses the other plugin: its name, a zero, and a nonce.
            let parts: Vec<&[u8]> = reply[1..].splitn(2, |b| *b == 0).collect();
            let [name, nonce] = parts.as_slice() else { return Ok(None) };
            let nonce = nonce.strip_suffix(&[0]).unwrap_or(nonce);
            let plugin = AuthPlugin::from_bytes(name);
            let Some(answer) = proof(&plugin, &address.password, nonce) else {
                return Ok(None);
            };
            self.send(&answer).await?;
            reply = self.packet().await?.to_vec();
        }
        // caching_sha2: the server knew the password already. What it would ask for otherwise is the driver's.
        if reply == [1, 3] {
            reply = self.packet().await?.to_vec();
        }
        Ok((reply.first() == Some(&0)).then_some(()))
    }

    async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        // No statement of a comparison comes near the length of a full packet.
        let length = u32::try_from(payload.len()).ok().filter(|n| (*n as usize) < FULL);
        let length = length.ok_or_else(|| io::Error::other("the statement is too long"))?.to_le_bytes();
        let mut packet = Vec::with_capacity(payload.len() + 4);
        packet.extend_from_slice(&[length[0], length[1], length[2], self.sequence]);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await
    }

    /// Runs a statement and hands out the payload of each row: its cells in the text protocol's form, each with its
    /// length in front, 0xFB for NULL. Fails if the rows did not come to their end.
    pub async fn rows(&mut self, sql: &str, mut take: impl FnMut(&[u8])) -> Result<(), DriverError> {
        self.sequence = 0;
        let mut command = vec![COM_QUERY];
        command.extend_from_slice(sql.as_bytes());
        self.send(&command).await?;
        let first = self.packet().await?;
        match first.first() {
            Some(0xff) => return Err(error(first)),
            Some(0) => return Ok(()),
            Some(0xfb) => return Err(io::Error::other("the server asks for a file of this machine").into()),
            Some(_) => {}
            None => return Err(io::Error::other("an empty packet").into()),
        }
        // The columns' definitions, up to the end of them; then the rows, up to theirs.
        while !is_end(self.packet().await?)? {}
        loop {
            // Nearly all packets lie whole in the buffer: nothing is waited for between them.
            while let Some(part) = self.buffered()? {
                let packet = &self.buffer[part];
                if is_end(packet)? {
                    return Ok(());
                }
                take(packet);
            }
            let packet = self.packet().await?;
            if is_end(packet)? {
                return Ok(());
            }
            take(packet);
        }
    }

    /// Takes the next packet, if all of it is in the buffer and it has one part.
    fn buffered(&mut self) -> io::Result<Option<std::ops::Range<usize>>> {
        match self.next_length() {
            Some(length) if length < FULL && self.filled.len() >= 4 + length => {
                self.take_part(length).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The length of the next part, if its head has come.
    fn next_length(&self) -> Option<usize> {
        match self.buffer[self.filled.clone()] {
            [a, b, c, _, ..] => Some(u32::from_le_bytes([a, b, c, 0]) as usize),
            _ => None,
        }
    }

    /// Takes a part of this length, which has come, and returns where its payload is.
    fn take_part(&mut self, length: usize) -> io::Result<std::ops::Range<usize>> {
        let sequence = self.buffer[self.filled.start + 3];
        if sequence != self.sequence {
            return Err(io::Error::other("packets came out of sequence"));
        }
        self.sequence = sequence.wrapping_add(1);
        let payload = self.filled.start + 4..self.filled.start + 4 + length;
        self.filled.start = payload.end;
        Ok(payload)
    }

    /// The next packet's payload, its parts joined.
    async fn packet(&mut self) -> io::Result<&[u8]> {
        // One large row must not hold its memory for ever.
        self.joined = Vec::new();
        let mut part = self.part().await?;
        if part.len() < FULL {
            return Ok(&self.buffer[part]);
        }
        let mut joined = Vec::new();
        loop {
            joined.extend_from_slice(&self.buffer[part.clone()]);
            if part.len() < FULL {
                self.joined = joined;
                return Ok(&self.joined);
            }
            part = self.part().await?;
        }
    }

    async fn part(&mut self) -> io::Result<std::ops::Range<usize>> {
        loop {
            let length = self.next_length();
            let needed = 4 + length.unwrap_or(0);
            match length {
                Some(length) if self.filled.len() >= needed => return self.take_part(length),
                _ => self.fill(needed).await?,
            }
        }
    }

    /// Reads more, with room for a part of so many bytes.
    async fn fill(&mut self, needed: usize) -> io::Result<()> {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let size = needed.max(self.filled.len()).max(BLOCK);
        if self.buffer.len() != size {
            self.buffer.resize(size, 0);
            self.buffer.shrink_to(size);
        }
        match self.stream.read(&mut self.buffer[self.filled.end..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.filled.end += read;
                Ok(())
            }
        }
    }
}

/// What proves the password, for the plugins that need no more than a nonce.
fn proof(plugin: &AuthPlugin<'_>, password: &str, nonce: &[u8]) -> Option<Vec<u8>> {
    match plugin {
        AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword => {
            let data = plugin.gen_data(Some(password), nonce);
            Some(data.map(|data| data.to_vec()).unwrap_or_default())
        }
        _ => None,
    }
}

fn error(packet: &[u8]) -> DriverError {
    match ParseBuf(packet).parse::<ErrPacket<'_>>(CapabilityFlags::CLIENT_PROTOCOL_41) {
        Ok(ErrPacket::Error(e)) => e.into(),
        _ => io::Error::other("an error that cannot be read").into(),
    }
}

/// Whether no row follows; an error of the server is one.
fn is_end(packet: &[u8]) -> Result<bool, DriverError> {
    match packet.first() {
        Some(0xff) => Err(error(packet)),
        // A row may begin with it too: with a length of eight bytes.
        Some(0xfe) => Ok(packet.len() < 9),
        _ => Ok(false),
    }
}

/// Writes cells as [`Wire::rows`] would hand them out.
pub fn encode(packet: &mut Vec<u8>, cells: impl Iterator<Item = Option<impl AsRef<[u8]>>>) {
    packet.clear();
    for cell in cells {
        let Some(cell) = cell else {
            packet.push(0xfb);
            continue;
        };
        let (cell, length) = (cell.as_ref(), (cell.as_ref().len() as u64).to_le_bytes());
        match cell.len() {
            0..=250 => packet.push(length[0]),
            251..=0xffff => packet.extend([0xfc, length[0], length[1]]),
            0x1_0000..=0xff_ffff => packet.extend([0xfd, length[0], length[1], length[2]]),
            _ => {
                packet.push(0xfe);
                packet.extend(length);
            }
        }
        packet.extend_from_slice(cell);
    }
}

/// Takes one cell off the front of a row. The outer `None`: this is no row.
pub fn cell<'a>(packet: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (head, rest) = packet.split_first()?;
    let bytes = match head {
        0xfb => {
            *packet = rest;
            return Some(None);
        }
        0..=0xfa => 0,
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        0xff => return None,
    };
    let mut length = [0; 8];
    length[..bytes].copy_from_slice(rest.get(..bytes)?);
    let length =
        if bytes == 0 { usize::from(*head) } else { usize::try_from(u64::from_le_bytes(length)).ok()? };
    let rest = &rest[bytes..];
    let cell = rest.get(..length)?;
    *packet = &rest[length..];
    Some(Some(cell))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_have_one_form_each() {
        for length in [0usize, 250, 251, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000] {
            let (mut packet, value) = (Vec::new(), vec![7; length]);
            encode(&mut packet, [Some(&value), None].into_iter());
            let mut rest = packet.as_slice();
            assert_eq!(cell(&mut rest).unwrap().unwrap().len(), length);
            assert_eq!(cell(&mut rest), Some(None));
            assert_eq!(cell(&mut rest), None);
        }
    }

    /// What a client reads from a server that writes these parts.
    async fn read(parts: Vec<(u8, Vec<u8>)>, packets: usize) -> io::Result<Vec<Vec<u8>>> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            for (sequence, part) in parts {
                let length = (part.len() as u32).to_le_bytes();
                stream.write_all(&[length[0], length[1], length[2], sequence]).await?;
                stream.write_all(&part).await?;
            }
            Ok::<_, io::Error>(())
        });
        let mut wire = Wire::over(TcpStream::connect(address).await?);
        let mut found = Vec::new();
        for _ in 0..packets {
            found.push(wire.packet().await?.to_vec());
        }
        server.await.unwrap()?;
        Ok(found)
    }

    #[tokio::test]
    async fn long_packets_are_joined_from_all_of_their_parts() {
        let (long, rest) = (vec![1; FULL], vec![2; 3_000_000]);
        let parts =
            vec![(0, vec![9; 5]), (1, long.clone()), (2, long.clone()), (3, rest.clone()), (4, vec![8; 7])];
        let found = read(parts, 3).await.unwrap();
        assert_eq!(found[1], [long.clone(), long.clone(), rest].concat());
        assert_eq!((&found[0], &found[2]), (&vec![9; 5], &vec![8; 7]));
        // A packet of exactly the most bytes has an empty part after it.
        let found = read(vec![(0, long.clone()), (1, vec![]), (2, vec![3])], 2).await.unwrap();
        assert_eq!((found[0].len(), &found[1]), (FULL, &vec![3]));
    }

    #[tokio::test]
    async fn a_server_that_asks_for_a_file_gets_none() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asking = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\x0c\0\0\x01\xfb/etc/passwd").await.unwrap();
            stream
        };
        let (stream, _open) = tokio::join!(TcpStream::connect(address), asking);
        let mut wire = Wire::over(stream.unwrap());
        let error = wire.rows("SELECT 1", |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("asks for a file"), "{error}");
    }

    #[tokio::test]
    async fn what_breaks_off_or_gets_lost_is_an_error() {
        let parts = vec![(0, vec![1; 5]), (2, vec![1; 5])];
        assert!(read(parts, 2).await.unwrap_err().to_string().contains("sequence"));
        let torn = read(vec![(0, vec![1; FULL])], 1).await.unwrap_err();
        assert_eq!(torn.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn rows_are_the_same_packets_only_if_they_are_the_same(
            a in prop::collection::vec(prop::option::of(prop::collection::vec(0u8..4, 0..3)), 3),
            b in prop::collection::vec(prop::option::of(prop::collection::vec(0u8..4, 0..3)), 3),
        ) {
            let packet = |row: &[Option<Vec<u8>>]| {
                let mut packet = Vec::new();
                encode(&mut packet, row.iter().map(Option::as_ref));
                packet
            };
            prop_assert_eq!(packet(&a) == packet(&b), a == b);
        }
    }
}
