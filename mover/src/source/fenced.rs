//! Whose rows those under a fenced name are, as far as the log tells: the moved table's from the renaming that fences it
//! to the one that takes the fence away, somebody else's before and behind.
//!
//! A fence does not keep the server itself out: where the parent of a foreign key is not moved, what cascades from it is
//! logged under the fenced name. Should the switch be undone, that is part of the table.

use super::fence::fenced_name;
use super::statement::{FENCE_MARKER, words};
use crate::schema::Table;

/// How the fence before a table stands at a place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Up,
    Down,
    /// The log was not read from the renaming on.
    Unknown,
}

/// Whose a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The moved table of this index, under the name that it has behind the fence.
    Moved(usize),
    /// That cannot be told.
    Unknown,
    /// Somebody else's.
    Other,
}

/// Follows the fence through the log.
pub struct Fences {
    schema: String,
    /// Name, fenced name and stand of each moved table.
    tables: Vec<(String, String, Stand)>,
}

impl Fences {
    /// The fence where reading begins; `unknown`: it may be up there.
    pub fn new(schema: &str, tables: &[Table], unknown: bool) -> Self {
        let stand = if unknown { Stand::Unknown } else { Stand::Down };
        let tables = tables.iter().map(|t| (t.name.clone(), fenced_name(&t.name), stand)).collect();
        Self { schema: schema.to_owned(), tables }
    }

    /// Follows a statement of the log, if it is one of the mover's renamings.
    pub fn follow(&mut self, statement: &str, default: &str) {
        if !statement.contains(FENCE_MARKER) {
            return;
        }
        let words = words(statement);
        for at in (1..words.len()).filter(|&at| words[at].is("TO")) {
            let schema = match words[at - 1].qualified {
                true if at > 1 => &words[at - 2].text,
                _ => default,
            };
            let last = at + 1 + usize::from(words.get(at + 2).is_some_and(|word| word.qualified));
            if let Some(to) = words.get(last).filter(|_| schema == self.schema) {
                self.rename(&words[at - 1].text, &to.text);
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        for (name, fenced, stand) in &mut self.tables {
            if (name.as_str(), fenced.as_str()) == (from, to) {
                *stand = Stand::Up;
            } else if (fenced.as_str(), name.as_str()) == (from, to) {
                *stand = Stand::Down;
            }
        }
    }

    /// Whose the table of this name is, which is no moved table's own.
    pub fn whose(&self, schema: &str, table: &str) -> Whose {
        let found = self.tables.iter().position(|(_, fenced, _)| fenced == table);
        match found.filter(|_| schema == self.schema) {
            Some(index) => match self.tables[index].2 {
                Stand::Up => Whose::Moved(index),
                Stand::Unknown => Whose::Unknown,
                Stand::Down => Whose::Other,
            },
            None => Whose::Other,
        }
    }

    /// The names that moved tables may have here besides their own.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().filter(|(.., stand)| *stand != Stand::Down).map(|(_, fenced, _)| fenced.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::renaming;

    fn fences(unknown: bool) -> Fences {
        let table = |name: &str| Table { name: name.into(), ..Table::for_tests(vec![], vec![]) };
        Fences::new("s", &[table("a"), table("b`c")], unknown)
    }

    fn statement(tables: &[&str], up: bool) -> String {
        format!("RENAME TABLE {FENCE_MARKER} {}", renaming("s", tables.iter().copied(), up))
    }

    #[test]
    fn a_fenced_name_is_the_tables_between_the_renamings() {
        let mut fences = fences(false);
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Other);
        fences.follow(&statement(&["a", "b`c"], true), "other");
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Moved(0));
        assert_eq!(fences.whose("s", "_b`c_fenced"), Whose::Moved(1));
        assert_eq!(fences.whose("other", "_a_fenced"), Whose::Other);
        fences.follow(&statement(&["a"], false), "other");
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Other);
        assert_eq!(fences.names().collect::<Vec<_>>(), ["_b`c_fenced"]);
    }

    #[test]
    fn other_statements_and_databases_change_nothing() {
        let mut fences = fences(true);
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Unknown);
        for text in
            ["RENAME TABLE s.a TO s._a_fenced", "RENAME TABLE /* converge fence */ t.a TO t._a_fenced"]
        {
            fences.follow(text, "s");
            assert_eq!(fences.whose("s", "_a_fenced"), Whose::Unknown, "{text}");
        }
        fences.follow("RENAME TABLE /* converge fence */ a TO _a_fenced", "s");
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Moved(0));
    }
}
