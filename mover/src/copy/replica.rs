//! [`locking`](super::locking) on a replica of the source, so that the copy's reads and locks are no burden on the
//! source itself. While rows are copied the stream is that replica's binary log; then it moves to the source.
//!
//! Why that is right: the replica is a source like any other, whose rows, locks and log belong together. A lock stops
//! the thread that applies the row's next change, for as long as a writer would wait on the source. The only thing
//! that the mover writes are marks, and they are written to the source: the last one, behind the last chunk, comes
//! into the replica's log after everything that the copy saw. There the target equals the source at a position, that
//! position is made of GTIDs, which mean the same on the source, and the step to the next state, from which on the
//! stream is the source's, is recorded in the same transaction. Whoever is killed when, the state says which log is
//! to be followed.
//!
//! Without GTIDs a position of the replica means nothing on the source: refused. So is a replica that does not log
//! what it replicates, leaves something out, replicates over several channels, or has transactions of its own. Both are
//! looked at again while it is followed: a transaction of its own ends the workflow where the stream meets it, a filter
//! when the last mark has come, before the next state is recorded. Not noticed are a filter that somebody set and took
//! away in between, and what was written there with `sql_log_bin = 0`.
//!
//! Cost: the replica lags for the time that a chunk takes; one commit on the source for the whole copy. Privileges on
//! the replica: SELECT, REPLICATION SLAVE, REPLICATION CLIENT (MariaDB: BINLOG MONITOR, SLAVE MONITOR); on the source
//! as for [`locking`](super::locking).

use super::{Job, locking};
use crate::error::Result;
use crate::source::ChunkReader;

/// Reads all that is left on the replica; `reader` writes its marks to the source.
pub async fn copy(reader: impl ChunkReader, job: &Job<'_>) -> Result<()> {
    locking::copy(reader, job).await
}
