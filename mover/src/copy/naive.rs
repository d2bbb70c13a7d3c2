//! **Wrong on purpose.** Chunks are written with INSERT IGNORE beside the stream, as early copiers did: a row that is
//! deleted or changes its key between being read and being written comes back from the dead. The harness runs it to
//! prove that it notices.
//!
//! The smallest world in which it goes wrong, as `converge simulate --copy-strategy naive --seed 1` tells it:
//!
//! ```text
//!   table 0 holds (key 2, unique 2, v0)
//!   1  mover: a session begins at transaction 0
//!   2  client 1: DELETE key 2
//!   3  client 1: COMMIT: in the log, not visible yet
//!   4  target: Delete { must_exist: false } [2/2] in table 0
//!   5  copier: reads from table 0: (key 2, unique 2, v0)
//!   6  client 1: its commit is visible
//!   7  target: writes the chunk [2/2] into table 0
//!
//! diverged: key 2 of table 0 is on the target only
//! ```
//!
//! The stream knows of the DELETE before a SELECT does (3, 4): it is applied to a target that does not have the row
//! yet, and the copier reads the row all the same (5) and writes it (7). No change that is still to come removes it.

use tokio::time::Instant;

use super::Job;
use crate::error::Result;
use crate::source::ChunkReader;
use crate::state::State;
use crate::target::{Checkpoint, Onto, Target};

/// Copies all that is left of `tables` over a connection of its own.
pub async fn copy(mut reader: impl ChunkReader, mut target: impl Target, job: &Job<'_>) -> Result<()> {
    for mut walk in job.walks() {
        while !walk.progress.done {
            let started = Instant::now();
            let (rows, progress) = walk.next(&mut reader).await?;
            let n = rows.rows.len();
            target.write_chunk(rows, Onto::Newer).await?;
            target
                .commit(&Checkpoint { copied: vec![(walk.index, progress)], ..Checkpoint::default() })
                .await?;
            tokio::time::sleep_until(started + job.pace.time_for(n)).await;
        }
    }
    let enter = Some((State::Copying, State::Replicating));
    target.commit(&Checkpoint { enter, ..Checkpoint::default() }).await
}
