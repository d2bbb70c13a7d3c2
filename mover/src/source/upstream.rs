//! Where the source replicates from, if it does: a fence on a replica keeps nobody out of the server that is written to.

use converge_mysql::position::replica_status_statement;
use converge_mysql::{Error as ServerError, Flavor, ServerInfo, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::TIMEOUT;

/// Channels of Group Replication, whose members share their fence, begin with this.
const GROUP: &str = "group_replication_";

/// The servers that this one is set up as a replica of, whether or not it replicates at the moment: who has stopped it
/// may start it again, and only its operator knows whether the other one is still written to.
pub async fn upstreams(conn: &mut Conn, info: &ServerInfo) -> Result<Vec<String>, ServerError> {
    let statement = replica_status_statement(info);
    let rows: Vec<Row> = within(TIMEOUT, statement, conn.query(statement)).await?;
    Ok(rows.iter().filter_map(upstream).collect())
}

/// Whether a channel is one of Group Replication's.
pub fn is_of_group(row: &Row) -> bool {
    field(row, ["Channel_Name", "Connection_name"]).is_some_and(|channel| channel.starts_with(GROUP))
}

/// A column that has one of these names.
fn field(row: &Row, names: [&str; 2]) -> Option<String> {
    names.into_iter().find_map(|name| row.get::<Option<String>, _>(name).flatten())
}

fn upstream(row: &Row) -> Option<String> {
    if is_of_group(row) {
        return None;
    }
    let host = field(row, ["Source_Host", "Master_Host"]).filter(|host| !host.is_empty())?;
    Some(format!("{host}:{}", field(row, ["Source_Port", "Master_Port"]).unwrap_or_default()))
}

/// What an operator can do about it.
pub fn way_out(info: &ServerInfo) -> String {
    let end = match info.flavor {
        Flavor::MySql => "STOP REPLICA; RESET REPLICA ALL",
        Flavor::MariaDb => "STOP ALL SLAVES; RESET SLAVE ALL",
    };
    format!(
        "move from the server that the application writes to, with another workflow (--copy-strategy replica reads the \
         rows from a replica of it); or, if this one has taken its place, end its replication: {end}"
    )
}
