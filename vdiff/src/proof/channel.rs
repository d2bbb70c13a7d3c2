//! The channels by which a server replicates others, as it shows them itself.

use std::time::Duration;

use converge_mysql::{FilePosition, Flavor, Version, within};
use mysql_async::Row;
use mysql_async::prelude::Queryable;

use super::needs;
use crate::error::Error;
use crate::session::Session;

/// How long the server may take to show how replication stands.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How one channel stands.
#[derive(Debug, Default, Clone)]
pub struct Channel {
    /// Its name (MariaDB: of the connection); empty for the default one.
    pub name: String,
    /// Host and port of the server that it replicates.
    pub source: String,
    /// That server's id; 0 until the receiver has connected for the first time since it was set up or restarted.
    pub server_id: String,
    /// That server's UUID; MySQL only.
    pub uuid: String,
    /// Whether the receiver runs.
    pub receives: String,
    /// Whether the applier runs.
    pub applies: String,
    /// Seconds behind the source; empty if that is not known.
    pub behind: String,
    /// Seconds that it is told to stay behind.
    pub delay: String,
    /// Numbers only: their texts may hold values of rows.
    pub errors: [String; 2],
    /// The place in the source's binary log that is applied.
    pub applied: Option<FilePosition>,
}

impl Channel {
    /// Whether it is known which server it replicates.
    pub fn has_connected(&self) -> bool {
        !["", "0"].contains(&self.server_id.as_str())
    }

    /// Whether it replicates the same server as it did when `before` was seen.
    pub fn is_still(&self, before: &Self) -> bool {
        if self.has_connected() && before.has_connected() {
            return self.server_id == before.server_id && self.uuid == before.uuid;
        }
        self.source == before.source
    }
}

/// All channels of a server; `why`: what they are looked at for.
pub async fn channels(session: &mut Session, why: &str) -> Result<Vec<Channel>, Error> {
    let (sql, grant) = match session.info.flavor {
        Flavor::MySql if session.info.is_mysql_since(Version(8, 0, 22)) => {
            ("SHOW REPLICA STATUS", "GRANT REPLICATION CLIENT ON *.*")
        }
        Flavor::MySql => ("SHOW SLAVE STATUS", "GRANT REPLICATION CLIENT ON *.*"),
        Flavor::MariaDb => ("SHOW ALL SLAVES STATUS", "GRANT SLAVE MONITOR ON *.*"),
    };
    let what = "reading how replication stands";
    let rows: Result<Vec<Row>, _> = within(TIMEOUT, what, session.conn().query(sql)).await;
    match rows {
        Ok(rows) => Ok(rows.iter().map(channel).collect()),
        Err(inner) => Err(needs(session.failed(inner), grant, why)),
    }
}

/// Columns by their present or their former name.
fn channel(row: &Row) -> Channel {
    let cell = |names: &[&str]| {
        let index =
            names.iter().find_map(|name| row.columns_ref().iter().position(|c| c.name_str() == *name));
        index.and_then(|i| row.get::<Option<String>, _>(i)).flatten().unwrap_or_default()
    };
    let host = cell(&["Source_Host", "Master_Host"]);
    let port = cell(&["Source_Port", "Master_Port"]);
    let file = cell(&["Relay_Source_Log_File", "Relay_Master_Log_File"]);
    let offset = cell(&["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]).parse();
    Channel {
        name: cell(&["Channel_Name", "Connection_name"]),
        source: format!("{host}:{port}"),
        server_id: cell(&["Source_Server_Id", "Master_Server_Id"]),
        uuid: cell(&["Source_UUID", "Master_UUID"]),
        receives: cell(&["Replica_IO_Running", "Slave_IO_Running"]),
        applies: cell(&["Replica_SQL_Running", "Slave_SQL_Running"]),
        behind: cell(&["Seconds_Behind_Source", "Seconds_Behind_Master"]),
        delay: cell(&["SQL_Delay"]),
        errors: [cell(&["Last_IO_Errno"]), cell(&["Last_SQL_Errno"])],
        applied: offset.ok().filter(|_| !file.is_empty()).map(|offset| FilePosition { file, offset }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_known_by_the_server_that_it_replicates() {
        let of = |source: &str, id: &str, uuid: &str| Channel {
            source: source.into(),
            server_id: id.into(),
            uuid: uuid.into(),
            ..Channel::default()
        };
        let before = of("a:1", "7", "u");
        assert!(of("alias:1", "7", "u").is_still(&before));
        assert!(!of("a:1", "8", "v").is_still(&before));
        // Restarted, and not connected yet.
        assert!(of("a:1", "0", "").is_still(&before) && !of("b:1", "0", "").is_still(&before));
    }
}
