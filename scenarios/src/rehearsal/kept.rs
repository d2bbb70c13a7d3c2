//! The servers' directories, where they are to stay.

use std::path::PathBuf;

use super::watch::{Progress, Update};

/// Directories that stay: dropped, which is at the end of a run however it ends, it tells where they are.
pub struct Kept {
    progress: Progress,
    directories: Vec<PathBuf>,
}

impl Kept {
    /// Those directories, to be told as a step.
    pub fn new(progress: &Progress, directories: Vec<PathBuf>) -> Self {
        Self { progress: progress.clone(), directories }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for directory in &self.directories {
            (self.progress)(Update::Step(format!("kept {}", directory.display())));
        }
    }
}
