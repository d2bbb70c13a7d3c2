//! Rehearsals: what to run ([`scenario`]), running it ([`rehearsal`]), judging it ([`oracle`], [`verdict`]), saying so
//! ([`report`]).

pub mod oracle;
pub mod rehearsal;
pub mod report;
pub mod scenario;
pub mod verdict;
