//! Rows and changes on their way, from any source to any target: what a session does besides listening to its
//! operator. It begins at a checkpoint and ends with an error; what then is not decided here.

use std::convert::Infallible;

use converge_mysql::Position;
use tokio::sync::watch;

use crate::apply::{Followed, Follower};
use crate::copy::{self, Board, Job, Pace, Strategy};
use crate::error::{Error, OnSide, Result, Side};
use crate::schema::Table;
use crate::source::{Source, TIMEOUT};
use crate::target::{CopyProgress, Target};

/// A checkpoint, and how to go on from it.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// The tables, as the source has them.
    pub tables: &'a [Table],
    /// How chunks are protected.
    pub strategy: Strategy,
    /// How fast to copy.
    pub pace: Pace,
    /// Chunks that may be written at once, where the strategy allows more than one.
    pub lanes: usize,
    /// A number that no other session has.
    pub run: u64,
    /// Everything up to here is on the target.
    pub position: Position,
    /// How far the copy of each table is.
    pub copied: Vec<CopyProgress>,
    /// Whether the workflow has not come to the copy's end yet.
    pub copying: bool,
    /// Where the statement on a moved table stands that the operator applied on the target.
    pub passing: Option<String>,
}

/// A start and the servers. `target` opens a connection of its own each time.
pub struct Movement<'a, S, O> {
    /// Where to begin.
    pub start: &'a Start<'a>,
    /// Where rows come from.
    pub source: &'a S,
    /// Where rows are read from, and what is followed until they are copied, if that is not the source itself.
    pub copy_source: Option<&'a S>,
    /// Opens connections to where they go.
    pub target: O,
    /// Where to tell how far it is.
    pub shared: &'a watch::Sender<Followed>,
}

impl<S: Source, T: Target, O: AsyncFn() -> Result<T>> Movement<'_, S, O> {
    /// Copies what is left to copy and follows the stream until something breaks.
    pub async fn run(&self) -> Result<Infallible> {
        let board = Board::new();
        let start = self.start;
        let (mut position, mut copied) = (start.position.clone(), start.copied.clone());
        let mut copying = start.copying;
        let job = self.job(&board, &start.copied);
        let alone = if copying { job.alone() } else { Vec::new() };
        if !alone.is_empty() {
            let (reader, at) = self.copy_source.unwrap_or(self.source).snapshot(&alone).await?;
            let tell = |copied: &[CopyProgress]| self.shared.send_modify(|f| f.copied = copied.to_vec());
            copied = copy::snapshot::copy(reader, &at, (self.target)().await?, &job, tell).await?;
            position = at;
            copying = !copied.iter().all(|c| c.done);
        }
        if let Some(source) = self.copy_source.filter(|_| copying) {
            position = self.follow(source, &board, &position, &copied, copying).await?;
            tracing::info!("copied; the stream moves from the replica to the source at {position}");
            copied = self.shared.borrow().copied.clone();
            copying = false;
        }
        let at = self.follow(self.source, &board, &position, &copied, copying).await?;
        let (what, why) = ("following the source".to_owned(), format!("the stream ended at {at}"));
        Err(converge_mysql::Error::Lost { what, why }).on_source()
    }

    fn job<'j>(&'j self, board: &'j Board, progress: &'j [CopyProgress]) -> Job<'j> {
        let Start { tables, strategy, pace, run, .. } = *self.start;
        Job { board, run, tables, progress, pace, strategy }
    }

    /// Follows a stream, and copies beside it what is left to copy. A replica's ends with the copy, at a position.
    async fn follow(
        &self,
        source: &S,
        board: &Board,
        position: &Position,
        copied: &[CopyProgress],
        copying: bool,
    ) -> Result<Position> {
        let Start { tables, strategy, run, .. } = *self.start;
        let target = (self.target)().await?;
        let mut lanes = Vec::new();
        if copying && strategy == Strategy::Watermark {
            for _ in 0..self.start.lanes {
                lanes.push((self.target)().await?);
            }
        }
        let stream = source.stream(position).await?;
        let follower =
            Follower::new(target, tables, board, strategy, copying, run, self.shared, position, copied)
                .beside(lanes)
                .passing(self.start.passing.clone());
        let moves_on = copying && self.copy_source.is_some();
        tokio::select! {
            // The order is fixed, so that what happens depends on what is ready and on nothing else.
            biased;
            result = follower.follow(stream, moves_on) => result,
            result = self.copy(source, board, copied, copying) => result,
        }
    }

    /// Copies beside the stream. That everything is read does not end the session.
    async fn copy(
        &self,
        source: &S,
        board: &Board,
        copied: &[CopyProgress],
        copying: bool,
    ) -> Result<Position> {
        if copying {
            let reader = source.reader().await?;
            let job = self.job(board, copied);
            match copy::beside_stream(reader, async || (self.target)().await, &job).await {
                // The statement that did it is in the stream, which names it and knows where it stands.
                Err(Error::Redefined { side: Side::Source, error }) => {
                    tokio::time::sleep(TIMEOUT).await;
                    return Err(error).on_source();
                }
                other => other?,
            }
        }
        std::future::pending().await
    }
}
