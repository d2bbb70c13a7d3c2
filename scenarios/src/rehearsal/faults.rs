//! One fault from beginning to end: injected, seen to bite, undone, and the mover seen to be back.
//!
//! A fault that nobody noticed did not happen: besides the physical evidence the mover itself must have felt it.

use std::time::{Duration, Instant};

use converge_chaos::history::{History, Phase};
use converge_mover::control::Status;
use converge_mysql::{Address, Connector};

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
        self.record(name, Phase::Inject, &format!("the mover is {state}"));
        let bite = self.bite(fault.kind, mover).await?;
        let observed = match bite {
            Some(evidence) => {
                self.record(name, Phase::Observed, &evidence);
                Some(evidence)
            }
            None => None,
        };
        self.hold(fault, mover).await;
        let healing = self.heal(fault.kind, mover).await?;
        let back = self.until_back(mover, before.as_ref()).await;
        let healed_at = back.as_ref().map(|status| {
            self.record(name, Phase::Healed, &format!("{healing}; the mover is {}", described(status)));
            self.now()
        });
        Ok(FaultReport { fault: name.into(), injected_at, observed, healed_at })
    }

    fn now(&self) -> f64 {
        self.history.now_us() as f64 / 1e6
    }

    fn record(&self, name: &str, phase: Phase, detail: &str) {
        self.history.fault(name, phase, detail);
        let verb = match phase {
            Phase::Inject => "injected",
            Phase::Observed => "observed",
            Phase::Healed => "healed",
        };
        self.watcher.tell(format!("{name} {verb}: {detail}"));
    }

    /// Does the damage; the evidence that it bit, if there is any.
    async fn bite(&self, kind: FaultKind, mover: &mut Mover) -> Result<Option<String>, RehearsalError> {
        let world = self.world;
        let physical = match kind {
            FaultKind::KillMover => return mover.kill().await.map(Some),
            FaultKind::KillSource => killed(world.source.kill().await?, &world.source_address()).await,
            FaultKind::KillTarget => killed(world.target.kill().await?, &world.target_address()).await,
            FaultKind::NetworkDown => {
                world.proxy.disable(PROXY).await?;
                refused(&world.proxied).await.map(|why| format!("the proxy lets nobody through ({why})"))
            }
        };
        let Some(physical) = physical else { return Ok(None) };
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

    async fn heal(&self, kind: FaultKind, mover: &mut Mover) -> Result<String, RehearsalError> {
        let world = self.world;
        match kind {
            FaultKind::KillMover => Ok(format!("started again as process {}", mover.start()?)),
            FaultKind::KillSource => {
                world.source.restart().await?;
                Ok("the source answers again".into())
            }
            FaultKind::KillTarget => {
                world.target.restart().await?;
                Ok("the target answers again".into())
            }
            FaultKind::NetworkDown => {
                world.proxy.enable(PROXY).await?;
                Ok("the proxy lets connections through".into())
            }
        }
    }

    /// Waits until the mover works again: no error, and a position or a row farther than before.
    async fn until_back(&self, mover: &mut Mover, before: Option<&Status>) -> Option<Status> {
        let reached = |s: &Status| (s.applied_position.clone(), s.tables.iter().map(|t| t.rows_copied).sum::<u64>());
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

async fn killed(pid: u32, address: &Address) -> Option<String> {
    refused(address).await.map(|why| format!("process {pid} is gone, {}:{} answers nobody ({why})", address.host, address.port))
}

/// Why a connection attempt fails; `None` if it does not.
async fn refused(address: &Address) -> Option<String> {
    let why = Connector::new(address.clone()).connect().await.err()?;
    Some(why.to_string().rsplit(": ").next().unwrap_or_default().to_owned())
}
