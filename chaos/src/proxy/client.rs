//! Commands a proxy server, embedded or a real Toxiproxy, through the `toxiproxy_rust` client.
//!
//! That client blocks and pays no attention to HTTP statuses, so every call runs on a blocking thread and nothing
//! counts as done before a GET of our own has shown it. A fault that was not applied must never pass for one.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::{Proxy, ProxyPack};

pub use super::forwarder::Settings;
use super::toxic::{Effect, Toxic};
use crate::error::Error;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long each step of a last request may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A proxy server, by the address of its HTTP API.
#[derive(Debug, Clone)]
pub struct Toxiproxy {
    api: SocketAddr,
}

impl Toxiproxy {
    /// The server whose API is at `url`, such as `http://127.0.0.1:8474`; it must answer.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::Proxy { api: url.into(), what: "finding the server".into(), why };
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let api = tokio::net::lookup_host(host).await.map_err(|e| wrong(e.to_string()))?.next();
        let this = Self { api: api.ok_or_else(|| wrong("the name has no address".into()))? };
        this.request("GET", "/version", "").await?;
        Ok(this)
    }

    /// Makes a proxy (or replaces it) from `listen` to `upstream` and returns the address that it listens on. Port
    /// 0 in `listen` stands for a free port.
    pub async fn create(&self, name: &str, listen: &str, upstream: &str) -> Result<String, Error> {
        let pack = ProxyPack::new(name.into(), listen.into(), upstream.into());
        self.blocking("creating a proxy", |client| client.populate(vec![pack]).map(drop)).await?;
        let settings = self.get(name).await?;
        self.require("creating a proxy", settings.enabled && settings.upstream == upstream, &settings)?;
        Ok(settings.listen)
    }

    /// A proxy's settings and toxics, freshly asked for.
    pub async fn get(&self, name: &str) -> Result<Settings, Error> {
        let body = self.request("GET", &format!("/proxies/{name}"), "").await?;
        serde_json::from_str(&body)
            .map_err(|e| self.error("reading a proxy's settings", format!("{e} in {body}")))
    }

    /// Refuses connections and breaks the open ones.
    pub async fn disable(&self, name: &str) -> Result<(), Error> {
        self.with_proxy("taking a proxy down", name, |proxy| proxy.disable()).await?;
        let settings = self.get(name).await?;
        self.require("taking a proxy down", !settings.enabled, &settings)
    }

    /// Lets connections through again.
    pub async fn enable(&self, name: &str) -> Result<(), Error> {
        self.with_proxy("taking a proxy up", name, |proxy| proxy.enable()).await?;
        let settings = self.get(name).await?;
        self.require("taking a proxy up", settings.enabled, &settings)
    }

    /// Adds a toxic under its default name (`TYPE_STREAM`), in place of one of that name.
    pub async fn add_toxic(&self, name: &str, toxic: &Toxic) -> Result<(), Error> {
        const WHAT: &str = "adding a toxic";
        let toxic = Toxic { name: String::new(), ..toxic.clone() }.named();
        if self.get(name).await?.toxics.iter().any(|t| t.name == toxic.name) {
            self.request("DELETE", &format!("/proxies/{name}/toxics/{}", toxic.name), "").await?;
        }
        if let Effect::ResetPeer { .. } = toxic.effect {
            // The client has no builder for it.
            let body = serde_json::to_string(&toxic).map_err(|e| self.error(WHAT, e.to_string()))?;
            self.request("POST", &format!("/proxies/{name}/toxics"), &body).await?;
        } else {
            let copy = toxic.clone();
            self.with_proxy(WHAT, name, move |proxy| {
                build(&proxy, &copy);
                Ok(())
            })
            .await?;
        }
        let settings = self.get(name).await?;
        self.require(WHAT, settings.toxics.contains(&toxic), &settings)
    }

    /// Removes all toxics of a proxy.
    pub async fn remove_toxics(&self, name: &str) -> Result<(), Error> {
        self.with_proxy("removing toxics", name, |proxy| proxy.delete_all_toxics()).await?;
        let settings = self.get(name).await?;
        self.require("removing toxics", settings.toxics.is_empty(), &settings)
    }

    /// Removes a proxy for good.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.request("DELETE", &format!("/proxies/{name}"), "").await.map(drop)
    }

    /// Removes a proxy for good once this is dropped: also from somebody else's server, and also when the work that it
    /// was made for is given up in its middle.
    pub fn lease(&self, name: &str) -> Lease {
        Lease { api: self.api, name: name.into() }
    }

    /// Enables all proxies and removes all toxics.
    pub async fn reset(&self) -> Result<(), Error> {
        const WHAT: &str = "resetting all proxies";
        self.blocking(WHAT, |client| client.reset()).await?;
        let body = self.request("GET", "/proxies", "").await?;
        let all: std::collections::BTreeMap<String, Settings> =
            serde_json::from_str(&body).map_err(|e| self.error(WHAT, format!("{e} in {body}")))?;
        all.values().try_for_each(|s| self.require(WHAT, s.enabled && s.toxics.is_empty(), s))
    }

    async fn with_proxy<T: Send + 'static>(
        &self,
        what: &str,
        name: &str,
        action: impl FnOnce(Proxy) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Error> {
        let name = name.to_owned();
        self.blocking(what, move |client| {
            let proxy = client.all()?.remove(&name).ok_or_else(|| format!("there is no proxy {name:?}"))?;
            action(proxy)
        })
        .await
    }

    /// Runs `action` with a fresh client where it may block. The client panics on some errors.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &str,
        action: impl FnOnce(Client) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Error> {
        let api = self.api;
        let done = tokio::task::spawn_blocking(move || action(Client::new(api))).await;
        match done {
            Ok(result) => result.map_err(|why| self.error(what, why)),
            Err(e) => Err(self.error(what, e.to_string())),
        }
    }

    /// One HTTP request; any status but 2xx is an error.
    async fn request(&self, method: &str, path: &str, body: &str) -> Result<String, Error> {
        let what = format!("{method} {path}");
        let exchange = tokio::time::timeout(TIMEOUT, exchange(self.api, method, path, body)).await;
        let text = match exchange {
            Ok(Ok(text)) => text,
            Ok(Err(e)) => return Err(self.error(&what, e.to_string())),
            Err(_) => return Err(self.error(&what, format!("no answer within {} s", TIMEOUT.as_secs()))),
        };
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.split(' ').nth(1).is_some_and(|s| s.starts_with('2')) => {
                Ok(body.into())
            }
            Some((head, body)) => {
                let said = serde_json::from_str::<Value>(body)
                    .ok()
                    .and_then(|v| v["error"].as_str().map(String::from));
                Err(self.error(&what, said.unwrap_or_else(|| head.lines().next().unwrap_or_default().into())))
            }
            None => Err(self.error(&what, "not an HTTP answer".into())),
        }
    }

    fn error(&self, what: &str, why: String) -> Error {
        Error::Proxy { api: self.api.to_string(), what: what.into(), why }
    }

    fn require(&self, what: &str, done: bool, settings: &Settings) -> Result<(), Error> {
        if done {
            Ok(())
        } else {
            Err(self.error(what, format!("it was not applied: the proxy is {settings:?}")))
        }
    }
}

/// See [`Toxiproxy::lease`].
#[derive(Debug)]
pub struct Lease {
    api: SocketAddr,
    name: String,
}

impl Drop for Lease {
    /// Blocks, for at most [`LAST_WORD`] three times: a destructor can wait for nothing else.
    fn drop(&mut self) {
        use std::io::{Read as _, Write as _};
        let deleted = || -> std::io::Result<()> {
            let mut stream = std::net::TcpStream::connect_timeout(&self.api, LAST_WORD)?;
            stream.set_read_timeout(Some(LAST_WORD))?;
            stream.set_write_timeout(Some(LAST_WORD))?;
            stream
                .write_all(request(self.api, "DELETE", &format!("/proxies/{}", self.name), "").as_bytes())?;
            stream.read(&mut [0; 64]).map(drop)
        };
        if let Err(e) = deleted() {
            tracing::warn!("the proxy {} stays on the server at {}: {e}", self.name, self.api);
        }
    }
}

/// HTTP/1.0, so that the answer is not chunked and ends with the connection.
fn request(api: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.0\r\nHost: {api}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

async fn exchange(api: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(api).await?;
    stream.write_all(request(api, method, path, body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn build(proxy: &Proxy, toxic: &Toxic) {
    let (stream, toxicity) = (toxic.stream.name().to_owned(), toxic.toxicity);
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    match toxic.effect {
        Effect::Latency { latency, jitter } => {
            proxy.with_latency(stream, small(latency), small(jitter), toxicity);
        }
        Effect::Bandwidth { rate } => {
            proxy.with_bandwidth(stream, small(rate), toxicity);
        }
        Effect::Timeout { timeout } => {
            proxy.with_timeout(stream, small(timeout), toxicity);
        }
        Effect::SlowClose { delay } => {
            proxy.with_slow_close(stream, small(delay), toxicity);
        }
        Effect::Slicer { average_size, size_variation, delay } => {
            proxy.with_slicer(stream, small(average_size), small(size_variation), small(delay), toxicity);
        }
        Effect::LimitData { bytes } => {
            proxy.with_limit_data(stream, small(bytes), toxicity);
        }
        Effect::ResetPeer { .. } => {}
    }
}
