//! Choosing the engine, where it was left open: the first rows of a table are compared by both, in small chunks at
//! first, so that neither a slow network nor large values make the trial a long one.
//!
//! Nothing is read for the trial alone: what it compares is compared.

use std::time::Duration;

use super::cut::{Cut, cut};
use super::state::STRIDE;
use super::table::TableRun;
use crate::error::Error;
use crate::plan::sql::Scope;
use crate::request::Engine;

/// Rows of the trial's chunks, by stage; in each stage both engines get as many.
const STAGES: [u64; 3] = [500, 4_000, 20_000];

/// Stages for a table after the first: servers and network are known, and only its columns are not.
const LATER_STAGES: usize = 2;

/// A stage that took this long and was won this clearly decides: a short one has to be won by more.
const TELLING: [(Duration, f64); 2] = [(Duration::from_millis(40), 1.5), (Duration::from_millis(8), 2.0)];

/// The faster engine of the last trial.
pub type Preference = Engine;

/// From where on a table is compared by the engine that was chosen.
pub enum Chosen {
    /// From `lower` on, with the next chunk's number.
    Rest { lower: Option<Cut>, next: u64 },
    /// The trial took the whole table.
    Done,
}

/// Rows and the time that their digests took.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    rows: u64,
    took: Duration,
}

impl Rate {
    /// Seconds a row.
    fn cost(self) -> f64 {
        self.took.as_secs_f64() / self.rows.max(1) as f64
    }
}

impl TableRun<'_> {
    /// Settles the engine, and compares the first rows in doing so if it was left open.
    pub async fn choose_engine(&mut self) -> Result<Chosen, Error> {
        let untouched = Chosen::Rest { lower: None, next: 0 };
        if self.engine != Engine::Auto {
            return Ok(untouched);
        }
        if !self.plan.client_columns().is_empty() {
            self.engine = Engine::Stream;
            self.engine_reason = "the client has to compute on values: it compares JSON with text".into();
            return Ok(untouched);
        }
        self.trial().await
    }

    async fn trial(&mut self) -> Result<Chosen, Error> {
        let (mut lower, mut next) = (None, 0);
        let mut stage = [Rate::default(); 2];
        let stages = if self.preference.is_some() { LATER_STAGES } else { STAGES.len() };
        'stages: for rows in STAGES.into_iter().take(stages) {
            if self.memory.is_over() {
                break;
            }
            for (engine, rate) in [Engine::PushDown, Engine::Stream].into_iter().zip(&mut stage) {
                let rest = Scope { lower: lower.clone(), ..Scope::default() };
                let offset = rows.div_ceil(self.sessions.source.count() as u64);
                let first = self.sessions.source.each_mut().next();
                let upper = match first {
                    Some(session) => cut(self.plan, session, &rest, offset).await?,
                    None => None,
                };
                if upper.is_none() {
                    return self.remainder(rest, next, rows == STAGES[0]).await;
                }
                let chunk = Scope { upper: upper.clone(), ..rest };
                if self.hold_or_over().await? {
                    break 'stages;
                }
                if engine == Engine::Stream {
                    // Connecting is not a part of the speed.
                    self.sessions.make_ready().await;
                }
                let compared = self.work(engine).range(self.sessions, chunk, next).await?;
                *rate = Rate { rows: compared.rows, took: compared.took };
                self.collect(compared, engine)?;
                (lower, next) = (upper, next + STRIDE);
            }
            let margin = stage[0].cost() / stage[1].cost().max(f64::MIN_POSITIVE);
            let longest = stage[0].took.max(stage[1].took);
            let clear = |by: f64| margin > by || margin < 1.0 / by;
            if TELLING.iter().any(|(least, by)| longest >= *least && clear(*by)) {
                break;
            }
        }
        self.prefer(stage);
        Ok(Chosen::Rest { lower, next })
    }

    fn prefer(&mut self, [pushed, streamed]: [Rate; 2]) {
        let speed = |rate: Rate| format!("{} rows in {:.1?}", rate.rows, rate.took);
        let pushes = pushed.cost() <= streamed.cost();
        self.engine = if pushes { Engine::PushDown } else { Engine::Stream };
        self.engine_reason = format!("pushdown compared {}, stream {}", speed(pushed), speed(streamed));
        *self.preference = Some(self.engine);
    }

    /// The table ended during the trial, or there is nothing on the shard that is cut: what is left may still be much.
    async fn remainder(&mut self, rest: Scope, next: u64, tiny: bool) -> Result<Chosen, Error> {
        self.engine = self.preference.unwrap_or(Engine::PushDown);
        self.engine_reason = "the table is too small for a trial".into();
        let alone = self.sessions.source.count() == 1;
        // The target may have more rows than the source.
        if !alone || !tiny {
            return Ok(Chosen::Rest { lower: rest.lower, next });
        }
        let beyond = match self.sessions.target.each_mut().next() {
            Some(session) => cut(self.plan, session, &rest, STAGES[1]).await?,
            None => None,
        };
        if beyond.is_some() || self.sessions.target.count() > 1 {
            return Ok(Chosen::Rest { lower: rest.lower, next });
        }
        if self.hold_or_over().await? {
            return Ok(Chosen::Rest { lower: rest.lower, next });
        }
        let compared = self.work(self.engine).range(self.sessions, rest, next).await?;
        self.collect(compared, self.engine)?;
        Ok(Chosen::Done)
    }
}
