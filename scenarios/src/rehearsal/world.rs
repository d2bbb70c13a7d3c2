//! The world of a rehearsal: a source and a target server, and proxies between the mover and both.
//!
//! The mover has an account of its own, with the privileges that it needs and no others, so that a full or read-only
//! server treats it as it would treat anybody.

use std::path::Path;

use converge_chaos::fault::Account;
use converge_chaos::load;
use converge_chaos::proxy::ProxyServer;
use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::server::{LocalServer, ServerOptions};
use converge_mysql::{Address, Connector, Error as ServerError, Flavor, quote};
use mysql_async::prelude::Queryable;

use super::mover::{Mover, Route};
use super::{Options, RehearsalError};
use crate::scenario::Side;

/// The database on both servers.
const DATABASE: &str = "commerce";
/// The names of servers and proxies.
const SOURCE: &str = "source";
const TARGET: &str = "target";
/// The mover's account on both servers.
const MOVER: &str = "mover";

/// A server, and the way that the mover takes to it.
pub struct Place {
    /// The server.
    pub server: LocalServer,
    /// The administrator's address, without a proxy.
    pub admin: Address,
    /// The mover's address, without a proxy.
    pub direct: Address,
    /// The mover's address behind the proxy.
    pub proxied: Address,
    /// The proxy's name.
    pub proxy: &'static str,
}

impl Place {
    /// Who breaks sessions here, and whose.
    pub fn account(&self) -> Account<'_> {
        Account { admin: &self.admin, victim: &self.direct }
    }

    /// MySQL or MariaDB.
    pub fn flavor(&self) -> Flavor {
        self.server.binary().info.flavor
    }
}

/// Everything that runs besides the load and the mover.
pub struct World {
    /// Where rows come from.
    pub source: Place,
    /// Where rows go to.
    pub target: Place,
    /// Drives the proxies.
    pub proxies: Toxiproxy,
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
        let (source, target) = tokio::try_join!(server(SOURCE), server(TARGET))?;
        let (url, server) = match toxiproxy {
            Some(url) => (url.to_owned(), None),
            None => {
                let server = ProxyServer::start("127.0.0.1:0", options.seed).await?;
                (server.url(), Some(server))
            }
        };
        let proxies = Toxiproxy::connect(&url).await?;
        let source = place(source, SOURCE, &proxies).await?;
        let target = place(target, TARGET, &proxies).await?;
        Ok(Self { source, target, proxies, server })
    }

    /// The place on one side.
    pub fn at(&self, side: Side) -> &Place {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// The source, without the proxy.
    pub fn source_address(&self) -> Address {
        self.source.admin.clone()
    }

    /// The target, without the proxy.
    pub fn target_address(&self) -> Address {
        self.target.admin.clone()
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
        let route = Route {
            source: self.source.proxied.clone(),
            target: self.target.proxied.clone(),
            status: self.target_address(),
        };
        Mover::new(&options.program, route, &scenario.tables, &scenario.copy, log.into())
    }

    /// Ends everything. What cannot end politely is killed when dropped.
    pub async fn stop(self, keep: bool) {
        if keep {
            self.source.server.keep();
            self.target.server.keep();
        }
        for place in [&self.source, &self.target] {
            let _ = self.proxies.disable(place.proxy).await;
        }
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// Puts database and account on a server, and a proxy before it.
async fn place(
    server: LocalServer,
    proxy: &'static str,
    proxies: &Toxiproxy,
) -> Result<Place, RehearsalError> {
    let admin = server.address(DATABASE);
    let direct = Address { user: MOVER.into(), ..admin.clone() };
    let listening = proxies.create(proxy, "127.0.0.1:0", &format!("127.0.0.1:{}", server.port())).await?;
    let (host, port) = endpoint(&listening).ok_or_else(|| {
        RehearsalError::Mover(format!("the proxy listens on {listening}, which is no address"))
    })?;
    let proxied = direct.clone().with_endpoint(&host, port);
    let place = Place { server, admin, direct, proxied, proxy };
    let mut conn = Connector::new(place.server.address("")).connect().await?;
    for statement in preparation(place.flavor()) {
        conn.query_drop(&statement)
            .await
            .map_err(|e| ServerError::driver(format!("preparing the {proxy}: {statement}"), e))?;
    }
    Ok(place)
}

fn preparation(flavor: Flavor) -> Vec<String> {
    let (database, account) = (quote::ident(DATABASE), format!("'{MOVER}'@'127.0.0.1'"));
    let watch = match flavor {
        Flavor::MySql => "REPLICATION CLIENT",
        Flavor::MariaDb => "BINLOG MONITOR, SLAVE MONITOR",
    };
    vec![
        format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"),
        format!("CREATE USER {account}"),
        format!("GRANT ALL ON {database}.* TO {account}"),
        format!("GRANT ALL ON `_converge`.* TO {account}"),
        format!("GRANT REPLICATION SLAVE, RELOAD, {watch} ON *.* TO {account}"),
    ]
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
