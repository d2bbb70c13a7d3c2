//! A TCP proxy between a server and its clients, to break the network with. It is commanded over the HTTP API of
//! [Toxiproxy](https://github.com/Shopify/toxiproxy), so that a Toxiproxy server can be put in its place.
//!
//! Everything random in it is drawn from a seed. Nothing here decides when to break what.

mod api;
pub mod client;
mod forwarder;
mod link;
mod toxic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub use toxic::{Effect, Stream, Toxic};

use crate::error::Error;
use forwarder::{Forwarder, Settings};

/// All proxies of one server, by name.
#[derive(Debug)]
pub(crate) struct Registry {
    proxies: Mutex<BTreeMap<String, Forwarder>>,
    seed: u64,
}

/// An embedded proxy server. Dropping it closes its API; [`ProxyServer::stop`] also closes every connection and
/// waits for that.
#[derive(Debug)]
pub struct ProxyServer {
    api: SocketAddr,
    registry: Arc<Registry>,
    task: JoinHandle<()>,
}

impl ProxyServer {
    /// Starts the HTTP API on `listen` (`127.0.0.1:0` for any free port). Jitter, slices and toxicity are drawn
    /// from `seed` and the order of connections.
    pub async fn start(listen: &str, seed: u64) -> Result<Self, Error> {
        let failed = |source| Error::Listen { listen: listen.into(), source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let api = listener.local_addr().map_err(failed)?;
        let registry = Arc::new(Registry { proxies: Mutex::default(), seed });
        let router = api::router(Arc::clone(&registry));
        let task = tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, router).await {
                tracing::error!("the proxy's API ended: {e}");
            }
        });
        Ok(Self { api, registry, task })
    }

    /// Where the HTTP API listens.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The API as a URL, such as `http://127.0.0.1:8474`.
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Makes a proxy from `listen` to `upstream`, as a command to the API would, and returns the address that it listens on.
    pub async fn add(&self, name: &str, listen: &str, upstream: &str) -> Result<String, Error> {
        let settings = Settings::new(name, listen, upstream);
        let failed = |source| Error::Listen { listen: listen.into(), source };
        let proxy = Forwarder::start(settings, self.registry.seed).await.map_err(failed)?;
        let listening = proxy.settings().listen;
        self.registry.proxies.lock().await.insert(name.into(), proxy);
        Ok(listening)
    }

    /// Takes every proxy down and closes the API.
    pub async fn stop(self) {
        for proxy in self.registry.proxies.lock().await.values_mut() {
            proxy.disable().await;
        }
    }
}

impl Drop for ProxyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
