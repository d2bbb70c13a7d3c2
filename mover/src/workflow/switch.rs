//! The switch: fence writes on the source, let the stream reach the fence, say so; or take the fence away again.
//!
//! The proof is a mark that is written after the tables were renamed: when its transaction is applied, so is every
//! write that got through before the fence.

use std::time::Duration;

use mysql_async::Conn;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::apply::Followed;
use crate::change::Mark;
use crate::control::SWITCHED;
use crate::error::{Error, Result};
use crate::source::ServerSource;
use crate::state::{State, Store, SwitchRequest, Workflow};

/// One switch and what it works on.
pub struct Switch<'a> {
    /// The source.
    pub source: &'a ServerSource,
    /// A connection to it.
    pub source_conn: &'a mut Conn,
    /// The workflow's state.
    pub store: &'a Store,
    /// A connection to the target.
    pub target_conn: &'a mut Conn,
    /// What the follower says of itself.
    pub followed: watch::Receiver<Followed>,
}

impl Switch<'_> {
    /// Carries out a request, within the time it leaves.
    pub async fn carry_out(&mut self, workflow: &Workflow, request: &SwitchRequest) -> Result<()> {
        if !self.store.enter(self.target_conn, State::Replicating, State::Switching).await? {
            let why = format!("the workflow is {}", workflow.state);
            return self.store.answer_switch(self.target_conn, &request.token, &why).await;
        }
        let deadline = Instant::now() + request.left;
        match self.source.fence(self.source_conn, request.left).await {
            Ok(()) => self.drain(request, deadline).await,
            // The server refused: nothing was renamed.
            Err(Error::Server { error, .. }) if error.is_refusal() => {
                self.give_up(&request.token, &format!("the tables could not be fenced: {error}")).await
            }
            // The answer was lost: the next session looks whether the tables are fenced.
            Err(error) => Err(error),
        }
    }

    /// Finishes or undoes a switch that a former session began.
    pub async fn resume(&mut self, request: Option<&SwitchRequest>) -> Result<()> {
        let all = self.until_fenced(request.map_or(Duration::ZERO, |r| r.left)).await?;
        match request {
            Some(request) if all && !request.left.is_zero() => {
                self.drain(request, Instant::now() + request.left).await
            }
            _ => {
                if all {
                    self.source.unfence(self.source_conn).await?;
                }
                let token = request.map(|r| r.token.as_str()).unwrap_or_default();
                self.give_up(token, "the switch was interrupted").await
            }
        }
    }

    /// Whether the tables are fenced. A renaming whose answer was lost may still be waiting for transactions; the
    /// server gives it up when the request's time is over.
    async fn until_fenced(&mut self, left: Duration) -> Result<bool> {
        let give_up = Instant::now() + left;
        loop {
            let fenced = self.source.fenced(self.source_conn).await?;
            if fenced.iter().all(|f| *f) || Instant::now() >= give_up {
                return Ok(fenced.iter().all(|f| *f));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn drain(&mut self, request: &SwitchRequest, deadline: Instant) -> Result<()> {
        self.source.mark(self.source_conn, &Mark::Fence(request.token.clone())).await?;
        let token = Some(request.token.clone());
        let position = {
            let reached = timeout_at(deadline, self.followed.wait_for(|f| f.fence == token)).await;
            reached.ok().and_then(|f| f.ok()?.position.as_ref().map(ToString::to_string))
        };
        let Some(position) = position else {
            self.source.unfence(self.source_conn).await?;
            let why =
                format!("the target did not reach the fence within {:.1} s", request.left.as_secs_f64());
            return self.give_up(&request.token, &why).await;
        };
        self.store.enter(self.target_conn, State::Switching, State::Switched).await?;
        self.store.answer_switch(self.target_conn, &request.token, &format!("{SWITCHED}{position}")).await
    }

    async fn give_up(&mut self, token: &str, why: &str) -> Result<()> {
        self.store.enter(self.target_conn, State::Switching, State::Replicating).await?;
        self.store.answer_switch(self.target_conn, token, why).await
    }
}

/// How often the runner looks for requests.
pub const POLL: Duration = Duration::from_millis(50);
