//! Naming the columns of differing rows, with their values for people.

mod place;

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::rows::{Differing, Parsed, row};
use super::suspects::{Lookup, batches};
use super::table::TableRun;
use super::tally::Suspect;
use crate::canonical_json::canonical;
use crate::digest::Framing;
use crate::error::Error;
use crate::form::text::MARK;
use crate::form::{Literal, ShownAs, real};
use crate::plan::sql::SHOWN;
use crate::plan::{Plan, PlannedColumn};
use crate::report::show::{DIGEST, told};
use crate::report::{DifferingRow, Kind, Values};
use crate::session::{Cells, number};

/// Rows whose values are fetched by one statement.
const BATCH: usize = 50;

/// Values of a table of which the place where they differ is looked for, where that is beyond what is shown.
const PLACES: usize = 50;

/// Whole numbers beyond this lose digits in many JSON readers.
const EXACT_IN_JSON: i128 = 1 << 53;

/// One column of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What is compared.
    piece: Option<Vec<u8>>,
    /// What is shown.
    shown: Option<String>,
    /// Bytes of the value.
    length: u64,
}

/// The compared columns of one row, in their order.
pub type Fields = Vec<Field>;

impl TableRun<'_> {
    /// The first differing rows, as many as the report may name. `proven`: those that are not proven by themselves are.
    pub async fn describe(&mut self, proven: bool) -> Result<Vec<DifferingRow>, Error> {
        let (mut rows, mut places) = (Vec::new(), PLACES);
        let wanted: Vec<Suspect> =
            self.found.suspects.iter().take(self.options.max_rows_reported).cloned().collect();
        for batch in batches(self.plan, &wanted, [BATCH, BATCH]) {
            let unseen: Vec<&Suspect> = batch.iter().filter(|s| s.seen().is_empty()).collect();
            let (mut source, mut target) = (HashMap::new(), HashMap::new());
            if !unseen.is_empty() {
                source = self.fields(&unseen, 0).await?;
                target = self.fields(&unseen, 1).await?;
            }
            for suspect in batch {
                let key = suspect.row.key.as_slice();
                let sides = [source.get(key), target.get(key)];
                let confirmed = proven || suspect.proof.is_some();
                if let seen @ [_, ..] = suspect.seen() {
                    rows.extend(seen.iter().cloned());
                    continue;
                }
                for mut row in rows_of(self.plan, &suspect.row, sides, confirmed) {
                    if let [Some(source), Some(target)] = sides {
                        self.show_places(suspect, &mut row, [source, target], &mut places).await?;
                    }
                    rows.push(row);
                }
            }
        }
        rows.truncate(self.options.max_rows_reported);
        Ok(rows)
    }

    async fn fields(&mut self, batch: &[&Suspect], side: usize) -> Result<HashMap<Vec<u8>, Fields>, Error> {
        let lookup = Lookup::of(self.plan, batch.iter().copied());
        let plan = self.plan;
        let sql = plan.details(&lookup.scope, lookup.pick(), side);
        let shards = self.sessions.side(side);
        let cells = shards.query(WHAT, &sql).await?;
        fields_by_key(plan, &cells)
            .ok_or_else(|| shards.unexpected(WHAT, "a row is not in the form asked for"))
    }
}

const WHAT: &str = "reading differing rows";

/// Columns by key image, out of the answer to [`Plan::details`]. `None`: not the form asked for.
pub fn fields_by_key(plan: &Plan, answer: &[Cells]) -> Option<HashMap<Vec<u8>, Fields>> {
    let mut found = HashMap::new();
    for cells in answer {
        if let Parsed::Row(row) = row(plan, cells)? {
            let fields = fields_of(&plan.columns, &cells[3 + plan.client_columns().len()..]);
            found.entry(row.key).or_insert(fields);
        }
    }
    Some(found)
}

/// How a key's rows differ, out of its columns on the source and on the target.
pub fn rows_of(
    plan: &Plan,
    row: &Differing,
    sides: [Option<&Fields>; 2],
    confirmed: bool,
) -> Vec<DifferingRow> {
    let counts = row.counts();
    let kinds = [
        (Kind::Mismatched, counts.mismatched, [sides[0], sides[1]]),
        (Kind::ExtraSource, counts.extra_source, [sides[0], None]),
        (Kind::ExtraTarget, counts.extra_target, [None, sides[1]]),
    ];
    let mut rows = Vec::new();
    for (kind, copies, sides) in kinds.into_iter().filter(|(_, copies, _)| *copies > 0) {
        let Some(any) = sides[0].or(sides[1]) else { continue };
        let mut row = DifferingRow {
            key: key_of(plan, any),
            kind,
            columns: Vec::new(),
            values: Default::default(),
            copies,
            confirmed,
            position: None,
        };
        for (i, column) in plan.columns.iter().enumerate() {
            let fields = sides.map(|side| side.and_then(|fields| fields.get(i)));
            let differs = match fields {
                [Some(a), Some(b)] => a.piece != b.piece,
                _ => false,
            };
            if differs {
                row.columns.push(column.name.clone());
            }
            if differs || kind != Kind::Mismatched {
                row.values.insert(column.name.clone(), values(fields));
            }
        }
        rows.push(row);
    }
    rows
}

/// The key as JSON; the whole row where there is none.
fn key_of(plan: &Plan, fields: &Fields) -> Map<String, Value> {
    let all: Vec<usize> = (0..plan.columns.len()).collect();
    let positions = if plan.is_multiset() { all.as_slice() } else { plan.key_positions() };
    positions
        .iter()
        .filter_map(|i| {
            let (column, field) = (&plan.columns[*i], fields.get(*i)?);
            Some((column.name.clone(), json(column.form.shown, field.shown.as_deref())))
        })
        .collect()
}

/// A shown value in JSON: numbers only where no reader loses digits.
fn json(shown: ShownAs, text: Option<&str>) -> Value {
    match (shown, text) {
        (_, None) => Value::Null,
        (ShownAs::Integer, Some(text)) => match text.parse::<i128>() {
            Ok(number) if (-EXACT_IN_JSON..=EXACT_IN_JSON).contains(&number) => Value::from(number as i64),
            _ => Value::from(text),
        },
        (_, Some(text)) => Value::from(text),
    }
}

fn fields_of(columns: &[PlannedColumn], cells: &[Option<Vec<u8>>]) -> Fields {
    let cells: Vec<Cells> = cells.chunks(3).map(<[_]>::to_vec).collect();
    columns
        .iter()
        .zip(cells)
        .map(|(column, cells)| {
            let length = number(&cells[2]).unwrap_or(0);
            let shown = cells[1].as_deref().map(|bytes| match no_text(column, cells[0].as_deref(), bytes) {
                Some(odd) => in_hex(odd, (odd.len() as u64) < length && odd.len() >= SHOWN),
                None => show(column.form.shown, bytes, length),
            });
            let piece = match &cells[0] {
                Some(text) if column.form.client_json => Some(canonical(text)),
                piece => piece.clone(),
            };
            Field { piece, shown, length }
        })
        .collect()
}

/// The bytes of a text that are none: as text, many different ones would look alike.
fn no_text<'a>(column: &PlannedColumn, piece: Option<&'a [u8]>, shown: &'a [u8]) -> Option<&'a [u8]> {
    let form = &column.form;
    if form.shown != ShownAs::Text {
        return None;
    }
    // Of a long text only a digest is there besides what is shown.
    let odd = match (&form.equality, piece.filter(|_| form.framing == Framing::Sized)) {
        (Some(literal @ Literal::Text(_)), Some(piece)) => (!literal.can_hold(piece)).then_some(piece),
        // The error value of an ENUM has such a mark too.
        (_, Some([0xff, odd @ ..])) if odd != [0] && form.pieces.iter().any(|sql| sql.contains(MARK)) => {
            Some(odd)
        }
        _ => None,
    };
    odd.or_else(|| std::str::from_utf8(shown).is_err().then_some(shown))
}

fn in_hex(bytes: &[u8], is_cut: bool) -> String {
    format!("0x{}{}", converge_mysql::quote::hex_digits(bytes), if is_cut { "…" } else { "" })
}

fn show(shown: ShownAs, bytes: &[u8], length: u64) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match shown {
        ShownAs::Real => real(&text).map_or(text, |number| format!("{number:?}")),
        ShownAs::Hex => {
            let cut = if (text.len() as u64) < length * 2 { "…" } else { "" };
            format!("0x{text}{cut}")
        }
        ShownAs::Text if text.chars().count() >= SHOWN && (text.len() as u64) < length => format!("{text}…"),
        _ => text,
    }
}

/// Both values; where they look the same although they are not, with what tells them apart.
fn values(fields: [Option<&Field>; 2]) -> Values {
    let shown = |field: Option<&Field>| field.and_then(|f| f.shown.clone());
    let [mut source, mut target] = fields.map(shown);
    if let [Some(a), Some(b)] = fields
        && source == target
        && source.is_some()
    {
        for (text, field) in [(&mut source, a), (&mut target, b)] {
            let piece = field.piece.as_deref().unwrap_or_default();
            let digest = converge_mysql::quote::hex_digits(&crate::digest::row_digest(piece));
            let behind = told(field.length, &format!("{DIGEST}{}…", &digest[..12]));
            *text = text.take().map(|t| t + &behind);
        }
    }
    Values { source, target }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_all_their_digits() {
        let key = |text| json(ShownAs::Integer, Some(text)).to_string();
        assert_eq!(key("42"), "42");
        assert_eq!(key("-9007199254740992"), "-9007199254740992");
        assert_eq!(key("9007199254740993"), "\"9007199254740993\"");
        assert_eq!(key("18446744073709551615"), "\"18446744073709551615\"");
        assert_eq!(json(ShownAs::Text, Some("42")).to_string(), "\"42\"");
        assert_eq!(json(ShownAs::Hex, Some("0x00ff")).to_string(), "\"0x00ff\"");
    }

    #[test]
    fn doubles_are_shown_from_their_bits() {
        assert_eq!(real("343333333333D33F"), Some(0.1 + 0.2));
        assert_eq!(show(ShownAs::Real, b"0000000000000080", 8), "-0.0");
    }

    #[test]
    fn values_that_look_alike_are_told_apart() {
        let field =
            |piece: &[u8]| Field { piece: Some(piece.to_vec()), shown: Some("x".into()), length: 900 };
        let both = values([Some(&field(b"1")), Some(&field(b"2"))]);
        assert_ne!(both.source, both.target);
    }
}
