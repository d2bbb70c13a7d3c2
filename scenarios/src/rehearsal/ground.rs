//! The report's directory at the beginning of a run, and its removal where nothing came of the run.

use std::path::{Path, PathBuf};

use super::{RehearsalError, SCHEMA};
use crate::{report, saved};

/// A directory, and which of those above it were not there before.
#[derive(Debug)]
pub struct Ground {
    directory: PathBuf,
    /// The innermost first.
    made: Vec<PathBuf>,
}

impl Ground {
    /// Makes the directory, unless it is there. One that holds somebody's own plan or schema is refused.
    pub fn make(directory: &Path) -> Result<Self, RehearsalError> {
        if let Some(theirs) = theirs(directory) {
            return Err(RehearsalError::NotARun(theirs));
        }
        let missing = |above: &&Path| !above.as_os_str().is_empty() && !above.exists();
        let made = directory.ancestors().take_while(missing).map(PathBuf::from).collect();
        std::fs::create_dir_all(directory).map_err(RehearsalError::io("creating", directory))?;
        Ok(Self { directory: directory.into(), made })
    }

    /// Removes what was made, after a run that was refused before a server or the mover had anything to say: their logs
    /// tell why a run came to nothing.
    pub fn abandon(self) {
        let log = |file: PathBuf| file.extension().is_some_and(|extension| extension == "log");
        let mut files = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        if self.made.is_empty() || files.any(|entry| log(entry.path())) {
            return;
        }
        let _ = std::fs::remove_dir_all(&self.directory);
        // Those above only while they hold nothing else.
        let _ = self.made.iter().skip(1).try_for_each(std::fs::remove_dir);
    }
}

/// A file that a run would overwrite and that no run has left: each run leaves a history beside it.
fn theirs(directory: &Path) -> Option<PathBuf> {
    let is_there = |name: &&str| directory.join(name).exists();
    let of_a_run = [saved::HISTORY, report::VERDICT].iter().any(is_there);
    [saved::PLAN, SCHEMA].iter().find(|name| !of_a_run && is_there(name)).map(|name| directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_wrote_is_not_overwritten() {
        let home = tempfile::tempdir().unwrap();
        for name in ["plan.toml", "schema.sql"] {
            let directory = home.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join(name), "precious").unwrap();
            let refused = Ground::make(&directory).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
            std::fs::write(directory.join("history.jsonl"), "").unwrap();
            Ground::make(&directory).unwrap();
        }
    }

    #[test]
    fn only_what_was_made_and_tells_nothing_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("runs").join("a run");
        Ground::make(&run).unwrap().abandon();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);

        let ground = Ground::make(&run).unwrap();
        std::fs::write(run.join("plan.toml"), "").unwrap();
        std::fs::create_dir(home.path().join("runs").join("another run")).unwrap();
        ground.abandon();
        assert!(!run.exists() && home.path().join("runs").exists());

        let ground = Ground::make(&run).unwrap();
        std::fs::write(run.join("source.log"), "why").unwrap();
        ground.abandon();
        assert!(run.exists());
        std::fs::remove_file(run.join("source.log")).unwrap();
        // It was there before.
        Ground::make(&run).unwrap().abandon();
        assert!(run.exists());
    }
}
