//! VDiff: compares tables on two servers and says `equal`, `different` (with the rows) or `not proven`.
//!
//! Data flows one way: [`request`] → `schema` (read on both sides, by VDiff's own queries) → `plan` (which columns
//! compare in which canonical form, by which key) → `engine` (chunks, digests on both servers at once, narrowing
//! down to rows, confirming) → [`report`].
//!
//! What it must never do: write to a server, but to the target by [`compare_and_repair`]; share row, schema or digest
//! code with a mover; answer `equal` when something was skipped, cut short, unreadable or not comparable.

mod canonical_json;
pub mod digest;
mod engine;
mod error;
mod form;
mod plan;
mod proof;
pub mod repair;
pub mod report;
pub mod request;
mod schema;
mod session;

pub use engine::{compare, remembered_seed};
pub use error::Error;
pub use repair::{Repair, compare_and_repair};
pub use report::{Report, Verdict};
pub use request::{
    Engine, Filter, MaxLoad, Options, Progress, ProofSource, Request, Sample, Side, TablePair,
};
pub use session::running::unless;
