//! The online table mover: copies tables from one MySQL or MariaDB server to another while they are written to,
//! follows the row binary log, and switches traffic when the target has provably everything.
//!
//! Data flows one way: [`source`] → [`copy`] and the change stream → [`apply`] → [`target`], where each transaction
//! carries its own checkpoint ([`state`]). [`workflow`] runs it all and survives the loss of any party.
//!
//! The watermark invariant: at every commit, each row on the target equals the source's row at the applied position.
//! Whatever contradicts it stops the workflow with the evidence; nothing here repairs it in silence.

pub mod apply;
pub mod change;
pub mod control;
pub mod copy;
pub mod error;
mod key_range;
mod movement;
pub mod planted;
pub mod preflight;
pub mod schema;
mod session;
pub mod simulation;
pub mod source;
pub mod state;
pub mod target;
pub mod value;
pub mod workflow;

pub use error::{Error, Result};
