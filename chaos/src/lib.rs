//! Servers to break, faults to inject, load to send, and the history of all of it.
//!
//! Nothing here judges: what happened is recorded as it was seen, an answer that was lost is recorded as
//! unknown, and every process, port and directory that is made here is gone after, also after a panic.

pub mod error;
pub mod fault;
pub mod history;
pub mod load;
mod port;
pub mod proxy;
pub mod server;

pub use error::Error;
