//! Many runs, some at the same time, each of them written down when it ends: what was written down is not run again.
//!
//! Knows nothing of what a run is. When it is told to stop, and when it ends with an error, nothing goes on behind it.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::hash::Hash;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::rehearsal::RehearsalError;

/// Runs that could not be carried out, one after the other, after which the batch is given up: what ails them is not
/// going to pass.
const MOST_ERRORS: usize = 3;

/// What came of a batch.
#[derive(Debug)]
pub struct Ended<R> {
    /// Everything that is written down, that of former batches first.
    pub results: Vec<R>,
    /// The last run that could not be carried out, and how many could not: they are not written down.
    pub failed: Option<(RehearsalError, usize)>,
    /// What stopped it before all was run.
    pub stopped: Option<&'static str>,
}

/// Runs each of `wanted` whose key is not in the file `results` yet, at most `jobs` at the same time, until `stop` says
/// why not to go on. `tell` hears of each run that ended, how many of all that are wanted are there by then, and how many
/// those are.
pub async fn run<K, J, R, F>(
    results: &Path,
    (jobs, wanted): (usize, Vec<(K, J)>),
    key: impl Fn(&R) -> K,
    one: impl Fn(J) -> F,
    stop: impl Future<Output = &'static str>,
    tell: impl Fn(Result<&R, &RehearsalError>, usize, usize),
) -> Result<Ended<R>, RehearsalError>
where
    K: Eq + Hash,
    R: Serialize + DeserializeOwned + Send + 'static,
    F: Future<Output = Result<R, RehearsalError>> + Send + 'static,
{
    let mut ended = Ended { results: read(results)?, failed: None, stopped: None };
    let known: HashSet<K> = ended.results.iter().map(&key).collect();
    let all = wanted.len();
    let waiting: Vec<J> =
        wanted.into_iter().filter(|(key, _)| !known.contains(key)).map(|(_, job)| job).collect();
    let (mut done, mut in_a_row) = (all - waiting.len(), 0);
    let mut waiting = waiting.into_iter();
    let mut running = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        // Only as many as may run: tasks that wait for a place would get it in any order.
        let places = jobs.max(1) - running.len();
        waiting.by_ref().take(places).for_each(|job| drop(running.spawn(one(job))));
        let joined = tokio::select! {
            joined = running.join_next() => joined,
            why = &mut stop => {
                ended.stopped = Some(why);
                break;
            }
        };
        let Some(joined) = joined else { break };
        let broken = |e| RehearsalError::Mover(format!("a rehearsal broke off: {e}"));
        match joined.map_err(broken).and_then(|result| result) {
            Ok(result) => {
                append(results, &result)?;
                (done, in_a_row) = (done + 1, 0);
                tell(Ok(&result), done, all);
                ended.results.push(result);
            }
            Err(error) => {
                tell(Err(&error), done, all);
                in_a_row += 1;
                let before = ended.failed.take().map_or(0, |(_, count)| count);
                ended.failed = Some((error, before + 1));
                if in_a_row == MOST_ERRORS {
                    break;
                }
            }
        }
    }
    // Returns when all of them are gone, with their servers.
    running.shutdown().await;
    Ok(ended)
}

fn read<R: DeserializeOwned>(path: &Path) -> Result<Vec<R>, RehearsalError> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(RehearsalError::io("reading", path))?,
    };
    // The last line is torn where a batch was killed while it wrote it: that run is run again.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn append(path: &Path, result: &impl Serialize) -> Result<(), RehearsalError> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)
        .map_err(RehearsalError::io("opening", path))?;
    let line = serde_json::to_string(result).unwrap_or_default() + "\n";
    let write = |file: &mut std::fs::File| {
        // What follows a torn line begins a new one, or both would be lost.
        let torn = file.seek(SeekFrom::End(-1)).is_ok() && {
            let mut last = [0];
            file.read_exact(&mut last)?;
            last != *b"\n"
        };
        file.write_all(format!("{}{line}", if torn { "\n" } else { "" }).as_bytes())
    };
    write(&mut file).map_err(RehearsalError::io("writing", path))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    /// Runs numbers whose result is themselves; those in `bad` fail. The results, and what was really run.
    async fn numbers(path: &Path, jobs: usize, wanted: &[u64], bad: &[u64]) -> (Ended<u64>, Vec<u64>) {
        let run = Arc::new(Mutex::new(Vec::new()));
        let (at_once, bad) = (Arc::new(AtomicUsize::new(0)), bad.to_vec());
        let one = |n: u64| {
            let (run, at_once, bad) = (run.clone(), at_once.clone(), bad.clone());
            async move {
                assert!(at_once.fetch_add(1, Ordering::SeqCst) < jobs);
                tokio::task::yield_now().await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                run.lock().unwrap().push(n);
                if bad.contains(&n) { Err(RehearsalError::Mover(n.to_string())) } else { Ok(n) }
            }
        };
        let wanted = wanted.iter().map(|n| (*n, *n)).collect();
        let ended = super::run(
            path,
            (jobs, wanted),
            |n| *n,
            one,
            std::future::pending(),
            |_, done, all| {
                assert!(done <= all);
            },
        );
        let ended = ended.await.unwrap();
        (ended, run.lock().unwrap().clone())
    }

    #[tokio::test]
    async fn what_is_written_down_is_not_run_again_and_a_torn_line_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results");
        let (mut ended, run) = numbers(&path, 2, &[1, 20, 3], &[]).await;
        ended.results.sort_unstable();
        assert_eq!((ended.results, run.len()), (vec![1, 3, 20], 3));
        // Killed while it wrote `3`: what is left of the line is no result.
        std::fs::write(&path, "1\n20\n{\"se").unwrap();
        let (ended, run) = numbers(&path, 1, &[1, 20, 3, 4], &[]).await;
        assert_eq!((ended.results, run), (vec![1, 20, 3, 4], vec![3, 4]));
        let (ended, run) = numbers(&path, 1, &[1, 20, 3, 4], &[]).await;
        assert_eq!((ended.results, run), (vec![1, 20, 3, 4], vec![]));
    }

    #[tokio::test]
    async fn one_run_that_cannot_be_carried_out_is_passed_over_and_three_in_a_row_end_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results");
        let (ended, _) = numbers(&path, 1, &[1, 2, 3, 4, 5], &[1, 2, 4, 5]).await;
        assert_eq!((ended.results, ended.failed.unwrap().1), (vec![3], 4));
        let (ended, run) = numbers(&path, 1, &[1, 2, 3, 4, 5], &[1, 2, 4]).await;
        let (error, count) = ended.failed.unwrap();
        assert_eq!((ended.results, error.to_string(), count), (vec![3], "4".into(), 3));
        assert_eq!(run, [1, 2, 4]);
    }

    #[tokio::test]
    async fn nothing_goes_on_behind_a_batch_that_was_stopped() {
        struct Gone(Arc<AtomicUsize>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let gone = Arc::new(AtomicUsize::new(0));
        let one = |n: u64| {
            let guard = Gone(gone.clone());
            async move {
                let _guard = guard;
                tokio::time::sleep(Duration::from_secs(if n == 1 { 0 } else { 3600 })).await;
                Ok(n)
            }
        };
        let (told, heard) = tokio::sync::oneshot::channel();
        let told = Mutex::new(Some(told));
        let stop = async { heard.await.unwrap_or("nothing") };
        let tell = |_: Result<&u64, &RehearsalError>, _, _| {
            let _ = told.lock().unwrap().take().map(|told| told.send("enough"));
        };
        let wanted = vec![(1, 1), (2, 2), (3, 3)];
        let path = directory.path().join("results");
        let ended = super::run(&path, (2, wanted), |n| *n, one, stop, tell).await.unwrap();
        assert_eq!((ended.results, ended.stopped), (vec![1], Some("enough")));
        assert_eq!(gone.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn runs_begin_in_the_order_in_which_they_are_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let wanted: Vec<u64> = (1..200).rev().collect();
        let (_, run) = numbers(&directory.path().join("results"), 1, &wanted, &[]).await;
        assert_eq!(run, wanted);
    }
}
