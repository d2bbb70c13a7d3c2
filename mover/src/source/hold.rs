//! One connection to the source at a time may move a workflow's fence: it holds a lock by name, and who takes the workflow
//! over ends the connection that held it before. A renaming of that one which is still on its way, through the network
//! or in a runner that stood still, then finds nobody to carry it out.

use std::time::Duration;

use converge_mysql::{connect, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::TIMEOUT;
use crate::error::{Error, OnSide, Result};

/// How long a connection may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);

/// Makes `conn` the one that may move the fence of `owner`. Only for who holds the workflow's lock on the target.
pub async fn hold(conn: &mut Conn, owner: &str) -> Result<()> {
    let what = "taking the lock of the fence";
    // An owner's words may be longer than the name of a lock.
    let name = format!("CONCAT('converge/fence/', LEFT(SHA2({}, 256), 40))", quote::text(owner));
    let give_up = Instant::now() + PATIENCE;
    loop {
        let query = format!("SELECT GET_LOCK({name}, 0)");
        let got: Option<Option<u8>> = within(TIMEOUT, what, conn.query_first(query)).await.on_source()?;
        if got.flatten() == Some(1) {
            return Ok(());
        }
        let query = format!("SELECT IS_USED_LOCK({name})");
        let holder: Option<Option<u64>> = within(TIMEOUT, what, conn.query_first(query)).await.on_source()?;
        let holder = holder.flatten();
        if Instant::now() >= give_up {
            let (who, help) = match holder {
                Some(id) => (format!("connection {id}"), format!("KILL {id} on the source, and run again")),
                None => ("a connection".to_owned(), "run again".to_owned()),
            };
            return Err(Error::refused(
                format!("{who} of a former run may still fence the source's tables"),
                help,
            ));
        }
        // It may have been let go just now.
        if let Some(holder) = holder {
            tracing::debug!("connection {holder} of a former run is still open on the source and is ended");
            connect::end(conn, holder).await.on_source()?;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
