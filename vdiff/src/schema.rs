//! What a table looks like, read from `information_schema` by VDiff itself.

pub mod compare;
mod details;
mod finding;
mod read;
mod spelling;

use std::collections::{BTreeMap, BTreeSet};

pub use finding::{SchemaFinding, Severity};
pub(crate) use read::named_exactly;
pub use read::{prove_absent, read};

/// A column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    /// Name as declared.
    pub name: String,
    /// Type without arguments, lower case: `int`, `varchar`, `enum`.
    pub data_type: String,
    /// Type with arguments and attributes: `int(10) unsigned zerofill`.
    pub column_type: String,
    /// Character set of strings.
    pub charset: Option<String>,
    /// Collation of strings.
    pub collation: Option<String>,
    /// Whether NULL may be stored.
    pub nullable: bool,
    /// The default, as the server words it.
    pub default: Option<String>,
    /// `auto_increment`, `STORED GENERATED`, `INVISIBLE`, ….
    pub extra: String,
    /// Expression of a generated column.
    pub generated: Option<String>,
    /// Total digits of exact numbers.
    pub precision: u32,
    /// Digits after the point of exact numbers.
    pub scale: u32,
    /// Digits of a fraction of a second.
    pub fraction: u32,
    /// The most bytes that a string can have.
    pub octets: u64,
    /// What people wrote about it.
    pub comment: String,
}

impl Column {
    /// The member list of an ENUM or SET, one text per member.
    pub fn members(&self) -> Vec<String> {
        let Some((_, list)) = self.column_type.split_once('(') else { return Vec::new() };
        let mut members = Vec::new();
        let mut letters = list.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter != '\'' {
                continue;
            }
            let mut member = String::new();
            while let Some(letter) = letters.next() {
                if letter == '\'' && letters.next_if_eq(&'\'').is_none() {
                    break;
                }
                member.push(letter);
            }
            members.push(member);
        }
        members
    }
}

/// An index that holds each row exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueIndex {
    /// Name; `PRIMARY` for the primary key.
    pub name: String,
    /// Column names in order.
    pub columns: Vec<String>,
    /// Whether ranges of it can be read in order (a B-tree over whole columns, visible to the optimizer).
    pub ordered: bool,
}

/// Any index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Name; `PRIMARY` for the primary key.
    pub name: String,
    /// Columns or expressions in order, with the length of a prefix and `DESC`.
    pub parts: Vec<String>,
    /// Whether it refuses duplicates.
    pub unique: bool,
    /// `BTREE`, `FULLTEXT`, ….
    pub kind: String,
    /// Whether the optimizer is kept from using it.
    pub hidden: bool,
}

/// What a foreign key asks for and does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its columns, in lower case.
    pub columns: Vec<String>,
    /// The table it refers to; with its database only where that is another.
    pub parent: String,
    /// The columns it refers to, in lower case.
    pub parent_columns: Vec<String>,
    /// `on update … on delete …`.
    pub rules: String,
}

impl std::fmt::Display for ForeignKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [columns, others] = [&self.columns, &self.parent_columns].map(|c| c.join(", "));
        write!(f, "({columns}) references {} ({others}) {}", self.parent, self.rules)
    }
}

/// What is compared of a schema although rows do not depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The next number of an AUTO_INCREMENT column.
    pub auto_increment: Option<u64>,
    /// `Dynamic`, `Compact`, ….
    pub row_format: String,
    /// The collation that new columns take.
    pub collation: String,
    /// What people wrote about it.
    pub comment: String,
    /// Whether it has partitions.
    pub partitioned: bool,
    /// All indexes.
    pub indexes: Vec<Index>,
    /// Foreign keys by name.
    pub foreign_keys: BTreeMap<String, ForeignKey>,
    /// Clauses of CHECK constraints.
    pub checks: Vec<String>,
    /// Triggers by name, with moment and statement.
    pub triggers: BTreeMap<String, String>,
    /// The query, if this is a view.
    pub view: Option<String>,
    /// Views of the same database that read this table, by name, with their queries.
    pub views: BTreeMap<String, String>,
    /// Accounts and what they may do with this table, as far as granted on it or its columns.
    pub grants: BTreeSet<(String, String)>,
    /// What of this the account may not see.
    pub hidden: Vec<&'static str>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Database.
    pub schema: String,
    /// Name as the server has it.
    pub name: String,
    /// Whether it is a view.
    pub is_view: bool,
    /// Whether it keeps its history (`WITH SYSTEM VERSIONING`).
    pub is_versioned: bool,
    /// Storage engine.
    pub engine: String,
    /// Rows that the statistics expect.
    pub rows_estimated: u64,
    /// Columns in order, generated and invisible ones included.
    pub columns: Vec<Column>,
    /// Unique indexes over NOT NULL columns, the primary key first.
    pub keys: Vec<UniqueIndex>,
    /// All else.
    pub details: Details,
}

impl Table {
    /// A column by name, in any letter case.
    pub fn column(&self, name: &str) -> Option<&Column> {
        let wanted = name.to_lowercase();
        self.columns.iter().find(|c| c.name.to_lowercase() == wanted)
    }

    /// The quoted, qualified name.
    pub fn sql(&self) -> String {
        converge_mysql::quote::qualified(&self.schema, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_split_at_quotes_only() {
        let column = Column { column_type: "enum('a,b','it''s','','x(y)')".into(), ..Column::default() };
        assert_eq!(column.members(), ["a,b", "it's", "", "x(y)"]);
    }
}
