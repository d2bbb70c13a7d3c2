//! Rehearsals: what to run ([`scenario`]), running it ([`rehearsal`]), judging it ([`oracle`], [`verdict`]), saying so
//! ([`report`]), and whether all of that notices a mover that is wrong ([`selftest`]).

pub mod oracle;
pub mod rehearsal;
pub mod report;
pub mod scenario;
pub mod selftest;
pub mod verdict;
