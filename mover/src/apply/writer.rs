//! Carrying out what the follower planned, while it plans on: orders in, target transactions out, in order.
//!
//! Both run in one task and share nothing but a queue of one order, so that what was planned and not yet written is
//! bounded, and the same inputs give the same transactions.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::Followed;
use super::plan::Step;
use crate::copy::Chunk;
use crate::error::Result;
use crate::target::{Checkpoint, CopyProgress, Target};

/// What the target is to do.
pub enum Order {
    /// Carry out steps in the open transaction.
    Run(Vec<Step>),
    /// Write chunks, and commit.
    Commit(Box<Commit>),
}

/// The end of a target transaction.
pub struct Commit {
    /// What it records about itself.
    pub checkpoint: Checkpoint,
    /// The chunks that go in with it.
    pub due: Vec<Chunk>,
    /// How far the copy is after it.
    pub copied: Vec<CopyProgress>,
    /// The token of a fence that it reaches.
    pub fence: Option<String>,
    /// Row changes in it.
    pub changes: u64,
}

/// Orders that were given and not carried out yet.
#[derive(Default)]
struct Load {
    orders: AtomicUsize,
    drained: Notify,
}

/// Where the follower gives its orders.
pub struct Orders {
    sender: mpsc::Sender<Order>,
    load: Arc<Load>,
}

/// Carries the orders out.
pub struct Writer {
    receiver: mpsc::Receiver<Order>,
    load: Arc<Load>,
}

/// The two ends of the queue.
pub fn queue() -> (Orders, Writer) {
    let (sender, receiver) = mpsc::channel(1);
    let load = Arc::<Load>::default();
    (Orders { sender, load: load.clone() }, Writer { receiver, load })
}

impl Orders {
    /// Gives an order, as soon as there is a place in the queue.
    pub async fn give(&self, order: Order) {
        self.load.orders.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(order).await.is_err() {
            // The writer has failed, and its error ends the follower.
            std::future::pending::<()>().await;
        }
    }

    /// Whether all orders are carried out.
    pub fn are_done(&self) -> bool {
        self.load.orders.load(Ordering::Relaxed) == 0
    }

    /// Waits until all orders are carried out.
    pub async fn done(&self) {
        while !self.are_done() {
            self.load.drained.notified().await;
        }
    }
}

impl Writer {
    /// Carries out orders until one fails.
    pub async fn work(
        mut self,
        target: &mut impl Target,
        shared: &watch::Sender<Followed>,
    ) -> Result<Infallible> {
        while let Some(order) = self.receiver.recv().await {
            match order {
                Order::Run(steps) => target.run(steps).await?,
                Order::Commit(commit) => carry_out(*commit, target, shared).await?,
            }
            if self.load.orders.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.load.drained.notify_one();
            }
        }
        // The follower has ended, and says why.
        std::future::pending().await
    }
}

async fn carry_out(commit: Commit, target: &mut impl Target, shared: &watch::Sender<Followed>) -> Result<()> {
    let mut waiting = Vec::new();
    for chunk in commit.due {
        let (bytes, started) = (chunk.rows.weight(), Instant::now());
        target.write_chunk(chunk.rows, chunk.onto).await?;
        if let Some(place) = chunk.place {
            place.written(bytes, started.elapsed());
        }
        waiting.extend(chunk.written);
    }
    shared.send_modify(|shared| shared.committing = true);
    target.commit(&commit.checkpoint).await?;
    for written in waiting {
        // Whoever waits for it may have ended.
        let _ = written.send(());
    }
    shared.send_modify(|shared| {
        shared.position = commit.checkpoint.position;
        shared.timestamp = commit.checkpoint.timestamp;
        shared.copied = commit.copied;
        shared.changes += commit.changes;
        shared.committing = false;
        if commit.fence.is_some() {
            shared.fence = commit.fence;
        }
    });
    Ok(())
}
