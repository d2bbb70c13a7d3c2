//! What a rehearsal tells while it runs, for a terminal or a log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use converge_scenarios::rehearsal::{Progress, Update};
use indicatif::{ProgressBar, ProgressStyle};

fn described(state: &str, copied: u64, rows: u64, lag: Option<f64>) -> String {
    let lag = lag.map_or_else(|| "unknown".into(), |s| format!("{s:.0} s"));
    // A table may grow while it is copied.
    let rows = rows.max(copied);
    format!("{state}: {copied} of {rows} rows copied, lag {lag}")
}

/// Plain lines: every event, and the move's state every two seconds.
pub fn lines() -> Progress {
    let last = Mutex::new(None::<Instant>);
    Arc::new(move |update| match update {
        Update::Step(text) => note!("-- {text}"),
        Update::Event(text) => note!("   {text}"),
        Update::Sample { state, copied, rows, lag } => {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(2)) {
                *last = Some(Instant::now());
                note!("   {}", described(&state, copied, rows, lag));
            }
        }
    })
}

/// A bar for the copy, events above it.
pub fn bars() -> Progress {
    let style = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:32} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(1).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    Arc::new(move |update| match update {
        Update::Step(text) => {
            bar.println(format!("-- {text}"));
            bar.set_message(text);
        }
        Update::Event(text) => bar.println(format!("   {text}")),
        Update::Sample { state, copied, rows, lag } => {
            bar.set_length(rows.max(copied));
            bar.set_position(copied);
            bar.set_message(described(&state, copied, rows, lag));
        }
    })
}
