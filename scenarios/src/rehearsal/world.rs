//! The world of a rehearsal: a source and a target server, and proxies between the mover and both.
//!
//! The mover has an account of its own, with the privileges that it needs and no others, so that a full or read-only
//! server treats it as it would treat anybody.

mod external;
mod preparation;
mod tables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use converge_chaos::fault::Account;
use converge_chaos::history::Kind;
use converge_chaos::load::{self, Invariant, LoadPlan, Script, Subject};
use converge_chaos::proxy::ProxyServer;
use converge_chaos::proxy::client::{Lease, Toxiproxy};
#[cfg(feature = "docker")]
use converge_chaos::server::Container;
use converge_chaos::server::{LocalServer, Machine, OwnServer, ServerBinary, ServerOptions, replica_option};
use converge_mysql::{Address, Connector, Error as ServerError, Flavor, ServerInfo, Version, quote};
use mysql_async::prelude::Queryable;
use tokio::sync::watch;

use self::external::Footprint;
pub use self::external::Leftovers;
use self::preparation::{account, prepare};
use super::mover::{Mover, Route};
use super::servers::{External, Servers, Turns};
use super::{Options, RehearsalError};
use crate::mutant::Mutant;
use crate::oracle::source::Sources;
use crate::scenario::{FaultKind, Side};

/// The database on both servers.
pub const DATABASE: &str = "commerce";
/// Where the mover keeps its state and leaves its marks.
const STATE: &str = "_converge";
/// The names of servers and proxies.
const SOURCE: &str = "source";
const TARGET: &str = "target";
const REPLICA: &str = "replica";
/// MiB that a server has on a disk of its own. It takes as much memory as is written.
const DISK: u32 = 2048;
/// How long a replica may take to have what was seeded.
const SEEDED: Duration = Duration::from_secs(120);
/// The mover's account on both servers.
const MOVER: &str = "mover";

/// A server, and the way that the mover takes to it.
pub struct Place {
    host: Host,
    /// The administrator's address, without a proxy.
    pub admin: Address,
    /// The mover's address, without a proxy.
    pub direct: Address,
    /// The mover's address behind the proxy.
    pub proxied: Address,
    /// The proxy's name.
    pub proxy: String,
    /// Removes the proxy from a server that goes on afterwards.
    _lease: Option<Lease>,
    /// Removes what was made on a server that goes on afterwards, and undoes what was set.
    footprint: Option<Footprint>,
}

/// What is known of a server besides its address.
enum Host {
    /// It is ours.
    Own(OwnServer),
    /// It is somebody else's.
    External(ServerInfo),
}

impl Place {
    /// Who breaks sessions here, and whose.
    pub fn account(&self) -> Account<'_> {
        Account { admin: &self.admin, victim: &self.direct }
    }

    /// MySQL or MariaDB.
    pub fn flavor(&self) -> Flavor {
        self.info().flavor
    }

    /// Product and version.
    pub fn info(&self) -> &ServerInfo {
        match &self.host {
            Host::Own(server) => server.info(),
            Host::External(info) => info,
        }
    }

    /// Remembers settings of the whole server that a fault is about to change, where the server goes on afterwards.
    pub async fn borrow(&self, settings: &[&str]) -> Result<(), RehearsalError> {
        match &self.footprint {
            Some(footprint) => Ok(footprint.borrow(settings).await?),
            None => Ok(()),
        }
    }

    /// Gives them their former values.
    pub async fn give_back(&self) -> Result<(), RehearsalError> {
        match &self.footprint {
            Some(footprint) => Ok(footprint.give_back().await?),
            None => Ok(()),
        }
    }

    /// The server, where it is ours.
    pub fn server(&self) -> Result<&OwnServer, RehearsalError> {
        match &self.host {
            Host::Own(server) => Ok(server),
            Host::External(_) => Err(RehearsalError::NotOurs(self.admin.to_string())),
        }
    }

    /// The process, where it is one of this machine and ours.
    pub fn local(&self) -> Result<&LocalServer, RehearsalError> {
        match &self.host {
            Host::Own(OwnServer::Local(server)) => Ok(server),
            _ => Err(RehearsalError::NotOurs(self.admin.to_string())),
        }
    }

    /// The container, where it is in one.
    #[cfg(feature = "docker")]
    pub fn container(&self) -> Result<&Container, RehearsalError> {
        match &self.host {
            Host::Own(OwnServer::Container(server)) => Ok(server),
            _ => Err(RehearsalError::NeedsContainer(FaultKind::Unplug.name())),
        }
    }
}

/// What there is to be moved.
pub struct Seeded {
    /// The tables.
    pub tables: Vec<String>,
    /// Their rows, all together.
    pub rows: u64,
    /// The kinds of statements that these tables take.
    pub kinds: Vec<Kind>,
    /// Those of the tables that load cannot be sent to.
    pub idle: Vec<String>,
    /// What is left out, and why.
    pub notes: Vec<String>,
}

/// Everything that runs besides the load and the mover.
pub struct World {
    /// Where rows come from at first.
    primary: Place,
    /// A replica of it, if a fault needs one.
    pub replica: Option<Place>,
    /// Where rows come from by now.
    source_is: watch::Sender<Address>,
    /// Where rows go to.
    pub target: Place,
    /// Drives the proxies.
    pub proxies: Toxiproxy,
    /// The proxy itself, unless it is somebody else's.
    server: Option<ProxyServer>,
    /// Given back after everything else: then there is nothing left on the servers.
    _turns: Option<Turns>,
}

impl World {
    /// Starts everything.
    pub async fn start(options: &Options, toxiproxy: Option<&str>) -> Result<Self, RehearsalError> {
        let turns = match &options.servers {
            Servers::External(external) => {
                external.are_two().await?;
                Some(external.turns().await?)
            }
            _ => None,
        };
        // Servers come first: what cannot be used must not cost a proxy.
        let hosts = match &options.servers {
            Servers::Private(binary) => Hosts::start(options, binary).await?,
            #[cfg(feature = "docker")]
            Servers::Docker(image) => Hosts::contain(image).await?,
            Servers::External(external) => Hosts::find(external).await?,
        };
        let (url, server) = match toxiproxy {
            Some(url) => (url.to_owned(), None),
            None => {
                let server = ProxyServer::start("127.0.0.1:0", options.seed).await?;
                (server.url(), Some(server))
            }
        };
        let proxies = Toxiproxy::connect(&url).await?;
        let guest = server.is_none();
        let primary = place(hosts.source, SOURCE, &proxies, guest).await?;
        let target = place(hosts.target, TARGET, &proxies, guest).await?;
        prepare(&primary, Side::Source).await?;
        prepare(&target, Side::Target).await?;
        let replica = match hosts.replica {
            // What the primary was prepared with, it replicates.
            Some(replica) => Some(place(replica, REPLICA, &proxies, guest).await?),
            None => None,
        };
        let source_is = watch::Sender::new(primary.admin.clone());
        Ok(Self { primary, replica, source_is, target, proxies, server, _turns: turns })
    }

    /// The directories of the servers that are processes of this machine.
    pub fn directories(&self) -> Vec<PathBuf> {
        let places = [&self.primary, &self.target].into_iter().chain(&self.replica);
        places.filter_map(|place| Some(place.local().ok()?.directory().to_owned())).collect()
    }

    /// The place on one side.
    pub fn at(&self, side: Side) -> &Place {
        match side {
            Side::Source => self.source(),
            Side::Target => &self.target,
        }
    }

    /// Where rows come from by now.
    pub fn source(&self) -> &Place {
        match &self.replica {
            Some(replica) if *self.source_is.borrow() == replica.admin => replica,
            _ => &self.primary,
        }
    }

    /// From now on the replica is the source.
    pub fn promote_replica(&self) {
        if let Some(replica) = &self.replica {
            self.source_is.send_replace(replica.admin.clone());
        }
    }

    /// The source, without the proxy.
    pub fn source_address(&self) -> Address {
        self.source_is.borrow().clone()
    }

    /// The same for those who must learn when it changes.
    pub fn where_the_source_is(&self) -> watch::Receiver<Address> {
        self.source_is.subscribe()
    }

    /// The target, without the proxy.
    pub fn target_address(&self) -> Address {
        self.target.admin.clone()
    }

    /// The scenario's load, as these servers take it. MySQL logs what a REPLACE does to a parent as a deletion since 9.6,
    /// which its replicas refuse while there are children.
    pub fn load_plan(&self, options: &Options) -> LoadPlan {
        let spare_parents =
            options.scenario.has(FaultKind::Failover) && self.primary.info().is_mysql_since(Version(9, 6, 0));
        LoadPlan { seed: options.seed, spare_parents, ..options.scenario.load.clone() }
    }

    /// Creates and fills the tables on the source.
    pub async fn seed(&self, options: &Options) -> Result<Seeded, RehearsalError> {
        let (scenario, address) = (&options.scenario, self.source_address());
        let plan = self.load_plan(options);
        load::check(&address, &plan).await?;
        if let Some(file) = &scenario.schema {
            let sql = std::fs::read(file).map_err(RehearsalError::io("reading the schema", file))?;
            Script::parse(file, &sql, DATABASE)?.run(&address).await?;
        }
        let mut notes = load::prepare(&address, &plan).await?;
        let (mut tables, mut idle, mut model) = (scenario.tables.clone(), Vec::new(), None);
        let strategy = scenario.copy.strategy.parse()?;
        if plan.subject != Subject::Commerce {
            let model = &*model.insert(load::read_model(&address).await?);
            let own = Invariant::ALL.map(|invariant| plan.subject.names().of(invariant));
            // MySQL shows triggers to those alone who may make them, which the mover may not on the source.
            let said = tables::asked(&address, &self.target.direct, strategy, model).await?;
            let choice = tables::chosen(&tables, model, &own, &said)?;
            (tables, idle) = (choice.tables, choice.idle);
            notes.extend(choice.notes);
            if plan.spare_parents {
                notes.push(
                    "tables that foreign keys refer to get no REPLACE: a replica stops at it".to_owned(),
                );
            }
        }
        // Private servers are as the mover needs them.
        if !options.servers.are_private() {
            tables::allowed(&self.primary.direct, &self.target.direct, strategy, &tables).await?;
        }
        let kinds = load::kinds(&plan, model.as_ref(), &tables);
        let mut conn = Connector::new(address).connect().await?;
        let mut rows = 0;
        for table in &tables {
            let count: Option<u64> = conn
                .query_first(format!("SELECT COUNT(*) FROM {}", quote::ident(table)))
                .await
                .map_err(|e| ServerError::driver(format!("counting the rows of {table}"), e))?;
            rows += count.unwrap_or(0);
        }
        Ok(Seeded { tables, rows, kinds, idle, notes })
    }

    /// Begins to watch the logs of the source and of what may become it, before anybody writes to what was seeded.
    pub async fn watch_sources(&self, moved: &[String], history: &Path) -> Sources {
        let mut servers = vec![self.source_address()];
        if let Some(replica) = &self.replica
            && let (Ok(primary), Ok(server)) = (self.primary.local(), replica.local())
            && let Ok(Some(_)) = server.wait_for_all_of(primary, SEEDED).await
        {
            servers.push(replica.admin.clone());
        }
        Sources::begin(&servers, moved, history).await
    }

    /// The mover of the scenario, not started yet.
    pub fn mover(&self, options: &Options, tables: &[String], log: &Path) -> Mover {
        let scenario = &options.scenario;
        let way = |place: &Place| match options.mutant {
            Some(Mutant::ProxyBypassed) => place.direct.clone(),
            _ => place.proxied.clone(),
        };
        let route =
            Route { source: way(self.source()), target: way(&self.target), status: self.target_address() };
        Mover::new(&options.program, route, tables, &scenario.copy, log.into())
            .with_environment(&options.mover_environment)
    }

    /// Ends everything. What cannot end politely is killed when dropped.
    pub async fn stop(self) {
        for place in [&self.primary, &self.target].into_iter().chain(&self.replica) {
            let _ = self.proxies.disable(&place.proxy).await;
        }
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// A server, how its administrator and the mover log in, and what is to be removed from it.
struct Site {
    host: Host,
    admin: Address,
    direct: Address,
    footprint: Option<Footprint>,
}

/// The servers before there are proxies.
struct Hosts {
    source: Site,
    target: Site,
    replica: Option<Site>,
}

impl Hosts {
    /// Private servers, started side by side.
    async fn start(options: &Options, binary: &ServerBinary) -> Result<Self, RehearsalError> {
        // A server changes into its data directory, where a relative path would lead elsewhere.
        let directory = std::path::absolute(&options.directory)
            .map_err(RehearsalError::io("finding", &options.directory))?;
        let server = |name: &str, mut extra: Vec<String>| {
            if binary.info.flavor == Flavor::MySql && name != TARGET {
                // MariaDB does so unasked. A replica logs the texts that it gets, and what others write comes with theirs.
                extra.push("--binlog-rows-query-log-events=ON".into());
            }
            let log = Some(directory.join(format!("{name}.log")));
            let disk = (name == TARGET && options.scenario.has(FaultKind::DiskFull)).then_some(DISK);
            let (name, keep) = (name.to_owned(), options.keep);
            let options = ServerOptions { name, log, disk, extra, keep, ..ServerOptions::default() };
            LocalServer::start(binary, options)
        };
        let replica = async {
            let wanted = options.scenario.has(FaultKind::Failover);
            let extra = vec![replica_option(binary.info.flavor).to_owned()];
            if wanted { server(REPLICA, extra).await.map(Some) } else { Ok(None) }
        };
        // All are waited for before an error goes up: a start that is given up in its middle would leave something behind.
        let (source, target, replica) =
            tokio::join!(server(SOURCE, Vec::new()), server(TARGET, Vec::new()), replica);
        let (source, target, replica) = (source?, target?, replica?);
        if let Some(replica) = &replica {
            replica.replicate(&source).await?;
        }
        Ok(Self {
            source: Site::local(source),
            target: Site::local(target),
            replica: replica.map(Site::local),
        })
    }

    /// Private servers in containers.
    #[cfg(feature = "docker")]
    async fn contain(image: &str) -> Result<Self, RehearsalError> {
        let server = async |name| {
            let server = Container::start(image, &ServerOptions::named(name)).await?;
            let admin = server.address(DATABASE);
            Ok::<_, RehearsalError>(Site::own(OwnServer::Container(Box::new(server)), admin))
        };
        // One after the other: a missing image is pulled once.
        let source = server(SOURCE).await?;
        Ok(Self { source, target: server(TARGET).await?, replica: None })
    }

    /// Somebody's servers. Nothing is made on either before both are seen to have room.
    async fn find(external: &External) -> Result<Self, RehearsalError> {
        let (source, target) = (&external.source, &external.target);
        let (on_source, on_target) =
            (Footprint::in_the_way(source).await?, Footprint::in_the_way(target).await?);
        let (mut there, mut clearing) = (Vec::new(), Vec::new());
        for (server, databases) in [(source, &on_source), (target, &on_target)] {
            if databases.is_empty() {
                continue;
            }
            let changed = Footprint::changed(server).await.join("; ");
            if external.i_know && !changed.is_empty() {
                tracing::warn!(
                    "a rehearsal that was killed changed settings of {server}; what to do: {changed}"
                );
            }
            there.push(format!("a database {} on {server}", databases.join(" and a database ")));
            clearing.push(format!("on {server}: {}", Footprint::clearing(server, databases).await));
        }
        if !there.is_empty() && !external.i_know {
            return Err(RehearsalError::in_the_way(&there, &clearing));
        }
        Ok(Self {
            source: Site::external(source, &on_source, &external.left).await?,
            target: Site::external(target, &on_target, &external.left).await?,
            replica: None,
        })
    }
}

impl Site {
    fn local(server: LocalServer) -> Self {
        let admin = server.address(DATABASE);
        Self::own(OwnServer::Local(Box::new(server)), admin)
    }

    fn own(server: OwnServer, admin: Address) -> Self {
        let direct = Address { user: MOVER.into(), ..admin.clone() };
        Self { host: Host::Own(server), admin, direct, footprint: None }
    }

    async fn external(url: &Address, there: &[String], left: &Leftovers) -> Result<Self, RehearsalError> {
        let mut conn = Connector::new(url.with_database("")).connect().await?;
        let info = ServerInfo::read(&mut conn).await?;
        converge_mysql::connect::close(conn).await;
        let admin = url.with_database(DATABASE);
        // An account that nobody has, with a password that nobody knows and every policy takes.
        let user = format!("{MOVER}_{:08x}", rand::random::<u32>());
        let password = format!("Aa1-{:032x}", rand::random::<u128>());
        let direct = Address { user, password, password_from: None, ..admin.clone() };
        let footprint = Some(Footprint::new(&admin, &account(&direct, &Host::External(info)), there, left));
        Ok(Self { host: Host::External(info), admin, direct, footprint })
    }
}

/// Puts a proxy before a server; as a guest of a proxy server, whose other proxies are not touched, under a name that
/// nobody else has.
async fn place(site: Site, name: &str, proxies: &Toxiproxy, guest: bool) -> Result<Place, RehearsalError> {
    let Site { host, admin, direct, footprint } = site;
    let proxy = if guest { format!("converge-{name}-{}", admin.port) } else { name.to_owned() };
    let lease = guest.then(|| proxies.lease(&proxy));
    let upstream = format!("{}:{}", admin.host, admin.port);
    let listening = proxies.create(&proxy, "127.0.0.1:0", &upstream).await?;
    let (name, port) = endpoint(&listening).ok_or_else(|| {
        RehearsalError::Mover(format!("the proxy listens on {listening}, which is no address"))
    })?;
    let proxied = direct.with_endpoint(&name, port);
    Ok(Place { host, admin, direct, proxied, proxy, _lease: lease, footprint })
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
