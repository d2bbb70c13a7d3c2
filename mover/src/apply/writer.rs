//! Carrying out what the follower planned, while it plans on: orders in, target transactions out, in order, with chunks
//! beside them where there are [lanes](super::lanes) for those.
//!
//! Both run in one task and share nothing but a queue of one order, so that what was planned and not yet written is
//! bounded, and the same inputs give the same transactions.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::Followed;
use super::lanes::Lanes;
use super::plan::Step;
use crate::copy::Chunk;
use crate::error::Result;
use crate::target::{Checkpoint, Target};

/// What the target is to do.
pub enum Order {
    /// Carry out steps in the open transaction.
    Run(Vec<Step>),
    /// Write chunks, and commit.
    Commit(Box<Commit>),
}

/// The end of a target transaction.
pub struct Commit {
    /// What it records about itself, beside the chunks.
    pub checkpoint: Checkpoint,
    /// The chunks that are due with it.
    pub due: Vec<Chunk>,
    /// The token of a fence that it reaches.
    pub fence: Option<String>,
    /// Row changes in it.
    pub changes: u64,
}

/// Counts what was given to the target and is not carried out yet.
#[derive(Clone, Default)]
pub struct Load(Arc<Counts>);

#[derive(Default)]
struct Counts {
    orders: AtomicUsize,
    chunks: AtomicUsize,
    fewer: Notify,
}

/// A chunk on its way; it is counted until this is dropped.
pub struct Counted(Arc<Counts>);

impl Load {
    /// Counts a chunk.
    pub fn chunk(&self) -> Counted {
        self.0.chunks.fetch_add(1, Ordering::Relaxed);
        Counted(self.0.clone())
    }

    fn order_done(&self) {
        self.0.orders.fetch_sub(1, Ordering::Relaxed);
        self.0.fewer.notify_one();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.chunks.fetch_sub(1, Ordering::Relaxed);
        self.0.fewer.notify_one();
    }
}

/// Where the follower gives its orders.
pub struct Orders {
    sender: mpsc::Sender<Order>,
    load: Load,
}

/// Carries the orders out.
pub struct Writer {
    receiver: mpsc::Receiver<Order>,
    /// What is to be done.
    pub load: Load,
}

/// The two ends of the queue.
pub fn queue() -> (Orders, Writer) {
    let (sender, receiver) = mpsc::channel(1);
    let load = Load::default();
    (Orders { sender, load: load.clone() }, Writer { receiver, load })
}

impl Orders {
    /// Gives an order, as soon as there is a place in the queue.
    pub async fn give(&self, order: Order) {
        self.load.0.orders.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(order).await.is_err() {
            // The writer has failed, and its error ends the follower.
            std::future::pending::<()>().await;
        }
    }

    /// Whether all orders are carried out, but for chunks on their way.
    pub fn are_done(&self) -> bool {
        self.load.0.orders.load(Ordering::Relaxed) == 0
    }

    /// Waits until all orders are carried out, but for chunks on their way.
    pub async fn done(&self) {
        while !self.are_done() {
            self.load.0.fewer.notified().await;
        }
    }

    /// Waits until all orders are carried out, and all chunks committed.
    pub async fn all_done(&self) {
        while !self.are_done() || self.load.0.chunks.load(Ordering::Relaxed) > 0 {
            self.load.0.fewer.notified().await;
        }
    }
}

impl Writer {
    /// Carries out orders until one fails.
    pub async fn work<'a, T: Target + 'a>(
        mut self,
        target: &mut T,
        mut lanes: Lanes<'a, T>,
        shared: &watch::Sender<Followed>,
    ) -> Result<Infallible> {
        while let Some(order) = lanes.beside(self.receiver.recv()).await? {
            match order {
                Order::Run(steps) => {
                    lanes.clear_of(|table| steps.iter().any(|step| step.table == table)).await?;
                    lanes.beside(target.run(steps)).await??;
                }
                Order::Commit(commit) => carry_out(*commit, target, &mut lanes, shared).await?,
            }
            self.load.order_done();
        }
        // The follower has ended, and says why.
        lanes.beside(std::future::pending()).await
    }
}

async fn carry_out<'a, T: Target + 'a>(
    order: Commit,
    target: &mut T,
    lanes: &mut Lanes<'a, T>,
    shared: &watch::Sender<Followed>,
) -> Result<()> {
    let Commit { mut checkpoint, due, fence, changes } = order;
    // These say that all chunks are there; and a chunk apart goes in behind a position.
    let alone = fence.is_some() || checkpoint.enter.is_some() || checkpoint.position.is_none();
    if alone {
        lanes.clear_of(|_| true).await?;
    }
    let (apart, along): (Vec<_>, Vec<_>) = due.into_iter().partition(|chunk| !alone && lanes.take(chunk));
    let mut held = Vec::new();
    for mut chunk in along {
        checkpoint.copied.push((chunk.rows.table, chunk.progress.clone()));
        held.extend(chunk.held.take());
        lanes.beside(store(target, chunk)).await??;
    }
    // The position is settled: whoever holds rows locked must have held them up to now.
    let mut waiting = Vec::new();
    for held in held {
        waiting.push(lanes.beside(held.proven()).await?);
    }
    lanes.beside(commit(target, &checkpoint, shared)).await??;
    if checkpoint.enter.is_some() {
        lanes.end();
    }
    for written in waiting {
        // Whoever waits for it may have ended.
        let _ = written.send(());
    }
    let position = checkpoint.position.clone();
    shared.send_modify(|shared| {
        shared.position = checkpoint.position;
        shared.timestamp = checkpoint.timestamp;
        for (table, progress) in checkpoint.copied {
            shared.copied[table] = progress;
        }
        shared.changes += changes;
        if fence.is_some() {
            shared.fence = fence;
        }
    });
    if let Some(position) = position {
        for chunk in apart {
            lanes.begin(chunk, &position).await?;
        }
    }
    Ok(())
}

/// Writes a chunk in the open transaction, and gives its place back.
pub async fn store(target: &mut impl Target, chunk: Chunk) -> Result<()> {
    let (bytes, started) = (chunk.rows.bytes, Instant::now());
    target.write_chunk(chunk.rows, chunk.onto).await?;
    if let Some(place) = chunk.place {
        place.written(bytes, started.elapsed());
    }
    Ok(())
}

/// Commits, and says so for as long as that takes.
pub async fn commit(
    target: &mut impl Target,
    checkpoint: &Checkpoint,
    shared: &watch::Sender<Followed>,
) -> Result<()> {
    shared.send_modify(|shared| shared.committing += 1);
    target.commit(checkpoint).await?;
    shared.send_modify(|shared| shared.committing -= 1);
    Ok(())
}
