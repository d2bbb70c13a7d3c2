//! **Wrong on purpose.** Chunks are written with INSERT IGNORE beside the stream, as early copiers did: a row that is
//! deleted or changes its key between being read and being written comes back from the dead. The harness runs it to
//! prove that it notices.

use tokio::time::Instant;

use super::{Pace, walks};
use crate::error::Result;
use crate::schema::Table;
use crate::source::ChunkReader;
use crate::state::State;
use crate::target::{Checkpoint, CopyProgress, Target};

/// Copies all that is left of `tables` over a connection of its own.
pub async fn copy(
    mut reader: impl ChunkReader,
    mut target: impl Target,
    tables: &[Table],
    progress: &[CopyProgress],
    pace: Pace,
) -> Result<()> {
    for mut walk in walks(tables, progress, pace) {
        while !walk.progress.done {
            let started = Instant::now();
            let (rows, progress) = walk.next(&mut reader).await?;
            let n = rows.rows.len();
            target.write_chunk(&rows, false).await?;
            target
                .commit(&Checkpoint { copied: vec![(walk.index, progress)], ..Checkpoint::default() })
                .await?;
            tokio::time::sleep_until(started + pace.time_for(n)).await;
        }
    }
    let enter = Some((State::Copying, State::Replicating));
    target.commit(&Checkpoint { enter, ..Checkpoint::default() }).await
}
