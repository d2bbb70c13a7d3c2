//! Rehearsals: what to run ([`scenario`]), running it ([`rehearsal`]), judging it ([`oracle`], [`verdict`]), saying so
//! ([`report`]), running it again ([`saved`], [`cause`]) or many times ([`campaign`], [`batch`]), making a
//! failure small ([`shrink`]), and whether all of that notices a mover that is wrong ([`selftest`]).

pub mod batch;
pub mod campaign;
pub mod cause;
mod lock;
pub mod mutant;
pub mod oracle;
pub mod rehearsal;
pub mod report;
pub mod saved;
pub mod scenario;
mod scratch;
pub mod selftest;
pub mod shell;
pub mod shrink;
pub mod verdict;
pub mod words;
