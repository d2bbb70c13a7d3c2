//! The two sides of a switch on real servers.

use std::time::Duration;

use converge_mysql::Connector;
use mysql_async::Conn;

use super::{Fence, Verdict, counters, ends};
use crate::change::Mark;
use crate::error::{OnSide, Result};
use crate::schema::Table;
use crate::source::{Raised, ServerSource, fenced_name};
use crate::state::switching::SwitchTimes;
use crate::state::{State, Store};

/// A source and a connection to it.
pub struct ServerFence<'a> {
    /// The source.
    pub source: &'a ServerSource,
    /// The connection.
    pub conn: &'a mut Conn,
    /// Whose fence this is, in words that no other workflow has.
    pub owner: &'a str,
}

impl Fence for ServerFence<'_> {
    async fn prepare(&mut self) -> Result<Option<String>> {
        self.source.claim_fence(self.conn, self.owner).await
    }

    async fn mark(&mut self, mark: &Mark) -> Result<()> {
        self.source.mark(self.conn, mark).await
    }

    async fn raise(&mut self, wait: Duration) -> Result<()> {
        self.source.fence(self.conn, wait).await
    }

    async fn lower(&mut self) -> Result<()> {
        self.source.unfence(self.conn).await
    }

    async fn raised(&mut self) -> Result<Raised> {
        self.source.raised(self.conn).await
    }

    async fn is_moving(&mut self) -> Result<bool> {
        self.source.is_fencing(self.conn).await
    }

    async fn is_own(&mut self) -> Result<bool> {
        self.source.is_fence_of(self.conn, self.owner).await
    }

    async fn ends(&mut self) -> Result<Vec<String>> {
        let fenced = |table: &Table| Table { name: fenced_name(&table.name), ..table.clone() };
        let tables: Vec<Table> = self.source.tables().iter().map(fenced).collect();
        // A connection of its own: this one must be there for taking the fence away, whatever becomes of the look.
        ends::of(&mut self.source.control().await?, &tables).await.on_source()
    }

    async fn counters(&mut self) -> Result<Vec<Option<u64>>> {
        counters::of_source(self.source).await
    }
}

/// A workflow's state and a connection to where it is kept.
pub struct StoredVerdict<'a> {
    /// The state.
    pub store: &'a Store,
    /// The connection.
    pub conn: &'a mut Conn,
    /// What this runner knows of the state.
    pub known: &'a mut State,
    /// Makes more connections to the target.
    pub connector: &'a Connector,
    /// The tables under their names on the target.
    pub tables: &'a [Table],
}

impl Verdict for StoredVerdict<'_> {
    async fn state(&mut self) -> Result<State> {
        Ok(self.store.reload(self.conn).await?.state)
    }

    async fn begin(&mut self, token: &str) -> Result<bool> {
        let begun = self.store.begin_switch(self.conn, token).await?;
        if begun {
            *self.known = State::Switching;
        }
        Ok(begun)
    }

    async fn stands(&mut self, token: &str) -> Result<bool> {
        self.store.switch_stands(self.conn, token).await
    }

    async fn decline(&mut self, token: &str, why: &str) -> Result<()> {
        self.store.decline_switch(self.conn, token, why).await
    }

    async fn undo(&mut self, token: &str, why: &str) -> Result<()> {
        *self.known = State::Replicating;
        self.store.undo_switch(self.conn, token, why).await
    }

    async fn finish(&mut self, token: &str, position: &str, times: &SwitchTimes) -> Result<()> {
        self.store.finish_switch(self.conn, token, position, times).await?;
        // Not before: as long as its end is not known, whoever gives up has to say what is fenced.
        *self.known = State::Switched;
        Ok(())
    }

    async fn differs(&mut self, source: &[String]) -> Result<Option<String>> {
        let mut conn = self.connector.connect().await.on_target()?;
        let there = ends::of(&mut conn, self.tables).await.on_target()?;
        Ok(ends::differing(source, &there, self.tables))
    }

    async fn raise_counters(&mut self, counters: &[Option<u64>]) -> Result<Vec<String>> {
        counters::raise(self.connector, self.tables, counters).await
    }
}
