//! Random tables: their columns, keys, rows and damage, as plain numbers that proptest can make smaller.

use proptest::collection::vec;
use proptest::prelude::*;

/// The most columns of a table.
const COLUMNS: usize = 5;

/// How a column's values are read by the naive dump, and whether it can be part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    Number,
    Plain,
    Text,
    Bytes,
    Real,
    Json,
}

/// A column type with values that are easily confused with each other.
pub struct Type {
    pub declared: &'static str,
    pub read: Read,
    pub key: bool,
    pub values: &'static [&'static str],
}

const fn of(declared: &'static str, read: Read, key: bool, values: &'static [&'static str]) -> Type {
    Type { declared, read, key, values }
}

const ASCII: &[&str] = &[
    "''", "'a'", "'A'", "'a '", "'b'", "'ab'", "'NULL'", "'N'", "'N,'", "'0'", "'1:a'", "','", "'it''s'",
    "'a\\\\b'", "'a\\0'", "'%'", "'_'", "' '", "'\\0'", "'aa'",
];
const LATIN: &[&str] = &["''", "'a'", "'A'", "'é'", "'É'", "'e'", "'ÿ'", "'a '", "'ß'", "'ss'", "'N,'"];
const UNICODE: &[&str] = &[
    "''",
    "'a'",
    "'A'",
    "'é'",
    "'É'",
    "'e'",
    "_utf8mb4 x'65cc81'",
    "_utf8mb4 x'c3a9'",
    "'ß'",
    "'ss'",
    "'a '",
    "_utf8mb4 x'61e2808b'",
    "'😀'",
    "'😁'",
    "'ﬀ'",
    "'ff'",
    "'あ'",
    "'ア'",
    "'N,'",
    "'a\\0'",
];
const KANJI: &[&str] = &["''", "'a'", "'A'", "'あ'", "'ア'", "'中'", "'a '"];
const BINARY: &[&str] = &[
    "x''", "x'00'", "x'0000'", "x'61'", "x'41'", "x'6100'", "x'ff'", "x'fe'", "x'c328'", "x'20'", "x'4e2c'",
];
const MOMENTS: &[&str] = &[
    "'0000-00-00'",
    "'2020-00-00'",
    "'1000-01-01'",
    "'2020-02-29'",
    "'2024-03-31 02:30:00'",
    "'2024-03-31 03:30:00'",
    "'9999-12-31 23:59:59'",
    "'2020-01-01 00:00:00.000001'",
    "'2020-01-01'",
];

/// All types that both families have.
pub const TYPES: &[Type] = &[
    of("TINYINT", Read::Number, true, &["-128", "-1", "0", "1", "127"]),
    of("SMALLINT UNSIGNED", Read::Number, true, &["0", "1", "10", "65535"]),
    of("MEDIUMINT", Read::Number, true, &["-8388608", "-1", "0", "8388607"]),
    of("INT", Read::Number, true, &["-2147483648", "-1", "0", "1", "2147483647"]),
    of("INT(6) ZEROFILL", Read::Number, true, &["0", "1", "10", "1000000"]),
    of(
        "BIGINT",
        Read::Number,
        true,
        &["-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807"],
    ),
    of("BIGINT UNSIGNED", Read::Number, true, &["0", "1", "9223372036854775808", "18446744073709551615"]),
    of("BIT(9)", Read::Number, true, &["0", "1", "256", "511"]),
    of("YEAR", Read::Number, true, &["0", "1901", "2000", "2155"]),
    of(
        "DECIMAL(20,6)",
        Read::Plain,
        true,
        &["0", "-0.000001", "0.000001", "1", "-1", "99999999999999.999999"],
    ),
    of("DECIMAL(65,30)", Read::Plain, true, &["0", "0.1", "0.100000000000000000000000000001"]),
    of(
        "FLOAT",
        Read::Real,
        false,
        &["0", "1.5", "16777215", "16777214", "1.2345678", "1.2345679", "1.2e-38", "3.4028234e38"],
    ),
    of(
        "DOUBLE",
        Read::Real,
        false,
        &["0", "0.3e0", "0.1e0 + 0.2e0", "1e15", "1e16", "5e-324", "1.7976931348623157e308", "-1.5e0"],
    ),
    of("DATE", Read::Plain, true, &["'0000-00-00'", "'2020-00-00'", "'2020-02-29'", "'9999-12-31'"]),
    of("DATETIME", Read::Plain, true, MOMENTS),
    of("DATETIME(6)", Read::Plain, true, MOMENTS),
    of(
        "TIMESTAMP(3)",
        Read::Plain,
        true,
        &["'0000-00-00'", "'2020-10-25 00:30:00'", "'2020-10-25 01:30:00.001'", "'2038-01-19 03:14:07.999'"],
    ),
    of(
        "TIME(6)",
        Read::Plain,
        true,
        &["'-838:59:59'", "'-00:00:00.000001'", "'00:00:00'", "'00:00:00.000001'", "'838:59:59'"],
    ),
    of("CHAR(10) CHARACTER SET ascii", Read::Text, true, ASCII),
    of("VARCHAR(40) CHARACTER SET latin1", Read::Text, true, LATIN),
    of("VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_bin", Read::Text, true, LATIN),
    of("VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", Read::Text, true, UNICODE),
    of("VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", Read::Text, true, UNICODE),
    of("VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", Read::Text, true, UNICODE),
    of("CHAR(20) CHARACTER SET utf8mb4", Read::Text, true, UNICODE),
    of("VARCHAR(40) CHARACTER SET utf16", Read::Text, true, UNICODE),
    of("VARCHAR(40) CHARACTER SET sjis", Read::Text, true, KANJI),
    of("VARCHAR(40) CHARACTER SET gbk", Read::Text, true, KANJI),
    of("VARCHAR(40) CHARACTER SET ucs2", Read::Text, true, KANJI),
    of("TEXT CHARACTER SET utf8mb4", Read::Text, false, UNICODE),
    of("LONGTEXT CHARACTER SET latin1", Read::Text, false, LATIN),
    of("BINARY(4)", Read::Bytes, true, BINARY),
    of("VARBINARY(20)", Read::Bytes, true, BINARY),
    of("BLOB", Read::Bytes, false, BINARY),
    of("ENUM('a','','b','A2')", Read::Text, true, &["'a'", "''", "'b'", "'A2'", "0"]),
    of("SET('a','b','c')", Read::Text, true, &["''", "'a'", "'b,c'", "'a,b,c'"]),
    of(
        "JSON",
        Read::Json,
        false,
        &[
            "'null'",
            "'1'",
            "'1.0'",
            "'\"1\"'",
            "'{}'",
            "'[]'",
            "'[[]]'",
            "'{\"a\": 1, \"b\": [true, \"é\"]}'",
            "'\"\"'",
            "'[0.1]'",
            "'[0.30000000000000004]'",
        ],
    ),
    of(
        "GEOMETRY",
        Read::Bytes,
        false,
        &[
            "ST_GeomFromText('POINT(1 2)')",
            "ST_GeomFromText('POINT(2 1)')",
            "ST_GeomFromText('LINESTRING(0 0,1 1)')",
        ],
    ),
];

/// A table and its damaged copy. Any numbers make one.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Type and whether NULL may be stored.
    columns: Vec<(usize, bool)>,
    /// Kind of key, and the columns it begins with.
    key: (u8, u8),
    /// One number per column.
    rows: Vec<[u16; COLUMNS]>,
    /// Kind, row, column, number.
    damage: Vec<(u8, u16, u8, u16)>,
    /// How the target is declared differently.
    target: u8,
}

/// Random tables, every fourth or so without damage.
pub fn spec() -> impl Strategy<Value = Spec> {
    let damage = prop_oneof![
        1 => Just(Vec::new()),
        3 => vec((0u8..5, any::<u16>(), any::<u8>(), any::<u16>()), 1..4),
    ];
    (
        vec((0..TYPES.len(), any::<bool>()), 1..=COLUMNS),
        (0u8..6, any::<u8>()),
        vec(any::<[u16; COLUMNS]>(), 0..40),
        damage,
        any::<u8>(),
    )
        .prop_map(|(columns, key, rows, damage, target)| Spec { columns, key, rows, damage, target })
}

impl Spec {
    /// Number of columns.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// A column's type.
    pub fn of(&self, column: usize) -> &'static Type {
        &TYPES[self.columns[column].0]
    }

    /// The columns of the key, in order; empty for a table that has none (or one that may be NULL).
    pub fn key(&self) -> Vec<usize> {
        let able: Vec<usize> = (0..self.width()).filter(|i| self.of(*i).key).collect();
        let (kind, first) = self.key;
        if able.is_empty() || kind == 0 {
            return Vec::new();
        }
        let length = usize::from(kind % 3).clamp(1, able.len());
        (0..length).map(|i| able[(usize::from(first) + i) % able.len()]).collect()
    }

    /// Whether the target refuses two rows of one key.
    pub fn is_unique_there(&self) -> bool {
        self.target & 24 != 24
    }

    fn nullable(&self, column: usize) -> bool {
        self.columns[column].1 && !self.key().contains(&column)
    }

    /// What stands in CREATE TABLE's parentheses on a side.
    pub fn declared(&self, side: usize) -> String {
        let mut parts: Vec<String> = (0..self.width())
            .map(|i| {
                let null = if self.nullable(i) { "NULL" } else { "NOT NULL" };
                let mut declared = self.of(i).declared.to_owned();
                // The same characters stored in another set, or sorted by another collation.
                if side == 1 && self.target & 1 != 0 && self.of(i).values == LATIN {
                    declared = declared.split(" CHARACTER").next().unwrap_or_default().to_owned()
                        + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
                }
                format!("c{i} {declared} {null}")
            })
            .collect();
        if side == 1 && self.target & 2 != 0 {
            parts.reverse();
        }
        let mut key: Vec<String> = self.key().iter().map(|i| format!("c{i}")).collect();
        // The target's key in another order of its columns, or not unique at all.
        if side == 1 && self.target & 4 != 0 {
            key.reverse();
        }
        if !key.is_empty() {
            let word = match (side == 1 && !self.is_unique_there(), self.key.0 > 3) {
                (true, _) => "KEY",
                (_, true) => "UNIQUE KEY",
                (_, false) => "PRIMARY KEY",
            };
            parts.push(format!("{word} ({})", key.join(", ")));
        }
        parts.join(", ")
    }

    fn value(&self, column: usize, number: u16) -> String {
        let of = self.of(column);
        if self.nullable(column) && number.is_multiple_of(7) {
            return "NULL".into();
        }
        // Numbers of which many differ, so that keys are not soon used up.
        if of.read == Read::Number && number.is_multiple_of(3) && !of.declared.starts_with("YEAR") {
            return (number % 128).to_string();
        }
        if of.read == Read::Text && of.declared.contains("CHAR(40)") && number.is_multiple_of(5) {
            return format!(
                "CONCAT({}, '{}')",
                of.values[usize::from(number) % of.values.len()],
                number % 90
            );
        }
        of.values[usize::from(number / 3) % of.values.len()].to_owned()
    }

    fn literals(&self, row: &[u16; COLUMNS]) -> Vec<String> {
        (0..self.width()).map(|i| self.value(i, row[i])).collect()
    }

    /// The rows of both sides as lists of literals: the target's are damaged, and in another order.
    pub fn rows(&self) -> [Vec<Vec<String>>; 2] {
        let source: Vec<Vec<String>> = self.rows.iter().map(|row| self.literals(row)).collect();
        let mut target = source.clone();
        for (kind, row, column, number) in &self.damage {
            if target.is_empty() && *kind != 1 {
                continue;
            }
            let (row, column) = (usize::from(*row), usize::from(*column) % self.width());
            let at = row % target.len().max(1);
            match kind {
                0 => drop(target.remove(at)),
                1 => {
                    let number =
                        [*number, number.rotate_left(3), number.rotate_left(7), number ^ 77, number ^ 1234];
                    target.insert(at.min(target.len()), self.literals(&number));
                }
                2 => {
                    let other = (at + 1) % target.len();
                    let (a, b) = (target[at][column].clone(), target[other][column].clone());
                    (target[at][column], target[other][column]) = (b, a);
                }
                // The same edit in up to four rows.
                3 => {
                    let last = (at + 4).min(target.len());
                    target[at..last].iter_mut().for_each(|r| r[column] = self.value(column, *number));
                }
                _ => target[at][column] = self.value(column, *number),
            }
        }
        if self.target & 32 != 0 {
            target.reverse();
        }
        [source, target]
    }
}
