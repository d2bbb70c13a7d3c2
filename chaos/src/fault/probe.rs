//! Looking at an address from outside: does it take connections, does a server greet, how do connections end?

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Record;
use crate::error::Error;

/// How long the effect of a fault, or of healing it, is looked for.
pub const OBSERVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that should be silent is listened to.
const SILENCE: Duration = Duration::from_millis(500);

/// A connection that a server has greeted on: it is alive from end to end.
pub async fn greeted(record: Record<'_>, address: &str) -> Result<TcpStream, Error> {
    let give_up = Instant::now() + OBSERVE_TIMEOUT;
    loop {
        let attempt = async {
            let mut stream = TcpStream::connect(address).await?;
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.map(|_| stream)
        };
        let why = match tokio::time::timeout(OBSERVE_TIMEOUT, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "no greeting".into(),
        };
        if Instant::now() >= give_up {
            return Err(record.did_not_bite(format!("no server greets at {address}: {why}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How an open connection ended, unless it stays open.
pub async fn broken(stream: &mut TcpStream) -> Option<String> {
    let mut rest = Vec::new();
    match tokio::time::timeout(OBSERVE_TIMEOUT, stream.read_to_end(&mut rest)).await {
        Ok(Ok(_)) => Some("closed".into()),
        Ok(Err(e)) => Some(e.to_string()),
        Err(_) => None,
    }
}

/// How a new connection is refused.
pub async fn refused(record: Record<'_>, address: &str) -> Result<String, Error> {
    match tokio::time::timeout(OBSERVE_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Err(e)) => Ok(e.to_string()),
        Ok(Ok(_)) => Err(record.did_not_bite(format!("{address} still takes connections"))),
        Err(_) => Ok("no answer".into()),
    }
}

/// That connections are taken, and no server greets on them.
pub async fn silent(record: Record<'_>, address: &str) -> Result<String, Error> {
    let connected = tokio::time::timeout(OBSERVE_TIMEOUT, TcpStream::connect(address)).await;
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(record.did_not_bite(format!("{address} takes no connection: {e}"))),
        Err(_) => return Ok(format!("{address} does not answer at all")),
    };
    let mut first = [0; 1];
    match tokio::time::timeout(SILENCE, stream.read_exact(&mut first)).await {
        Err(_) => Ok(format!("{address} takes a connection and says nothing for {} ms", SILENCE.as_millis())),
        Ok(Ok(_)) => Err(record.did_not_bite(format!("a server still greets at {address}"))),
        Ok(Err(e)) => Err(record.did_not_bite(format!("{address} ended the connection: {e}"))),
    }
}
