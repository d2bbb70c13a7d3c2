//! Faults that no mover survives: what it needs is gone for good. The right answer is to stop and say so, and a mover that
//! goes on has lost something.

use converge_chaos::fault::{self, Purge, Record};
use converge_chaos::server::position_of;
use converge_mover::control::Status;
use converge_mysql::{Address, Position};
use tokio::time::{Duration, Instant};

use super::{RECOVERY, Stage};
use crate::rehearsal::RehearsalError;
use crate::rehearsal::mover::Mover;
use crate::rehearsal::watch::TICK;

/// How long the load may take to write something that the mover has not seen.
const WRITTEN: Duration = Duration::from_secs(20);
/// Log files are told apart by the second in which they were begun.
const APART: Duration = Duration::from_secs(2);

impl Stage<'_> {
    /// Removes log files that hold changes which the mover has not read, while it is dead.
    pub(super) async fn purge_unread(
        &self,
        record: Record<'_>,
        mover: &mut Mover,
    ) -> Result<String, RehearsalError> {
        let admin = &self.world.source().admin;
        record.inject("SIGKILL to the mover, and its unread changes are purged from the source's log");
        mover.kill().await?;
        let applied = self.watcher.look(mover).await.and_then(|status| applied(&status));
        let applied = applied.ok_or_else(|| record.did_not_bite("the mover has not applied anything yet"))?;
        let unread = self.until_beyond(record, admin, &applied).await?;
        let rotated = fault::rotate_log(record, admin).await?;
        let purged = fault::purge_logs(record, admin, Purge::All).await?;
        let pid = mover.start()?;
        Ok(format!(
            "{rotated}; {purged}; the log was at {unread}, of which {applied} was applied; the mover was started again as \
             process {pid}"
        ))
    }

    /// Brings the source back to a backup that was made before the mover applied more.
    pub(super) async fn restore_to_past(
        &self,
        record: Record<'_>,
        mover: &mut Mover,
    ) -> Result<String, RehearsalError> {
        let server = self.world.source().local()?;
        record.inject("a backup of the source is made, and put back once the mover has applied more");
        server.stop().await?;
        server.save_data().await?;
        server.restart().await?;
        let saved = server.position().await?;
        let made = Instant::now();
        let ahead = |status: Option<&Status>| {
            let applied = status.and_then(applied);
            made.elapsed() > APART
                && applied.is_some_and(|a| a.covers(&saved) == Some(true) && saved.covers(&a) == Some(false))
        };
        let Some(status) = self.watcher.until(mover, RECOVERY, ahead).await.flatten() else {
            return Err(record.did_not_bite("the mover did not get beyond the backup in time").into());
        };
        server.stop().await?;
        server.restore_data().await?;
        server.restart().await?;
        Ok(format!("the source was restored to {saved}; the mover had applied {}", status.applied_position))
    }

    /// Waits for the mover to stop by itself; whether it did, in words.
    pub(super) async fn until_stopped(&self, mover: &mut Mover) -> String {
        let give_up = Instant::now() + RECOVERY;
        while Instant::now() < give_up && mover.is_running() {
            self.watcher.look(mover).await;
            tokio::time::sleep(TICK).await;
        }
        match mover.ended() {
            Some(words) => words,
            None => format!("the mover still runs after {} s", RECOVERY.as_secs()),
        }
    }

    /// Waits until the source has more than `applied`.
    async fn until_beyond(
        &self,
        record: Record<'_>,
        admin: &Address,
        applied: &Position,
    ) -> Result<Position, RehearsalError> {
        let give_up = Instant::now() + WRITTEN;
        loop {
            let now = position_of(admin).await?;
            if applied.covers(&now) == Some(false) {
                return Ok(now);
            }
            if Instant::now() >= give_up {
                return Err(record.did_not_bite("nothing is written that the mover has not applied").into());
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

/// The position that the mover has applied.
pub(super) fn applied(status: &Status) -> Option<Position> {
    status.applied_position.parse().ok()
}
