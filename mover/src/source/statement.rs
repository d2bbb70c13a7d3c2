//! What a statement in the binary log means for the moved tables.
//!
//! With row format, statements are transaction control and definitions. This is no SQL parser: it looks at the
//! first words and at the names that occur. When in doubt it says that a moved table is concerned, which stops the
//! workflow and asks; it never lets a change of a moved table pass in silence.

/// The marker comment of the mover's own `RENAME TABLE`, which fences the source's tables.
pub const FENCE_MARKER: &str = "/* converge fence */";

/// What a statement means to a reader of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// `BEGIN`.
    Begin,
    /// `COMMIT`, or the end of an XA transaction.
    Commit,
    /// `ROLLBACK` of the whole transaction.
    Rollback,
    /// `ROLLBACK TO SAVEPOINT`: changes since then do not count.
    RollbackTo,
    /// `SAVEPOINT` and its release, `XA END`.
    Nothing,
    /// `XA START`: what follows may be rolled back later.
    XaStart,
    /// A statement that defines a table and goes on as a transaction (`CREATE TABLE … SELECT`).
    Opening,
    /// A statement that does not concern the moved tables.
    Other,
    /// A statement that changes a moved table's definition, or its rows without row events.
    Concerns,
}

/// Statements that may change a table's rows or definition, by their first words.
const CHANGING: &[&[&str]] = &[
    &["ALTER", "TABLE"],
    &["ALTER", "ONLINE"],
    &["ALTER", "IGNORE"],
    &["CREATE", "TABLE"],
    &["CREATE", "OR"],
    &["CREATE", "INDEX"],
    &["CREATE", "UNIQUE"],
    &["CREATE", "FULLTEXT"],
    &["CREATE", "SPATIAL"],
    &["DROP", "TABLE"],
    &["DROP", "INDEX"],
    &["DROP", "DATABASE"],
    &["DROP", "SCHEMA"],
    &["ALTER", "DATABASE"],
    &["ALTER", "SCHEMA"],
    &["RENAME"],
    &["TRUNCATE"],
    &["INSERT"],
    &["UPDATE"],
    &["DELETE"],
    &["REPLACE"],
    &["LOAD"],
    &["WITH"],
    &["CALL"],
];

/// Reads `statement`, run with the default database `default`, for the moved `tables` of database `schema`.
pub fn meaning<'a>(
    statement: &str,
    default: &str,
    schema: &str,
    tables: impl Iterator<Item = &'a str>,
) -> Meaning {
    let words = words(statement);
    let upper: Vec<String> = words.iter().map(|w| w.text.to_uppercase()).collect();
    let begins = |with: &[&str]| upper.len() >= with.len() && with.iter().zip(&upper).all(|(a, b)| a == b);
    if begins(&["BEGIN"]) || begins(&["START", "TRANSACTION"]) {
        return Meaning::Begin;
    }
    if begins(&["COMMIT"]) || begins(&["XA", "COMMIT"]) || begins(&["XA", "ROLLBACK"]) {
        return Meaning::Commit;
    }
    if begins(&["ROLLBACK", "TO"]) {
        return Meaning::RollbackTo;
    }
    if begins(&["ROLLBACK"]) {
        return Meaning::Rollback;
    }
    if begins(&["SAVEPOINT"]) || begins(&["RELEASE"]) || begins(&["XA", "END"]) {
        return Meaning::Nothing;
    }
    if begins(&["XA", "START"]) || begins(&["XA", "BEGIN"]) {
        return Meaning::XaStart;
    }
    if statement.contains(FENCE_MARKER) && begins(&["RENAME"]) {
        return Meaning::Other;
    }
    if CHANGING.iter().any(|with| begins(with)) && concerns(&words, default, schema, tables) {
        return Meaning::Concerns;
    }
    if upper.ends_with(&["START".into(), "TRANSACTION".into()]) {
        return Meaning::Opening;
    }
    Meaning::Other
}

fn concerns<'a>(words: &[Word], default: &str, schema: &str, tables: impl Iterator<Item = &'a str>) -> bool {
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let whole_database = words.iter().take(3).any(|w| w.is("DATABASE") || w.is("SCHEMA"));
    if whole_database {
        return words.iter().any(|w| same(&w.text, schema));
    }
    let tables: Vec<&str> = tables.collect();
    words.iter().enumerate().any(|(i, word)| {
        if !tables.iter().any(|t| same(&word.text, t)) {
            return false;
        }
        // `other`.`customer` is another table; `customer` alone is ours only in our database.
        match word.qualified.then(|| &words[i - 1].text) {
            Some(qualifier) => same(qualifier, schema) || tables.iter().any(|t| same(qualifier, t)),
            None => same(default, schema),
        }
    })
}

/// An identifier, keyword or number; strings and comments are left out.
struct Word {
    text: String,
    /// Whether a dot stands between this word and the one before.
    qualified: bool,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }
}

fn words(statement: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut dot = false;
    let mut rest = statement;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '`' | '"' => {
                let (text, length) = quoted(rest, c);
                words.push(Word { text, qualified: dot && !words.is_empty() });
                dot = false;
                length
            }
            '\'' => quoted(rest, c).1,
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '-' if rest.starts_with("-- ") => rest.find('\n').unwrap_or(rest.len()),
            // Executable comments, /*!40000 … */ and /*M! … */, are code: only their opening is passed over.
            '/' if rest.starts_with("/*!") => 3,
            '/' if rest.starts_with("/*M!") => 4,
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
            c if c.is_alphanumeric() || c == '_' || c == '$' => {
                let length =
                    rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
                let text = &rest[..length];
                // The version number of an executable comment is no word.
                if !(words.is_empty() && text.bytes().all(|b| b.is_ascii_digit())) {
                    words.push(Word { text: text.into(), qualified: dot && !words.is_empty() });
                }
                dot = false;
                length
            }
            '.' => {
                dot = true;
                1
            }
            c => {
                dot &= c.is_whitespace();
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    words
}

/// The content of the quoted text at the start of `text`, and how many bytes it takes with its quotes.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote != '`' {
            content.extend(chars.next().map(|(_, c)| c));
        } else if c != quote {
            content.push(c);
        } else if chars.peek().is_some_and(|&(_, next)| next == quote) {
            chars.next();
            content.push(quote);
        } else {
            return (content, at + 1);
        }
    }
    (content, text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(statement: &str) -> Meaning {
        meaning(statement, "shop", "shop", ["customer", "corder"].into_iter())
    }

    #[test]
    fn definitions_of_moved_tables_are_seen() {
        for statement in [
            "ALTER TABLE customer ADD x INT",
            "alter table `Customer` drop x",
            "TRUNCATE corder",
            "DROP TABLE IF EXISTS `shop`.`customer` /* generated by server */",
            "RENAME TABLE a TO b, shop . corder TO d",
            "/*!40000 ALTER TABLE customer DISABLE KEYS */",
            "CREATE UNIQUE INDEX i ON customer (a)",
            "DROP DATABASE shop",
            "# note\nINSERT INTO customer VALUES (1)",
            "-- note\nDELETE FROM customer",
        ] {
            assert_eq!(read(statement), Meaning::Concerns, "{statement}");
        }
    }

    #[test]
    fn other_statements_pass() {
        for statement in [
            "ALTER TABLE product ADD customer_note INT",
            "CREATE TABLE x (a VARCHAR(9) DEFAULT 'customer')",
            "DROP TABLE other.customer",
            "ANALYZE TABLE customer",
            "GRANT SELECT ON customer TO u",
            "ALTER TABLE x COMMENT = 'it''s customer'",
            "DROP DATABASE other",
            "RENAME TABLE /* converge fence */ `shop`.`customer` TO `shop`.`f`",
        ] {
            assert_eq!(read(statement), Meaning::Other, "{statement}");
        }
        assert_eq!(meaning("DROP TABLE customer", "other", "shop", ["customer"].into_iter()), Meaning::Other);
    }

    #[test]
    fn transaction_control_is_told_apart() {
        assert_eq!(read("BEGIN"), Meaning::Begin);
        assert_eq!(read("COMMIT"), Meaning::Commit);
        assert_eq!(read("ROLLBACK"), Meaning::Rollback);
        assert_eq!(read("ROLLBACK TO `a`"), Meaning::RollbackTo);
        assert_eq!(read("SAVEPOINT `a`"), Meaning::Nothing);
        assert_eq!(read("XA START X'61',X'',1"), Meaning::XaStart);
        assert_eq!(read("XA COMMIT X'61',X'',1"), Meaning::Commit);
        assert_eq!(read("CREATE TABLE `x` (a INT) START TRANSACTION"), Meaning::Opening);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "\\PC{0,60}") {
            read(&text);
        }
    }
}
