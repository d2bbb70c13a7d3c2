//! Where sessions send their units, and the gate that lets them: closed, all of them rest. A brake keeps them from
//! beginning units, without waiting for those under way.

use std::sync::Arc;

use converge_mysql::{Address, Connector};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, watch};

/// How whoever makes or changes rows connects, whatever the server's own modes are: texts have backslash escapes, dates may
/// be zero, an id 0 stays one. Short lock waits: a client that waits for a minute proves nothing in a run of a minute.
pub fn connector(address: Address) -> Connector {
    Connector::new(address).with_setup(
        "SET SESSION innodb_lock_wait_timeout = 3, sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
    )
}

/// Has the text of each statement of a session logged beside the rows that it changes. The comments are code to the one
/// product and nothing to the other.
pub const LOG_TEXTS: &str = "SET SESSION sql_mode = @@SESSION.sql_mode \
    /*!50720 , binlog_rows_query_log_events = 1 */ /*M!100600 , binlog_annotate_row_events = 1 */";

/// The same for a session of a load. `texts`: whether its statements are logged as they were sent.
fn of_load(address: Address, texts: bool) -> Connector {
    let connector = connector(address);
    if texts { connector.with_setup(LOG_TEXTS) } else { connector }
}

/// Shared by all sessions of a load. Each holds it open while it has a unit under way.
#[derive(Debug, Clone)]
pub struct Gate {
    at: Arc<RwLock<Arc<Connector>>>,
    texts: bool,
    brake: Brake,
}

/// A session that may send a unit, and where.
pub type Admitted = OwnedRwLockReadGuard<Arc<Connector>>;

impl Gate {
    /// A gate that is open. `texts`: whether the statements of its sessions are logged as they were sent.
    pub fn new(address: Address, texts: bool) -> Self {
        let connector = of_load(address, texts);
        Self { at: Arc::new(RwLock::new(Arc::new(connector))), texts, brake: Brake::default() }
    }

    /// Its brake.
    pub fn brake(&self) -> Brake {
        self.brake.clone()
    }

    /// Waits until it is open and the brake is off, and holds it open.
    pub async fn pass(&self) -> Admitted {
        self.brake.off().await;
        Arc::clone(&self.at).read_owned().await
    }

    /// Waits until nobody holds it open, and closes it.
    pub async fn close(&self) -> Rest {
        Rest { at: Arc::clone(&self.at).write_owned().await, texts: self.texts }
    }
}

/// Keeps sessions from beginning units while it is on; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Brake(watch::Sender<bool>);

impl Brake {
    /// Puts it on, or lets go. Units under way are ended either way.
    pub fn set(&self, on: bool) {
        self.0.send_if_modified(|now| std::mem::replace(now, on) != on);
    }

    async fn off(&self) {
        // The sender is this one: there is no end to wait for.
        let _ = self.0.subscribe().wait_for(|on| !on).await;
    }
}

/// A load that rests. Dropped, it goes on where it was.
#[derive(Debug)]
pub struct Rest {
    at: OwnedRwLockWriteGuard<Arc<Connector>>,
    texts: bool,
}

impl Rest {
    /// Lets the load go on, at another address.
    pub fn go_on_at(mut self, address: Address) {
        *self.at = Arc::new(of_load(address, self.texts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_passes_while_the_brake_is_on() {
        let gate = Gate::new("mysql://root@127.0.0.1:1/d".parse().unwrap(), true);
        gate.brake().set(true);
        let mut pass = std::pin::pin!(gate.pass());
        assert!(futures_util::poll!(&mut pass).is_pending());
        gate.brake().set(false);
        let _admitted = pass.await;
        gate.brake().set(true);
        assert!(futures_util::poll!(std::pin::pin!(gate.pass())).is_pending());
    }
}
