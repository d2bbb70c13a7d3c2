//! The receiving end of the source's binary log. A task of its own reads and decodes ahead, by a bounded number of events and
//! of bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::binlog::Reader;
use super::refused::lost;
use crate::change::StreamEvent;
use crate::error::Result;

/// Decoded binlog events read ahead of the applier.
const READ_AHEAD: usize = 64;
/// Bytes of values read ahead of the applier, unless one event alone has more.
const READ_AHEAD_BYTES: u32 = 4 << 20;

/// What one binlog event was decoded to, and its share of the bytes read ahead.
type Batch = (Vec<StreamEvent>, Option<OwnedSemaphorePermit>);

/// The receiving end of the reading task. Dropping it ends the task and its connection.
pub struct ServerStream {
    events: mpsc::Receiver<Result<Batch>>,
    current: std::vec::IntoIter<StreamEvent>,
    /// Given back once the last of `current` was taken care of, which is when the next event is asked for.
    share: Option<OwnedSemaphorePermit>,
    task: JoinHandle<()>,
}

impl ServerStream {
    /// Starts the task.
    pub fn start(mut reader: Reader) -> Self {
        let (sender, events) = mpsc::channel(READ_AHEAD);
        let bytes = Arc::new(Semaphore::new(READ_AHEAD_BYTES as usize));
        let task = tokio::spawn(async move {
            loop {
                let batch = reader.next_batch().await;
                let failed = batch.is_err();
                let share = match &batch {
                    Ok(events) => share(&bytes, events).await,
                    Err(_) => None,
                };
                let all = share.as_ref().is_some_and(|s| s.num_permits() == READ_AHEAD_BYTES as usize);
                if sender.send(batch.map(|events| (events, share))).await.is_err() || failed {
                    return;
                }
                if all {
                    // Beside an event of this size nothing else is read.
                    let _ = bytes.acquire_many(READ_AHEAD_BYTES).await;
                }
            }
        });
        Self { events, current: Vec::new().into_iter(), share: None, task }
    }

    fn begin(&mut self, (events, share): Batch) {
        self.current = events.into_iter();
        self.share = share;
    }

    /// The next event, if one was read already.
    pub fn ready(&mut self) -> Option<Result<StreamEvent>> {
        loop {
            if let Some(event) = self.current.next() {
                return Some(Ok(event));
            }
            self.share = None;
            match self.events.try_recv() {
                Ok(Ok(batch)) => self.begin(batch),
                Ok(Err(e)) => return Some(Err(e)),
                Err(_) => return None,
            }
        }
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<StreamEvent> {
        loop {
            if let Some(event) = self.current.next() {
                return Ok(event);
            }
            self.share = None;
            match self.events.recv().await {
                Some(batch) => self.begin(batch?),
                None => return Err(lost("the reading task ended")),
            }
        }
    }
}

/// Waits until these events may be held in memory.
async fn share(bytes: &Arc<Semaphore>, events: &[StreamEvent]) -> Option<OwnedSemaphorePermit> {
    let weight = |event: &StreamEvent| match event {
        StreamEvent::Change(change) => change.weight(),
        _ => 0,
    };
    let weight: usize = events.iter().map(weight).sum();
    let permits = u32::try_from(weight).unwrap_or(READ_AHEAD_BYTES).min(READ_AHEAD_BYTES);
    // The semaphore is never closed, so that the error cannot happen.
    bytes.clone().acquire_many_owned(permits).await.ok()
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
