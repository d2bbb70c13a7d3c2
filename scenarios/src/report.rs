//! The report of a rehearsal as a directory of files.
