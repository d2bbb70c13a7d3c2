//! What each kind of fault does to the world, and how it is undone.

use converge_chaos::fault::{self, Hog, Purge, Record, Victims};
use converge_chaos::server::position_of;
use converge_mover::control::Status;
use converge_mysql::Flavor;

use super::beyond::applied;
use super::{RECOVERY, Stage};
use crate::rehearsal::RehearsalError;
use crate::rehearsal::mover::Mover;
use crate::rehearsal::world::Place;
use crate::scenario::{Fault, FaultKind as K};

impl Stage<'_> {
    /// Does the damage and returns the physical evidence. What has to be given back later is put into `held`.
    pub(super) async fn damage(
        &self,
        record: Record<'_>,
        fault: &Fault,
        mover: &mut Mover,
        held: &mut Option<Hog>,
    ) -> Result<String, RehearsalError> {
        let (place, proxies) = (self.world.at(fault.side()), &self.world.proxies);
        place.borrow(settings(fault.kind, place.flavor())).await?;
        let met = self.meets(record, fault, place).await?;
        let evidence = match fault.kind {
            K::KillSource | K::KillTarget => fault::kill_server(record, place.server()?).await?,
            K::Restart => fault::stop_server(record, place.server()?).await?,
            K::Pause => fault::pause_server(record, place.server()?).await?,
            K::KillMover => {
                record.inject("SIGKILL to the mover");
                mover.kill().await?
            }
            K::PauseMover => fault::pause_process(record, pid(mover)?).await?,
            K::NetworkDown => fault::proxy_down(record, proxies, &place.proxy).await?,
            K::NetworkDownRestart => {
                let down = fault::proxy_down(record, proxies, &place.proxy).await?;
                format!("{down}; {}", fault::stop_server(record, place.server()?).await?)
            }
            K::NetworkLatency
            | K::NetworkBandwidth
            | K::NetworkSlices
            | K::NetworkReset
            | K::NetworkSilent => {
                let toxics = fault.toxics();
                fault::toxics_on(record, proxies, &place.proxy, &place.proxied, &toxics).await?
            }
            K::Unplug => unplug(record, place).await?,
            K::KillConnections => fault::kill_connections(record, place.account(), Victims::All).await?,
            K::KillLogReader => fault::kill_connections(record, place.account(), Victims::LogReaders).await?,
            K::RotateLog => fault::rotate_log(record, &place.admin).await?,
            K::PurgeLog => self.purge(record, mover).await?,
            K::ReadOnly => {
                fault::read_only_on(record, place.account(), place.flavor(), self.first_table()).await?
            }
            K::TableLock => {
                let (hog, evidence) = fault::lock_table(record, place.account(), self.first_table()).await?;
                *held = Some(hog);
                evidence
            }
            K::NoConnections => {
                let (hog, evidence) = fault::exhaust_connections(record, place.account()).await?;
                *held = Some(hog);
                evidence
            }
            K::DiskFull => fault::fill_disk(record, place.local()?).await?,
            K::Failover => self.fail_over(record).await?,
            K::PurgeUnreadLog => self.purge_unread(record, mover).await?,
            K::RestoreToPast => self.restore_to_past(record, mover).await?,
        };
        Ok(met.into_iter().fold(evidence, |evidence, met| format!("{evidence}; {met}")))
    }

    /// What a fault that the mover need not notice meets: connections of its own. Without any it would break nothing.
    async fn meets(
        &self,
        record: Record<'_>,
        fault: &Fault,
        place: &Place,
    ) -> Result<Option<String>, RehearsalError> {
        let silent = matches!(
            fault.kind,
            K::Pause | K::NetworkLatency | K::NetworkBandwidth | K::NetworkSlices | K::NetworkSilent
        );
        Ok(if silent { Some(fault::see_connections(record, place.account()).await?) } else { None })
    }

    /// Undoes the damage.
    pub(super) async fn heal(
        &self,
        fault: &Fault,
        mover: &mut Mover,
        held: Option<Hog>,
    ) -> Result<(), RehearsalError> {
        let (place, proxies) = (self.world.at(fault.side()), &self.world.proxies);
        let name = fault.name();
        let record = Record { name: &name, history: self.history };
        match fault.kind {
            K::KillMover => {
                let pid = mover.start()?;
                self.watcher.tell(format!("{name}: started again as process {pid}"));
            }
            K::PauseMover => fault::resume_process(record, pid(mover)?)?,
            K::KillSource | K::KillTarget | K::Restart => {
                fault::restart_server(record, place.server()?).await?
            }
            K::Pause => fault::resume_server(record, place.server()?).await?,
            K::NetworkDown => fault::proxy_up(record, proxies, &place.proxy).await?,
            K::NetworkDownRestart => {
                fault::restart_server(record, place.server()?).await?;
                fault::proxy_up(record, proxies, &place.proxy).await?;
            }
            K::NetworkLatency
            | K::NetworkBandwidth
            | K::NetworkSlices
            | K::NetworkReset
            | K::NetworkSilent => {
                fault::toxics_off(record, proxies, &place.proxy).await?;
            }
            K::ReadOnly => fault::read_only_off(record, &place.admin, place.flavor()).await?,
            K::TableLock => give_back(held, |hog| fault::unlock_table(record, hog)).await?,
            K::NoConnections => give_back(held, |hog| fault::give_back_connections(record, hog)).await?,
            K::DiskFull => fault::free_disk(record, place.local()?).await?,
            K::Failover => self.follow(record, mover).await?,
            K::Unplug => plug_in(record, place).await?,
            K::KillConnections | K::KillLogReader | K::RotateLog | K::PurgeLog => {}
            K::PurgeUnreadLog | K::RestoreToPast => {}
        }
        place.give_back().await
    }

    /// Removes log files once the mover has applied what they hold: what it still needs is never taken away.
    async fn purge(&self, record: Record<'_>, mover: &mut Mover) -> Result<String, RehearsalError> {
        let admin = &self.world.source().admin;
        let rotated = fault::rotate_log(record, admin).await?;
        // The source itself is asked: what a mover that is cut off knows of it is old.
        let begun = position_of(admin).await?;
        let passed = |status: Option<&Status>| {
            status.and_then(applied).is_some_and(|applied| applied.covers(&begun) == Some(true))
        };
        if self.watcher.until(mover, RECOVERY, passed).await.is_none() {
            return Err(record
                .did_not_bite("nothing was purged: the mover did not get there in time")
                .into());
        }
        self.sources.read(admin).await;
        Ok(format!("{rotated}; {}", fault::purge_logs(record, admin, Purge::Some).await?))
    }

    fn first_table(&self) -> &str {
        self.tables.first().map_or("", String::as_str)
    }
}

async fn give_back<F>(held: Option<Hog>, give: impl FnOnce(Hog) -> F) -> Result<(), RehearsalError>
where
    F: Future<Output = Result<(), converge_chaos::Error>>,
{
    match held {
        Some(hog) => Ok(give(hog).await?),
        None => Ok(()),
    }
}

#[cfg(feature = "docker")]
async fn unplug(record: Record<'_>, place: &Place) -> Result<String, RehearsalError> {
    Ok(fault::unplug(record, place.container()?).await?)
}

#[cfg(feature = "docker")]
async fn plug_in(record: Record<'_>, place: &Place) -> Result<(), RehearsalError> {
    Ok(fault::plug_in(record, place.container()?).await?)
}

/// Without containers there is no cable; such a scenario was refused before it began.
#[cfg(not(feature = "docker"))]
async fn unplug(_: Record<'_>, _: &Place) -> Result<String, RehearsalError> {
    Err(RehearsalError::NeedsContainer(K::Unplug.name()))
}

#[cfg(not(feature = "docker"))]
async fn plug_in(_: Record<'_>, _: &Place) -> Result<(), RehearsalError> {
    Err(RehearsalError::NeedsContainer(K::Unplug.name()))
}

/// The settings of a whole server that a fault changes, in an order in which they can be given back.
fn settings(kind: K, flavor: Flavor) -> &'static [&'static str] {
    match (kind, flavor) {
        (K::ReadOnly, Flavor::MySql) => &["super_read_only", "read_only"],
        (K::ReadOnly, Flavor::MariaDb) => &["read_only"],
        (K::NoConnections, _) => &["max_connections"],
        _ => &[],
    }
}

fn pid(mover: &Mover) -> Result<u32, RehearsalError> {
    mover.pid().ok_or_else(|| RehearsalError::Mover("there is no mover process to stop".into()))
}
