//! The statements of a comparison, as text. Pure.

use converge_mysql::{Flavor, quote};
use serde::{Deserialize, Serialize};

use super::numbers::NumberBuckets;
use super::range::{Operator, bound, equal};
use super::{Identity, Plan, PlannedColumn, framed};
use crate::request::Sample;

/// Keeps a derived table from being merged into its outer query, which would compute each row's SHA-256 once per
/// mention instead of once.
const MATERIALISE: &str = "LIMIT 18446744073709551615";

/// A part of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Literals of the first key of it; unbounded below without.
    pub lower: Option<Vec<String>>,
    /// Literals of the first key after it; unbounded above without.
    pub upper: Option<Vec<String>>,
    /// Only rows of these buckets.
    pub buckets: Option<Buckets>,
}

/// Some of the buckets into which a checksum of their key (the hash of the row, without a key) puts rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// How many there are.
    pub of: u64,
    /// Which are meant.
    pub chosen: Vec<u64>,
}

/// Which rows to read again.
#[derive(Debug, Clone, Copy)]
pub enum Pick<'a> {
    /// All in the scope.
    All,
    /// Those with these whole keys, as literals (see [`Plan::address`]).
    Keys(&'a [Vec<String>]),
    /// Those in the scope whose identity hash (see [`Plan::identity_hash`]) is one of these, in hexadecimal.
    Hashes(&'a [String]),
}

impl Plan {
    fn image(&self, columns: impl Iterator<Item = usize>, side: usize) -> String {
        let pieces: Vec<String> = columns.map(|i| framed(&self.columns[i], side)).collect();
        format!("CONCAT({})", pieces.join(", "))
    }

    /// The row's image over the columns that the server digests, and for each of the client's whether it is NULL. It is
    /// NULL where the server cannot build one of them whole: such a value must never pass for SQL's NULL.
    fn row_image(&self, side: usize) -> String {
        let part = |column: &PlannedColumn, i: usize| match column.form.client_json {
            false => framed(&self.columns[i], side),
            true => {
                let (name, piece) = (quote::ident(&column.names[side]), &column.form.pieces[side]);
                format!("IF({piece} IS NULL, IF({name} IS NULL, '0', NULL), '1')")
            }
        };
        let parts: Vec<String> = self.columns.iter().enumerate().map(|(i, c)| part(c, i)).collect();
        format!("CONCAT({})", parts.join(", "))
    }

    /// SHA-256 of the row's image.
    pub fn row_hash(&self, side: usize) -> String {
        format!("SHA2({}, 256)", self.row_image(side))
    }

    /// The key's image; `''` without a key.
    pub fn key_image(&self, side: usize) -> String {
        match &self.identity {
            Identity::Key { columns, .. } => self.image(columns.iter().copied(), side),
            Identity::Multiset => "''".into(),
        }
    }

    /// What finds a row again: the key's SHA-256, the row's without a key.
    pub fn identity_hash(&self, side: usize) -> String {
        match self.identity {
            Identity::Key { .. } => format!("SHA2({}, 256)", self.key_image(side)),
            Identity::Multiset => self.row_hash(side),
        }
    }

    fn ordered_names(&self, side: usize) -> Vec<String> {
        self.ordered().iter().map(|(c, _)| quote::ident(&c.names[side])).collect()
    }

    /// The table to read from, with its FROM.
    pub fn from(&self, side: usize) -> String {
        let force = match &self.indexes[side] {
            Some(index) if !self.ordered().is_empty() => format!(" FORCE INDEX ({})", quote::ident(index)),
            _ => String::new(),
        };
        format!("FROM {}{force}", self.tables[side])
    }

    pub(super) fn conditions(&self, scope: &Scope, side: usize) -> Vec<String> {
        let names = self.ordered_names(side);
        let mut parts = Vec::new();
        if let Some((from, to)) = self.numbers(scope) {
            // Servers evaluate one condition for each row faster than two.
            parts.push(format!("{} BETWEEN {from} AND {to}", names.join(", ")));
        } else {
            parts.extend(scope.lower.iter().map(|lower| bound(Operator::AtLeast, lower).sql(&names)));
            parts.extend(scope.upper.iter().map(|upper| bound(Operator::Less, upper).sql(&names)));
        }
        if let Some(buckets) = &scope.buckets {
            parts.push(self.in_buckets(scope, buckets, side));
        }
        parts.extend(self.part(side));
        parts
    }

    /// The first and the last number of a scope that has both, of a table with [`Plan::is_numbered`].
    fn numbers(&self, scope: &Scope) -> Option<(i128, i128)> {
        let ([lower], [upper]) = (scope.lower.as_deref()?, scope.upper.as_deref()?) else { return None };
        let (lower, upper): (i128, i128) = (lower.parse().ok()?, upper.parse().ok()?);
        (self.is_numbered() && lower < upper).then_some((lower, upper - 1))
    }

    /// How many keys there may be in a scope that has both ends, of a table with [`Plan::is_numbered`].
    pub fn span(&self, scope: &Scope) -> Option<u64> {
        let (from, to) = self.numbers(scope)?;
        u64::try_from(to - from).ok()?.checked_add(1)
    }

    /// What every compared row fulfils.
    fn part(&self, side: usize) -> Vec<String> {
        // The line's end keeps whatever the expression ends in from reaching further.
        let mut parts: Vec<String> = self.filters.iter().map(|sql| format!("({sql}\n)")).collect();
        parts.extend(self.sample.map(|sample| self.sampled(sample, side)));
        parts
    }

    /// Chooses rows by their keys (by their contents, without a key): both sides choose the same. What has no image is
    /// chosen, so that it is noticed.
    fn sampled(&self, sample: Sample, side: usize) -> String {
        let image = if self.is_multiset() { self.row_image(side) } else { self.key_image(side) };
        let most = (u64::from(sample.per_million) << 32) / 1_000_000;
        format!("IFNULL(CRC32(CONCAT('{}/', {image})), 0) < {most}", sample.seed)
    }

    /// Whether the server takes the conditions: no row comes back.
    pub fn probe(&self, side: usize) -> String {
        format!("SELECT 1 FROM {}{} LIMIT 0", self.tables[side], wherever(self.part(side)))
    }

    /// The condition on the rows of a scope, with its WHERE.
    pub fn picked(&self, scope: &Scope, pick: Pick<'_>, side: usize) -> String {
        let mut parts = self.conditions(scope, side);
        match pick {
            Pick::All => {}
            Pick::Keys(keys) => {
                let names: Vec<String> = self.key().iter().map(|c| quote::ident(&c.names[side])).collect();
                let keys: Vec<String> = keys.iter().map(|key| equal(key).sql(&names)).collect();
                parts.push(format!("({})", keys.join(" OR ")));
            }
            Pick::Hashes(hashes) => {
                let hashes: Vec<String> = hashes.iter().map(|h| quote::text(h)).collect();
                parts.push(format!("{} IN ({})", self.identity_hash(side), hashes.join(", ")));
            }
        }
        wherever(parts)
    }

    /// Columns: rows, rows with a digest, the sums.
    pub fn digest(&self, scope: &Scope, side: usize) -> String {
        let rows = format!(
            "SELECT {} AS h {}{} {MATERIALISE}",
            self.row_hash(side),
            self.from(side),
            wherever(self.conditions(scope, side))
        );
        format!("SELECT COUNT(*), COUNT(h), {} FROM ({rows}) AS d", sums("h"))
    }

    /// The condition on rows of some buckets of a scope.
    fn in_buckets(&self, scope: &Scope, Buckets { of, chosen }: &Buckets, side: usize) -> String {
        if let Some(numbers) = self.numbered_buckets(scope, *of) {
            return numbers.chosen(&self.ordered_names(side).join(", "), chosen);
        }
        let bucket = match self.identity {
            Identity::Key { .. } => self.key_bucket(scope, *of, side),
            Identity::Multiset => hash_bucket(&self.row_hash(side), *of),
        };
        let chosen: Vec<String> = chosen.iter().map(u64::to_string).collect();
        format!("{bucket} IN ({})", chosen.join(", "))
    }

    /// The bucket of a row by its key: a part of the scope's numbers, or else a checksum, which is weak, but cheap. Both
    /// sides agree on it, and it only says where to look.
    fn key_bucket(&self, scope: &Scope, of: u64, side: usize) -> String {
        match self.numbered_buckets(scope, of) {
            Some(numbers) => numbers.bucket(&self.ordered_names(side).join(", ")),
            None => format!("(CRC32({}) % {of})", self.key_image(side)),
        }
    }

    /// Whether a server finds the rows of so many buckets of a scope by an index.
    pub fn finds_buckets(&self, scope: &Scope, of: u64) -> bool {
        self.numbered_buckets(scope, of).is_some()
    }

    /// The buckets of a scope, where they are ranges of numbers.
    fn numbered_buckets(&self, scope: &Scope, of: u64) -> Option<NumberBuckets> {
        let (from, to) = self.numbers(scope)?;
        NumberBuckets::new(from, to, of)
    }

    /// Columns: bucket, rows, rows with a digest, the sums; a NULL bucket holds rows without a digest.
    pub fn bucket_digests(&self, scope: &Scope, of: u64, side: usize) -> String {
        let (inner, outer) = match self.identity {
            Identity::Key { .. } => (format!("{} AS b, ", self.key_bucket(scope, of, side)), "b".into()),
            Identity::Multiset => (String::new(), format!("{} AS b", hash_bucket("h", of))),
        };
        let rows = format!(
            "SELECT {inner}{} AS h {}{} {MATERIALISE}",
            self.row_hash(side),
            self.from(side),
            wherever(self.conditions(scope, side))
        );
        format!("SELECT {outer}, COUNT(*), COUNT(h), {} FROM ({rows}) AS d GROUP BY b", sums("h"))
    }

    /// Columns: key image, row hash, copies, then the client-digested columns.
    pub fn rows(&self, scope: &Scope, pick: Pick<'_>, side: usize) -> String {
        let picked = self.picked(scope, pick, side);
        if self.is_multiset() && self.client_columns().is_empty() {
            let rows =
                format!("SELECT {} AS h {}{picked} {MATERIALISE}", self.row_hash(side), self.from(side));
            return format!("SELECT '', h, COUNT(*) FROM ({rows}) AS d GROUP BY h");
        }
        self.one_by_one(&picked, side)
    }

    /// Like [`Plan::rows`] of all in a scope, but equal rows are not made one: the server sends each as it reads it, and
    /// keeps none.
    pub fn each_row(&self, scope: &Scope, side: usize) -> String {
        self.one_by_one(&self.picked(scope, Pick::All, side), side)
    }

    fn one_by_one(&self, picked: &str, side: usize) -> String {
        let client = self.client_columns();
        let more: String =
            client.iter().map(|i| format!(", {}", self.columns[*i].form.pieces[side])).collect();
        format!(
            "SELECT {}, {}, 1{more} {}{picked}",
            self.key_image(side),
            self.row_hash(side),
            self.from(side)
        )
    }

    /// Columns: like [`Plan::rows`], then this expression.
    pub fn value(&self, scope: &Scope, pick: Pick<'_>, side: usize, sql: &str) -> String {
        let client: String = self
            .client_columns()
            .iter()
            .map(|i| format!("{}, ", self.columns[*i].form.pieces[side]))
            .collect();
        let (key, hash, picked) = (self.key_image(side), self.row_hash(side), self.picked(scope, pick, side));
        format!("SELECT {key}, {hash}, 1, {client}{sql} {}{picked}", self.from(side))
    }

    /// Like [`Plan::rows`], with shared locks on the rows and on the gaps of missing ones until the transaction ends. Unless
    /// `wait`, it fails at once where another transaction holds one of them.
    pub fn locked_rows(&self, scope: &Scope, pick: Pick<'_>, side: usize, wait: bool) -> String {
        let lock = match self.flavors[side] {
            Flavor::MySql => "FOR SHARE",
            Flavor::MariaDb => "LOCK IN SHARE MODE",
        };
        format!("{} {lock}{}", self.rows(scope, pick, side), if wait { "" } else { " NOWAIT" })
    }

    /// Columns: like [`Plan::rows`], then for each compared column its piece, how it is shown, and its length.
    pub fn details(&self, scope: &Scope, pick: Pick<'_>, side: usize) -> String {
        let client: String = self
            .client_columns()
            .iter()
            .map(|i| format!(", {}", self.columns[*i].form.pieces[side]))
            .collect();
        let key = self.key_positions();
        let columns: String = (self.columns.iter().enumerate())
            .map(|(i, c)| {
                let most = if key.contains(&i) { WHOLE_KEY } else { SHOWN };
                let name = quote::ident(&c.names[side]);
                format!(", {}, {}, LENGTH({name})", piece(c, side), shown(c, side, most))
            })
            .collect();
        format!(
            "SELECT {}, {}, 1{client}{columns} {}{}",
            self.key_image(side),
            self.row_hash(side),
            self.from(side),
            self.picked(scope, pick, side)
        )
    }

    /// Columns: the row's image over the columns that the server frames, then the client-digested ones. The image is
    /// the one that [`Plan::row_hash`] digests: both engines see the same bytes.
    pub fn images(&self, scope: &Scope, side: usize) -> String {
        let image = self.row_image(side);
        let pieces = self.client_columns();
        let client: String =
            pieces.iter().map(|i| format!(", {}", self.columns[*i].form.pieces[side])).collect();
        let picked = wherever(self.conditions(scope, side));
        format!("SELECT {image}{client} {}{picked}", self.from(side))
    }

    /// The image of the key's ordered part of the row that is `offset` rows into the scope. Rows that have the
    /// scope's lower bound itself are left out, so that a cut always makes progress.
    pub fn cut(&self, scope: &Scope, offset: u64, side: usize) -> String {
        let names = self.ordered_names(side);
        let mut parts = Vec::new();
        if let Some(lower) = &scope.lower {
            parts.push(bound(Operator::Greater, lower).sql(&names));
        }
        if let Some(upper) = &scope.upper {
            parts.push(bound(Operator::Less, upper).sql(&names));
        }
        let pieces: Vec<String> = self.ordered().iter().map(|(c, _)| framed(c, side)).collect();
        format!(
            "SELECT CONCAT({}) {}{} ORDER BY {} LIMIT 1 OFFSET {offset}",
            pieces.join(", "),
            self.from(side),
            wherever(parts),
            names.join(", ")
        )
    }

    /// The smallest and the largest key, of a table with [`Plan::is_numbered`].
    pub fn bounds(&self, side: usize) -> String {
        let names = self.ordered_names(side).join(", ");
        format!("SELECT MIN({names}), MAX({names}) {}", self.from(side))
    }

    /// The smallest key from `start` on, of a table with [`Plan::is_numbered`].
    pub fn following(&self, start: i128, side: usize) -> String {
        let names = self.ordered_names(side).join(", ");
        format!("SELECT MIN({names}) {} WHERE {names} >= {start}", self.from(side))
    }

    /// A statement whose plan says how many rows a scope has; never run itself. It names no index: told which one to
    /// use, MySQL does not look into it and expects one row.
    pub fn reach(&self, scope: &Scope, side: usize) -> String {
        format!("SELECT 1 FROM {}{}", self.tables[side], wherever(self.conditions(scope, side)))
    }

    /// Seconds since the table was last written to; NULL, or no row, where the server does not know.
    pub fn last_written(&self, side: usize) -> String {
        format!(
            "SELECT TIMESTAMPDIFF(SECOND, UPDATE_TIME, NOW()) FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = {}",
            quote::text(&self.names[side])
        )
    }

    /// How many rows there are to compare.
    pub fn count(&self, side: usize) -> String {
        format!("SELECT COUNT(*) FROM {}{}", self.tables[side], wherever(self.part(side)))
    }
}

fn piece(column: &PlannedColumn, side: usize) -> String {
    use crate::digest::Framing;
    let piece = &column.form.pieces[side];
    if column.form.framing == Framing::Hashed && !column.form.client_json {
        format!("SHA2({piece}, 256)")
    } else {
        piece.clone()
    }
}

/// At most this many characters (bytes of binary values) of a value are shown.
pub const SHOWN: usize = 200;

/// No key has more bytes.
const WHOLE_KEY: usize = 3072;

fn shown(column: &PlannedColumn, side: usize, most: usize) -> String {
    use crate::form::ShownAs;
    let name = quote::ident(&column.names[side]);
    match column.form.shown {
        ShownAs::Integer | ShownAs::Real => column.form.pieces[side].clone(),
        ShownAs::Text => format!("LEFT(CAST({name} AS CHAR), {most})"),
        ShownAs::Hex => format!("LOWER(HEX(SUBSTR(CAST({name} AS BINARY), 1, {most})))"),
    }
}

pub(super) fn wherever(parts: Vec<String>) -> String {
    if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) }
}

fn part(hash: &str, from: u8) -> String {
    format!("CAST(CONV(SUBSTR({hash}, {from}, 16), 16, 10) AS UNSIGNED)")
}

/// Another part of the hash than the one that sums begin with would do as well; the count is what matters.
fn hash_bucket(hash: &str, of: u64) -> String {
    format!("({} % {of})", part(hash, 49))
}

fn sums(hash: &str) -> String {
    [1, 17].map(|from| format!("SUM({})", part(hash, from))).join(", ")
}
