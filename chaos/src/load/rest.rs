//! Where sessions send their units, and the gate that lets them: closed, all of them rest.

use std::sync::Arc;

use converge_mysql::{Address, Connector};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// How sessions connect. Short lock waits: a client that waits for a minute proves nothing in a run of a minute.
pub fn connector(address: Address) -> Connector {
    Connector::new(address).with_setup(
        "SET SESSION innodb_lock_wait_timeout = 3, sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
    )
}

/// Shared by all sessions of a load. Each holds it open while it has a unit under way.
#[derive(Debug, Clone)]
pub struct Gate(Arc<RwLock<Arc<Connector>>>);

/// A session that may send a unit, and where.
pub type Admitted = OwnedRwLockReadGuard<Arc<Connector>>;

impl Gate {
    /// A gate that is open.
    pub fn new(connector: Connector) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(connector))))
    }

    /// Waits until it is open, and holds it open.
    pub async fn pass(&self) -> Admitted {
        Arc::clone(&self.0).read_owned().await
    }

    /// Waits until nobody holds it open, and closes it.
    pub async fn close(&self) -> Rest {
        Rest(Arc::clone(&self.0).write_owned().await)
    }
}

/// A load that rests. Dropped, it goes on where it was.
#[derive(Debug)]
pub struct Rest(OwnedRwLockWriteGuard<Arc<Connector>>);

impl Rest {
    /// Lets the load go on, at another address.
    pub fn go_on_at(mut self, address: Address) {
        *self.0 = Arc::new(connector(address));
    }
}
