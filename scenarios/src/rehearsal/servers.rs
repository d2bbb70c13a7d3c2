//! Which two servers a rehearsal is on: private ones that it starts itself, as processes or in containers, or somebody's,
//! of which it needs nothing but a connection, and where only what can be undone over one is broken.

use std::fmt;
use std::time::Duration;

use converge_chaos::server::ServerBinary;
use converge_mysql::{Address, Connector, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Leftovers, RehearsalError};
use crate::scenario::{FaultKind, Scenario};

/// How long the servers may take for an answer.
const BOUND: Duration = Duration::from_secs(20);

/// Source and target.
#[derive(Debug, Clone)]
pub enum Servers {
    /// Two private ones, both of this binary.
    Private(ServerBinary),
    /// Two private ones in containers, both of this image.
    #[cfg(feature = "docker")]
    Docker(String),
    /// Two that are there already.
    External(Box<External>),
}

/// Two servers that are not the rehearsal's own.
#[derive(Debug, Clone)]
pub struct External {
    /// An administrator's address of the source.
    pub source: Address,
    /// An administrator's address of the target.
    pub target: Address,
    /// Databases that the rehearsal writes to may be there already, and logs may be purged.
    pub i_know: bool,
    /// Whether something of the rehearsal could not be removed from them.
    pub left: Leftovers,
}

/// Sessions that hold the locks by which rehearsals keep off each other; dropped, the servers are free.
#[derive(Debug)]
pub struct Turns {
    _sessions: Vec<Conn>,
}

impl External {
    /// Keeps every other rehearsal off both servers for as long as the answer is kept: all of them use the same databases.
    pub(super) async fn turns(&self) -> Result<Turns, RehearsalError> {
        let mut turns = Vec::new();
        for address in [&self.source, &self.target] {
            // It is idle for as long as the rehearsal goes on.
            let connector =
                Connector::new(address.with_database("")).with_setup("SET SESSION wait_timeout = 2147483");
            let mut conn = connector.connect().await?;
            // Not `converge.NAME`: those are the locks of workflows.
            let lock = conn.query_first("SELECT GET_LOCK('converge rehearsals', 0)");
            let got: Option<Option<u64>> = within(BOUND, "taking the servers", lock).await?;
            if got.flatten() != Some(1) {
                return Err(RehearsalError::Taken(address.to_string()));
            }
            turns.push(conn);
        }
        Ok(Turns { _sessions: turns })
    }

    /// Refuses one server under two addresses. What one connection locks by name, any other one of the same server sees
    /// locked, and no right is needed for that.
    pub(super) async fn are_two(&self) -> Result<(), RehearsalError> {
        const WHAT: &str = "telling the servers apart";
        let connect = async |address: &Address| Connector::new(address.with_database("")).connect().await;
        let (mut one, mut other) = (connect(&self.source).await?, connect(&self.target).await?);
        let lock = format!("'converge.rehearsal.{:016x}'", rand::random::<u64>());
        within(BOUND, WHAT, one.query_drop(format!("SELECT GET_LOCK({lock}, 0)"))).await?;
        let holder = other.query_first(format!("SELECT IS_USED_LOCK({lock})"));
        let holder: Option<Option<u64>> = within(BOUND, WHAT, holder).await?;
        for conn in [one, other] {
            converge_mysql::connect::close(conn).await;
        }
        match holder.flatten() {
            Some(_) => Err(RehearsalError::OneServer(format!("{} and {}", self.source, self.target))),
            None => Ok(()),
        }
    }
}

impl Servers {
    /// Refuses a scenario whose faults cannot, or must not, be made on these servers.
    pub fn check(&self, scenario: &Scenario) -> Result<(), RehearsalError> {
        let kinds = || scenario.faults.iter().map(|fault| fault.kind);
        let Self::External(external) = self else { return self.check_private(kinds) };
        if let Some(socket) = external.source.socket.as_ref().or(external.target.socket.as_ref()) {
            return Err(RehearsalError::Socket(socket.clone()));
        }
        if let Some(kind) = kinds().find(|kind| kind.needs_host()) {
            return Err(RehearsalError::NeedsHost(kind.name()));
        }
        match kinds().find(|kind| kind.destroys_logs() && !external.i_know) {
            Some(kind) => Err(RehearsalError::DestroysLogs(kind.name())),
            None => Ok(()),
        }
    }

    fn check_private<I: Iterator<Item = FaultKind>>(
        &self,
        kinds: impl Fn() -> I,
    ) -> Result<(), RehearsalError> {
        if matches!(self, Self::Private(_)) {
            return match kinds().find(|kind| *kind == FaultKind::Unplug) {
                Some(kind) => Err(RehearsalError::NeedsContainer(kind.name())),
                None => Ok(()),
            };
        }
        match kinds().find(|kind| kind.needs_local()) {
            Some(kind) => Err(RehearsalError::NeedsLocal(kind.name())),
            None => Ok(()),
        }
    }

    /// Whether nobody else uses them.
    pub fn are_private(&self) -> bool {
        !matches!(self, Self::External(_))
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(binary) => write!(f, "{}", binary.info),
            #[cfg(feature = "docker")]
            Self::Docker(image) => write!(f, "{image} in Docker"),
            Self::External(external) => write!(f, "{} and {}", external.source, external.target),
        }
    }
}

impl From<ServerBinary> for Servers {
    fn from(binary: ServerBinary) -> Self {
        Self::Private(binary)
    }
}
