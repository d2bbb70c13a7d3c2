//! How a comparison that runs is shown on standard error. Never on standard output: that is for the answer.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use converge_vdiff::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Progress on standard error: a bar on a terminal, else now and then a line.
pub struct Display {
    bar: Option<ProgressBar>,
    last_line: Mutex<Option<Instant>>,
}

/// Between two lines about one table.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Display {
    /// A bar if somebody watches, else lines.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = "{prefix} [{bar:30}] {human_pos}/{human_len} rows, {rate}, {eta} left {msg}";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                        let _ = write!(out, "{:.0}/s", state.per_sec());
                    }),
            );
            bar
        });
        Self { bar, last_line: Mutex::new(None) }
    }

    /// Shows what happened.
    pub fn tell(&self, progress: Progress) {
        match progress {
            Progress::Table { table, rows_estimated } => match &self.bar {
                Some(bar) => {
                    bar.reset();
                    bar.set_length(rows_estimated);
                    bar.set_prefix(table);
                    bar.set_message("");
                }
                None => self.line(format!("{table}: comparing about {rows_estimated} rows"), true),
            },
            Progress::Rows { table, rows, suspects } => match &self.bar {
                Some(bar) => {
                    bar.set_length(bar.length().unwrap_or(0).max(rows));
                    bar.set_position(rows);
                    if suspects > 0 {
                        bar.set_message(format!("({suspects} differ)"));
                    }
                }
                None => self.line(format!("{table}: {rows} rows compared, {suspects} differ"), false),
            },
            Progress::Held { table, why } => match &self.bar {
                Some(bar) => bar.set_message(format!("(waiting: {why})")),
                None => self.line(format!("{table}: waiting: {why}"), false),
            },
            Progress::Confirming { table, suspects } => match &self.bar {
                Some(bar) => bar.set_message(format!("({suspects} differ, reading them again)")),
                None => self.line(format!("{table}: reading {suspects} differing rows again"), false),
            },
            Progress::Done { table, verdict } => match &self.bar {
                Some(bar) => bar.suspend(|| note!("{table}: {}", verdict.as_str())),
                None => self.line(format!("{table}: {}", verdict.as_str()), true),
            },
        }
    }

    fn line(&self, text: String, always: bool) {
        let mut last = self.last_line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if always || last.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            note!("{text}");
            *last = Some(Instant::now());
        }
    }

    /// Takes the bar off the terminal, before the answer is written.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
