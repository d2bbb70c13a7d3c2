//! The target's binary logs, for the oracles that read them.

use converge_mysql::Error as ServerError;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

/// Their names, from the oldest to the one that is written to.
pub async fn names(conn: &mut Conn) -> Result<Vec<String>, mysql_async::Error> {
    let logs: Vec<Row> = conn.query("SHOW BINARY LOGS").await?;
    Ok(logs.iter().filter_map(|log| log.get(0)).collect())
}

/// Logs that end in the middle of an event, because the server died while it wrote it.
#[derive(Debug, Default)]
pub struct Torn(pub Vec<String>);

impl Torn {
    /// Notes that a log is torn, if that is what the error with this `code` said of the reading of it. What a server tore
    /// off when it died, it has neither applied nor sent to anybody; the `last` log it writes to.
    pub fn note(
        &mut self,
        read: Result<(), ServerError>,
        code: u16,
        name: &str,
        last: bool,
    ) -> Result<(), ServerError> {
        match read {
            Err(e) if e.server_code() == Some(code) && !last => {
                self.0.push(name.to_owned());
                Ok(())
            }
            read => read,
        }
    }

    /// A remark on them.
    pub fn remark(&self) -> String {
        match self.0.as_slice() {
            [] => String::new(),
            torn => format!("; {} ends where the server died", torn.join(", ")),
        }
    }
}
