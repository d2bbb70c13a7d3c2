//! The operator of a world, who asks for a switch, and the two sides of a switch.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use converge_mysql::Error as ServerError;
use tokio::sync::watch;

use super::outcome::Outcome;
use super::source::lost;
use super::world::{Rows, Shared};
use crate::apply::Followed;
use crate::change::Mark;
use crate::error::{Error, Result, Side};
use crate::source::Raised;
use crate::state::switching::SwitchTimes;
use crate::state::{State, SwitchRequest};
use crate::workflow::switch::{Fence, Switch, Verdict};

/// Steps that raising the fence waits for open transactions.
const PATIENCE: u32 = 6;
/// What a request leaves for the switch, by the world's clock.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks for a switch after so many steps, and again when all clients are done, if it was undone. Once it is proven, the
/// two sides are held against each other.
pub async fn operator(world: Shared, after: u64, end: Rc<RefCell<Option<Outcome>>>) {
    let mut patient = false;
    for number in 1u64.. {
        let due = || {
            let world_now = world.now();
            let clients_done = world_now.clients == 0;
            let early = !patient && world.steps.taken() >= after;
            let ready = world_now.target.state == State::Replicating;
            ((clients_done || early) && ready).then_some(())
        };
        world.steps.until(due).await;
        world.tell(|| "operator: asks for the switch".into());
        world.now().target.request = Some(number.to_string());
        let answered = || {
            let world = world.now();
            world.target.request.is_none().then_some(world.target.state)
        };
        if world.steps.until(answered).await == State::Switched {
            break;
        }
        patient = true;
        world.steps.turn().await;
    }
    end.borrow_mut().get_or_insert(compared(&world));
}

fn compared(world: &Shared) -> Outcome {
    let world = world.now();
    if !world.source.fenced {
        return Outcome::Diverged("switched, and the source is not fenced".into());
    }
    let source = world.source.states.last().into_iter().flatten();
    let all = source.zip(&world.target.rows).enumerate();
    all.filter_map(|(table, (source, target))| difference(table, source, target))
        .next()
        .map_or(Outcome::Converged, Outcome::Diverged)
}

fn difference(table: usize, source: &Rows, target: &Rows) -> Option<String> {
    let wrong = source.iter().find(|(key, row)| target.get(key) != Some(row));
    if let Some((key, row)) = wrong {
        return Some(match target.get(key) {
            None => format!("key {key} of table {table} is missing on the target"),
            Some(other) => {
                format!("key {key} of table {table} is {row:?} on the source, {other:?} on the target")
            }
        });
    }
    let extra = target.keys().find(|key| !source.contains_key(key));
    extra.map(|key| format!("key {key} of table {table} is on the target only"))
}

/// What a session does about requests: finishes or undoes a switch that was interrupted, and carries out new ones.
pub async fn control(world: &Shared, followed: watch::Receiver<Followed>) -> Error {
    let lines = {
        let world = world.now();
        (world.source.line, world.target.line)
    };
    let mut switch = Switch {
        fence: SimFence { world: world.clone(), line: lines.0 },
        verdict: SimVerdict { world: world.clone(), line: lines.1 },
        followed,
    };
    let request = || world.now().target.request.clone().map(|token| SwitchRequest { token, left: TIMEOUT });
    let state = world.now().target.state;
    let inherited = request();
    if let Err(error) = switch.inherit(state, inherited.as_ref(), false).await {
        return error;
    }
    loop {
        let (request, state) = world
            .steps
            .until(|| {
                let state = world.now().target.state;
                request().filter(|_| state != State::Copying).map(|request| (request, state))
            })
            .await;
        if let Err(error) = switch.carry_out(state, &request).await {
            return error;
        }
    }
}

struct SimFence {
    world: Shared,
    line: u64,
}

impl SimFence {
    async fn turn(&self) -> Result<()> {
        self.world.steps.turn().await;
        match self.world.now().source.line == self.line {
            true => Ok(()),
            false => Err(lost(Side::Source)),
        }
    }
}

impl Fence for SimFence {
    async fn mark(&mut self, mark: &Mark) -> Result<()> {
        self.turn().await?;
        self.world.tell(|| format!("switch: mark {}", mark.to_text()));
        match self.world.commit(self.world.id(), Vec::new(), Some(mark.clone())).await {
            true => self.turn().await,
            false => Err(lost(Side::Source)),
        }
    }

    async fn raise(&mut self, _wait: Duration) -> Result<()> {
        for _ in 0..PATIENCE {
            self.turn().await?;
            let free = {
                let mut world = self.world.now();
                let free = world.source.open.is_empty();
                world.source.fenced |= free;
                free
            };
            if free {
                self.world.tell(|| "switch: the tables are fenced".into());
                return self.turn().await;
            }
        }
        let error = ServerError::Server { what: "fencing".into(), code: 1205, message: "as planned".into() };
        Err(Error::Server { side: Side::Source, error })
    }

    async fn lower(&mut self) -> Result<()> {
        self.turn().await?;
        self.world.now().source.fenced = false;
        self.world.tell(|| "switch: the fence is taken away".into());
        self.turn().await
    }

    async fn raised(&mut self) -> Result<Raised> {
        self.turn().await?;
        Ok(if self.world.now().source.fenced { Raised::All } else { Raised::None })
    }

    async fn is_moving(&mut self) -> Result<bool> {
        // A lost connection takes its statement with it here.
        self.turn().await.map(|()| false)
    }
}

struct SimVerdict {
    world: Shared,
    line: u64,
}

impl SimVerdict {
    async fn turn(&self) -> Result<()> {
        self.world.steps.turn().await;
        match self.world.now().target.line == self.line {
            true => Ok(()),
            false => Err(lost(Side::Target)),
        }
    }

    async fn answer(&self, token: &str, change: Option<(State, State)>, what: &str) -> Result<()> {
        self.turn().await?;
        {
            let mut world = self.world.now();
            let target = &mut world.target;
            match change {
                Some((from, _)) if from != target.state => {}
                change => {
                    target.state = change.map_or(target.state, |(_, to)| to);
                    if target.request.as_deref() == Some(token) {
                        target.request = None;
                    }
                }
            }
        }
        self.world.tell(|| format!("switch: {what}"));
        self.turn().await
    }
}

impl Verdict for SimVerdict {
    async fn state(&mut self) -> Result<State> {
        self.turn().await?;
        Ok(self.world.now().target.state)
    }

    async fn begin(&mut self, token: &str) -> Result<bool> {
        self.turn().await?;
        let begun = {
            let mut world = self.world.now();
            let target = &mut world.target;
            let begun = target.state == State::Replicating && target.request.as_deref() == Some(token);
            if begun {
                target.state = State::Switching;
            }
            begun
        };
        self.turn().await?;
        Ok(begun)
    }

    async fn stands(&mut self, token: &str) -> Result<bool> {
        self.turn().await?;
        Ok(self.world.now().target.request.as_deref() == Some(token))
    }

    async fn decline(&mut self, token: &str, why: &str) -> Result<()> {
        self.answer(token, None, why).await
    }

    async fn undo(&mut self, token: &str, why: &str) -> Result<()> {
        self.answer(token, Some((State::Switching, State::Replicating)), why).await
    }

    async fn finish(&mut self, token: &str, position: &str, _times: &SwitchTimes) -> Result<()> {
        let what = format!("switched at {position}");
        self.answer(token, Some((State::Switching, State::Switched)), &what).await
    }
}
