//! One proxy: a listener, its connections, its toxics.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::link::{Ending, Link, Toxics};
use super::toxic::{Stream, Toxic};
use crate::port::Port;

/// How long connections may take to notice that the proxy is going down.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A proxy's settings, in Toxiproxy's JSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Unique name.
    pub name: String,
    /// `host:port` that clients connect to. Port 0 is replaced by a free one that stays the same.
    #[serde(default)]
    pub listen: String,
    /// `host:port` of the server.
    #[serde(default)]
    pub upstream: String,
    /// Whether connections are let through; otherwise they are refused.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What is done to the bytes.
    #[serde(default)]
    pub toxics: Vec<Toxic>,
}

fn yes() -> bool {
    true
}

impl Settings {
    /// Those of a proxy that does nothing to the bytes yet.
    pub fn new(name: &str, listen: &str, upstream: &str) -> Self {
        let (name, listen, upstream) = (name.into(), listen.into(), upstream.into());
        Self { name, listen, upstream, enabled: true, toxics: Vec::new() }
    }
}

/// A running or disabled proxy.
#[derive(Debug)]
pub struct Forwarder {
    settings: Settings,
    toxics: watch::Sender<Toxics>,
    running: Option<Running>,
    seed: u64,
    /// Keeps the port for this proxy while it is down.
    _port: Option<Port>,
}

#[derive(Debug)]
struct Running {
    down: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// Makes a proxy and, if its settings say so, enables it.
    pub async fn start(mut settings: Settings, seed: u64) -> std::io::Result<Self> {
        let mut port = None;
        if let Some(host) = settings.listen.strip_suffix(":0") {
            let reserved = Port::reserve().map_err(std::io::Error::other)?;
            settings.listen = format!("{host}:{}", reserved.number());
            port = Some(reserved);
        }
        let enabled = std::mem::take(&mut settings.enabled);
        let toxics = std::mem::take(&mut settings.toxics).into_iter().map(Toxic::named).collect();
        let toxics = watch::Sender::new(Arc::new(toxics));
        let mut forwarder = Self { settings, toxics, running: None, seed, _port: port };
        if enabled {
            forwarder.enable().await?;
        }
        Ok(forwarder)
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Settings {
        let toxics = self.toxics.borrow().to_vec();
        Settings { enabled: self.running.is_some(), toxics, ..self.settings.clone() }
    }

    /// Replaces all toxics; open connections feel it at once.
    pub fn set_toxics(&self, toxics: Vec<Toxic>) {
        self.toxics.send_replace(Arc::new(toxics));
    }

    /// Listens, if it does not yet.
    pub async fn enable(&mut self) -> std::io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(&self.settings.listen).await?;
        let (down, goes_down) = watch::channel(false);
        let toxics = self.toxics.subscribe();
        let task =
            tokio::spawn(accept(listener, self.settings.upstream.clone(), toxics, goes_down, self.seed));
        self.running = Some(Running { down, task });
        Ok(())
    }

    /// Closes listener and connections, and returns once they are closed.
    pub async fn disable(&mut self) {
        if let Some(running) = self.running.take() {
            running.down.send_replace(true);
            let _ = running.task.await;
        }
    }

    /// Changes listening address or upstream; restarts the listener if it is enabled.
    pub async fn rewire(&mut self, listen: Option<String>, upstream: Option<String>) -> std::io::Result<()> {
        if listen.is_none() && upstream.is_none() {
            return Ok(());
        }
        let enabled = self.running.is_some();
        self.disable().await;
        self.settings.listen = listen.unwrap_or(std::mem::take(&mut self.settings.listen));
        self.settings.upstream = upstream.unwrap_or(std::mem::take(&mut self.settings.upstream));
        if enabled { self.enable().await } else { Ok(()) }
    }
}

async fn accept(
    listener: TcpListener,
    upstream: String,
    toxics: watch::Receiver<Toxics>,
    down: watch::Receiver<bool>,
    seed: u64,
) {
    let mut stop = down.clone();
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            () = taken_down(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    number += 1;
                    let (upstream, toxics, down) = (upstream.clone(), toxics.clone(), down.clone());
                    connections.spawn(async move { carry(client, &upstream, toxics, down, seed, number).await });
                }
                // Out of file descriptors, most likely: let some connections end first.
                Err(e) => {
                    tracing::warn!("proxy: {e}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, all).await;
    connections.shutdown().await;
}

/// Waits until the proxy is taken down or dropped.
async fn taken_down(down: &mut watch::Receiver<bool>) {
    let _ = down.wait_for(|down| *down).await;
}

async fn carry(
    mut client: TcpStream,
    upstream: &str,
    toxics: watch::Receiver<Toxics>,
    mut down: watch::Receiver<bool>,
    seed: u64,
    number: u64,
) {
    let connected = tokio::select! {
        connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(upstream)) => connected,
        () = taken_down(&mut down) => return,
    };
    let Ok(Ok(mut server)) = connected else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (ending, mut ends) = watch::channel(Ending::Open);
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = Link::new(Stream::Upstream, toxics.clone(), &ending, seed, number);
        let back = Link::new(Stream::Downstream, toxics, &ending, seed, number);
        // A link that ended the connection returns early while the other still waits for bytes.
        let both = async { tokio::join!(up.run(from_client, to_server), back.run(from_server, to_client)) };
        tokio::select! {
            biased;
            _ = ends.wait_for(|ending| *ending != Ending::Open) => {}
            () = taken_down(&mut down) => {}
            _ = both => {}
        }
    }
    if *ending.borrow() == Ending::Reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}
