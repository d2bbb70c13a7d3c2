//! Native replication between two servers of a test.

use converge_chaos::server::LocalServer;
use converge_mysql::{Connector, Flavor};
use mysql_async::prelude::Queryable;

/// Has `replica` replicate `source` from its first transaction on. Neither may have been written to differently.
pub async fn replicate(source: &LocalServer, replica: &LocalServer) {
    let port = source.port();
    let mut from = Connector::new(source.address("")).connect().await.unwrap();
    let mut setting = async |sql: &str| from.query_first::<String, _>(sql).await.unwrap();
    let by_gtid = match source.binary().info.flavor {
        Flavor::MySql => setting("SELECT @@gtid_mode").await.as_deref() == Some("ON"),
        Flavor::MariaDb => true,
    };
    let auto = u8::from(by_gtid);
    let (change, start) = match source.binary().info.flavor {
        Flavor::MySql => (
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='root', \
                 SOURCE_AUTO_POSITION={auto}, GET_SOURCE_PUBLIC_KEY=1"
            ),
            "START REPLICA",
        ),
        Flavor::MariaDb => (
            format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root', \
                 MASTER_USE_GTID=slave_pos"
            ),
            "START SLAVE",
        ),
    };
    let mut conn = Connector::new(replica.address("")).connect().await.unwrap();
    for statement in [change.as_str(), start] {
        conn.query_drop(statement).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}
