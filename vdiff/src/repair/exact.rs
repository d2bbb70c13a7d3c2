//! A row of which the target would make another one is left alone: what its columns hold exactly is known from their
//! definitions, or asked of the target, or read back before it is committed.

use super::fit::Fit;
use super::rows::{Lone, is_true};
use super::sink::{CHANGED_THERE, Missed, Sink};
use super::value::Value;
use super::write::{Direction, Writer};
use crate::error::Error;

impl Writer<'_> {
    /// Why the target would not hold the source's values of a row.
    pub(super) async fn misfit(&mut self, lone: &Lone, swap: bool) -> Result<Option<Missed>, Error> {
        // What it held it can hold again.
        if self.direction == Direction::Undo {
            return Ok(None);
        }
        let whole = swap || self.is_replaced(lone);
        let reads_back = self.reads_back() && !whole;
        for (row, columns) in self.means(lone, self.direction, whole).written(self.target) {
            for i in columns {
                let Some(value) = &row.values[i] else { continue };
                let room = self.target.columns[i].room();
                let fit = match room.fit(value) {
                    Fit::Asks(sql) => self.asked(sql).await?,
                    fit => fit,
                };
                if fit == Fit::Lacks || fit == Fit::Unsure && !reads_back {
                    return Ok(Some(room.why(value, &fit)));
                }
            }
        }
        Ok(None)
    }

    /// The target's own word.
    async fn asked(&mut self, sql: String) -> Result<Fit, Error> {
        let sql = format!("SELECT {sql}");
        let answer = self.sessions.side(1).query("asking whether a column can hold a value", &sql).await?;
        Ok(if is_true(&answer) { Fit::Holds } else { Fit::Lacks })
    }

    /// Why a row was missed, where a value may be the cause that the target does not hold.
    pub(super) fn doubted(&self, lone: &Lone, why: Missed) -> Missed {
        let means = self.means(lone, self.direction, self.is_replaced(lone));
        let doubt = means.written(self.target).into_iter().find_map(|(row, columns)| {
            columns.into_iter().find_map(|i| {
                let (room, value) = (self.target.columns[i].room(), row.values[i].as_ref()?);
                Some((room, room.fit(value), value)).filter(|(_, fit, _)| *fit == Fit::Unsure)
            })
        });
        match doubt.filter(|_| self.direction == Direction::Repair) {
            None => why,
            // An update changes nothing where the target makes of the new value what is there.
            Some((room, ..)) if why.starts_with(CHANGED_THERE) => {
                format!("{why}, or {}", room.made_another())
            }
            Some((room, fit, value)) => format!("{why}; {}", room.why(value, &fit)),
        }
    }

    /// Whether a row that was written can be looked at before it is committed.
    fn reads_back(&self) -> bool {
        matches!(self.sink, Sink::Server(_)) && self.target.key_is_unique
    }

    /// Whether a row that was written is what it should be. One that is not is put back as it was.
    pub(super) async fn kept(&mut self, lone: &Lone) -> Result<Result<(), Missed>, Error> {
        let means = self.means(lone, self.direction, self.is_replaced(lone));
        if !self.reads_back() || self.target.columns.iter().all(|column| column.room().is_alike()) {
            return Ok(Ok(()));
        }
        let wanted = self.direction.wanted();
        for (row, columns) in means.written(self.target) {
            let doubted: Vec<(usize, &Value)> = columns
                .into_iter()
                .filter(|i| !self.target.columns[*i].room().is_alike())
                .filter_map(|i| Some((i, row.values[i].as_ref()?)))
                .collect();
            if doubted.is_empty() {
                continue;
            }
            let holds: Vec<String> =
                doubted.iter().map(|(i, value)| self.target.holds(*i, value, wanted)).collect();
            let sql = format!(
                "SELECT CONCAT_WS(',', {}) FROM {} WHERE {}",
                holds.join(", "),
                self.target.tables[1],
                self.target.key_of(row, wanted)
            );
            let answer = self.sink.ask(&sql).await?;
            let flags: Vec<bool> =
                answer.iter().flat_map(|flags| flags.split(',')).map(|flag| flag == "1").collect();
            // A row that its key does not find has another one.
            let other = |(at, _): &(usize, &(usize, &Value))| !flags.get(*at).copied().unwrap_or(false);
            if let Some((_, (i, _))) = doubted.iter().enumerate().find(other) {
                let why = self.target.columns[*i].room().made_another();
                self.sink.abandon(&why).await?;
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }
}
