//! The report for people who were not there: one page without any outside resource, made from a template that escapes
//! every value.

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::show::{Marked, grouped, line, marked, window};
use super::{DifferingRow, Kind, Report, TableReport, Values, Verdict};
use crate::error::Error;
use crate::repair::RepairReport;

/// The page; the name's ending makes the engine escape every value.
const NAME: &str = "vdiff.html";
/// Differing rows that the page shows, of one table and of all.
const ROWS_OF_A_TABLE: usize = 500;
const ROWS_OF_ALL: usize = 2_000;
/// Characters of a value that are shown.
const MOST_CHARACTERS: usize = 160;
/// Characters on either side of what differs.
const CONTEXT: usize = 30;
/// Columns of a row on one side only that are shown.
const MOST_COLUMNS: usize = 16;

/// A table with rows that differ.
#[derive(Serialize)]
struct Differences {
    table: String,
    /// Rows that are shown, equal ones counted one by one.
    listed: u64,
    all: u64,
    rows: Vec<Row>,
}

/// A row that differs, ready to be shown.
#[derive(Serialize)]
struct Row {
    key: String,
    what: &'static str,
    copies: u64,
    confirmed: bool,
    cells: Vec<Cell>,
    left_out: usize,
}

/// A column of such a row on both sides.
#[derive(Serialize)]
struct Cell {
    column: String,
    source: Shown,
    target: Shown,
}

/// One side of it.
#[derive(Serialize)]
enum Shown {
    NoRow,
    Null,
    Value(Marked),
}

/// Renders the page.
pub fn render(report: &Report) -> Result<String, Error> {
    let failed = |e: minijinja::Error| Error::Render(e.to_string());
    let mut environment = Environment::new();
    environment.add_filter("line", |text: String| line(&text));
    environment.add_filter("grouped", grouped);
    environment.add_template(NAME, include_str!("vdiff.html")).map_err(failed)?;
    let mut room = ROWS_OF_ALL;
    let differences: Vec<Differences> = (report.tables.iter().filter(|t| t.differing() > 0))
        .map(|table| {
            let listed = differences(table, room.min(ROWS_OF_A_TABLE));
            room -= listed.rows.len();
            listed
        })
        .collect();
    let sum = |of: fn(&TableReport) -> u64| report.tables.iter().map(of).sum::<u64>();
    let page = context! {
        report => Value::from(Serde(report)),
        words => report.verdict.as_str().replace('_', " "),
        meaning => meaning(report),
        differences => Value::from(Serde(&differences)),
        repair => report.repair.as_ref().map(RepairReport::lines),
        processed => sum(|t| t.processed_rows),
        matching => sum(|t| t.matching_rows),
        differing => sum(TableReport::differing),
    };
    environment.get_template(NAME).and_then(|template| template.render(page)).map_err(failed)
}

fn meaning(report: &Report) -> &'static str {
    match report.verdict {
        Verdict::Equal if report.tables.iter().any(|t| t.differing() > 0) => {
            "The rows that differed were repaired and read again: every row has its equal now."
        }
        Verdict::Equal => "Every row of both sides was read and has its equal on the other side.",
        Verdict::Different => "Rows differ, or a table or column is missing.",
        Verdict::NotProven => {
            "No difference is proven, but equality is not proven either. The reasons are below."
        }
    }
}

fn differences(table: &TableReport, most: usize) -> Differences {
    let rows: Vec<Row> = table.rows.iter().take(most).map(row).collect();
    let listed = rows.iter().map(|row| row.copies).sum();
    Differences { table: line(&table.table), listed, all: table.differing(), rows }
}

fn row(row: &DifferingRow) -> Row {
    let key: Vec<String> = row
        .key
        .iter()
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{} = {}", line(name), window(&text, 0, MOST_CHARACTERS))
        })
        .collect();
    let (sides, what) = match row.kind {
        Kind::Mismatched => ([true, true], "differs"),
        Kind::ExtraSource => ([true, false], "on the source only"),
        Kind::ExtraTarget => ([false, true], "on the target only"),
    };
    let named: Vec<&String> = match row.kind {
        Kind::Mismatched => row.columns.iter().collect(),
        _ => row.values.keys().collect(),
    };
    let cells: Vec<Cell> = (named.iter().take(MOST_COLUMNS))
        .filter_map(|name| Some(cell(name, row.values.get(*name)?, sides)))
        .collect();
    let left_out = named.len() - cells.len();
    Row { key: key.join("\n"), what, copies: row.copies, confirmed: row.confirmed, cells, left_out }
}

fn cell(name: &str, values: &Values, sides: [bool; 2]) -> Cell {
    let column = line(name);
    if let (Some(source), Some(target)) = (&values.source, &values.target) {
        let [source, target] = marked(source, target, CONTEXT, MOST_CHARACTERS).map(Shown::Value);
        return Cell { column, source, target };
    }
    let both = sides == [true, true];
    let one = |value: &Option<String>, there: bool| match value {
        _ if !there => Shown::NoRow,
        None => Shown::Null,
        Some(text) => {
            let text = window(text, 0, MOST_CHARACTERS);
            // Against NULL all of it differs; where there is no row on the other side nothing is to be compared.
            Shown::Value(match both {
                true => Marked { differing: text, ..Marked::default() },
                false => Marked { before: text, ..Marked::default() },
            })
        }
    };
    Cell { column, source: one(&values.source, sides[0]), target: one(&values.target, sides[1]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{hostile, report};

    #[test]
    fn nothing_in_a_row_or_a_name_becomes_markup() {
        let mut found = report(3);
        found.tables[0].table = hostile();
        found.tables[0].not_verified = vec![hostile()];
        found.tables[0].key = vec![hostile()];
        found.notes = vec![hostile()];
        let page = render(&found).unwrap();
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
        for outside in ["src=", "href=", "url(", "@import", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_long_list_is_cut_and_the_page_says_so() {
        let mut found = report(10_000);
        found.tables = vec![found.tables[0].clone(); 6];
        let page = render(&found).unwrap();
        assert_eq!(page.matches("class=\"row\"").count(), ROWS_OF_ALL);
        assert!(page.contains("500 of 10,000") && page.contains("0 of 10,000"), "{}", &page[..3000]);
        assert!(page.len() < 4_000_000, "{}", page.len());
    }

    #[test]
    fn equal_rows_that_are_shown_as_one_are_all_shown() {
        let mut found = report(3);
        (found.tables[0].rows[0].copies, found.tables[0].mismatched_rows) = (2, 4);
        let page = render(&found).unwrap();
        assert!(page.contains("4 of 4 differing rows are shown.") && page.contains("×2"), "{page}");
        assert!(!page.contains("--max-rows-reported"), "{page}");
    }

    #[test]
    fn what_differs_is_highlighted() {
        let page = render(&report(1)).unwrap();
        assert!(page.contains("old value &lt;<mark>b&gt;</mark>"), "{page}");
    }
}
