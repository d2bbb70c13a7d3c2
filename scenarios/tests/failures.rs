//! Every failure ends in "goes on by itself" or "stopped, here is what to do", on real servers of every kind found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "failures/backup.rs"]
mod backup;
#[path = "failures/cascade.rs"]
mod cascade;
#[path = "failures/client.rs"]
mod client;
#[path = "failures/ddl.rs"]
mod ddl;
#[path = "failures/failover.rs"]
mod failover;
#[path = "failures/fence.rs"]
mod fence;
#[path = "failures/kills.rs"]
mod kills;
#[path = "support/mover.rs"]
mod mover;
#[path = "failures/network.rs"]
mod network;
#[path = "failures/others.rs"]
mod others;
#[path = "failures/runners.rs"]
mod runners;
#[path = "failures/source.rs"]
mod source;
#[path = "support/sql.rs"]
mod sql;
#[path = "failures/stale.rs"]
mod stale;
#[path = "support/servers.rs"]
mod support;
#[path = "failures/switch.rs"]
mod switch;
#[path = "failures/target.rs"]
mod target;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "support/world.rs"]
mod world;
