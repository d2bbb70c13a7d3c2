//! The connections that write a workflow's rows, so that a new runner can end those of the one before.
//!
//! A runner that was paused or cut off may leave a transaction open on the target, whose locks nobody would let go for
//! hours. Each writing connection holds a lock of the server's by name; who holds the workflow asks which connections
//! those are and ends them. A connection's number alone would not do: it may be somebody else's by now.

use converge_mysql::{connect, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Store, TIMEOUT};
use crate::error::{OnSide, Result};

/// Writing connections of one runner at the most.
const MOST: u32 = 64;

impl Store {
    fn writer(&self, number: u32) -> String {
        // Not to be mistaken for the lock of another workflow, whose name may end in a number.
        quote::text(&format!("converge/{number}/{}", self.workflow))
    }

    /// Makes this connection one of those that a later runner ends.
    pub async fn enlist(&self, conn: &mut Conn) -> Result<()> {
        for number in 0..MOST {
            let query = format!("SELECT GET_LOCK({}, 0)", self.writer(number));
            let got: Option<Option<u8>> =
                within(TIMEOUT, "naming a writing connection", conn.query_first(query)).await.on_target()?;
            if got.flatten() == Some(1) {
                return Ok(());
            }
        }
        Err(self.taken_over())
    }

    /// Ends the writing connections of former runners. Only for who holds the workflow's lock.
    pub async fn end_former_writers(&self, conn: &mut Conn) -> Result<()> {
        let what = "ending the former runner's connections";
        let ids: Vec<String> =
            (0..MOST).map(|number| format!("SELECT IS_USED_LOCK({})", self.writer(number))).collect();
        // A WHERE would ask the function a second time, and a connection that ends in between would come out as NULL.
        let query = ids.join(" UNION ");
        let former: Vec<Option<u64>> = within(TIMEOUT, what, conn.query(query)).await.on_target()?;
        for id in former.into_iter().flatten() {
            tracing::warn!("connection {id} of a former runner is still open on the target and is ended");
            connect::end(conn, id).await.on_target()?;
        }
        Ok(())
    }
}
