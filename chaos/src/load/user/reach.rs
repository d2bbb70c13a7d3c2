//! Whether a statement names something of another database: `a.b` is a table of one where a table must stand, and else a
//! table's column.

use super::tokens::Token;

/// Words after which the name of a table, or of another object of a database, stands.
const BEFORE_NAMES: [&str; 13] = [
    "INTO",
    "JOIN",
    "REFERENCES",
    "EXISTS",
    "RENAME",
    "CALL",
    "VIEW",
    "TABLES",
    "SEQUENCE",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "UNION",
];
/// The same of lists of names.
const BEFORE_LISTS: [&str; 3] = ["TABLE", "DROP", "LOCK"];
/// First words of statements; functions and actions of foreign keys are called the same.
const STATEMENTS: [&str; 5] = ["UPDATE", "DELETE", "INSERT", "REPLACE", "TRUNCATE"];
/// Words that may stand between those and a name.
const BETWEEN: [&str; 13] = [
    "LOW_PRIORITY",
    "HIGH_PRIORITY",
    "DELAYED",
    "QUICK",
    "IGNORE",
    "IF",
    "NOT",
    "TO",
    "AS",
    "LATERAL",
    "ALL",
    "DISTINCT",
    "TEMPORARY",
];
/// Words after which no list of tables goes on.
const AFTER_LISTS: [&str; 7] = ["SELECT", "WHERE", "SET", "GROUP", "HAVING", "ORDER", "LIMIT"];
/// Functions of sequences.
const SEQUENCES: [&str; 3] = ["NEXTVAL", "LASTVAL", "SETVAL"];

/// Whether a statement names something of another database than this one.
pub fn reaches_out(tokens: &[Token], database: &str) -> bool {
    let sign = |n: usize, sign: char| tokens.get(n) == Some(&Token::Sign(sign));
    let follows_dot = |n: usize| n > 0 && sign(n - 1, '.');
    // A table's column: the table, or its alias, stands alone somewhere.
    let alone = |name: &str| {
        let same = |n: &usize| tokens[*n].name().is_some_and(|other| other.eq_ignore_ascii_case(name));
        (0..tokens.len()).filter(same).any(|n| !sign(n + 1, '.') && !follows_dot(n))
    };
    let row = |name: &str| ["NEW", "OLD"].iter().any(|row| name.eq_ignore_ascii_case(row));
    let mut places = Places::new(tokens);
    (0..tokens.len()).any(|n| {
        let names_table = places.names_table;
        places.pass(n);
        let Some(name) = tokens[n].name().filter(|_| sign(n + 1, '.') && !follows_dot(n)) else {
            return false;
        };
        let of_table = sign(n + 2, '*');
        let qualified = names_table && !of_table || sign(n + 3, '.') || sign(n + 3, '(');
        name != database && (qualified || !row(name) && !alone(name))
    })
}

/// A parenthesis, or what is outside of all.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// Whether it is in a list of tables.
    list: bool,
    /// Whether a FROM here is a query's, and no function's.
    query: bool,
}

/// Finds the places where tables must stand.
struct Places<'a> {
    tokens: &'a [Token],
    levels: Vec<Level>,
    /// Whether a name that comes next is that of a table.
    names_table: bool,
    /// Whether the ON is still to come that says what an index or a trigger is on.
    on: bool,
}

impl<'a> Places<'a> {
    fn new(tokens: &'a [Token]) -> Self {
        let object = super::program::object(tokens).map(|at| &tokens[at]);
        let on = object.is_some_and(|object| object.is_any(&["INDEX", "TRIGGER"]));
        let outside = Level { list: false, query: true };
        Self { tokens, levels: vec![outside], names_table: false, on }
    }

    fn follows(&self, n: usize, words: &[&str]) -> bool {
        n > 0 && self.tokens[n - 1].is_any(words)
    }

    fn follows_sign(&self, n: usize, sign: char) -> bool {
        n > 0 && self.tokens[n - 1] == Token::Sign(sign)
    }

    /// Passes a part of the statement.
    fn pass(&mut self, n: usize) {
        let list = self.levels.last().is_some_and(|level| level.list);
        match &self.tokens[n] {
            Token::Sign('(') => {
                self.names_table |= self.follows(n, &SEQUENCES);
                self.levels.push(Level { list: self.names_table, query: false });
            }
            Token::Sign(')') => {
                // One too many is no statement.
                if self.levels.len() > 1 {
                    self.levels.pop();
                }
                self.names_table = false;
            }
            Token::Sign(',') => self.names_table = list,
            Token::Sign(';') => {
                self.levels = vec![Level { list: false, query: true }];
                self.names_table = false;
            }
            Token::Sign('=' | '{') => {}
            Token::Word(word) if !self.follows_sign(n, '.') => self.word(n, &word.to_ascii_uppercase()),
            _ => self.names_table = false,
        }
    }

    fn word(&mut self, n: usize, word: &str) {
        let Some(mut level) = self.levels.last().copied() else { return };
        let is = |words: &[&str]| words.contains(&word);
        let called = self.tokens.get(n + 1) == Some(&Token::Sign('('));
        let between = is(&BETWEEN) || self.follows_sign(n, '{');
        let of_trigger = self.tokens.get(n + 1).is_some_and(|next| next.is_any(&["ON", "OR", "OF"]));
        let begins = !called && !of_trigger && !self.follows(n, &["ON", "KEY"]);
        self.names_table = if is(&STATEMENTS) && begins {
            level.list |= is(&["UPDATE", "DELETE"]);
            level.query |= is(&["DELETE"]);
            true
        } else if is(&BEFORE_LISTS) || is(&["FROM"]) && level.query {
            level.list = true;
            true
        } else if is(&AFTER_LISTS) && !self.follows(n, &["FOR"]) || is(&["UPDATE"]) {
            level = Level { list: false, query: level.query || is(&["SELECT"]) };
            false
        } else if is(&["ON"]) && self.on {
            self.on = false;
            true
        } else {
            is(&BEFORE_NAMES)
                || is(&["STRAIGHT_JOIN"]) && level.list
                || is(&["USING"]) && level.list && !called
                || is(&["FOR"]) && self.follows(n, &["VALUE"])
                || is(&["LIKE"]) && self.makes_alike(n)
                || between && self.names_table
        };
        if let Some(last) = self.levels.last_mut() {
            *last = level;
        }
    }

    /// Whether this LIKE says what a new table is made like.
    fn makes_alike(&self, n: usize) -> bool {
        let inner = |token: &Token| *token == Token::Sign('(') || token.is("SELECT");
        self.follows_sign(n, '(') || self.tokens[0].is("CREATE") && !self.tokens[..n].iter().any(inner)
    }
}
