//! Reading the rows that are repaired, from both sides, with all that is needed to write them and to recognise them.
//!
//! Memory holds the short values of one batch and one slice of one long value.

use std::collections::HashMap;

use converge_mysql::quote;
use sha2::{Digest as _, Sha256};

use super::sink::Missed;
use super::target::{HELD, Target};
use super::value::{HEAD, Long, Value, as_bytes};
use crate::digest::RowDigest;
use crate::engine::rows::{Parsed, Row, matched, row};
use crate::engine::shards::Sessions;
use crate::engine::suspects::Lookup;
use crate::engine::tally::Suspect;
use crate::error::Error;
use crate::plan::Plan;
use crate::session::text;

/// Rows read by one statement.
pub const BATCH: usize = 50;

/// Why a row is passed over.
pub const CHANGED: &str = "it has changed since it was compared";

/// The rows of one suspect that have no equal on the other side, each with the values of the target's columns.
pub type Lone = [Vec<Held>; 2];

/// One side's rows by what they are matched by.
type ByKey = HashMap<Vec<u8>, Vec<(Row, Held)>>;

/// A row of one side.
#[derive(Debug, Clone)]
pub struct Held {
    /// Digest of what was compared.
    pub digest: RowDigest,
    /// The target's columns in order; none where the side does not have the column.
    pub values: Vec<Option<Value>>,
}

/// Batches that one statement can look up: with whole keys any rows, else those that share a scope.
pub fn batches<'a>(plan: &Plan, suspects: Vec<&'a Suspect>) -> Vec<Vec<&'a Suspect>> {
    let mut batches: Vec<Vec<&Suspect>> = Vec::new();
    for suspect in suspects {
        match batches.last_mut() {
            Some(batch)
                if batch.len() < BATCH && (plan.is_addressable() || batch[0].scope == suspect.scope) =>
            {
                batch.push(suspect);
            }
            _ => batches.push(vec![suspect]),
        }
    }
    batches
}

/// Reads the rows of suspects again. `None` for those that are not any more what was proven to differ.
pub async fn read(
    sessions: &mut Sessions,
    plan: &Plan,
    target: &Target,
    batch: &[&Suspect],
) -> Result<Vec<Option<Lone>>, Error> {
    let lookup = Lookup::of(plan, batch.iter().copied());
    let mut sides: [ByKey; 2] = Default::default();
    for (side, found) in sides.iter_mut().enumerate() {
        const WHAT: &str = "reading the rows to repair";
        let sql = statement(plan, target, &lookup, side);
        let shards = sessions.side(side);
        for cells in shards.query(WHAT, &sql).await? {
            let Some(Parsed::Row(row)) = row(plan, &cells) else {
                return Err(shards.unexpected(WHAT, "a row is longer than max_allowed_packet"));
            };
            let values = values(target, side, &cells[3 + plan.client_columns().len()..])
                .ok_or_else(|| shards.unexpected(WHAT, "a value is longer than max_allowed_packet"))?;
            let held = Held { digest: row.digest, values };
            found.entry(row.key.clone()).or_default().push((row, held));
        }
    }
    Ok(batch.iter().map(|suspect| lone(&mut sides, suspect)).collect())
}

fn statement(plan: &Plan, target: &Target, lookup: &Lookup, side: usize) -> String {
    let client = plan.client_columns();
    let mut columns: Vec<String> =
        client.iter().map(|i| plan.columns[*i].form.pieces[side].clone()).collect();
    for column in &target.columns {
        let Some(piece) = &column.pieces[side] else { continue };
        let name = &column.names[side];
        columns.push(format!("IF({name} IS NULL, 'N', LENGTH({piece}))"));
        columns.push(match column.held {
            true => piece.clone(),
            false => {
                let bytes = as_bytes(piece);
                let letters =
                    if column.has_letters[side] { format!(", CHAR_LENGTH({name})") } else { String::new() };
                let long = format!("CONCAT(LEFT({bytes}, {HEAD}), SHA2({piece}, 256){letters})");
                format!("IF(LENGTH({piece}) <= {HELD}, {bytes}, {long})")
            }
        });
    }
    let columns: String = columns.iter().map(|c| format!(", {c}")).collect();
    let picked = plan.picked(&lookup.scope, lookup.pick(), side);
    let (key, hash) = (plan.key_image(side), plan.row_hash(side));
    format!("SELECT {key}, {hash}, 1{columns} {}{picked}", plan.from(side))
}

fn values(target: &Target, side: usize, cells: &[Option<Vec<u8>>]) -> Option<Vec<Option<Value>>> {
    let mut cells = cells.chunks(2);
    let mut values = Vec::with_capacity(target.columns.len());
    for column in &target.columns {
        if column.pieces[side].is_none() {
            values.push(None);
            continue;
        }
        let [length, piece] = cells.next()? else { return None };
        let value = match (length.as_deref()?, piece) {
            (b"N", _) => Value::Null,
            (_, None) => return None,
            (length, Some(piece)) => {
                let length: u64 = std::str::from_utf8(length).ok()?.parse().ok()?;
                match column.held || length <= HELD {
                    true => Value::Whole(piece.clone()),
                    false => {
                        let (head, rest) = piece.split_first_chunk()?;
                        let (sha256, letters) = rest.split_at_checked(64)?;
                        let sha256 = String::from_utf8(sha256.to_vec()).ok()?;
                        let letters = std::str::from_utf8(letters).ok()?.parse().ok();
                        Value::Long(Long { sha256, length, head: *head, letters })
                    }
                }
            }
        };
        values.push(Some(value));
    }
    Some(values)
}

/// The rows of a suspect without an equal, if they are those that were proven to differ.
fn lone(sides: &mut [ByKey; 2], suspect: &Suspect) -> Option<Lone> {
    let [source, target] = sides.each_mut().map(|side| side.remove(&suspect.row.key).unwrap_or_default());
    let rows = |side: &[(Row, Held)]| side.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>();
    let now = matched(rows(&source), rows(&target)).1.pop()?;
    if now.rest != suspect.row.rest {
        return None;
    }
    let mut lone: Lone = Default::default();
    for ((side, rows), out) in [source, target].into_iter().enumerate().zip(&mut lone) {
        for (digest, more) in &now.rest {
            let same = rows.iter().filter(|(row, _)| row.digest == *digest);
            out.extend(same.take(more[side] as usize).map(|(_, held)| held.clone()));
        }
    }
    Some(lone)
}

/// Where a long value is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Whose row it is.
    pub suspect: &'a Suspect,
    /// Which of its rows.
    pub digest: RowDigest,
    /// On which side.
    pub side: usize,
    /// The target's column.
    pub column: usize,
    /// What all of it must hash to.
    pub sha256: &'a str,
}

/// One long value, read slice by slice.
pub struct Slices<'a> {
    place: Place<'a>,
    offset: usize,
    hasher: Option<Sha256>,
}

impl<'a> Slices<'a> {
    /// From its first byte on.
    pub fn of(place: Place<'a>) -> Self {
        Self { place, offset: 0, hasher: Some(Sha256::new()) }
    }

    /// The next bytes; `None` at the end, once all of them are proven to be the value that was found. Missed, where that is
    /// not there any more.
    pub async fn next(
        &mut self,
        sessions: &mut Sessions,
        plan: &Plan,
        target: &Target,
    ) -> Result<Result<Option<Vec<u8>>, Missed>, Error> {
        const WHAT: &str = "reading a long value";
        let Place { suspect, digest, side, column, sha256 } = self.place;
        let Some(hasher) = self.hasher.as_mut() else { return Ok(Ok(None)) };
        let lookup = Lookup::of(plan, std::iter::once(suspect));
        let piece = target.columns[column].pieces[side].as_deref().unwrap_or_default();
        let slice = format!("SUBSTR({}, {}, {})", as_bytes(piece), self.offset + 1, target.slice);
        let sql = plan.value(&lookup.scope, lookup.pick(), side, &slice);
        let rows = sessions.side(side).query(WHAT, &sql).await?;
        let wanted = |cells: &&Vec<Option<Vec<u8>>>| match row(plan, cells) {
            Some(Parsed::Row(row)) => row.digest == digest && row.key == suspect.row.key,
            _ => false,
        };
        let Some(slice) = rows.iter().find(wanted).and_then(|cells| cells.last()?.clone()) else {
            return Ok(Err(CHANGED.into()));
        };
        hasher.update(&slice);
        self.offset += slice.len();
        if slice.len() == target.slice {
            return Ok(Ok(Some(slice)));
        }
        let all = self.hasher.take().map(|h| quote::hex_digits(&h.finalize())).unwrap_or_default();
        Ok(if all == sha256 { Ok(Some(slice)) } else { Err(CHANGED.into()) })
    }
}

/// The key of a row for people, out of its values.
pub fn named(target: &Target, lone: &Lone) -> String {
    let Some(row) = lone.iter().flatten().next() else { return String::new() };
    let parts: Vec<String> = (target.columns.iter().zip(&row.values))
        .filter(|(column, _)| column.key)
        .map(|(column, value)| {
            let shown = match value {
                Some(Value::Whole(piece)) => column.writes.literal(piece).map(|l| l.sql).unwrap_or_default(),
                _ => "NULL".into(),
            };
            format!("{} = {shown}", column.name)
        })
        .collect();
    if parts.is_empty() { "a row without a key".into() } else { parts.join(", ") }
}

/// Whether an answer's one cell is 1.
pub fn is_true(cells: &[Vec<Option<Vec<u8>>>]) -> bool {
    cells.iter().any(|row| row.first().map(text).as_deref() == Some("1"))
}
