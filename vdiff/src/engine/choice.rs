//! Choosing the engine, where it was left open: the first rows of a table are compared by both, in small chunks at
//! first, so that neither a slow network nor large values make the trial a long one.
//!
//! Nothing is read for the trial alone: what it compares is compared.

use std::time::{Duration, Instant};

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

/// A stage that took this long and was won this clearly decides if the same comes of it a second time: a short one has to
/// be won by more.
const TELLING: [(Duration, f64); 2] = [(Duration::from_millis(40), 1.5), (Duration::from_millis(8), 2.0)];

/// A stage that took this long and was won this clearly decides at once: no disturbance lasts so long.
const SURE: (Duration, f64) = (Duration::from_secs(1), 3.0);

/// Of the rows of a stage so many have to be among a chunk's, one in so many: the time of a chunk with fewer (below the
/// smallest key, or where a condition holds for few) is not that of its rows.
const LEAST_SHARE: u64 = 4;

/// A chunk that was cut so many times as large as those of the stage is not held against those any more.
const MOST_TIMES: u64 = 4;

/// How long chunks with too few rows may take, all of them: workers would compare them side by side.
const IN_VAIN: Duration = Duration::from_secs(2);

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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Rate {
    rows: u64,
    took: Duration,
}

impl Rate {
    /// Seconds a row.
    fn cost(self) -> f64 {
        self.took.as_secs_f64() / self.rows.max(1) as f64
    }

    /// The better one: whatever disturbs only makes slower.
    fn better(self, other: Self) -> Self {
        if other.cost() < self.cost() { other } else { self }
    }
}

/// What a stage says about the engines.
#[derive(Debug, PartialEq)]
enum Told {
    /// Which is faster.
    Surely,
    /// The same, if it was not disturbed.
    Likely,
    Nothing,
}

impl Told {
    /// By what push-down and stream made of the stage.
    fn by([pushed, streamed]: [Rate; 2]) -> Self {
        let margin = pushed.cost() / streamed.cost().max(f64::MIN_POSITIVE);
        let longest = pushed.took.max(streamed.took);
        let clear = |(least, by): &(Duration, f64)| longest >= *least && (margin > *by || margin < 1.0 / by);
        match (clear(&SURE), TELLING.iter().any(clear)) {
            (true, _) => Self::Surely,
            (_, true) => Self::Likely,
            _ => Self::Nothing,
        }
    }
}

/// How far a trial is.
#[derive(Default)]
struct Trial {
    lower: Option<Cut>,
    /// The next chunk's number.
    next: u64,
    /// What chunks took that said nothing.
    in_vain: Duration,
}

/// What came of an engine's turn in a stage.
enum Turn {
    Took(Rate),
    /// No chunk had enough rows, or time was up.
    Nothing,
    /// The source has not so many rows any more.
    Ended {
        tiny: bool,
    },
}

/// What a chunk says, of which `wanted` rows were wanted in the stage and for which `size` rows were cut.
#[derive(Debug, PartialEq)]
enum Found {
    /// The time of its rows.
    Rate,
    /// That the next one should be cut with so many rows.
    Next(u64),
}

impl Found {
    fn of(rows: u64, wanted: u64, size: u64) -> Self {
        let enough = rows >= wanted / LEAST_SHARE;
        match (enough, size <= wanted * MOST_TIMES) {
            (true, true) => Self::Rate,
            // The rows that are compared have been reached.
            (true, false) => Self::Next(wanted),
            (false, _) => Self::Next(size.saturating_mul(2)),
        }
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
        let (mut trial, mut known) = (Trial::default(), None);
        let stages = if self.preference.is_some() { LATER_STAGES } else { STAGES.len() };
        'stages: for rows in STAGES.into_iter().take(stages) {
            let mut first: Option<[Rate; 2]> = None;
            loop {
                let mut stage = [Rate::default(); 2];
                for (engine, rate) in [Engine::PushDown, Engine::Stream].into_iter().zip(&mut stage) {
                    match self.turn(engine, rows, &mut trial).await? {
                        Turn::Took(took) => *rate = took,
                        Turn::Nothing => break 'stages,
                        Turn::Ended { tiny } => return self.remainder(trial, tiny).await,
                    }
                }
                if let Some(first) = first {
                    stage = [0, 1].map(|engine| first[engine].better(stage[engine]));
                }
                known = Some(stage);
                match (Told::by(stage), first) {
                    (Told::Surely, _) | (Told::Likely, Some(_)) => break 'stages,
                    (Told::Likely, None) => first = Some(stage),
                    (Told::Nothing, _) => break,
                }
            }
        }
        self.prefer(known);
        Ok(Chosen::Rest { lower: trial.lower, next: trial.next })
    }

    /// Compares a chunk by an engine, or several until one has about as many rows as wanted.
    async fn turn(&mut self, engine: Engine, wanted: u64, trial: &mut Trial) -> Result<Turn, Error> {
        let mut size = wanted;
        while trial.in_vain < IN_VAIN && !self.memory.is_over() {
            let begun = Instant::now();
            let rest = Scope { lower: trial.lower.clone(), ..Scope::default() };
            let offset = size.div_ceil(self.sessions.source.count() as u64);
            let upper = match self.sessions.source.each_mut().next() {
                Some(session) => cut(self.plan, session, &rest, offset).await?,
                None => None,
            };
            if upper.is_none() {
                return Ok(Turn::Ended { tiny: size == STAGES[0] });
            }
            let chunk = Scope { upper: upper.clone(), ..rest };
            if self.hold_or_over().await? {
                break;
            }
            if engine == Engine::Stream {
                // Connecting is not a part of the speed.
                self.sessions.make_ready().await;
            }
            let compared = self.work(engine).range(self.sessions, chunk, trial.next).await?;
            let rate = Rate { rows: compared.rows, took: compared.took };
            self.collect(compared, engine)?;
            (trial.lower, trial.next) = (upper, trial.next + STRIDE);
            match Found::of(rate.rows, wanted, size) {
                Found::Rate => return Ok(Turn::Took(rate)),
                Found::Next(rows) => size = rows.min(self.most_in_vain(engine, wanted)),
            }
            trial.in_vain += begun.elapsed();
        }
        Ok(Turn::Nothing)
    }

    /// The largest chunk in search of rows: of a large one that has some after all the servers send a digest, but the whole
    /// of it when it is streamed.
    fn most_in_vain(&self, engine: Engine, wanted: u64) -> u64 {
        match engine {
            Engine::Stream => wanted * MOST_TIMES,
            _ => self.options.max_chunk_rows.max(wanted),
        }
    }

    /// Goes on with the engine that was faster; without a trial that tells, with the one of the tables before.
    fn prefer(&mut self, known: Option<[Rate; 2]>) {
        let Some([pushed, streamed]) = known else {
            self.engine = self.preference.unwrap_or(Engine::PushDown);
            self.engine_reason = "too few of the first rows are compared for a trial".into();
            return;
        };
        let speed = |rate: Rate| format!("{} rows in {:.1?}", rate.rows, rate.took);
        let pushes = pushed.cost() <= streamed.cost();
        self.engine = if pushes { Engine::PushDown } else { Engine::Stream };
        self.engine_reason = format!("pushdown compared {}, stream {}", speed(pushed), speed(streamed));
        *self.preference = Some(self.engine);
    }

    /// The table ended during the trial, or there is nothing on the shard that is cut: what is left may still be much.
    async fn remainder(&mut self, Trial { lower, next, .. }: Trial, tiny: bool) -> Result<Chosen, Error> {
        let rest = Scope { lower, ..Scope::default() };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rows: u64, milliseconds: u64) -> Rate {
        Rate { rows, took: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn a_chunk_with_few_rows_says_nothing_about_their_time() {
        let found = |rows, size| Found::of(rows, 500, size);
        assert_eq!((found(0, 500), found(124, 1_000)), (Found::Next(1_000), Found::Next(2_000)));
        // With a prefix of the key as its bound a chunk may have many more rows than it was cut for.
        assert_eq!(
            (found(501, 500), found(10_310, 1_000), found(125, 2_000)),
            (Found::Rate, Found::Rate, Found::Rate)
        );
        assert_eq!((found(200, 4_000), found(60_000, 64_000)), (Found::Next(500), Found::Next(500)));
    }

    #[test]
    fn a_stage_that_was_disturbed_does_not_decide() {
        let [pushed, streamed] = [rate(500, 11), rate(501, 104)];
        assert_eq!(Told::by([pushed, streamed]), Told::Likely);
        // Seen again without the disturbance, nothing is clear.
        let again = streamed.better(rate(500, 7));
        assert_eq!((again, again.better(streamed)), (rate(500, 7), rate(500, 7)));
        assert_eq!(Told::by([pushed, again]), Told::Nothing);
        assert_eq!(Told::by([pushed, streamed.better(rate(500, 90))]), Told::Likely);
        assert_eq!(Told::by([rate(500, 2), rate(500, 7)]), Told::Nothing);
    }

    #[test]
    fn a_slow_network_is_not_tried_twice() {
        assert_eq!(Told::by([rate(10_310, 70), rate(10_310, 6_600)]), Told::Surely);
        assert_eq!(Told::by([rate(10_310, 4_000), rate(10_310, 6_600)]), Told::Likely);
    }
}
