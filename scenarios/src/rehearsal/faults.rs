//! One fault from beginning to end: injected, seen to bite, undone, and the mover seen to be back.
//!
//! A fault that nobody noticed did not happen: besides the physical evidence the mover itself must have felt it.

mod beyond;
mod damage;
mod failover;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use converge_chaos::Error as ChaosError;
use converge_chaos::fault::{Hog, Record};
use converge_chaos::history::{History, Phase};
use converge_chaos::load::LoadHandle;
use converge_chaos::server::LocalServer;
use converge_mover::control::Status;

use super::RehearsalError;
use super::mover::Mover;
use super::watch::{TICK, Watcher};
use super::world::World;
use crate::oracle::source::Sources;
use crate::scenario::{Fault, FaultKind, SPACE, Side};
use crate::verdict::FaultReport;

/// How long the mover may take to notice that a server or the network is gone.
const NOTICE: Duration = Duration::from_secs(20);
/// Seconds without a sign from a mover that gives one each second.
const SILENT: f64 = 4.0;
/// Seconds within which a mover that is at work gives a sign.
const FRESH: f64 = 2.5;
/// How long the mover may take to be back at work.
const RECOVERY: Duration = Duration::from_secs(60);

/// A world, what watches it, and where it is written down.
pub struct Stage<'a> {
    /// Servers and proxy.
    pub world: &'a World,
    /// Watches the mover.
    pub watcher: &'a Watcher,
    /// Writes to the source.
    pub load: &'a LoadHandle,
    /// Keeps the record.
    pub history: &'a History,
    /// The tables that are moved.
    pub tables: &'a [String],
    /// Sees what the source's log is about to lose.
    pub sources: &'a Sources,
}

impl Stage<'_> {
    /// Carries out a fault.
    pub async fn inject(&self, fault: &Fault, mover: &mut Mover) -> Result<FaultReport, RehearsalError> {
        let name = fault.name();
        let state = self.watcher.look(mover).await.as_ref().map_or_else(|| "unknown".to_owned(), described);
        let injected_at = self.now();
        self.watcher.tell(format!("{name}: injecting; the mover is {state}"));
        let mut held = None;
        let observed = self.bite(fault, mover, &mut held).await?;
        match &observed {
            Some(evidence) => self.record(&name, Phase::Observed, evidence),
            None => self.watcher.tell(format!("{name}: no effect was seen")),
        }
        if !fault.kind.is_survivable() {
            let observed = match observed {
                Some(evidence) => Some(format!("{evidence}; {}", self.until_stopped(mover).await)),
                None => None,
            };
            return Ok(FaultReport { fault: name, injected_at, observed, healed_at: None });
        }
        self.hold(fault, mover).await;
        self.heal(fault, mover, held).await?;
        let back = self.until_back(fault, mover).await?;
        let healed_at = back.as_ref().map(|status| {
            self.record(&name, Phase::Healed, &format!("the mover is back, {}", described(status)));
            self.now()
        });
        Ok(FaultReport { fault: name, injected_at, observed, healed_at })
    }

    fn now(&self) -> f64 {
        self.history.now_us() as f64 / 1e6
    }

    fn record(&self, name: &str, phase: Phase, detail: &str) {
        self.history.fault(name, phase, detail);
        self.watcher.tell(format!("{name}: {detail}"));
    }

    /// Does the damage; the evidence that it bit, if there is any.
    async fn bite(
        &self,
        fault: &Fault,
        mover: &mut Mover,
        held: &mut Option<Hog>,
    ) -> Result<Option<String>, RehearsalError> {
        let name = fault.name();
        let physical =
            match self.damage(Record { name: &name, history: self.history }, fault, mover, held).await {
                Ok(evidence) => evidence,
                Err(RehearsalError::Chaos(ChaosError::FaultDidNotBite { why, .. })) => {
                    self.watcher.tell(format!("{name}: {why}"));
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
        if !must_be_noticed(fault.kind) {
            return Ok(Some(physical));
        }
        // The mover keeps its state on the target: no answer from there is the effect, and so is a state that is no longer
        // renewed, because a mover that is cut off from the target cannot say so there.
        let mute = fault.side() == Side::Target;
        let silent = |status: &Status| mute && status.silent_seconds.is_some_and(|s| s > SILENT);
        let noticed =
            |status: Option<&Status>| status.map_or(mute, |status| status.error.is_some() || silent(status));
        let noticed = self.watcher.until(mover, NOTICE, noticed).await;
        Ok(noticed.map(|status| match status.and_then(|s| s.error) {
            Some(error) => format!("{physical}; the mover says: {error}"),
            None => format!("{physical}; the workflow's state cannot be read, or is no longer renewed"),
        }))
    }

    /// Lets the damage last, while the mover is watched.
    async fn hold(&self, fault: &Fault, mover: &mut Mover) {
        let until = Instant::now() + Duration::from_secs_f64(fault.hold_seconds);
        while Instant::now() < until {
            self.watcher.look(mover).await;
            tokio::time::sleep(TICK.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Waits until the mover works again.
    async fn until_back(&self, fault: &Fault, mover: &mut Mover) -> Result<Option<Status>, RehearsalError> {
        let progress = Since::default();
        let back = |status: Option<&Status>| status.is_some_and(|status| progress.is_made(status));
        if fault.kind != FaultKind::DiskFull {
            return Ok(self.watcher.until(mover, RECOVERY, back).await.flatten());
        }
        tokio::select! {
            back = self.watcher.until(mover, SPACE, back) => Ok(back.flatten()),
            error = self.keep_up(self.world.at(fault.side()).local()?) => Err(error),
        }
    }

    /// Starts a server again whenever it ends; what keeps it from starting.
    async fn keep_up(&self, server: &LocalServer) -> RehearsalError {
        loop {
            if !server.is_running() {
                self.watcher.tell("the server ended after all, and is started again");
                if let Err(error) = server.restart().await {
                    return error.into();
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Progress since a fault was undone. What the mover reached before that, or while the damage was done, says nothing.
#[derive(Debug, Default)]
struct Since {
    /// The position and the rows copied that it told of first.
    first: OnceLock<(String, u64)>,
}

impl Since {
    /// Whether a mover that is well has got farther: no error, a sign of life, and another position or more rows.
    fn is_made(&self, status: &Status) -> bool {
        let is_fresh = status.silent_seconds.is_some_and(|seconds| seconds < FRESH);
        if !status.running || status.error.is_some() || !is_fresh {
            return false;
        }
        let copied = status.tables.iter().map(|table| table.rows_copied).sum();
        let now = (status.applied_position.clone(), copied);
        *self.first.get_or_init(|| now.clone()) != now
    }
}

fn described(status: &Status) -> String {
    let copied: u64 = status.tables.iter().map(|t| t.rows_copied).sum();
    format!("{} with {copied} rows copied", status.state)
}

/// Whether the mover itself must have felt a fault. A slow network and a rotated log are none of its business, and it
/// may take longer to find a silent peer than the silence lasts; these are measured from outside.
fn must_be_noticed(kind: FaultKind) -> bool {
    use FaultKind as K;
    matches!(
        kind,
        K::KillSource
            | K::KillTarget
            | K::Restart
            | K::NetworkDown
            | K::NetworkDownRestart
            | K::NetworkReset
            | K::Unplug
            | K::KillConnections
            | K::KillLogReader
            | K::ReadOnly
            | K::NoConnections
            | K::DiskFull
            | K::Failover
    )
}

#[cfg(test)]
mod tests {
    use super::super::watch::replicating;
    use super::*;

    #[test]
    fn only_what_a_mover_does_after_a_fault_shows_that_it_is_back() {
        let since = Since::default();
        // Cut off as it was, it had got from 1 to 2 between the last look and the damage.
        assert!(!since.is_made(&replicating("2", 4.0)) && !since.is_made(&replicating("2", 0.5)));
        assert!(!since.is_made(&replicating("2", 2.0)));
        assert!(!since.is_made(&replicating("3", FRESH)), "an old sign");
        let trouble = Status { error: Some("connection refused".into()), ..replicating("3", 0.1) };
        assert!(
            !since.is_made(&trouble) && !since.is_made(&Status { running: false, ..replicating("3", 0.1) })
        );
        assert!(since.is_made(&replicating("3", 0.1)));
    }
}
