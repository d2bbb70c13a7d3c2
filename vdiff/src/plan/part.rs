//! What a request says about the columns of one table. Pure. What it names and no table has is found here, so that a
//! typing error is never taken for "nothing to leave out".

use std::collections::BTreeSet;

use converge_mysql::names;

use crate::request::Options;

/// The request, as seen from one table.
pub struct Part<'a> {
    table: &'a str,
    options: &'a Options,
    /// Whether only some columns are asked for.
    restricted: bool,
    matched: BTreeSet<String>,
}

/// Whether an entry, `column` or `table.column`, means a column. Each name may stand in backquotes.
fn means(entry: &str, table: &str, column: &str) -> bool {
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let of_table = entry.strip_prefix(table).and_then(|rest| rest.strip_prefix('.'));
    let named = named(entry).is_some_and(|(of, name)| of.is_none_or(|of| of == table) && same(&name, column));
    named || same(entry, column) || of_table.is_some_and(|rest| same(rest, column))
}

/// The table, if there is one, and the column that an entry names if its dots are those outside of backquotes.
fn named(entry: &str) -> Option<(Option<String>, String)> {
    match names::split(entry, '.')[..] {
        [column] => Some((None, names::plain(column)?)),
        [table, column] => Some((Some(names::plain(table)?), names::plain(column)?)),
        _ => None,
    }
}

impl<'a> Part<'a> {
    /// For the table of this name on the source, which has these columns.
    pub fn new(table: &'a str, columns: &[String], options: &'a Options) -> Self {
        let is_about = |entry: &String| {
            let of_table = entry.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
            let named = named(entry).is_some_and(|(of, _)| of.is_none_or(|of| of == table));
            named || of_table || columns.iter().any(|column| means(entry, table, column))
        };
        let restricted = options.columns.iter().any(is_about);
        let mut matched = BTreeSet::new();
        matched.extend(
            options.filters.iter().filter(|f| f.table.as_deref() == Some(table)).map(|f| f.to_string()),
        );
        Self { table, options, restricted, matched }
    }

    fn is_in(&mut self, list: &[String], column: &str) -> bool {
        let mut found = false;
        for entry in list.iter().filter(|entry| means(entry, self.table, column)) {
            found = true;
            self.matched.insert(entry.clone());
        }
        found
    }

    /// Whether a column is left out.
    pub fn ignores(&mut self, column: &str) -> bool {
        self.is_in(&self.options.ignore_columns, column)
    }

    /// Whether a column is asked for.
    pub fn selects(&mut self, column: &str) -> bool {
        self.is_in(&self.options.columns, column) || !self.restricted
    }

    /// The name that a column of the source has on the target, which has `exists`.
    pub fn on_target(&mut self, column: &str, exists: impl Fn(&str) -> bool) -> String {
        for (entry, source, target) in renames(self.options) {
            if means(source, self.table, column) {
                if exists(&target) {
                    self.matched.insert(entry.to_owned());
                }
                return target;
            }
        }
        column.to_owned()
    }

    /// The conditions that rows of the table must fulfil.
    pub fn filters(&self) -> Vec<String> {
        let applies = |table: &Option<String>| table.as_deref().is_none_or(|table| table == self.table);
        self.options.filters.iter().filter(|f| applies(&f.table)).map(|f| f.sql.clone()).collect()
    }

    /// The entries of the request that mean something in this table.
    pub fn matched(self) -> BTreeSet<String> {
        self.matched
    }
}

/// Entries of the form `[table.]source=target`, with both of their parts.
fn renames(options: &Options) -> impl Iterator<Item = (&str, &str, String)> {
    options.rename_columns.iter().filter_map(|entry| match names::split(entry, '=')[..] {
        [source, target] => Some((entry.as_str(), source, names::plain(target)?)),
        _ => None,
    })
}

/// What the request names that no table has, by option.
pub fn unmatched(options: &Options, matched: &BTreeSet<String>) -> Option<(String, String)> {
    let lists = [
        ("--columns", &options.columns, "no table has such a column"),
        ("--ignore-columns", &options.ignore_columns, "no table has such a column"),
        (
            "--rename-columns",
            &options.rename_columns,
            "no pair of tables has such columns; write [TABLE.]SRC=DST, SRC on the source and DST on the target",
        ),
    ];
    for (option, list, why) in lists {
        if let Some(entry) = list.iter().find(|entry| !matched.contains(*entry)) {
            return Some((format!("{option} {entry}"), why.into()));
        }
    }
    let lost = options.filters.iter().find(|f| f.table.is_some() && !matched.contains(&f.to_string()))?;
    Some((format!("--where '{lost}'"), "no such table is compared; use its name on the source".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(columns: &[&str], ignore: &[&str], rename: &[&str]) -> Options {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Options {
            columns: own(columns),
            ignore_columns: own(ignore),
            rename_columns: own(rename),
            ..Options::default()
        }
    }

    #[test]
    fn entries_may_be_for_one_table() {
        let options = options(&["a", "t.b"], &["u.c"], &["t.x=y"]);
        let columns = ["a", "b", "c"].map(str::to_owned);
        let mut t = Part::new("t", &columns, &options);
        assert!(t.selects("A") && t.selects("b") && !t.selects("c"));
        assert!(!t.ignores("c"));
        assert_eq!((t.on_target("x", |_| true), t.on_target("z", |_| true)), ("y".into(), "z".into()));
        let mut u = Part::new("u", &columns, &options);
        assert!(u.ignores("C") && !u.selects("b"));
        assert_eq!(u.on_target("x", |_| true), "x");
    }

    #[test]
    fn a_table_that_no_entry_is_about_is_compared_whole() {
        let options = options(&["t.a"], &[], &[]);
        assert!(Part::new("u", &["a".into()], &options).selects("a"));
        assert!(!Part::new("t", &["b".into()], &options).selects("b"));
    }

    #[test]
    fn names_with_signs_in_them_stand_in_backquotes() {
        let options = options(&["`t,1`.`a.b`", "`c=d`"], &[], &["`t,1`.`c=d`=`e,f`"]);
        let mut part = Part::new("t,1", &["a.b".into(), "c=d".into(), "g".into()], &options);
        assert!(part.selects("a.b") && part.selects("C=D") && !part.selects("g"));
        assert_eq!(part.on_target("c=d", |name| name == "e,f"), "e,f");
        assert_eq!(unmatched(&options, &part.matched()), None);
        assert!(!Part::new("t", &["a.b".into()], &options).selects("a.b"));
    }

    #[test]
    fn what_no_table_has_is_named() {
        let options =
            Options { filters: vec!["t:a > 1".parse().unwrap()], ..options(&["a"], &["b"], &["c=d"]) };
        let mut part = Part::new("t", &["a".into()], &options);
        let check = |part: &Part<'_>| unmatched(&options, &part.matched).map(|(option, _)| option);
        assert_eq!(check(&part).as_deref(), Some("--columns a"));
        part.selects("a");
        assert_eq!(check(&part).as_deref(), Some("--ignore-columns b"));
        part.ignores("b");
        part.on_target("c", |_| false);
        assert_eq!(check(&part).as_deref(), Some("--rename-columns c=d"));
        part.on_target("c", |_| true);
        assert_eq!(check(&part), None);
        let other = Part::new("u", &[], &options);
        let both =
            Options { columns: vec![], ignore_columns: vec![], rename_columns: vec![], ..options.clone() };
        assert_eq!(unmatched(&both, &other.matched()).unwrap().0, "--where 't:a > 1'");
    }
}
