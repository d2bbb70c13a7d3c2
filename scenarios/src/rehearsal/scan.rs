//! What the oracles take from a history, read once from its beginning to its end.

use std::path::Path;

use converge_chaos::history;

use super::watch::CopySpan;
use crate::oracle::{Progress, Readings, Statements, limit};

/// The history as each of them sees it.
#[derive(Default)]
pub struct Scan {
    pub statements: Statements,
    pub copy: CopySpan,
    pub reached: limit::Reached,
    pub readings: Readings,
    pub progress: Progress,
    /// Why not all of it could be read.
    pub trouble: Option<String>,
}

impl Scan {
    /// Reads a history of a move of these tables. Of one that cannot be read whole, nothing is left by which anything could be
    /// called wrong: it may hold what another run wrote.
    pub fn of(path: &Path, moved: &[String]) -> Self {
        let mut scan = Self { statements: Statements::of(moved), ..Self::default() };
        match history::read(path) {
            Err(e) => scan.trouble = Some(e.to_string()),
            Ok(entries) => entries.for_each(|entry| scan.see(entry)),
        }
        if scan.trouble.is_some() {
            (scan.readings, scan.progress) = Default::default();
        }
        scan
    }

    fn see(&mut self, entry: Result<history::Entry, converge_chaos::Error>) {
        match entry {
            Ok(entry) => {
                self.copy.see(&entry);
                self.reached.see(&entry);
                self.readings.see(&entry);
                self.progress.see(&entry);
                self.statements.see(entry);
            }
            Err(e) => self.trouble = Some(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use converge_chaos::history::{Entry, Event, Sample, rfc3339};

    use super::*;
    use crate::verdict::Finding;

    /// A target whose position goes back, by a history of two runs that wrote at once.
    #[test]
    fn nothing_is_wrong_by_a_history_that_cannot_be_read() {
        let sample = |at_us, position: &str| {
            let applied_position = Some(format!("file:log.1:{position}"));
            let event = Event::Sample(Sample { applied_position, ..Sample::default() });
            serde_json::to_string(&Entry { at_us, event }).unwrap() + "\n"
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let whole = sample(1, "9") + &sample(2, "5");
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(Scan::of(&path, &[]).progress.checkpoint(None).finding, Finding::Fail);
        std::fs::write(&path, format!("{{\"at_us\":{}\n{whole}", rfc3339(SystemTime::now()))).unwrap();
        let scan = Scan::of(&path, &[]);
        assert!(scan.trouble.is_some());
        assert_eq!(scan.progress.checkpoint(None).finding, Finding::Unknown);
    }
}
