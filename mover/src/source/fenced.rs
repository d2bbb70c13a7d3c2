//! Whose rows those under a moved table's name and under its fenced name are, as far as the log tells: from the renaming
//! that fences it to the one that takes the fence away, the moved table has the fenced name, and what is made under its
//! own is somebody else's; before and behind it is the other way round.
//!
//! A fence does not keep the server itself out: where the parent of a foreign key is not moved, what cascades from it is
//! logged under the fenced name. Should the switch be undone, that is part of the table. And it does not keep a writer
//! from making a table anew that it no longer finds: that one is never moved.
//!
//! Where reading may begin behind a fence, the log is looked through first: the next renaming of a table tells how it
//! stands before, and without one it stands as it does now.

use super::fence::{self, fenced_name};
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
    /// No fence where reading begins.
    pub fn down(tables: &[Table]) -> Self {
        Self::new(tables, Stand::Down)
    }

    /// Perhaps a fence where reading begins.
    pub fn unknown(tables: &[Table]) -> Self {
        Self::new(tables, Stand::Unknown)
    }

    fn new(tables: &[Table], stand: Stand) -> Self {
        let schema = tables.first().map(|t| t.schema.clone()).unwrap_or_default();
        let tables = tables.iter().map(|t| (t.name.clone(), fenced_name(&t.name), stand)).collect();
        Self { schema, tables }
    }

    /// Whether there is a table of which it is not known how it stands.
    pub fn are_unknown(&self) -> bool {
        self.tables.iter().any(|(.., stand)| *stand == Stand::Unknown)
    }

    /// Follows a statement of the log, if it is one of the mover's renamings.
    pub fn follow(&mut self, statement: &str, default: &str) {
        self.renamings(statement, default, |stand, up| *stand = if up { Stand::Up } else { Stand::Down });
    }

    /// Learns from a later statement of the log how what is unknown stood before it.
    pub fn learn(&mut self, statement: &str, default: &str) {
        self.renamings(statement, default, |stand, up| {
            if *stand == Stand::Unknown {
                *stand = if up { Stand::Down } else { Stand::Up };
            }
        });
    }

    /// Takes what is still unknown for as it stands now. Where there are tables of both names, that does not tell.
    pub fn settle(&mut self, now: &[fence::Stand]) {
        let unknown = |(.., stand): &&mut (String, String, Stand)| *stand == Stand::Unknown;
        for (table, now) in self.tables.iter_mut().zip(now).filter(|(table, _)| unknown(table)) {
            table.2 = match now {
                fence::Stand::Open => Stand::Down,
                fence::Stand::Fenced => Stand::Up,
                fence::Stand::Both => Stand::Unknown,
            };
        }
    }

    /// Hands out the stand of each table that a statement of the mover's renames, and whether it raises the fence.
    fn renamings(&mut self, statement: &str, default: &str, mut set: impl FnMut(&mut Stand, bool)) {
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
            let Some(to) = words.get(last).filter(|_| schema == self.schema) else { continue };
            let (from, to) = (words[at - 1].text.as_str(), to.text.as_str());
            for (name, fenced, stand) in &mut self.tables {
                match (name.as_str(), fenced.as_str()) {
                    names if names == (from, to) => set(stand, true),
                    names if names == (to, from) => set(stand, false),
                    _ => {}
                }
            }
        }
    }

    /// Whose the table of this name is.
    pub fn whose(&self, schema: &str, table: &str) -> Whose {
        if schema != self.schema {
            return Whose::Other;
        }
        let claims = self.tables.iter().enumerate().filter_map(|(index, (name, fenced, stand))| {
            let by_name = match (name == table, fenced == table) {
                (true, _) => Stand::Down,
                (_, true) => Stand::Up,
                _ => return None,
            };
            match stand {
                Stand::Unknown => Some(Whose::Unknown),
                stand => (*stand == by_name).then_some(Whose::Moved(index)),
            }
        });
        claims.min_by_key(|whose| *whose == Whose::Unknown).unwrap_or(Whose::Other)
    }

    /// The names that moved tables may have here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.tables.iter().filter(|(.., stand)| *stand != Stand::Up).map(|(name, ..)| name);
        let fenced = self.tables.iter().filter(|(.., stand)| *stand != Stand::Down).map(|(_, name, _)| name);
        own.chain(fenced).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::renaming;

    fn fences(unknown: bool) -> Fences {
        let table =
            |name: &str| Table { name: name.into(), schema: "s".into(), ..Table::for_tests(vec![], vec![]) };
        let tables = [table("a"), table("b`c")];
        if unknown { Fences::unknown(&tables) } else { Fences::down(&tables) }
    }

    fn statement(tables: &[&str], up: bool) -> String {
        format!("RENAME TABLE {FENCE_MARKER} {}", renaming("s", tables.iter().copied(), up))
    }

    #[test]
    fn a_fenced_name_is_the_tables_between_the_renamings() {
        let mut fences = fences(false);
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Other);
        assert_eq!(fences.whose("s", "a"), Whose::Moved(0));
        fences.follow(&statement(&["a", "b`c"], true), "other");
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Moved(0));
        assert_eq!(fences.whose("s", "a"), Whose::Other);
        assert_eq!(fences.whose("s", "_b`c_fenced"), Whose::Moved(1));
        assert_eq!(fences.whose("other", "_a_fenced"), Whose::Other);
        fences.follow(&statement(&["a"], false), "other");
        assert_eq!(fences.whose("s", "_a_fenced"), Whose::Other);
        assert_eq!(fences.whose("s", "a"), Whose::Moved(0));
        assert_eq!(fences.names().collect::<Vec<_>>(), ["a", "_b`c_fenced"]);
    }

    #[test]
    fn the_next_renaming_tells_how_a_table_stood_or_else_how_it_stands_now() {
        use fence::Stand::{Both, Fenced, Open};
        for (renamings, now, own, other) in [
            (&[][..], Open, Whose::Moved(0), Whose::Other),
            (&[][..], Fenced, Whose::Other, Whose::Moved(0)),
            (&[][..], Both, Whose::Unknown, Whose::Unknown),
            (&[true][..], Fenced, Whose::Moved(0), Whose::Other),
            (&[false][..], Open, Whose::Other, Whose::Moved(0)),
            (&[false, true][..], Fenced, Whose::Other, Whose::Moved(0)),
        ] {
            let mut fences = fences(true);
            assert_eq!(fences.whose("s", "a"), Whose::Unknown);
            renamings.iter().for_each(|up| fences.learn(&statement(&["a"], *up), "s"));
            fences.settle(&[now, Open]);
            assert_eq!(fences.whose("s", "a"), own, "{renamings:?} {now:?}");
            assert_eq!(fences.whose("s", "_a_fenced"), other, "{renamings:?} {now:?}");
            assert_eq!(fences.are_unknown(), now == Both && renamings.is_empty());
        }
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
