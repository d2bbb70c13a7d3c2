//! What a comparison found, in the shape of its JSON form.

mod html;
mod junit;
mod redact;
pub mod show;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::repair::RepairReport;
use crate::request::Side;
pub use crate::schema::{SchemaFinding, Severity};

/// How digests are made, for readers of a report.
pub const DIGEST: &str = "SHA-256 of each row's image (every compared column, key included, with its length, long \
    strings by their SHA-256, NULL distinct), folded per chunk into the row count and exact sums of its first two 64-bit parts. Strings by bytes, \
    FLOAT and DOUBLE by their bits, TIMESTAMP in UTC, JSON by its type and text (by types and values where only one side has a \
    JSON type). Tables compared by the stream engine: xxh3-128, made by the client, of each \
    row's columns with their lengths, folded into the row count and exact sums of its two 64-bit parts.";

/// What can be said about tables. Ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every row was compared and has its equal.
    Equal,
    /// Neither was shown; the reasons are in the report.
    NotProven,
    /// Rows differ, or a column is missing on the target.
    Different,
}

impl Verdict {
    /// As in the JSON form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::NotProven => "not_proven",
            Self::Different => "different",
        }
    }
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// On both sides with different contents.
    Mismatched,
    /// On the source only.
    ExtraSource,
    /// On the target only.
    ExtraTarget,
}

/// A column's value on both sides, shortened for reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// On the source; `None` for NULL or no row.
    pub source: Option<String>,
    /// On the target; `None` for NULL or no row.
    pub target: Option<String>,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DifferingRow {
    /// The key by column name; the whole row where the table has no key. Whole numbers up to 2^53 are JSON numbers,
    /// larger ones and all else strings, binary strings `0x…`.
    pub key: Map<String, Value>,
    /// How it differs.
    pub kind: Kind,
    /// The columns that differ, for a mismatched row.
    pub columns: Vec<String>,
    /// Values of the columns that differ; of all columns for an extra row.
    pub values: BTreeMap<String, Values>,
    /// How many such rows there are (more than one only without a unique key).
    pub copies: u64,
    /// Whether the difference is proven: the row was held still until the target had applied all that was done to it, or
    /// both servers stood still while it was there.
    pub confirmed: bool,
    /// The source's position at which it was proven; none where the servers stood still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
}

/// What was found in one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableReport {
    /// Name on the source.
    pub table: String,
    /// Name on the target.
    pub target_table: String,
    /// What can be said about it.
    pub verdict: Verdict,
    /// Rows looked at: matching, mismatched and extra ones together, and those unconfirmed.
    pub processed_rows: u64,
    /// Rows that are the same on both sides.
    pub matching_rows: u64,
    /// Rows on both sides with different contents.
    pub mismatched_rows: u64,
    /// Rows on the source only.
    pub extra_rows_source: u64,
    /// Rows on the target only.
    pub extra_rows_target: u64,
    /// Rows that differed each time they were read, while the servers were being written to.
    pub unconfirmed_rows: u64,
    /// The differing rows, at most as many as asked for.
    pub rows: Vec<DifferingRow>,
    /// What was not compared.
    pub not_verified: Vec<String>,
    /// Why the verdict is not `equal` although no difference was proven.
    pub reasons: Vec<String>,
    /// The key from which on nothing was compared because time was up, without parts from the beginning on; it is among
    /// the reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared_from: Option<Vec<String>>,
    /// Differences between the schemas, the gravest first. An error keeps the verdict from being `equal`; a warning does
    /// not, but the target will behave differently; a note is harmless.
    #[serde(default)]
    pub schema: Vec<SchemaFinding>,
    /// The same in words, and how rows were matched.
    pub schema_notes: Vec<String>,
    /// Rows read on the source.
    pub source_rows: u64,
    /// Rows read on the target.
    pub target_rows: u64,
    /// Who digested the rows: `pushdown` (the servers) or `stream` (the client). Not there for a table that one side lacks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine: String,
    /// Why that one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine_reason: String,
    /// Key columns, empty for a table without a key.
    pub key: Vec<String>,
    /// Parts that the table was cut into.
    pub chunks: u64,
    /// Seconds it took.
    pub elapsed_seconds: f64,
}

impl TableReport {
    /// Rows that have no equal, confirmed or not.
    pub fn differing(&self) -> u64 {
        self.mismatched_rows + self.extra_rows_source + self.extra_rows_target + self.unconfirmed_rows
    }
}

/// A server as the comparison found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Address, password hidden.
    pub address: String,
    /// Product and version.
    pub version: String,
    /// Binary log position before the first chunk, if it could be read.
    pub position_before: Option<String>,
    /// Binary log position after the last statement, if it could be read.
    pub position_after: Option<String>,
    /// Whether nothing was written to the server meanwhile.
    pub stood_still: bool,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The worst of the tables' verdicts.
    pub verdict: Verdict,
    /// One report per table, in the order asked for.
    pub tables: Vec<TableReport>,
    /// Where the rows come from.
    pub source: ServerReport,
    /// Where they should be.
    pub target: ServerReport,
    /// How digests are made.
    pub digest: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// Seconds it took.
    pub elapsed_seconds: f64,
    /// What a reader should know besides.
    pub notes: Vec<String>,
    /// What was not compared, beside that of the tables that were.
    #[serde(default)]
    pub not_verified: Vec<String>,
    /// The command that runs the comparison again; passwords are left out.
    pub command: String,
    /// What was done about differing rows, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairReport>,
    /// The state of a comparison that is complete, on disk: whoever has kept this report may remove it, see
    /// [`Report::forget_state`].
    #[serde(skip)]
    pub finished_state: Option<PathBuf>,
}

impl Report {
    /// Removes the state that the comparison kept, if it is complete. Until then the same request has the same answer at once
    /// for what was found equal.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget_state(&mut self) -> Result<(), crate::Error> {
        let Some(path) = self.finished_state.take() else { return Ok(()) };
        std::fs::remove_file(&path)
            .map_err(|e| crate::Error::State { path: path.display().to_string(), why: e.to_string() })
    }

    /// The server of a side.
    pub fn server(&self, side: Side) -> &ServerReport {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// One JSON object.
    pub fn to_json(&self) -> String {
        // A report holds only strings, numbers and maps with string keys: nothing that JSON refuses.
        serde_json::to_string_pretty(self).unwrap_or_else(|e| format!("{{\"error\":{:?}}}", e.to_string()))
    }

    /// Text for a terminal.
    pub fn to_text(&self) -> String {
        text::render(self)
    }

    /// One self-contained HTML page.
    pub fn to_html(&self) -> Result<String, crate::Error> {
        html::render(self)
    }

    /// JUnit XML: one test case per table; different is a failure, not proven an error.
    pub fn to_junit(&self) -> Result<String, crate::Error> {
        junit::render(self)
    }

    /// Hides every value and key of the differing rows, for good.
    pub fn redact(&mut self) {
        redact::redact(self);
    }
}

/// JUnit XML of a comparison that could not be done: one error per table.
pub fn junit_of_failure(tables: &[String], why: &str) -> Result<String, crate::Error> {
    junit::undone(tables, why)
}

/// That nothing was compared from a key on.
pub(crate) fn not_compared(from: &[String]) -> String {
    let rows = if from.is_empty() { "all rows".into() } else { format!("rows from {} on", from.join(", ")) };
    format!("{rows} were not compared: the time given was up")
}

/// A time as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(time: std::time::SystemTime) -> String {
    let seconds = time.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Days since 0000-03-01, so that a leap day is the last of its year; eras of 400 years have 146,097 days.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    pub fn hostile() -> String {
        "<script>alert('x')</script>\u{1b}[2J\u{202e}".into()
    }

    fn server() -> ServerReport {
        ServerReport {
            address: "mysql://root@127.0.0.1:3306/shop".into(),
            version: "MySQL 9.7.4".into(),
            position_before: Some("gtid:1-9".into()),
            position_after: None,
            stood_still: true,
        }
    }

    fn row(id: usize) -> DifferingRow {
        let kind = [Kind::Mismatched, Kind::Mismatched, Kind::ExtraSource][id % 3];
        let target = (kind == Kind::Mismatched).then(|| format!("old value {}", hostile()));
        let values = Values { source: Some("old value <b>".into()), target };
        DifferingRow {
            key: Map::from_iter([("id".to_owned(), Value::from(format!("{id}{}", hostile())))]),
            kind,
            columns: if kind == Kind::Mismatched { vec!["email".into()] } else { vec![] },
            values: [("email".to_owned(), values)].into(),
            copies: 1,
            confirmed: true,
            position: None,
        }
    }

    /// A report on one table with so many differing rows, full of what must not become markup.
    pub fn report(rows: usize) -> Report {
        let table = TableReport {
            table: "customer".into(),
            target_table: "customer".into(),
            verdict: Verdict::Different,
            processed_rows: rows as u64,
            matching_rows: 0,
            mismatched_rows: rows as u64,
            extra_rows_source: 0,
            extra_rows_target: 0,
            unconfirmed_rows: 0,
            rows: (0..rows).map(row).collect(),
            not_verified: vec!["column secret: left out on request".into()],
            reasons: vec![],
            not_compared_from: None,
            schema: vec![],
            schema_notes: vec!["columns stand in another order".into()],
            source_rows: rows as u64,
            target_rows: rows as u64,
            engine: "pushdown".into(),
            engine_reason: "asked for".into(),
            key: vec!["id".into()],
            chunks: 1,
            elapsed_seconds: 0.5,
        };
        Report {
            verdict: Verdict::Different,
            tables: vec![table],
            source: server(),
            target: server(),
            digest: DIGEST.into(),
            started: "2026-11-21T04:34:56Z".into(),
            elapsed_seconds: 0.5,
            notes: vec![],
            not_verified: Vec::new(),
            command: "converge vdiff --source 'mysql://root@127.0.0.1:3306/shop'".into(),
            repair: None,
            finished_state: None,
        }
    }

    #[test]
    fn times_are_rendered() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_235_696, "2026-11-21T04:34:56Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn the_worst_verdict_is_the_largest() {
        assert!(Verdict::Equal < Verdict::NotProven && Verdict::NotProven < Verdict::Different);
        assert_eq!(serde_json::to_string(&Verdict::NotProven).unwrap(), "\"not_proven\"");
    }
}
