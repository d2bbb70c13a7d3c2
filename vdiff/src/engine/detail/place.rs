//! Where two long values differ that look alike in the part of them that is shown. The servers hash parts of them, so that
//! little of them is sent, however long they are.

use super::super::rows::{Parsed, row};
use super::super::suspects::Lookup;
use super::super::table::TableRun;
use super::super::tally::Suspect;
use super::{Field, Fields, in_hex};
use crate::error::Error;
use crate::form::ShownAs;
use crate::report::show::{FIRST, told};
use crate::report::{DifferingRow, Values};

const WHAT: &str = "looking where values differ";

/// Bytes of both values that are sent once the difference is known to be among them.
const NEAR: u64 = 4096;

/// Bytes that are shown before and after the first that differs.
const BEFORE: usize = 30;
const AFTER: usize = 100;

/// What one side answered.
type Bytes = Option<Vec<u8>>;

impl TableRun<'_> {
    /// Shows a row's values from shortly before where they differ, where what is shown of them looks alike. At most `left`
    /// of them are looked at.
    pub(super) async fn show_places(
        &mut self,
        suspect: &Suspect,
        row: &mut DifferingRow,
        sides: [&Fields; 2],
        left: &mut usize,
    ) -> Result<(), Error> {
        let plan = self.plan;
        for (i, column) in plan.columns.iter().enumerate().filter(|(_, c)| row.columns.contains(&c.name)) {
            let [Some(source), Some(target)] = sides.map(|fields| fields.get(i)) else { continue };
            let is_cut = |field: &Field| field.shown.as_ref().is_some_and(|text| text.ends_with('…'));
            // Of a document that the client compares, the first byte that differs need not mean anything.
            let alike = source.shown == target.shown && is_cut(source) && !column.form.client_json;
            if !alike || *left == 0 {
                continue;
            }
            *left -= 1;
            if let Some(values) = self.place(suspect, i, [source.length, target.length]).await? {
                row.values.insert(column.name.clone(), values);
            }
        }
        Ok(())
    }

    /// Both values around their first difference; none if they do not differ any more.
    async fn place(
        &mut self,
        suspect: &Suspect,
        i: usize,
        lengths: [u64; 2],
    ) -> Result<Option<Values>, Error> {
        let (mut same, mut end) = (0, self.lengths(suspect, i).await?);
        while end.saturating_sub(same) > NEAR {
            let half = (end - same) / 2;
            match self
                .ask(suspect, i, &|bytes| format!("SHA2(SUBSTR({bytes}, {}, {half}), 256)", same + 1))
                .await?
            {
                [Some(source), Some(target)] if source == target => same += half,
                [Some(_), Some(_)] => end = same + half,
                _ => return Ok(None),
            }
        }
        let from = same.saturating_sub(BEFORE as u64);
        let most = end - from + AFTER as u64;
        let near = self.ask(suspect, i, &|bytes| format!("SUBSTR({bytes}, {}, {most})", from + 1)).await?;
        let [Some(source), Some(target)] = near else { return Ok(None) };
        let at = source.iter().zip(&target).take_while(|(a, b)| a == b).count();
        if at == source.len().min(target.len()) && source.len() == target.len() {
            return Ok(None);
        }
        let shown = self.plan.columns[i].form.shown;
        let text = |bytes: &[u8], length: u64| {
            let told = told(length, &format!("{FIRST}{} on", from + at as u64 + 1));
            format!("{}{told}", around(bytes, at, from > 0, shown))
        };
        let [source, target] = [text(&source, lengths[0]), text(&target, lengths[1])].map(Some);
        Ok(Some(Values { source, target }))
    }

    /// The length of the longer value, as it is compared.
    async fn lengths(&mut self, suspect: &Suspect, i: usize) -> Result<u64, Error> {
        let lengths = self.ask(suspect, i, &|bytes| format!("LENGTH({bytes})")).await?;
        Ok(lengths.iter().filter_map(crate::session::number).max().unwrap_or(0))
    }

    /// Asks both sides for something of the row's value in its canonical form.
    async fn ask(
        &mut self,
        suspect: &Suspect,
        i: usize,
        what: &(dyn Fn(&str) -> String + Sync),
    ) -> Result<[Bytes; 2], Error> {
        let (plan, lookup) = (self.plan, Lookup::of(self.plan, std::iter::once(suspect)));
        let sql = [0, 1].map(|side| {
            let bytes = format!("CAST({} AS BINARY)", plan.columns[i].form.pieces[side]);
            plan.value(&lookup.scope, lookup.pick(), side, &what(&bytes))
        });
        let (source, target) = tokio::join!(
            self.sessions.source.query(WHAT, &sql[0]),
            self.sessions.target.query(WHAT, &sql[1])
        );
        let wanted = |cells: &&Vec<Bytes>| match row(plan, cells) {
            Some(Parsed::Row(row)) => row.key == suspect.row.key,
            _ => false,
        };
        Ok([source?, target?].map(|rows| rows.iter().find(wanted).and_then(|cells| cells.last()?.clone())))
    }
}

/// What is around the byte `at`, in whole characters; `more`: something comes before.
fn around(bytes: &[u8], at: usize, more: bool, shown: ShownAs) -> String {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let (mut from, mut to) = (at.saturating_sub(BEFORE), (at + AFTER).min(bytes.len()));
    if shown == ShownAs::Text {
        // No character has more bytes than that after its first one.
        from += (0..3).take_while(|more| is_inside(from + more)).count();
        to -= (0..3).take_while(|less| to > from + less && is_inside(to - less)).count();
    }
    let part = bytes.get(from..to).unwrap_or_default();
    let text = std::str::from_utf8(part).ok().filter(|_| shown == ShownAs::Text);
    let text = text.map_or_else(|| in_hex(part, false), str::to_owned);
    let (before, after) = (more || from > 0, to < bytes.len());
    format!("{}{text}{}", if before { "…" } else { "" }, if after { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_around_a_difference_are_whole() {
        let text = "é".repeat(100);
        for at in 0..text.len() {
            let shown = around(text.as_bytes(), at, false, ShownAs::Text);
            assert!(
                shown.trim_matches('…').chars().all(|c| c == 'é') && shown.contains("éé"),
                "{at}: {shown}"
            );
        }
        assert_eq!(around(b"a\xff", 1, true, ShownAs::Text), "…0x61ff");
        assert_eq!(around(b"a\xff", 0, false, ShownAs::Hex), "0x61ff");
    }
}
