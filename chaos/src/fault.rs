//! Faults: each is injected, *seen* to bite, and healed, and all three are in the history.
//!
//! A fault that was not seen to bite is an error here, never a success.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::error::Error;
use crate::history::{History, Phase};
use crate::proxy::client::Toxiproxy;
use crate::server::LocalServer;

/// How long the effect of a fault, or of healing it, is looked for.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Kills a server with SIGKILL. Returns the evidence: its process is gone and its port refuses connections.
pub async fn kill_server(name: &str, server: &LocalServer, history: &History) -> Result<String, Error> {
    history.fault(name, Phase::Inject, format!("SIGKILL to {}", server.binary().info));
    let pid = server.kill().await?;
    let refusal = refused(name, &format!("127.0.0.1:{}", server.port())).await?;
    let evidence = format!("process {pid} is gone; port {}: {refusal}", server.port());
    history.fault(name, Phase::Observed, evidence.clone());
    Ok(evidence)
}

/// Starts a killed server again and waits until it answers queries.
pub async fn restart_server(name: &str, server: &LocalServer, history: &History) -> Result<(), Error> {
    let began = Instant::now();
    server.restart().await?;
    let took = began.elapsed().as_secs_f64();
    history.fault(name, Phase::Healed, format!("answers queries again, {took:.2} s after its start"));
    Ok(())
}

/// Takes a proxy down. Returns the evidence: a live connection through it broke, and a new one was refused.
pub async fn proxy_down(
    name: &str,
    proxies: &Toxiproxy,
    proxy: &str,
    history: &History,
) -> Result<String, Error> {
    let listen = proxies.get(proxy).await?.listen;
    let mut live = greeted(name, &listen).await?;
    history.fault(name, Phase::Inject, format!("proxy {proxy} on {listen} goes down"));
    proxies.disable(proxy).await?;
    let broke = broken(&mut live)
        .await
        .ok_or_else(|| did_not_bite(name, format!("a connection through {listen} is still open")))?;
    let refusal = refused(name, &listen).await?;
    let evidence = format!("a live connection through {listen}: {broke}; a new one: {refusal}");
    history.fault(name, Phase::Observed, evidence.clone());
    Ok(evidence)
}

/// Takes a proxy up again and waits until a server greets through it.
pub async fn proxy_up(name: &str, proxies: &Toxiproxy, proxy: &str, history: &History) -> Result<(), Error> {
    let began = Instant::now();
    proxies.enable(proxy).await?;
    let listen = proxies.get(proxy).await?.listen;
    greeted(name, &listen).await?;
    let took = began.elapsed().as_secs_f64();
    history.fault(name, Phase::Healed, format!("a server greets through {listen} again, after {took:.2} s"));
    Ok(())
}

fn did_not_bite(name: &str, why: String) -> Error {
    Error::FaultDidNotBite { fault: name.into(), why }
}

/// A connection that a server has greeted on: it is alive from end to end.
async fn greeted(name: &str, address: &str) -> Result<TcpStream, Error> {
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
            return Err(did_not_bite(name, format!("no server greets at {address}: {why}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How an open connection ended, unless it stays open.
async fn broken(stream: &mut TcpStream) -> Option<String> {
    let mut rest = Vec::new();
    match tokio::time::timeout(OBSERVE_TIMEOUT, stream.read_to_end(&mut rest)).await {
        Ok(Ok(_)) => Some("closed".into()),
        Ok(Err(e)) => Some(e.to_string()),
        Err(_) => None,
    }
}

/// How a new connection is refused.
async fn refused(name: &str, address: &str) -> Result<String, Error> {
    match tokio::time::timeout(OBSERVE_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Err(e)) => Ok(e.to_string()),
        Ok(Ok(_)) => Err(did_not_bite(name, format!("{address} still takes connections"))),
        Err(_) => Ok("no answer".into()),
    }
}
