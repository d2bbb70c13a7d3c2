//! The history of a run: every statement (invoke, then ok, fail or info) and every fault (inject, observed,
//! healed) as one JSON object per line, in the order of time.
//!
//! An outcome is never guessed: a statement without an `ok` or `fail` line is of unknown outcome. A history that
//! could not be written whole says so at [`History::finish`].

mod event;
mod ledger;
mod read;
mod settle;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use event::{Entry, Event, Invoke, Kind, Phase, Reading, Sample, key_text, rfc3339};
pub use ledger::Ledger;
pub use read::{Reader, read};
pub use settle::{Settled, settle};

use crate::error::Error;

/// How long an entry may stay in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// A history that is being written. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct History {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: String,
    began: Instant,
    next_id: AtomicU64,
    sink: Mutex<Sink>,
    finished: Condvar,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Sink {
    /// `None`: entries are not kept, or no more.
    out: Option<BufWriter<File>>,
    trouble: Option<String>,
    done: bool,
}

impl History {
    /// Starts a history in a new file, or over an old one. `at_us` counts from now.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::io("creating", path))?;
        let history = Self::over(Some(BufWriter::with_capacity(1 << 16, file)), path.display().to_string());
        // Weak: a history that is dropped without a finish must not be kept alive by its flusher.
        let shared = Arc::downgrade(&history.shared);
        let flusher = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || while shared.upgrade().is_some_and(|shared| shared.flush_after_a_while()) {});
        *lock(&history.shared.flusher) = Some(flusher.map_err(Error::io("starting a thread for", path))?);
        Ok(history)
    }

    /// A history that keeps nothing.
    pub fn discard() -> Self {
        Self::over(None, "(none)".into())
    }

    fn over(out: Option<BufWriter<File>>, path: String) -> Self {
        let shared = Shared {
            path,
            began: Instant::now(),
            next_id: AtomicU64::new(1),
            sink: Mutex::new(Sink { out, trouble: None, done: false }),
            finished: Condvar::new(),
            flusher: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Microseconds since the history began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes an event with the time of now.
    pub fn record(&self, event: Event) {
        let mut sink = lock(&self.shared.sink);
        if sink.out.is_none() {
            return;
        }
        // The time is taken under the lock, so that the order of lines is the order of time.
        let entry = Entry { at_us: self.now_us(), event };
        let written = match (&mut sink.out, serde_json::to_string(&entry)) {
            (Some(out), Ok(line)) => out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")),
            (_, Err(e)) => Err(e.into()),
            (None, _) => Ok(()),
        };
        sink.note(written);
    }

    /// Records that a statement is about to be sent and returns the id that its outcome refers to.
    pub fn invoke(&self, mut invoke: Invoke) -> u64 {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        invoke.id = id;
        self.record(Event::Invoke(invoke));
        id
    }

    /// Records a remark.
    pub fn note(&self, text: impl Into<String>) {
        self.record(Event::Note { text: text.into() });
    }

    /// Records a phase of a fault.
    pub fn fault(&self, fault: &str, phase: Phase, detail: impl Into<String>) {
        self.record(Event::Fault { fault: fault.into(), phase, detail: detail.into() });
    }

    /// Writes out what is buffered and ends the history. An error means that the file lacks a part of what
    /// happened.
    pub fn finish(&self) -> Result<(), Error> {
        self.shared.end();
        let sink = lock(&self.shared.sink);
        match &sink.trouble {
            Some(why) => Err(Error::HistoryIncomplete { path: self.shared.path.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Returns whether there is more to do.
    fn flush_after_a_while(&self) -> bool {
        let sink = lock(&self.sink);
        if sink.done {
            return false;
        }
        let mut sink =
            self.finished.wait_timeout(sink, FLUSH_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        sink.flush();
        !sink.done
    }

    fn end(&self) {
        let mut sink = lock(&self.sink);
        sink.flush();
        sink.out = None;
        sink.done = true;
        drop(sink);
        self.finished.notify_all();
        if let Some(flusher) = lock(&self.flusher).take() {
            let _ = flusher.join();
        }
    }
}

impl Sink {
    fn flush(&mut self) {
        if let Some(out) = &mut self.out {
            let flushed = out.flush();
            self.note(flushed);
        }
    }

    fn note(&mut self, result: std::io::Result<()>) {
        if let Err(e) = result {
            // After a failed write the file's end is unknown; anything more would only hide that.
            self.trouble.get_or_insert(e.to_string());
            self.out = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_reach_the_file_without_a_finish() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        history.note("hello");
        let give_up = Instant::now() + Duration::from_secs(10);
        while std::fs::read(&path).unwrap().is_empty() {
            assert!(Instant::now() < give_up, "not flushed");
            std::thread::sleep(Duration::from_millis(5));
        }
        history.finish().unwrap();
    }

    #[test]
    fn many_writers_write_whole_lines_in_the_order_of_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let history = history.clone();
                scope.spawn(move || (0..500).for_each(|i| history.note(format!("{n} {i}"))));
            }
        });
        history.finish().unwrap();
        let entries: Vec<Entry> = read(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), 2000);
        assert!(entries.windows(2).all(|w| w[0].at_us <= w[1].at_us));
    }

    #[test]
    fn a_write_that_failed_is_said_at_the_end() {
        let history = History::create(Path::new("/dev/full")).unwrap();
        (0..10_000).for_each(|_| history.note("something to fill the buffer with"));
        let error = history.finish().unwrap_err().to_string();
        assert!(error.contains("/dev/full") && error.contains("incomplete"), "{error}");
    }
}
