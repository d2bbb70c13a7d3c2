//! **Wrong on purpose.** Chunks are written with INSERT IGNORE beside the stream, as early copiers did: a row that is
//! deleted or changes its key between being read and being written comes back from the dead. The harness runs it to
//! prove that it notices.

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
            target.write_chunk(&rows, Onto::Newer).await?;
            target
                .commit(&Checkpoint { copied: vec![(walk.index, progress)], ..Checkpoint::default() })
                .await?;
            tokio::time::sleep_until(started + job.pace.time_for(n)).await;
        }
    }
    let enter = Some((State::Copying, State::Replicating));
    target.commit(&Checkpoint { enter, ..Checkpoint::default() }).await
}
