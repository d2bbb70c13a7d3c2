//! A primary that is lost for good, and a replica that takes its place.

use std::time::Duration;

use super::Record;
use super::server::nobody_answers;
use crate::error::Error;
use crate::server::{LocalServer, Machine};

/// How long a replica may take to have everything of a primary that is not written to.
const CAUGHT_UP: Duration = Duration::from_secs(30);

/// Kills a primary for good once `replica` has everything of it, and promotes that. Whoever writes to the primary must
/// have been stopped; who may not (a mover that leaves marks there) is locked out first. Returns the evidence: the
/// position that both had, and that the primary's process is gone and its port refuses connections.
pub async fn fail_over(
    record: Record<'_>,
    primary: &LocalServer,
    replica: &LocalServer,
) -> Result<String, Error> {
    record.inject(format!("{} is killed for good, and its replica promoted", primary.binary().info));
    primary.take_no_writes().await?;
    let Some(position) = replica.wait_for_all_of(primary, CAUGHT_UP).await? else {
        primary.take_writes().await?;
        let why = replica.replication_error().await?;
        let why = why.map(|error| format!(": it stopped with: {error}")).unwrap_or_default();
        return Err(
            record.did_not_bite(format!("the replica did not get everything of the primary in time{why}"))
        );
    };
    let gone = Machine::kill(primary).await?;
    let dead = nobody_answers(record, primary, gone).await?;
    replica.promote().await?;
    Ok(record
        .observed(format!("{dead}; the server on port {} has everything up to {position}", replica.port())))
}
