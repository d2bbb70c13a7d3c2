//! The source's primary dies for good and its replica takes over: for the load at once, for the mover when it is stopped
//! and started again with the other address.

use std::time::Duration;

use converge_chaos::fault::{self, Record};

use super::Stage;
use crate::rehearsal::RehearsalError;
use crate::rehearsal::mover::Mover;

/// How long the load may take to end what it has under way: longer than it waits for an answer.
const REST: Duration = Duration::from_secs(40);

impl Stage<'_> {
    /// Loses the primary. No acknowledged write is lost with it: the load rests until the replica has all of them, because
    /// what a primary takes with it is no fault of a mover.
    pub(super) async fn fail_over(&self, record: Record<'_>) -> Result<String, RehearsalError> {
        let Some(replica) = &self.world.replica else {
            return Err(record.did_not_bite("the source has no replica").into());
        };
        let Ok(rest) = tokio::time::timeout(REST, self.load.rest()).await else {
            return Err(record.did_not_bite("the load could not be brought to rest").into());
        };
        let evidence = fault::fail_over(record, self.world.source().local()?, replica.local()?).await?;
        self.world.promote_replica();
        rest.go_on_at(replica.admin.clone());
        Ok(evidence)
    }

    /// Stops the mover and starts it with the new source.
    pub(super) async fn follow(&self, record: Record<'_>, mover: &mut Mover) -> Result<(), RehearsalError> {
        let source = self.world.source();
        if mover.is_running() {
            mover.kill().await?;
        }
        mover.set_source(&source.proxied);
        let pid = mover.start()?;
        record.healed(format!(
            "the mover was stopped, and started as process {pid} with the source on port {}",
            source.admin.port
        ));
        Ok(())
    }
}
