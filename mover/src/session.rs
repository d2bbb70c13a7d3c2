//! The mover's sessions: pinned, so that no server's own defaults decide how a statement is read.

use converge_mysql::{Address, Connector};

/// A connector to one of the servers. Under a server's own ANSI_QUOTES or NO_BACKSLASH_ESCAPES literals would be read
/// as something else.
pub fn connector(address: &Address) -> Connector {
    Connector::new(address.clone())
        .with_setup("SET SESSION sql_mode = 'STRICT_ALL_TABLES', sql_quote_show_create = 1")
}
