//! The switch: fence writes on the source, let the stream reach the fence, say so; or take the fence away again.
//!
//! The proof is a mark that is written after the tables were renamed: when its transaction is applied, so is every
//! write that got through before the fence.
//!
//! A renaming waits for open transactions, and all new statements on the tables wait behind it. So each attempt gives up
//! soon, and the next one comes when they had their turn. It is not begun before the stream was seen to be close
//! behind the source: what is left to apply then is what the fence lets through last.

mod counters;
mod ends;
pub(crate) mod rescue;
mod server;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::server::{ServerFence, StoredVerdict};
use crate::apply::Followed;
use crate::change::Mark;
use crate::error::{Error, Result};
use crate::planted::{Bug, frozen, is_planted};
use crate::source::Raised;
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

/// How often a switch under way looks whether its request still stands. That also keeps the connection that holds the
/// workflow's lock from looking idle.
const LOOK: Duration = Duration::from_secs(1);
/// How long writers wait at the most for a last look at both sides.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How long writers wait at the most for the target's AUTO_INCREMENT counters.
const COUNTERS: Duration = Duration::from_secs(5);
/// What is said where [`Verdict::stands`] says no before the time is over.
const TAKEN_BACK: &str = "the request was taken back, or its time was over";

/// The fence before the moved tables on the source.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait Fence {
    /// Gets ready to raise it; or says what is in the way.
    async fn prepare(&mut self) -> Result<Option<String>> {
        Ok(None)
    }
    /// Writes a mark and waits until it is committed.
    async fn mark(&mut self, mark: &Mark) -> Result<()>;
    /// Keeps writers out, waiting for open transactions for at most `wait`.
    async fn raise(&mut self, wait: Duration) -> Result<()>;
    /// Lets writers in again, wherever they are kept out; an error if that leaves a table out.
    async fn lower(&mut self) -> Result<()>;
    /// Of how many tables writers are kept out.
    async fn raised(&mut self) -> Result<Raised>;
    /// Whether another connection is about to raise or to lower it.
    async fn is_moving(&mut self) -> Result<bool>;
    /// Whether it was this workflow that last wanted to raise it.
    async fn is_own(&mut self) -> Result<bool> {
        Ok(true)
    }
    /// With what each table behind it begins and ends, in words that both sides share.
    async fn ends(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// The next AUTO_INCREMENT number of each table behind it, where there is one.
    async fn counters(&mut self) -> Result<Vec<Option<u64>>> {
        Ok(Vec::new())
    }
}

/// Where it is kept how a switch stands.
#[allow(async_fn_in_trait, reason = "the core polls its parts in one task and needs no Send")]
pub trait Verdict {
    /// The state that the workflow is in now.
    async fn state(&mut self) -> Result<State>;
    /// Goes from replicating to switching if the request still stands; whether it did.
    async fn begin(&mut self, token: &str) -> Result<bool>;
    /// Whether the request still stands: it was not taken back, and its time is not over.
    async fn stands(&mut self, token: &str) -> Result<bool>;
    /// The request cannot be carried out now.
    async fn decline(&mut self, token: &str, why: &str) -> Result<()>;
    /// The switch was undone: from switching back to replicating.
    async fn undo(&mut self, token: &str, why: &str) -> Result<()>;
    /// The switch is proven at `position`: from switching to switched.
    async fn finish(&mut self, token: &str, position: &str, times: &SwitchTimes) -> Result<()>;
    /// How the target's tables begin and end otherwise than `source` says of theirs, if they do.
    async fn differs(&mut self, _source: &[String]) -> Result<Option<String>> {
        Ok(None)
    }
    /// Raises the target's AUTO_INCREMENT counters to these. What could not be done.
    async fn raise_counters(&mut self, _counters: &[Option<u64>]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
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
    /// Sees to what a session finds of the ones before: a switch that was interrupted is finished, or undone if the
    /// workflow has `stopped` since. A request that nobody has begun on stands for as long as its time lasts: who gives it
    /// up takes it back.
    pub async fn inherit(
        &mut self,
        state: State,
        request: Option<&SwitchRequest>,
        stopped: bool,
    ) -> Result<()> {
        match (state, request) {
            (State::Switching, _) if stopped => {
                self.undo(request, "the workflow stopped in the switch").await
            }
            (State::Switching, _) => self.resume(request).await,
            _ => Ok(()),
        }
    }

    /// Carries out a request, within the time it leaves.
    pub async fn carry_out(&mut self, state: State, request: &SwitchRequest) -> Result<()> {
        if request.left.is_zero() {
            return self.verdict.decline(&request.token, "its time was over before it was looked at").await;
        }
        let deadline = Instant::now() + request.left;
        if state == State::Replicating {
            if let Some(obstacle) = self.fence.prepare().await? {
                let why = format!("the tables cannot be fenced: {obstacle}");
                return self.verdict.decline(&request.token, &why).await;
            }
            self.come_close(&request.token, Instant::now() + request.left / 2).await?;
        }
        if !self.verdict.begin(&request.token).await? {
            let why = format!("the workflow is {state}");
            return self.verdict.decline(&request.token, &why).await;
        }
        match self.raise(&request.token, deadline).await? {
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
            if self.reached(token, &probe, until).await?.is_none() || begun.elapsed() <= CLOSE {
                break;
            }
        }
        Ok(())
    }

    /// The position at which the stream reached a fence mark; `None`: not in time, or the request was taken back.
    async fn reached(&mut self, token: &str, mark: &str, until: Instant) -> Result<Option<String>> {
        let mark = Some(mark.to_owned());
        loop {
            let look = until.min(Instant::now() + LOOK);
            let reached = timeout_at(look, self.followed.wait_for(|f| f.fence == mark)).await;
            if let Ok(followed) = reached {
                return Ok(followed.ok().and_then(|f| f.position.as_ref().map(ToString::to_string)));
            }
            if Instant::now() >= until || !self.verdict.stands(token).await? {
                return Ok(None);
            }
        }
    }

    /// Fences the tables; or says why that was refused, and nothing is fenced.
    async fn raise(
        &mut self,
        token: &str,
        deadline: Instant,
    ) -> Result<std::result::Result<SwitchTimes, String>> {
        let begun = Instant::now();
        let mut times = SwitchTimes::default();
        loop {
            // Asked right before each attempt: the workflow may have been given up, or run by somebody else, while this runner
            // stood still.
            if self.verdict.state().await? != State::Switching || !self.verdict.stands(token).await? {
                return Ok(Err(TAKEN_BACK.into()));
            }
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
    async fn resume(&mut self, request: Option<&SwitchRequest>) -> Result<()> {
        let deadline = Instant::now() + request.map_or(Duration::ZERO, |r| r.left);
        self.settle().await?;
        let raised = self.fence.raised().await?;
        match request {
            // What is left of its time was read before whatever the session waited for meanwhile.
            Some(request)
                if raised == Raised::All
                    && Instant::now() < deadline
                    && self.verdict.stands(&request.token).await? =>
            {
                tracing::warn!("a switch was interrupted; the tables are fenced, and it goes on");
                self.drain(request, deadline, SwitchTimes::default()).await
            }
            _ => self.undo(request, "the switch was interrupted").await,
        }
    }

    /// Undoes a switch: takes the fence away, as far as it is up, and says why.
    pub async fn undo(&mut self, request: Option<&SwitchRequest>, why: &str) -> Result<()> {
        self.settle().await?;
        if self.fence.raised().await? != Raised::None {
            tracing::warn!("{why}; the fence is taken away");
            self.lower().await?;
        }
        self.verdict.undo(request.map(|r| r.token.as_str()).unwrap_or_default(), why).await
    }

    /// Takes the fence away, after a word with the target: who has lost the workflow has lost that connection too, and must
    /// not let writers in that the next runner keeps out for good.
    async fn lower(&mut self) -> Result<()> {
        match self.verdict.state().await? {
            State::Switched | State::Complete => Ok(()),
            _ => self.fence.lower().await,
        }
    }

    /// Takes away a fence that is up while no switch is under way: a renaming may come out of the network, or out of a
    /// server that stood still, long after its sender is gone, and a switch may be given up while its runner stands still.
    pub async fn mend(&mut self) -> Result<()> {
        if self.fence.raised().await? == Raised::None || !self.fence.is_own().await? {
            return Ok(());
        }
        let no_switch = matches!(self.verdict.state().await?, State::Replicating | State::Cancelled);
        if no_switch && !self.fence.is_moving().await? {
            tracing::warn!(
                "the source's tables are fenced, and no switch is under way: a renaming arrived late; the fence is taken away"
            );
            self.fence.lower().await?;
        }
        Ok(())
    }

    /// Waits for a renaming whose answer was lost and that still waits in the server: it would fence the tables after
    /// they were looked at.
    async fn settle(&mut self) -> Result<()> {
        let give_up = Instant::now() + 10 * ATTEMPT;
        while self.fence.is_moving().await? {
            if Instant::now() >= give_up {
                let why = "a statement of a former run that fences the tables still waits on the source";
                return Err(Error::refused(why, "end it: KILL its connection on the source, and run again"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
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
            None => self.reached(&request.token, &request.token, deadline).await?,
            unproven => unproven,
        };
        let Some(position) = reached else {
            self.lower().await?;
            let why = match Instant::now() < deadline {
                true => TAKEN_BACK.into(),
                false => {
                    format!("the target did not reach the fence within {:.1} s", request.left.as_secs_f64())
                }
            };
            return self.verdict.undo(&request.token, &why).await;
        };
        match self.compare_ends().await {
            Ok(None) => {}
            Ok(Some(why)) => {
                self.lower().await?;
                return self.verdict.undo(&request.token, &why).await;
            }
            Err(why) => times.warnings.push(why),
        }
        if !self.verdict.stands(&request.token).await? {
            self.lower().await?;
            return self.verdict.undo(&request.token, TAKEN_BACK).await;
        }
        times.drained_ms = ms(fenced);
        times.warnings.extend(self.carry_counters_over().await);
        tracing::info!(
            "switched at {position}: fenced after {:.0} ms, and proven {:.0} ms later",
            times.fencing_ms,
            times.drained_ms
        );
        self.verdict.finish(&request.token, &position, &times).await
    }

    /// What speaks against the switch although the target has everything; `Err`: that nobody could look for the moment. A
    /// server that will not show a table any more speaks against it.
    async fn compare_ends(&mut self) -> std::result::Result<Option<String>, String> {
        let comparing = async {
            let source = self.fence.ends().await?;
            self.verdict.differs(&source).await
        };
        let why = match timeout(LAST_LOOK, comparing).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !error.is_transient() => {
                return Ok(Some(format!("the tables' first and last keys could not be compared: {error}")));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {} s", LAST_LOOK.as_secs()),
        };
        Err(format!(
            "the tables' first and last keys were not compared: {why}; `converge vdiff` compares all rows"
        ))
    }

    /// Raises the target's AUTO_INCREMENT counters to the source's. What could not be done.
    async fn carry_counters_over(&mut self) -> Vec<String> {
        let carrying = async {
            let counters = self.fence.counters().await?;
            match counters.is_empty() {
                true => Ok(Vec::new()),
                false => self.verdict.raise_counters(&counters).await,
            }
        };
        let why = match timeout(COUNTERS, carrying).await {
            Ok(Ok(warnings)) => return warnings,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {} s", COUNTERS.as_secs()),
        };
        vec![format!(
            "the target's AUTO_INCREMENT counters may be behind the source's, and numbers that were used there may be given \
             out again: {why}; `converge vdiff` names the tables"
        )]
    }
}
