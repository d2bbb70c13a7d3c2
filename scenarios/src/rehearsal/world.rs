//! The world of a rehearsal: a source and a target server, and a proxy between the mover and the source.

use std::path::Path;

use converge_chaos::load;
use converge_chaos::proxy::ProxyServer;
use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::server::{LocalServer, ServerOptions};
use converge_mysql::{Address, Connector, Error as ServerError, quote};
use mysql_async::prelude::Queryable;

use super::mover::Mover;
use super::{Options, RehearsalError};

/// The database on both servers.
const DATABASE: &str = "commerce";
/// The proxy's name.
pub const PROXY: &str = "source";

/// Everything that runs besides the load and the mover.
pub struct World {
    /// Where rows come from.
    pub source: LocalServer,
    /// Where rows go to.
    pub target: LocalServer,
    /// Drives the proxy.
    pub proxy: Toxiproxy,
    /// The address of the source behind the proxy.
    pub proxied: Address,
    /// The proxy itself, unless it is somebody else's.
    server: Option<ProxyServer>,
}

impl World {
    /// Starts everything, side by side.
    pub async fn start(options: &Options, toxiproxy: Option<&str>) -> Result<Self, RehearsalError> {
        // A server changes into its data directory, where a relative path would lead elsewhere.
        let directory = std::path::absolute(&options.directory)
            .map_err(RehearsalError::io("finding", &options.directory))?;
        let server = |name: &str| {
            let log = Some(directory.join(format!("{name}.log")));
            let name = name.to_owned();
            LocalServer::start(&options.server, ServerOptions { name, log, ..ServerOptions::default() })
        };
        let (source, target) = tokio::try_join!(server("source"), server("target"))?;
        let (url, server) = match toxiproxy {
            Some(url) => (url.to_owned(), None),
            None => {
                let server = ProxyServer::start("127.0.0.1:0", options.seed).await?;
                (server.url(), Some(server))
            }
        };
        let proxy = Toxiproxy::connect(&url).await?;
        let listening = proxy.create(PROXY, "127.0.0.1:0", &format!("127.0.0.1:{}", source.port())).await?;
        let proxied = endpoint(&listening)
            .map(|(host, port)| source.address(DATABASE).with_endpoint(&host, port))
            .ok_or_else(|| {
                RehearsalError::Mover(format!("the proxy listens on {listening}, which is no address"))
            })?;
        for side in [&source, &target] {
            let mut conn = Connector::new(side.address("")).connect().await?;
            let create = format!("CREATE DATABASE {} CHARACTER SET utf8mb4", quote::ident(DATABASE));
            conn.query_drop(create).await.map_err(|e| ServerError::driver("creating the database", e))?;
        }
        Ok(Self { source, target, proxy, proxied, server })
    }

    /// The source, without the proxy.
    pub fn source_address(&self) -> Address {
        self.source.address(DATABASE)
    }

    /// The target.
    pub fn target_address(&self) -> Address {
        self.target.address(DATABASE)
    }

    /// Creates and fills the tables on the source; the number of rows in those that are moved.
    pub async fn seed(&self, options: &Options) -> Result<u64, RehearsalError> {
        let scenario = &options.scenario;
        load::create_schema(&self.source_address()).await?;
        load::seed_rows(&self.source_address(), options.seed, scenario.load.rows).await?;
        let mut conn = Connector::new(self.source_address()).connect().await?;
        let mut rows = 0;
        for table in &scenario.tables {
            let count: Option<u64> = conn
                .query_first(format!("SELECT COUNT(*) FROM {}", quote::ident(table)))
                .await
                .map_err(|e| ServerError::driver(format!("counting the rows of {table}"), e))?;
            rows += count.unwrap_or(0);
        }
        Ok(rows)
    }

    /// The mover of the scenario, not started yet.
    pub fn mover(&self, options: &Options, log: &Path) -> Mover {
        let scenario = &options.scenario;
        Mover::new(
            &options.program,
            &self.proxied,
            &self.target_address(),
            &scenario.tables,
            &scenario.copy,
            log.into(),
        )
    }

    /// Ends everything. What cannot end politely is killed when dropped.
    pub async fn stop(self, keep: bool) {
        if keep {
            self.source.keep();
            self.target.keep();
        }
        let _ = self.proxy.disable(PROXY).await;
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

fn endpoint(listening: &str) -> Option<(String, u16)> {
    let (host, port) = listening.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // A proxy that listens everywhere is reached over loopback.
    let host = if matches!(host, "" | "::" | "0.0.0.0") { "127.0.0.1" } else { host };
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_may_name_its_address_in_several_ways() {
        assert_eq!(endpoint("127.0.0.1:80"), Some(("127.0.0.1".into(), 80)));
        assert_eq!(endpoint("[::]:80"), Some(("127.0.0.1".into(), 80)));
        assert_eq!(endpoint("nowhere"), None);
    }
}
