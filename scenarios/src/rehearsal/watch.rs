//! Watching the move: samples of the mover's status go into the history and to whoever shows progress, and waits for
//! what the plan waits for are made here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use converge_chaos::history::{Entry, Event, History, Sample};
use converge_chaos::load::Brake;
use converge_mover::control::Status;

use super::mover::Mover;
use crate::scenario::Fault;

/// How often the mover is asked.
pub const TICK: Duration = Duration::from_millis(100);

/// What a rehearsal tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// A new part begins.
    Step(String),
    /// The move at one moment.
    Sample {
        /// The mover's state.
        state: String,
        /// Rows copied.
        copied: u64,
        /// Rows to copy.
        rows: u64,
        /// Seconds that the target is behind.
        lag: Option<f64>,
    },
    /// Something happened: a fault, a switch.
    Event(String),
}

/// Receives updates; cheap to clone.
pub type Progress = Arc<dyn Fn(Update) + Send + Sync>;

/// Asks the mover and keeps the record.
pub struct Watcher {
    history: History,
    progress: Progress,
    /// Rows in the moved tables when the move began.
    rows: u64,
    /// Seconds that the target may be behind, and what keeps the load from going on while it is more.
    brake: Option<(f64, Brake)>,
}

impl Watcher {
    /// Watches a move of `rows` rows.
    pub fn new(history: History, progress: Progress, rows: u64) -> Self {
        Self { history, progress, rows, brake: None }
    }

    /// The same, and has the load wait while the target is more than so many seconds behind.
    pub fn braking(self, most: Option<f64>, brake: Brake) -> Self {
        Self { brake: most.map(|most| (most, brake)), ..self }
    }

    /// Lets the load go on, however far the target is behind, until the next look.
    pub fn let_go(&self) {
        if let Some((_, brake)) = &self.brake {
            brake.set(false);
        }
    }

    /// Tells of something that happened.
    pub fn tell(&self, text: impl Into<String>) {
        (self.progress)(Update::Event(text.into()));
    }

    /// Asks once and records the answer.
    pub async fn look(&self, mover: &Mover) -> Option<Status> {
        let status = mover.status().await;
        if let Some((most, brake)) = &self.brake {
            // A mover that does not answer is no reason to wait: it may take a load to find out why.
            let lag = status.as_ref().and_then(|status| status.lag_seconds);
            brake.set(lag.is_some_and(|lag| lag > *most));
        }
        let status = status?;
        let copied = status.tables.iter().map(|t| t.rows_copied).sum();
        self.history.record(Event::Sample(Sample {
            state: status.state.clone(),
            rows_copied: copied,
            rows_estimated: self.rows,
            lag_seconds: status.lag_seconds,
            source_position: status.source_position.clone(),
            applied_position: Some(status.applied_position.clone()),
            error: status.error.clone(),
        }));
        let (state, lag) = (status.state.clone(), status.lag_seconds);
        (self.progress)(Update::Sample { state, copied, rows: self.rows, lag });
        Some(status)
    }

    /// Looks until `condition` holds, for at most `bound`. `None`: it never did, or the mover ended.
    pub async fn until(
        &self,
        mover: &mut Mover,
        bound: Duration,
        condition: impl Fn(Option<&Status>) -> bool,
    ) -> Option<Option<Status>> {
        let give_up = Instant::now() + bound;
        while Instant::now() < give_up {
            let status = self.look(mover).await;
            if condition(status.as_ref()) {
                return Some(status);
            }
            if !mover.is_running() {
                return None;
            }
            tokio::time::sleep(TICK).await;
        }
        None
    }

    /// Waits until a fault is due. Whether it is.
    pub async fn until_due(&self, mover: &mut Mover, fault: &Fault) -> bool {
        let least = fault.at_copied.map(|share| (share * self.rows as f64) as u64);
        let due = |status: Option<&Status>| status.is_some_and(|status| is_due(status, least));
        let Some(status) = self.until(mover, Duration::from_secs(600), due).await else { return false };
        if least.is_some() && status.is_some_and(|status| status.state == COPIED) {
            self.tell(format!("{}: the copy was complete before its time came", fault.name()));
        }
        true
    }
}

/// The state of a mover whose copy is complete.
const COPIED: &str = "replicating";

/// Whether so many rows are copied. Once the copy is complete there will be no more: rows that were deleted meanwhile are
/// never copied.
fn is_due(status: &Status, least: Option<u64>) -> bool {
    let copied = || status.tables.iter().map(|table| table.rows_copied).sum::<u64>();
    status.state == COPIED || least.is_some_and(|least| copied() >= least)
}

/// From the first sample in which rows were being copied to the first in which they no longer were.
#[derive(Debug, Default)]
pub struct CopySpan {
    from: Option<u64>,
    to: Option<u64>,
}

impl CopySpan {
    /// Takes the next entry of a history.
    pub fn see(&mut self, entry: &Entry) {
        let Event::Sample(sample) = &entry.event else { return };
        match (sample.state.as_str(), self.from) {
            ("copying", None) => self.from = Some(entry.at_us),
            ("replicating", Some(_)) if self.to.is_none() => self.to = Some(entry.at_us),
            _ => {}
        }
    }

    /// Both ends in microseconds since the run began, if both were seen.
    pub fn span(&self) -> Option<(u64, u64)> {
        self.from.zip(self.to)
    }
}

/// A mover that replicates and gave its last sign so many seconds ago.
#[cfg(test)]
pub fn replicating(applied: &str, silent: f64) -> Status {
    Status {
        workflow: String::new(),
        state: COPIED.into(),
        tables: vec![],
        source_position: None,
        applied_position: applied.into(),
        lag_seconds: None,
        error: None,
        what_to_do: None,
        silent_seconds: Some(silent),
        running: true,
        source: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_copy_is_due_at_its_end_at_the_latest() {
        let copied = replicating("1", 0.1);
        let copying = Status { state: "copying".into(), ..copied.clone() };
        assert!(is_due(&copying, Some(0)) && !is_due(&copying, Some(1)) && !is_due(&copying, None));
        // Rows that were deleted before their turn are never copied.
        assert!(is_due(&copied, Some(1)) && is_due(&copied, None));
    }

    #[test]
    fn a_copy_has_two_ends() {
        let sample = |at_us, state: &str| Entry {
            at_us,
            event: Event::Sample(Sample { state: state.into(), ..Sample::default() }),
        };
        let mut span = CopySpan::default();
        span.see(&sample(5, "replicating"));
        assert_eq!(span.span(), None);
        for (at_us, state) in [(10, "copying"), (20, "copying"), (30, "replicating"), (40, "replicating")] {
            span.see(&sample(at_us, state));
        }
        assert_eq!(span.span(), Some((10, 30)));
    }
}
