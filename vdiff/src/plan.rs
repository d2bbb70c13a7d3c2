//! How a pair of tables is compared: which columns, in which form, by which key. Pure: from two schemas to a plan.

mod build;
mod numbers;
pub mod part;
pub mod range;
mod raw;
pub mod sql;

use std::collections::BTreeSet;

use converge_mysql::{Flavor, quote};

use crate::digest::{Framing, pop_piece};
use crate::form::{Form, Literal, ShownAs};
use crate::request::{Sample, Side};
use crate::schema::SchemaFinding;

pub use build::build;

/// A column that is compared.
#[derive(Debug, Clone)]
pub struct PlannedColumn {
    /// Its name on the source; reports use it.
    pub name: String,
    /// Its name on each side.
    pub names: [String; 2],
    /// Whether it can be NULL on each side, as far as the server says.
    pub nullable: [bool; 2],
    /// How it is compared.
    pub form: Form,
}

/// How rows find their counterparts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By the columns of a key (indexes into the plan's columns). The first `ordered` of them are never NULL and sorted
    /// alike by both sides, so that ranges over them are the same on both and hold all rows; with 0 the tables are
    /// compared in hash buckets.
    Key {
        /// Key columns in order.
        columns: Vec<usize>,
        /// How many of them may be used in ranges.
        ordered: usize,
    },
    /// There is no key: the table is a multiset of rows.
    Multiset,
}

/// The plan of one table pair.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Quoted table name on each side, in the connection's default database.
    pub tables: [String; 2],
    /// Their names as they are.
    pub names: [String; 2],
    /// Index to read in order on each side.
    pub indexes: [Option<String>; 2],
    /// Each side's family.
    pub flavors: [Flavor; 2],
    /// Compared columns, in the source's order.
    pub columns: Vec<PlannedColumn>,
    /// The names of all columns that both sides have, compared or not, on the source and on the target.
    pub twins: Vec<[String; 2]>,
    /// How rows find their counterparts.
    pub identity: Identity,
    /// Conditions that rows must fulfil to be compared.
    pub filters: Vec<String>,
    /// Only some rows, chosen by their keys.
    pub sample: Option<Sample>,
    /// The entries of the request that mean something in these tables.
    pub matched: BTreeSet<String>,
    /// Differences between the schemas.
    pub schema: Vec<SchemaFinding>,
    /// Differences between the schemas in words, and how rows are matched.
    pub schema_notes: Vec<String>,
    /// What is not compared.
    pub not_verified: Vec<String>,
    /// Whether the schemas differ in what rows can hold: a column is missing on the target.
    pub is_different: bool,
    /// Why equal rows would not prove equal tables.
    pub unproven: Vec<String>,
    /// Why rows of the source cannot be held still one by one, if so.
    pub unlockable: Option<String>,
}

/// A side as an index.
pub fn at(side: Side) -> usize {
    match side {
        Side::Source => 0,
        Side::Target => 1,
    }
}

impl Plan {
    /// The key's columns as indexes into [`Plan::columns`]; none for a multiset.
    pub fn key_positions(&self) -> &[usize] {
        match &self.identity {
            Identity::Key { columns, .. } => columns,
            Identity::Multiset => &[],
        }
    }

    /// The key's columns; none for a multiset.
    pub fn key(&self) -> Vec<&PlannedColumn> {
        self.key_positions().iter().map(|i| &self.columns[*i]).collect()
    }

    /// The source's name of a column of the target. Of two that have it, the one that was renamed is meant.
    pub fn twin(&self, target: &str) -> Option<&str> {
        let meant = self.twins.iter().filter(|[_, there]| there == target);
        meant.max_by_key(|[here, there]| here != there).map(|[here, _]| here.as_str())
    }

    /// Whether rows have no key.
    pub fn is_multiset(&self) -> bool {
        self.identity == Identity::Multiset
    }

    /// Whether only some of the rows are compared.
    pub fn is_filtered(&self) -> bool {
        !self.filters.is_empty() || self.sample.is_some()
    }

    /// The leading key columns that ranges may use, with their literal forms.
    pub fn ordered(&self) -> Vec<(&PlannedColumn, &Literal)> {
        let Identity::Key { ordered, .. } = self.identity else { return Vec::new() };
        self.key().into_iter().take(ordered).filter_map(|c| c.form.literal.as_ref().map(|l| (c, l))).collect()
    }

    /// Whether ranges compare text: then what is in none of them is a collation's matter.
    pub fn orders_text(&self) -> bool {
        self.ordered().iter().any(|(_, literal)| matches!(literal, Literal::Text(_)))
    }

    /// Whether each row can be looked up by literals of its whole key.
    pub fn is_addressable(&self) -> bool {
        let key = self.key();
        !key.is_empty() && key.iter().all(|c| c.form.equality.is_some())
    }

    /// The pieces of a whole key's image as literals that find its row by equality. `None` if one has no such literal, as
    /// NULL has none, or there is no key.
    pub fn address(&self, image: &[u8]) -> Option<Vec<String>> {
        let mut rest = image;
        let mut literals = Vec::new();
        for column in self.key() {
            let piece = pop_piece(&mut rest, column.form.framing)??;
            let literal = column.form.equality.as_ref().filter(|literal| literal.can_hold(piece))?;
            literals.push(literal.sql(piece));
        }
        Some(literals).filter(|literals| !literals.is_empty())
    }

    /// Whether [`Plan::address`] finds each row that is there. Numbers a server reads as it wrote them; of the text of
    /// others this is not known of all servers, types and settings.
    pub fn is_surely_found(&self) -> bool {
        self.is_addressable() && self.key().iter().all(|c| c.form.shown == ShownAs::Integer)
    }

    /// Whether the key is one whole number, whose literals both sides order as numbers (as they do not those of BIT
    /// and YEAR).
    pub fn is_numbered(&self) -> bool {
        let as_it_is = |column: &PlannedColumn, side: usize| {
            column.form.pieces[side] == format!("CAST({} AS CHAR)", quote::ident(&column.names[side]))
        };
        match self.key().as_slice() {
            [column] => {
                let number = column.form.shown == ShownAs::Integer;
                number && self.is_addressable() && as_it_is(column, 0) && as_it_is(column, 1)
            }
            _ => false,
        }
    }

    /// Whether rows are told apart by their keys, and the servers leave nothing of them for the client to compute on.
    pub fn is_served_by_key(&self) -> bool {
        !self.is_multiset() && self.client_columns().is_empty()
    }

    /// Columns that the client has to digest.
    pub fn client_columns(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|i| self.columns[*i].form.client_json).collect()
    }

    /// The pieces of a key's image, as literals for [`Plan::ordered`]'s columns. The outer `None`: it is not in the form
    /// asked for; the inner one: a piece has no such literal.
    pub fn literals(&self, image: &[u8]) -> Option<Option<Vec<String>>> {
        let (mut rest, mut literals) = (image, Some(Vec::new()));
        for (column, literal) in self.ordered() {
            let piece = pop_piece(&mut rest, column.form.framing)??;
            literals = literals.filter(|_| literal.can_hold(piece));
            literals.iter_mut().for_each(|literals| literals.push(literal.sql(piece)));
        }
        Some(literals)
    }
}

/// `column`'s piece, framed, as SQL: see [`crate::digest`].
pub fn framed(column: &PlannedColumn, side: usize) -> String {
    let name = quote::ident(&column.names[side]);
    let piece = &column.form.pieces[side];
    // As many bytes, and nothing to build.
    let length = if *piece == format!("CAST({name} AS BINARY)") { &name } else { piece };
    // A piece that cannot be built (over max_allowed_packet) must make the whole image NULL: never IFNULL here.
    let value = match column.form.framing {
        Framing::Plain => piece.clone(),
        Framing::Sized => format!("LENGTH({length}), ':', {piece}"),
        Framing::Hashed => format!("SHA2({piece}, 256)"),
    };
    match (column.nullable[side], column.form.framing) {
        (false, _) => format!("{value}, ','"),
        (true, Framing::Plain | Framing::Hashed) => format!("IF({name} IS NULL, 'N', {value}), ','"),
        (true, Framing::Sized) => format!("IF({name} IS NULL, 'N', CONCAT({value})), ','"),
    }
}
