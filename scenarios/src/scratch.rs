//! The directory of a run that is kept only if something is to be seen in it.

use std::path::{Path, PathBuf};

/// A run's directory, which is removed in the end unless told to keep it: also when the run is broken off.
#[derive(Debug)]
pub struct Scratch {
    /// The directory; the run makes it.
    pub directory: PathBuf,
    /// Whether it stays.
    pub keep: bool,
}

impl Scratch {
    /// Removes what a run that was killed left.
    pub fn new(directory: &Path) -> Self {
        let _ = std::fs::remove_dir_all(directory);
        Self { directory: directory.into(), keep: false }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}
