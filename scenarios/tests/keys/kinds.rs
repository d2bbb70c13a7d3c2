//! Kinds of keys: their columns, and SQL literals for the key of a number, in two spellings that the key holds for the
//! same one where its type has such.

use converge_mysql::Flavor;

/// A kind of key, and the table that has it.
pub struct Kind {
    /// The table's name.
    pub name: &'static str,
    /// Where there is such a type; `None` for both.
    pub only: Option<Flavor>,
    /// The key's columns.
    pub columns: &'static [&'static str],
    /// Their definitions and the key's own.
    definition: &'static str,
    /// The key of a number in a spelling (0 or 1).
    key: fn(u32, u32) -> Vec<String>,
}

const fn kind(
    name: &'static str,
    columns: &'static [&'static str],
    definition: &'static str,
    key: fn(u32, u32) -> Vec<String>,
) -> Kind {
    Kind { name, only: None, columns, definition, key }
}

const fn only(flavor: Flavor, kind: Kind) -> Kind {
    Kind { only: Some(flavor), ..kind }
}

impl Kind {
    /// The statement that makes the table: the key, a unique number, a unique word, a unique beginning of that word
    /// and one of a generated column, and a counter.
    pub fn create(&self) -> String {
        format!(
            "CREATE TABLE {} ({}, u INT, w VARCHAR(20), x INT NOT NULL, g VARCHAR(30) AS (CONCAT(w, '/', u)) STORED, \
             UNIQUE (u), UNIQUE (w), UNIQUE first (w(12)), UNIQUE (g)) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            self.name, self.definition
        )
    }

    /// Literals of the key's columns.
    pub fn values(&self, n: u32, spelling: u32) -> Vec<String> {
        (self.key)(n, spelling)
    }

    fn pairs(&self, n: u32, spelling: u32) -> impl Iterator<Item = String> {
        self.columns.iter().zip(self.values(n, spelling)).map(|(c, v)| format!("{c} = {v}"))
    }

    /// `a = 1 AND b = 2`
    pub fn matching(&self, n: u32, spelling: u32) -> String {
        format!("({})", self.pairs(n, spelling).collect::<Vec<_>>().join(" AND "))
    }

    /// `a = 1, b = 2`
    pub fn assigned(&self, n: u32, spelling: u32) -> String {
        self.pairs(n, spelling).collect::<Vec<_>>().join(", ")
    }
}

/// A word in letters only, in lower or upper case, with and without accents.
fn word(n: u32, spelling: u32, alike: [[char; 10]; 2]) -> String {
    n.to_string().bytes().map(|digit| alike[spelling as usize][usize::from(digit - b'0')]).collect()
}

const CASES: [[char; 10]; 2] =
    [['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'], ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J']];
const ACCENTS: [[char; 10]; 2] =
    [['a', 'b', 'c', 'd', 'é', 'f', 'ğ', 'h', 'ï', 'ø'], ['Á', 'b', 'Č', 'D', 'E', 'f', 'g', 'H', 'i', 'Ø']];

/// All kinds.
pub const KINDS: &[Kind] = &[
    kind(
        "composite",
        &["b", "a", "c"],
        "a VARCHAR(20) NOT NULL, b INT NOT NULL, c VARBINARY(8) NOT NULL, PRIMARY KEY (b, a, c)",
        |n, spelling| {
            vec![
                (n % 3).to_string(),
                format!("'{}'", word(n / 6, spelling, CASES)),
                format!("x'{:02x}00'", n / 3 % 2),
            ]
        },
    ),
    kind("general", &["a"], "a VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY", |n, spelling| {
        vec![format!("'{}'", word(n, spelling, CASES))]
    }),
    only(
        Flavor::MySql,
        kind("unicode", &["a"], "a VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY", |n, spelling| {
            vec![format!("'{}'", word(n, spelling, ACCENTS))]
        }),
    ),
    only(
        Flavor::MySql,
        kind("accented", &["a"], "a VARCHAR(20) COLLATE utf8mb4_0900_as_cs PRIMARY KEY", |n, spelling| {
            vec![format!("'{}{}'", word(n, 0, ACCENTS), ["", "\u{200d}"][spelling as usize])]
        }),
    ),
    only(
        Flavor::MariaDb,
        kind(
            "unicode_there",
            &["a"],
            "a VARCHAR(20) COLLATE utf8mb4_uca1400_ai_ci PRIMARY KEY",
            |n, spelling| vec![format!("'{}'", word(n, spelling, ACCENTS))],
        ),
    ),
    kind(
        "western",
        &["a"],
        "a CHAR(12) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY",
        |n, spelling| vec![format!("'{}{}'", word(n, spelling, CASES), ["é", "É  "][spelling as usize])],
    ),
    kind("wide", &["a"], "a VARCHAR(20) CHARACTER SET utf16 PRIMARY KEY", |n, spelling| {
        vec![format!("'😀{} '", word(n, spelling, CASES))]
    }),
    kind("exact", &["a"], "a VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY", |n, _| {
        vec![format!("'{}'", word(n, n % 2, CASES))]
    }),
    kind("bytes", &["a"], "a VARBINARY(8) PRIMARY KEY", |n, _| {
        vec![format!("x'{:02x}{}'", n % 250, "00".repeat(n as usize / 250 % 7 + n as usize % 3))]
    }),
    kind("padded", &["a"], "a BINARY(4) PRIMARY KEY", |n, _| vec![format!("x'{:04x}'", n)]),
    kind("high", &["a"], "a BIGINT UNSIGNED PRIMARY KEY", |n, _| {
        vec![(u64::MAX - u64::from(n) * 99_999_999_999_999).to_string()]
    }),
    kind("sparse", &["a"], "a BIGINT PRIMARY KEY", |n, _| {
        vec![(i64::MIN + i64::from(n) * 1_000_000_000_000_000).to_string()]
    }),
    kind("small", &["a", "b"], "a MEDIUMINT, b TINYINT, PRIMARY KEY (a, b)", |n, _| {
        vec![(i64::from(n / 5) - 8_388_608).to_string(), (i64::from(n % 5) - 128).to_string()]
    }),
    kind(
        "instead",
        &["a", "b"],
        "n INT, a INT NOT NULL, b CHAR(9) NOT NULL, UNIQUE (n), UNIQUE (a, b)",
        |n, spelling| vec![(n % 7).to_string(), format!("'{}'", word(n / 7, spelling, CASES))],
    ),
    kind("decimal_key", &["a"], "a DECIMAL(30,10) PRIMARY KEY", |n, spelling| {
        vec![format!("{}.{}", i64::from(n) - 60, ["5", "5000000000"][spelling as usize])]
    }),
    kind("fraction", &["a"], "a DOUBLE PRIMARY KEY", |n, _| vec![format!("{}e-3", i64::from(n) * 7 - 300)]),
    kind(
        "moment",
        &["b", "a"],
        "a DATETIME(6) NOT NULL, b TIMESTAMP NOT NULL, PRIMARY KEY (b, a)",
        |n, _| {
            vec![
                format!("'2024-10-27' + INTERVAL {} HOUR", n / 4),
                format!("'2024-03-31 02:30:00.25' + INTERVAL {} MICROSECOND", n % 4),
            ]
        },
    ),
    kind("span", &["a"], "a TIME(3) PRIMARY KEY", |n, _| {
        vec![format!("'{}{}:59:59.125'", if n % 2 == 0 { "-" } else { "" }, n % 800)]
    }),
    kind(
        "listed",
        &["e", "s", "b"],
        "e ENUM('z','a','é','') NOT NULL, s SET('x','y','z') NOT NULL, b BIT(20) NOT NULL, PRIMARY KEY (e, s, b)",
        |n, _| vec![(n % 4 + 1).to_string(), (n / 4 % 8).to_string(), (n / 32 * 1000).to_string()],
    ),
];
