//! The switch: fence writes on the source, let the stream reach the fence, say so; or take the fence away again.
//!
//! The proof is a mark that is written after the tables were renamed: when its transaction is applied, so is every
//! write that got through before the fence.
//!
//! A renaming waits for open transactions, and all new statements on the tables wait behind it. So each attempt gives up
//! soon, and the next one comes when they had their turn. It is not begun before the stream was seen to be close
//! behind the source: what is left to apply then is what the fence lets through last.

use std::time::Duration;

use mysql_async::Conn;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::apply::Followed;
use crate::change::Mark;
use crate::error::{Error, Result};
use crate::source::ServerSource;
use crate::state::switching::SwitchTimes;
use crate::state::{State, Store, SwitchRequest, Workflow};

/// How often the runner looks for requests.
pub const POLL: Duration = Duration::from_millis(50);
/// How long one attempt to fence waits for open transactions, and statements wait behind it.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long writers have their way between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// A stream that reaches a new mark within this time is close behind.
const CLOSE: Duration = Duration::from_millis(100);

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

/// Milliseconds since a moment.
fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

impl Switch<'_> {
    /// Carries out a request, within the time it leaves.
    pub async fn carry_out(&mut self, workflow: &Workflow, request: &SwitchRequest) -> Result<()> {
        let deadline = Instant::now() + request.left;
        if workflow.state == State::Replicating {
            self.come_close(&request.token, Instant::now() + request.left / 2).await?;
        }
        if !self.store.enter(self.target_conn, State::Replicating, State::Switching).await? {
            let why = format!("the workflow is {}", workflow.state);
            return self.store.decline_switch(self.target_conn, &request.token, &why).await;
        }
        match self.fence(deadline).await? {
            Ok(times) => self.drain(request, deadline, times).await,
            Err(why) => self.store.undo_switch(self.target_conn, &request.token, &why).await,
        }
    }

    /// Waits until the stream is close behind the source, or half of the time is over.
    async fn come_close(&mut self, token: &str, until: Instant) -> Result<()> {
        for number in 0u32.. {
            let begun = Instant::now();
            let probe = format!("{token}:{number}");
            self.source.mark(self.source_conn, &Mark::Fence(probe.clone())).await?;
            if self.reached(&probe, until).await.is_none() || begun.elapsed() <= CLOSE {
                break;
            }
        }
        Ok(())
    }

    /// The position at which the stream reached a fence mark; `None`: not in time.
    async fn reached(&mut self, mark: &str, until: Instant) -> Option<String> {
        let mark = Some(mark.to_owned());
        let reached = timeout_at(until, self.followed.wait_for(|f| f.fence == mark)).await;
        reached.ok().and_then(|f| f.ok()?.position.as_ref().map(ToString::to_string))
    }

    /// Fences the tables; or says why that was refused, and nothing is fenced.
    async fn fence(&mut self, deadline: Instant) -> Result<std::result::Result<SwitchTimes, String>> {
        let begun = Instant::now();
        let mut times = SwitchTimes::default();
        loop {
            let attempt = Instant::now();
            let fenced = self.source.fence(self.source_conn, ATTEMPT).await;
            times.attempts += 1;
            times.blocked_ms += ms(attempt);
            match fenced {
                Ok(()) => {
                    times.fencing_ms = ms(begun);
                    return Ok(Ok(times));
                }
                // The server refused: nothing was renamed. Open transactions may end.
                Err(Error::Server { error, .. }) if error.is_transient() && error.is_refusal() => {
                    if Instant::now() + PAUSE >= deadline {
                        return Ok(Err(format!("the tables could not be fenced: {error}")));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Error::Server { error, .. }) if error.is_refusal() => {
                    return Ok(Err(format!("the tables could not be fenced: {error}")));
                }
                Err(error @ Error::Redefined { .. }) => {
                    return Ok(Err(format!("the tables could not be fenced: {error}")));
                }
                // The answer was lost: the next session looks whether the tables are fenced.
                Err(error) => return Err(error),
            }
        }
    }

    /// Finishes or undoes a switch that a former session began.
    pub async fn resume(&mut self, request: Option<&SwitchRequest>) -> Result<()> {
        let deadline = Instant::now() + request.map_or(Duration::ZERO, |r| r.left);
        let all = self.is_fenced().await?;
        match request {
            Some(request) if all && Instant::now() < deadline => {
                tracing::warn!("a switch was interrupted; the tables are fenced, and it goes on");
                self.drain(request, deadline, SwitchTimes::default()).await
            }
            _ => {
                if all {
                    tracing::warn!("a switch was interrupted; the fence is taken away");
                    self.source.unfence(self.source_conn).await?;
                }
                let token = request.map(|r| r.token.as_str()).unwrap_or_default();
                self.store.undo_switch(self.target_conn, token, "the switch was interrupted").await
            }
        }
    }

    /// Whether the tables are fenced. A renaming whose answer was lost may still be waiting in the server: it is waited
    /// for, since it would fence the tables after they were looked at.
    async fn is_fenced(&mut self) -> Result<bool> {
        let give_up = Instant::now() + 10 * ATTEMPT;
        while self.source.is_fencing(self.source_conn).await? {
            if Instant::now() >= give_up {
                let why = "a statement of a former run that fences the tables still waits on the source";
                return Err(Error::refused(why, "end it: KILL its connection on the source, and run again"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(self.source.fenced(self.source_conn).await?.iter().all(|f| *f))
    }

    async fn drain(
        &mut self,
        request: &SwitchRequest,
        deadline: Instant,
        mut times: SwitchTimes,
    ) -> Result<()> {
        let fenced = Instant::now();
        self.source.mark(self.source_conn, &Mark::Fence(request.token.clone())).await?;
        let Some(position) = self.reached(&request.token, deadline).await else {
            self.source.unfence(self.source_conn).await?;
            let why =
                format!("the target did not reach the fence within {:.1} s", request.left.as_secs_f64());
            return self.store.undo_switch(self.target_conn, &request.token, &why).await;
        };
        times.drained_ms = ms(fenced);
        tracing::info!("switched at {position}: {times:?}");
        self.store.finish_switch(self.target_conn, &request.token, &position, &times).await
    }
}
