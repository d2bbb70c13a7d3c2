//! The binary log in every form that is followed, and in the forms that are refused, on real servers of every kind found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "binlog/settings.rs"]
mod settings;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/servers.rs"]
mod support;
#[path = "binlog/too_little.rs"]
mod too_little;
#[path = "binlog/transactions.rs"]
mod transactions;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "support/world.rs"]
mod world;
