//! The two sides of a switch on real servers.

use std::time::Duration;

use mysql_async::Conn;

use super::{Fence, Verdict};
use crate::change::Mark;
use crate::error::Result;
use crate::source::ServerSource;
use crate::state::switching::SwitchTimes;
use crate::state::{State, Store};

/// A source and a connection to it.
pub struct ServerFence<'a> {
    /// The source.
    pub source: &'a ServerSource,
    /// The connection.
    pub conn: &'a mut Conn,
}

impl Fence for ServerFence<'_> {
    async fn mark(&mut self, mark: &Mark) -> Result<()> {
        self.source.mark(self.conn, mark).await
    }

    async fn raise(&mut self, wait: Duration) -> Result<()> {
        self.source.fence(self.conn, wait).await
    }

    async fn lower(&mut self) -> Result<()> {
        self.source.unfence(self.conn).await
    }

    async fn is_raised(&mut self) -> Result<bool> {
        Ok(self.source.fenced(self.conn).await?.iter().all(|f| *f))
    }

    async fn is_moving(&mut self) -> Result<bool> {
        self.source.is_fencing(self.conn).await
    }
}

/// A workflow's state and a connection to where it is kept.
pub struct StoredVerdict<'a> {
    /// The state.
    pub store: &'a Store,
    /// The connection.
    pub conn: &'a mut Conn,
}

impl Verdict for StoredVerdict<'_> {
    async fn enter(&mut self, from: State, to: State) -> Result<bool> {
        self.store.enter(self.conn, from, to).await
    }

    async fn decline(&mut self, token: &str, why: &str) -> Result<()> {
        self.store.decline_switch(self.conn, token, why).await
    }

    async fn undo(&mut self, token: &str, why: &str) -> Result<()> {
        self.store.undo_switch(self.conn, token, why).await
    }

    async fn finish(&mut self, token: &str, position: &str, times: &SwitchTimes) -> Result<()> {
        self.store.finish_switch(self.conn, token, position, times).await
    }
}
