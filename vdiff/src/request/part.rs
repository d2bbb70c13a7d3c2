//! Which part of the tables is compared, as it is asked for: conditions on rows, and samples of them.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A condition that rows must fulfil to be compared: SQL that both servers evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The table on the source that it is for; for all tables without.
    pub table: Option<String>,
    /// An expression as after `WHERE`, without comments.
    pub sql: String,
}

impl FromStr for Filter {
    type Err = Error;

    /// `SQL`, or `table:SQL`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let is_name =
            |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_$-.".contains(c));
        // No expression begins with a name and a colon.
        let (table, sql) = match text.split_once(':').filter(|(name, _)| is_name(name)) {
            Some((name, sql)) => (Some(name.to_owned()), sql),
            None => (None, text),
        };
        let sql = sql.trim();
        closed(sql).map_err(|why| Error::BadPart { option: format!("--where '{text}'"), why: why.into() })?;
        Ok(Self { table, sql: sql.into() })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.table {
            Some(table) => write!(f, "{table}:{}", self.sql),
            None => f.write_str(&self.sql),
        }
    }
}

/// Whether an expression stays within the parentheses that are put around it. One that leaves them, or hides what
/// follows in a comment, would change which rows a statement reads: two sides might agree about nothing at all.
fn closed(sql: &str) -> Result<(), &'static str> {
    if sql.is_empty() {
        return Err("the condition is empty");
    }
    let (mut depth, mut quote) = (0usize, None);
    let mut letters = sql.chars().peekable();
    while let Some(letter) = letters.next() {
        if let Some(open) = quote {
            match letter {
                // A quote that is doubled closes and opens again. Names know no backslash.
                '\\' if open != '`' => drop(letters.next()),
                letter if letter == open => quote = None,
                _ => {}
            }
            continue;
        }
        let next = letters.peek().copied();
        match letter {
            '\'' | '"' | '`' => quote = Some(letter),
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or("it closes a parenthesis that it did not open")?,
            ';' => return Err("it has a semicolon"),
            '#' => return Err("it has a comment"),
            '/' if next == Some('*') => return Err("it has a comment"),
            '-' if next == Some('-') => return Err("it has a comment, or two minus signs"),
            _ => {}
        }
    }
    match (depth, quote) {
        (0, None) => Ok(()),
        (_, Some(_)) => Err("a quote is not closed"),
        _ => Err("a parenthesis is not closed"),
    }
}

/// A random part of all rows, chosen by their keys, so that both sides choose the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How many of a million rows; at least 1 and less than a million.
    pub per_million: u32,
    /// Another seed chooses other rows.
    pub seed: u64,
}

impl Sample {
    /// The share as it is written on the command line.
    pub fn share(&self) -> String {
        format!("{}%", f64::from(self.per_million) / 10_000.0)
    }

    /// Reads a share such as `1%` or `0.05%`, with a seed.
    pub fn parse(text: &str, seed: u64) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadPart { option: format!("--sample {text}"), why: why.into() };
        let number = text.strip_suffix('%').ok_or_else(|| bad("write it in percent, as in 1%"))?;
        let percent: f64 = number.trim().parse().map_err(|_| bad("this is no number"))?;
        let per_million = (percent * 10_000.0).round();
        if !(1.0..1_000_000.0).contains(&per_million) {
            return Err(bad("a sample is at least 0.0001% and less than 100%"));
        }
        Ok(Self { per_million: per_million as u32, seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_may_be_for_one_table() {
        let filter = |text: &str| text.parse::<Filter>().map(|f| (f.table, f.sql)).unwrap();
        assert_eq!(filter("id > 5"), (None, "id > 5".into()));
        assert_eq!(filter("order-line: id > 5"), (Some("order-line".into()), "id > 5".into()));
        assert_eq!(filter("at > '12:00'"), (None, "at > '12:00'".into()));
        assert_eq!("t:a".parse::<Filter>().unwrap().to_string(), "t:a");
    }

    #[test]
    fn a_condition_stays_in_its_parentheses() {
        for good in
            ["a IN (1, (2))", "a = ')' OR b = \"(\"", "a = 'it''s (' ", r"a = '\'(' AND `x)` = 1", "a - -1"]
        {
            assert_eq!(closed(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a) OR (b",
            "a = (1",
            "a = 'x",
            r"a = '\'",
            "`a\\` = 1) OR (`b`",
            "a # b",
            "a -- b",
            "a /* b",
            "a; DROP TABLE t",
        ] {
            assert!(closed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_in_percent() {
        let share = |text| Sample::parse(text, 7).map(|s| (s.per_million, s.share()));
        assert_eq!(share("1%").unwrap(), (10_000, "1%".into()));
        assert_eq!(share("0.0001%").unwrap(), (1, "0.0001%".into()));
        for bad in ["1", "x%", "0%", "100%", "-1%", "NaN%", "inf%", "0.00001%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
