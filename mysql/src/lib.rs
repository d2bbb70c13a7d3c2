//! Plumbing that every part of Converge shares: server addresses, connections, flavors and versions,
//! quoting, and replication positions.
//!
//! Nothing here reads or decodes a table's rows: what could hide a difference between two tables lives
//! separately in the mover and in VDiff, so that the judge shares no row code with the accused.

pub mod address;
pub mod connect;
pub mod error;
pub mod flavor;
pub mod gtid;
pub mod names;
pub mod position;
pub mod quote;
pub mod tls;

pub use address::Address;
pub use connect::{Connector, within};
pub use error::Error;
pub use flavor::{Flavor, ServerInfo, Version};
pub use gtid::{MariaDbGtidPosition, MySqlGtidSet, last_numbers};
pub use position::{FilePosition, Position};
pub use tls::{Tls, TlsMode};
