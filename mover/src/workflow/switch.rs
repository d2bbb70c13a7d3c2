//! The switch: fence writes on the source, let the stream reach the fence, say so; or take the fence away again.
//!
//! The proof is a mark that is written after the tables were renamed: when its transaction is applied, so is every
//! write that got through before the fence.
//!
//! A renaming waits for open transactions, and all new statements on the tables wait behind it. So each attempt gives up
//! soon, and the next one comes when they had their turn. It is not begun before the stream was seen to be close
//! behind the source: what is left to apply then is what the fence lets through last.

mod server;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub use self::server::{ServerFence, StoredVerdict};
use crate::apply::Followed;
use crate::change::Mark;
use crate::error::{Error, Result};
use crate::planted::{Bug, frozen, is_planted};
use crate::state::switching::SwitchTimes;
use crate::state::{State, SwitchRequest};

/// How often the runner looks for requests.
pub const POLL: Duration = Duration::from_millis(50);
/// How long one attempt to fence waits for open transactions, and statements wait behind it.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long writers have their way between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// A stream that reaches a new mark within this time is close behind.
const CLOSE: Duration = Duration::from_millis(100);

/// The fence before the moved tables on the source.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait Fence {
    /// Writes a mark and waits until it is committed.
    async fn mark(&mut self, mark: &Mark) -> Result<()>;
    /// Keeps writers out, waiting for open transactions for at most `wait`.
    async fn raise(&mut self, wait: Duration) -> Result<()>;
    /// Lets writers in again.
    async fn lower(&mut self) -> Result<()>;
    /// Whether writers are kept out of all tables.
    async fn is_raised(&mut self) -> Result<bool>;
    /// Whether another connection is about to raise or to lower it.
    async fn is_moving(&mut self) -> Result<bool>;
}

/// Where it is kept how a switch stands.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait Verdict {
    /// Goes from one state to another; whether it was in the first one.
    async fn enter(&mut self, from: State, to: State) -> Result<bool>;
    /// The request cannot be carried out now.
    async fn decline(&mut self, token: &str, why: &str) -> Result<()>;
    /// The switch was undone: from switching back to replicating.
    async fn undo(&mut self, token: &str, why: &str) -> Result<()>;
    /// The switch is proven at `position`: from switching to switched.
    async fn finish(&mut self, token: &str, position: &str, times: &SwitchTimes) -> Result<()>;
}

/// One switch and what it works on.
pub struct Switch<F, V> {
    /// The source.
    pub fence: F,
    /// The workflow's state.
    pub verdict: V,
    /// What the follower says of itself.
    pub followed: watch::Receiver<Followed>,
}

/// Milliseconds since a moment.
fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

impl<F: Fence, V: Verdict> Switch<F, V> {
    /// Carries out a request, within the time it leaves.
    pub async fn carry_out(&mut self, state: State, request: &SwitchRequest) -> Result<()> {
        let deadline = Instant::now() + request.left;
        if state == State::Replicating {
            self.come_close(&request.token, Instant::now() + request.left / 2).await?;
        }
        if !self.verdict.enter(State::Replicating, State::Switching).await? {
            let why = format!("the workflow is {state}");
            return self.verdict.decline(&request.token, &why).await;
        }
        match self.raise(deadline).await? {
            Ok(times) => self.drain(request, deadline, times).await,
            Err(why) => self.verdict.undo(&request.token, &why).await,
        }
    }

    /// Waits until the stream is close behind the source, or half of the time is over.
    async fn come_close(&mut self, token: &str, until: Instant) -> Result<()> {
        for number in 0u32.. {
            let begun = Instant::now();
            let probe = format!("{token}:{number}");
            self.fence.mark(&Mark::Fence(probe.clone())).await?;
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
    async fn raise(&mut self, deadline: Instant) -> Result<std::result::Result<SwitchTimes, String>> {
        let begun = Instant::now();
        let mut times = SwitchTimes::default();
        loop {
            let attempt = Instant::now();
            let _ = is_planted(Bug::FenceTooEarly);
            let fenced = self.fence.raise(ATTEMPT).await;
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
                    self.fence.lower().await?;
                }
                let token = request.map(|r| r.token.as_str()).unwrap_or_default();
                self.verdict.undo(token, "the switch was interrupted").await
            }
        }
    }

    /// Whether the tables are fenced. A renaming whose answer was lost may still be waiting in the server: it is waited
    /// for, since it would fence the tables after they were looked at.
    async fn is_fenced(&mut self) -> Result<bool> {
        let give_up = Instant::now() + 10 * ATTEMPT;
        while self.fence.is_moving().await? {
            if Instant::now() >= give_up {
                let why = "a statement of a former run that fences the tables still waits on the source";
                return Err(Error::refused(why, "end it: KILL its connection on the source, and run again"));
            }
            tokio::time::sleep(POLL).await;
        }
        self.fence.is_raised().await
    }

    async fn drain(
        &mut self,
        request: &SwitchRequest,
        deadline: Instant,
        mut times: SwitchTimes,
    ) -> Result<()> {
        let fenced = Instant::now();
        self.fence.mark(&Mark::Fence(request.token.clone())).await?;
        let unproven = frozen().then(|| self.followed.borrow().position.as_ref().map(ToString::to_string));
        let reached = match unproven.flatten() {
            None => self.reached(&request.token, deadline).await,
            unproven => unproven,
        };
        let Some(position) = reached else {
            self.fence.lower().await?;
            let why =
                format!("the target did not reach the fence within {:.1} s", request.left.as_secs_f64());
            return self.verdict.undo(&request.token, &why).await;
        };
        times.drained_ms = ms(fenced);
        tracing::info!("switched at {position}: {times:?}");
        self.verdict.finish(&request.token, &position, &times).await
    }
}
