//! The connections of a comparison: a side is one logical database that lies on one or more shards.
//!
//! Nothing here may let a shard drop out: what is asked of a side is asked of all of its shards, and an error of one is
//! the side's.

use futures_util::future::try_join_all;

use crate::error::Error;
use crate::request::{Request, Side};
use crate::session::{Cells, Session};

/// Rows looked up by one statement that reads all of their scope in any case.
const SCANNED: u64 = 20_000;

/// Bytes of a statement for each of them, with room for as much besides.
const HASH_BYTES: u64 = 140;

/// One side's connections, one for each of its shards.
pub struct Shards {
    sessions: Vec<Session>,
}

impl Shards {
    async fn open(side: Side, request: &Request) -> Result<Self, Error> {
        let addresses = match side {
            Side::Source => &request.source,
            Side::Target => &request.target,
        };
        if addresses.is_empty() {
            return Err(Error::BadRequest(format!("no {side} is named")));
        }
        let open = addresses.iter().map(|a| Session::open(side, a, request.options.statement_timeout));
        Ok(Self { sessions: try_join_all(open).await? })
    }

    /// The first shard's connection: what it says about the server's family holds for all (see [`Shards::agree`]).
    pub fn first(&self) -> &Session {
        &self.sessions[0]
    }

    /// Each shard's connection.
    pub fn each(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }

    /// Each shard's connection, to ask it.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.sessions.iter_mut()
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// What there is to say about each shard, each thing once.
    pub fn told(&self, what: impl Fn(&Session) -> String) -> String {
        let mut told: Vec<String> = self.each().map(what).collect();
        told.dedup();
        told.join(", ")
    }

    /// Runs a statement on all shards at once and returns all of their rows, one shard's after the other's.
    pub async fn query(&mut self, what: &str, sql: &str) -> Result<Vec<Cells>, Error> {
        let mut answers = try_join_all(self.each_mut().map(|session| session.query(what, sql))).await?;
        Ok(if answers.len() == 1 { answers.remove(0) } else { answers.into_iter().flatten().collect() })
    }

    /// An error about an answer that no server should give.
    pub fn unexpected(&self, what: &str, why: &str) -> Error {
        self.first().unexpected(what, why)
    }

    /// Shards of different families could order and print values differently.
    fn agree(&self) -> Result<(), Error> {
        let first = self.first();
        match self.each().find(|s| s.info.flavor != first.info.flavor) {
            None => Ok(()),
            Some(other) => Err(Error::BadRequest(format!(
                "the shards of the {} are of different families: {} is {}, {} is {}",
                first.side, first.address, first.info, other.address, other.info
            ))),
        }
    }

    async fn close(self) {
        for session in self.sessions {
            session.close().await;
        }
    }
}

/// Both sides' connections.
pub struct Sessions {
    /// Where the rows come from.
    pub source: Shards,
    /// Where they should be.
    pub target: Shards,
}

impl Sessions {
    /// Connects to all shards of both sides.
    pub async fn open(request: &Request) -> Result<Self, Error> {
        let (source, target) =
            tokio::join!(Shards::open(Side::Source, request), Shards::open(Side::Target, request));
        let sessions = Self { source: source?, target: target? };
        sessions.source.agree()?;
        sessions.target.agree()?;
        Ok(sessions)
    }

    /// A side by its index (0: source).
    pub fn side(&mut self, side: usize) -> &mut Shards {
        if side == 0 { &mut self.source } else { &mut self.target }
    }

    /// Rows that one statement looks up by hash: each reads all of a scope, so that few are many scans.
    pub fn hashes_at_once(&self) -> usize {
        let longest = self.source.each().chain(self.target.each()).map(|session| session.longest).min();
        SCANNED.min(longest.unwrap_or(0) / HASH_BYTES).max(1) as usize
    }

    /// Opens what streaming needs besides, where it is not open yet.
    pub async fn make_ready(&mut self) {
        for session in self.source.each_mut().chain(self.target.each_mut()) {
            session.make_ready().await;
        }
    }

    /// Ends the connections politely.
    pub async fn close(self) {
        tokio::join!(self.source.close(), self.target.close());
    }
}
