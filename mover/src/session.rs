//! The mover's sessions: pinned, so that no server's own defaults decide how a statement is read.

use converge_mysql::{Address, Connector};

/// What generated columns are computed with, wherever the target computes them: the settings that preflight holds the source's
/// against.
pub const COMPUTED_WITH: &str = "div_precision_increment = 4, lc_time_names = 'en_US', default_week_format = 0 \
    /*!50720 , block_encryption_mode = 'aes-128-ecb' */";

/// A connector to one of the servers. Under a server's own ANSI_QUOTES or NO_BACKSLASH_ESCAPES literals would be read
/// as something else. A server that hides the keys that it made itself would hide what identifies rows. Sessions that may
/// only read by a server's default are allowed to write.
pub fn connector(address: &Address) -> Connector {
    Connector::new(address.clone())
        .with_setup(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES', sql_quote_show_create = 1 \
             /*!80030 , show_gipk_in_create_table_and_information_schema = ON */",
        )
        .with_setup("SET SESSION TRANSACTION READ WRITE")
}
