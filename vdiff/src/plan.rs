//! How a pair of tables is compared: which columns, in which form, by which key. Pure: from two schemas to a plan.

mod build;
pub mod range;
pub mod sql;

use converge_mysql::{Flavor, quote};

use crate::digest::{Framing, pop_piece};
use crate::form::{Form, Literal};
use crate::request::Side;

pub use build::build;

/// A column that is compared.
#[derive(Debug, Clone)]
pub struct PlannedColumn {
    /// Its name on the source; reports use it.
    pub name: String,
    /// Its name on each side.
    pub names: [String; 2],
    /// How it is compared.
    pub form: Form,
}

/// How rows find their counterparts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By the columns of a key (indexes into the plan's columns). The first `ordered` of them are sorted alike by both
    /// sides, so that ranges over them are the same on both; with 0 the tables are compared in hash buckets.
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
    /// Qualified, quoted table name on each side.
    pub tables: [String; 2],
    /// Index to read in order on each side.
    pub indexes: [Option<String>; 2],
    /// Each side's family.
    pub flavors: [Flavor; 2],
    /// Compared columns, in the source's order.
    pub columns: Vec<PlannedColumn>,
    /// How rows find their counterparts.
    pub identity: Identity,
    /// Differences in the schema that are no difference of rows.
    pub schema_notes: Vec<String>,
    /// What is not compared.
    pub not_verified: Vec<String>,
    /// Whether the schemas differ in what rows can hold: a column is missing on the target.
    pub is_different: bool,
    /// Why equal rows would not prove equal tables.
    pub unproven: Vec<String>,
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

    /// Whether rows have no key.
    pub fn is_multiset(&self) -> bool {
        self.identity == Identity::Multiset
    }

    /// The leading key columns that ranges may use, with their literal forms.
    pub fn ordered(&self) -> Vec<(&PlannedColumn, &Literal)> {
        let Identity::Key { ordered, .. } = self.identity else { return Vec::new() };
        self.key().into_iter().take(ordered).filter_map(|c| c.form.literal.as_ref().map(|l| (c, l))).collect()
    }

    /// Whether each row can be looked up by literals of its whole key.
    pub fn is_addressable(&self) -> bool {
        let key = self.key();
        !key.is_empty() && self.ordered().len() == key.len()
    }

    /// Columns that the client has to digest.
    pub fn client_columns(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|i| self.columns[*i].form.client_json).collect()
    }

    /// The pieces of a key's image, as literals for [`Plan::ordered`]'s columns.
    pub fn literals(&self, image: &[u8]) -> Option<Vec<String>> {
        let mut rest = image;
        let mut literals = Vec::new();
        for (column, literal) in self.ordered() {
            let piece = pop_piece(&mut rest, column.form.framing)??;
            literals.push(literal.sql(piece));
        }
        Some(literals)
    }
}

/// `column`'s piece, framed, as SQL: see [`crate::digest`].
pub fn framed(column: &PlannedColumn, side: usize) -> String {
    let name = quote::ident(&column.names[side]);
    let piece = &column.form.pieces[side];
    // A piece that cannot be built (over max_allowed_packet) must make the whole image NULL: never IFNULL here.
    match column.form.framing {
        Framing::Plain => format!("IF({name} IS NULL, 'N', {piece}), ','"),
        Framing::Sized => format!("IF({name} IS NULL, 'N', CONCAT(LENGTH({piece}), ':', {piece})), ','"),
        Framing::Hashed => {
            format!("IF({name} IS NULL, 'N', CONCAT(LENGTH({piece}), ':', SHA2({piece}, 256))), ','")
        }
    }
}
