//! Faults: each is injected, *seen* to bite, and healed, and all three are in the history.
//!
//! A fault that was not seen to bite is an error here, never a success. Nothing here decides what to break, or when.

mod disk;
mod failover;
mod network;
mod probe;
mod server;
mod session;

use crate::error::Error;
use crate::history::{History, Phase};

pub use disk::{fill_disk, free_disk};
pub use failover::fail_over;
pub use network::{proxy_down, proxy_up, toxics_off, toxics_on};
pub use server::{
    kill_server, pause_process, pause_server, restart_server, resume_process, resume_server, stop_server,
};
#[cfg(feature = "docker")]
pub use server::{plug_in, unplug};
pub use session::{
    Account, Hog, Purge, Victims, exhaust_connections, give_back_connections, kill_connections, lock_table,
    purge_logs, read_only_off, read_only_on, rotate_log, see_connections, unlock_table,
};

/// The name that a fault goes by, and where its phases are written down.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Such as `kill_source`.
    pub name: &'a str,
    /// The run's history.
    pub history: &'a History,
}

impl Record<'_> {
    /// Writes down what is about to be done.
    pub fn inject(&self, detail: impl Into<String>) {
        self.history.fault(self.name, Phase::Inject, detail.into());
    }

    /// Writes the evidence down and hands it on.
    fn observed(&self, evidence: String) -> String {
        self.history.fault(self.name, Phase::Observed, evidence.clone());
        evidence
    }

    /// Writes down that it is undone.
    pub fn healed(&self, detail: impl Into<String>) {
        self.history.fault(self.name, Phase::Healed, detail.into());
    }

    /// The error of a fault that was not seen to bite.
    pub fn did_not_bite(&self, why: impl Into<String>) -> Error {
        Error::FaultDidNotBite { fault: self.name.into(), why: why.into() }
    }
}
