//! A report without any value of a row. Values and keys become a short hash under a salt that is made for the one
//! report and kept nowhere: equal ones stay recognisable as equal within it, and nobody can try out what they were.
//!
//! A new field that can hold a value must be handled here: structs are taken apart without `..`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{DifferingRow, Report, TableReport, Values, not_compared};

/// Hexadecimal digits that stand for a value.
const DIGITS: usize = 12;

/// 128 bits out of the system's randomness.
struct Salt([u8; 16]);

impl Salt {
    fn fresh() -> Self {
        let mut salt = [0; 16];
        for part in salt.chunks_exact_mut(8) {
            part.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
        }
        Self(salt)
    }

    fn hide(&self, text: &str) -> String {
        let digest = Sha256::new().chain_update(self.0).chain_update(text).finalize();
        format!("#{}", &converge_mysql::quote::hex_digits(&digest)[..DIGITS])
    }

    fn value(&self, value: &mut Option<String>) {
        if let Some(text) = value {
            *text = self.hide(text);
        }
    }

    /// The key in the reason that names it.
    fn table(&self, table: &mut TableReport) {
        table.rows.iter_mut().for_each(|row| self.row(row));
        let Some(key) = &mut table.not_compared_from else { return };
        let told = not_compared(key);
        key.iter_mut().for_each(|part| *part = self.hide(part));
        let hidden = not_compared(key);
        table
            .reasons
            .iter_mut()
            .filter(|reason| **reason == told)
            .for_each(|reason| reason.clone_from(&hidden));
    }

    fn row(&self, row: &mut DifferingRow) {
        let DifferingRow { key, kind: _, columns: _, values, copies: _, confirmed: _, position: _ } = row;
        for value in key.values_mut().filter(|v| !v.is_null()) {
            // As a value is hidden, so that a column reads alike in the key and among the values.
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            *value = Value::from(self.hide(&text));
        }
        for Values { source, target } in values.values_mut() {
            self.value(source);
            self.value(target);
        }
    }
}

/// Hides every value and key. NULL stays NULL.
pub fn redact(report: &mut Report) {
    let salt = Salt::fresh();
    report.tables.iter_mut().for_each(|table| salt.table(table));
    report.notes.push(
        "values and keys of rows are hidden: # stands for a hash under a salt that is kept nowhere; equal values have \
         equal hashes within this report"
            .into(),
    );
}

#[cfg(test)]
mod tests {
    use crate::report::not_compared;
    use crate::report::tests::{hostile, report};

    #[test]
    fn no_value_is_left_anywhere() {
        let mut hidden = report(3);
        let key = vec!["'old value'".to_owned()];
        hidden.tables[0].reasons = vec!["left as it is".into(), not_compared(&key)];
        hidden.tables[0].not_compared_from = Some(key);
        hidden.redact();
        let reasons = &hidden.tables[0].reasons;
        assert!(reasons[0] == "left as it is" && reasons[1].starts_with("rows from #"), "{reasons:?}");
        let everywhere =
            [hidden.to_json(), hidden.to_text(), hidden.to_html().unwrap(), hidden.to_junit().unwrap()];
        for text in everywhere {
            assert!(!text.contains("alert") && !text.contains("old value"), "{text}");
            assert!(text.contains('#'));
        }
        let rows = &hidden.tables[0].rows;
        assert_ne!(rows[0].key, rows[1].key);
        assert_eq!(rows[0].values["email"].source, rows[1].values["email"].source);
        assert_ne!(rows[0].values["email"].source, rows[0].values["email"].target);
        assert_eq!(rows[2].values["email"].target, None);
    }

    #[test]
    fn no_two_reports_share_a_salt() {
        let (mut one, mut other) = (report(1), report(1));
        one.redact();
        other.redact();
        assert_ne!(one.tables[0].rows, other.tables[0].rows);
        assert!(report(1).to_json().contains(&hostile()[..8]));
    }
}
