//! One fault from beginning to end: injected, seen to bite, undone, and the mover seen to be back.
//!
//! A fault that nobody noticed did not happen: besides the physical evidence the mover itself must have felt it.

use std::time::{Duration, Instant};

use converge_chaos::Error as ChaosError;
use converge_chaos::fault::{kill_server, proxy_down, proxy_up, restart_server};
use converge_chaos::history::{History, Phase};
use converge_mover::control::Status;

use super::RehearsalError;
use super::mover::Mover;
use super::watch::{TICK, Watcher};
use super::world::{PROXY, World};
use crate::scenario::{Fault, FaultKind};
use crate::verdict::FaultReport;

/// How long the mover may take to notice that a server or the network is gone.
const NOTICE: Duration = Duration::from_secs(20);
/// How long the mover may take to be back at work.
const RECOVERY: Duration = Duration::from_secs(60);

/// A world, what watches it, and where it is written down.
pub struct Stage<'a> {
    /// Servers and proxy.
    pub world: &'a World,
    /// Watches the mover.
    pub watcher: &'a Watcher,
    /// Keeps the record.
    pub history: &'a History,
}

impl Stage<'_> {
    /// Carries out a fault.
    pub async fn inject(&self, fault: &Fault, mover: &mut Mover) -> Result<FaultReport, RehearsalError> {
        let name = fault.kind.name();
        let before = self.watcher.look(mover).await;
        let state = before.as_ref().map_or_else(|| "unknown".to_owned(), described);
        let injected_at = self.now();
        self.watcher.tell(format!("{name}: injecting; the mover is {state}"));
        let observed = self.bite(fault.kind, mover).await?;
        match &observed {
            Some(evidence) => self.record(name, Phase::Observed, evidence),
            None => self.watcher.tell(format!("{name}: no effect was seen")),
        }
        self.hold(fault, mover).await;
        self.heal(fault.kind, mover).await?;
        let back = self.until_back(mover, before.as_ref()).await;
        let healed_at = back.as_ref().map(|status| {
            self.record(name, Phase::Healed, &format!("the mover is back, {}", described(status)));
            self.now()
        });
        Ok(FaultReport { fault: name.into(), injected_at, observed, healed_at })
    }

    fn now(&self) -> f64 {
        self.history.now_us() as f64 / 1e6
    }

    fn record(&self, name: &str, phase: Phase, detail: &str) {
        self.history.fault(name, phase, detail);
        self.watcher.tell(format!("{name}: {detail}"));
    }

    /// Does the damage; the evidence that it bit, if there is any.
    async fn bite(&self, kind: FaultKind, mover: &mut Mover) -> Result<Option<String>, RehearsalError> {
        let (world, name) = (self.world, kind.name());
        let physical = match kind {
            FaultKind::KillMover => {
                self.history.fault(name, Phase::Inject, "SIGKILL to the mover");
                return mover.kill().await.map(Some);
            }
            FaultKind::KillSource => kill_server(name, &world.source, self.history).await,
            FaultKind::KillTarget => kill_server(name, &world.target, self.history).await,
            FaultKind::NetworkDown => proxy_down(name, &world.proxy, PROXY, self.history).await,
        };
        let physical = match physical {
            Ok(evidence) => evidence,
            Err(ChaosError::FaultDidNotBite { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let gone = |status: Option<&Status>| match status {
            // The mover keeps its state on the target: no answer is the effect.
            None => kind == FaultKind::KillTarget,
            Some(status) => status.error.is_some(),
        };
        let noticed = self.watcher.until(mover, NOTICE, gone).await;
        Ok(noticed.map(|status| match status.and_then(|s| s.error) {
            Some(error) => format!("{physical}; the mover says: {error}"),
            None => format!("{physical}; the workflow's state cannot be read"),
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

    async fn heal(&self, kind: FaultKind, mover: &mut Mover) -> Result<(), RehearsalError> {
        let (world, name) = (self.world, kind.name());
        match kind {
            FaultKind::KillMover => {
                let pid = mover.start()?;
                self.watcher.tell(format!("{name}: started again as process {pid}"));
            }
            FaultKind::KillSource => restart_server(name, &world.source, self.history).await?,
            FaultKind::KillTarget => restart_server(name, &world.target, self.history).await?,
            FaultKind::NetworkDown => proxy_up(name, &world.proxy, PROXY, self.history).await?,
        }
        Ok(())
    }

    /// Waits until the mover works again: no error, and a position or a row farther than before.
    async fn until_back(&self, mover: &mut Mover, before: Option<&Status>) -> Option<Status> {
        let reached =
            |s: &Status| (s.applied_position.clone(), s.tables.iter().map(|t| t.rows_copied).sum::<u64>());
        let was = before.map(reached);
        let back = |status: Option<&Status>| {
            status.is_some_and(|s| s.running && s.error.is_none() && Some(reached(s)) != was)
        };
        self.watcher.until(mover, RECOVERY, back).await.flatten()
    }
}

fn described(status: &Status) -> String {
    let copied: u64 = status.tables.iter().map(|t| t.rows_copied).sum();
    format!("{} with {copied} rows copied", status.state)
}
