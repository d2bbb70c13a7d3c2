//! A client that reads all rows of a statement and throws them away, as fast as a socket can be read: the limit that
//! nothing which moves rows to a client can pass.
//!
//! It looks at nothing but where packets end. For servers with root and no password only.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BLOCK: usize = 256 << 10;

/// A connection.
pub struct MinimalClient {
    stream: TcpStream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl MinimalClient {
    /// Logs in as root, without a password.
    pub fn connect_to(port: u16, database: &str) -> impl Future<Output = Result<Self>> + Send + 'static {
        Self::connect(port, database.to_owned())
    }

    async fn connect(port: u16, database: String) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, buffer: vec![0; BLOCK], from: 0, to: 0 };
        client.packet().await?;
        // CLIENT_LONG_PASSWORD, CLIENT_CONNECT_WITH_DB, CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH:
        // without the last one a server takes the client for one that knows the oldest plugin alone.
        let mut login = (0x1u32 | 0x8 | 0x200 | 0x8000 | 0x8_0000).to_le_bytes().to_vec();
        login.extend((1u32 << 30).to_le_bytes());
        login.push(45);
        login.extend([0; 23]);
        login.extend(b"root\0\0");
        login.extend(database.as_bytes());
        login.extend(b"\0caching_sha2_password\0");
        client.send(1, &login).await?;
        let mut answer = client.packet().await?;
        if answer.first() == Some(&0xfe) {
            // Another plugin: without a password each of them wants nothing.
            client.send(3, &[]).await?;
            answer = client.packet().await?;
        }
        let refusal = String::from_utf8_lossy(&answer);
        ensure!(answer.first() == Some(&0), "the server did not let the minimal client in: {refusal}");
        Ok(client)
    }

    async fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_le_bytes();
        let mut packet = vec![length[0], length[1], length[2], sequence];
        packet.extend_from_slice(payload);
        Ok(self.stream.write_all(&packet).await?)
    }

    /// Runs a statement; returns how many rows and bytes of them came.
    pub async fn read(&mut self, sql: &str) -> Result<(u64, u64)> {
        let mut command = vec![3];
        command.extend_from_slice(sql.as_bytes());
        self.send(0, &command).await?;
        let head = self.packet().await?;
        ensure!(head.first() != Some(&0xff), "{sql}: {}", String::from_utf8_lossy(&head));
        while !is_end(&self.packet().await?)? {}
        let (mut rows, mut bytes) = (0, 0);
        loop {
            let have = &self.buffer[self.from..self.to];
            if let [a, b, c, _, rest @ ..] = have {
                let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
                if let Some(packet) = rest.get(..length) {
                    if matches!(packet.first(), Some(0xfe | 0xff)) && is_end(packet)? {
                        self.from += 4 + length;
                        return Ok((rows, bytes));
                    }
                    self.from += 4 + length;
                    rows += 1;
                    bytes += length as u64;
                    continue;
                }
            }
            self.fill().await?;
        }
    }

    async fn packet(&mut self) -> Result<Vec<u8>> {
        loop {
            if let [a, b, c, _, rest @ ..] = &self.buffer[self.from..self.to] {
                let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
                if let Some(packet) = rest.get(..length) {
                    let packet = packet.to_vec();
                    self.from += 4 + length;
                    return Ok(packet);
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        if self.to == self.buffer.len() {
            self.buffer.resize(self.to * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.to..]).await.context("reading rows")?;
        ensure!(read > 0, "the server went away");
        self.to += read;
        Ok(())
    }
}

fn is_end(packet: &[u8]) -> Result<bool> {
    if packet.first() == Some(&0xff) {
        bail!("the server says: {}", String::from_utf8_lossy(packet));
    }
    Ok(packet.first() == Some(&0xfe) && packet.len() < 9)
}
