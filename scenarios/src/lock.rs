//! A directory that one process works in at a time: two runs that write into one history would judge each other's.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::rehearsal::RehearsalError;

/// A directory that nobody else works in until this is dropped. The system gives it free when the process ends, however
/// that happens, and nothing is left behind.
#[derive(Debug)]
pub struct Lock {
    _directory: Flock<File>,
}

impl Lock {
    /// Locks a directory that is there.
    pub fn take(directory: &Path) -> Result<Self, RehearsalError> {
        let file = File::open(directory).map_err(RehearsalError::io("opening", directory))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _directory: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(RehearsalError::InUse(directory.into())),
            Err((_, other)) => Err(RehearsalError::io("locking", directory)(other.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_worked_in_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        assert!(matches!(Lock::take(directory.path()), Err(RehearsalError::InUse(_))));
        drop(first);
        Lock::take(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
