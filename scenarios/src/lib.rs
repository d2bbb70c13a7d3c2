//! Rehearsals: what to run (`scenario`), running it (`rehearsal`), judging it (`oracle`, [`verdict`]), saying so
//! ([`report`]).

pub mod report;
pub mod verdict;
