//! A file of SQL statements taken apart, as a client and a server do it: at its delimiter, outside of quotes and comments, and
//! with the bodies of comments that a server executes.
//!
//! Where servers would not find the same parts, the file is refused. Nothing here knows what a statement means.

use std::collections::BTreeSet;
use std::ops::Range;

use super::program;

/// The version of a comment that no server executes: MariaDB's dumps begin with one.
const NO_VERSION: u32 = 999_999;
/// Comments up to this version are executed by every server; MariaDB executes none from here to [`MYSQL_ONLY`] that is
/// not its own.
const OLDEST: u32 = 50_700;
/// The last version of comments that only MySQL executes.
const MYSQL_ONLY: u32 = 99_999;

/// Why a file cannot be taken apart, and the way out.
type Fault = (&'static str, &'static str);
const UNENDED: Fault = (
    "a quote or a comment that does not end",
    "end it; a text's own quote is doubled or has a backslash before it",
);
const COMMENT: Fault = (
    "a comment that servers read in different ways",
    "take it out; what is between `/*!` and `*/` has neither of these in its quotes, and a version of 5 or 6 digits",
);
const GLUED: Fault =
    ("a number and a word without a space between them", "put a space there, or the name in backquotes");
const DOLLARS: Fault =
    ("a word that some servers take for the beginning of a quote", "put it in backquotes, if it is a name");

/// Where a file cannot be taken apart any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: &'static str,
    /// What to do.
    pub help: &'static str,
}

/// A part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A keyword, or a name without quotes.
    Word(String),
    /// A number.
    Number,
    /// A name in backquotes; or what is in double quotes, which is a name in some SQL modes.
    Name(String),
    /// A text in single quotes.
    Text(String),
    /// `@x`, `@@x`, or the host of an account, without quotes.
    Variable(String),
    /// Anything else, a character at a time.
    Sign(char),
}

impl Token {
    /// Whether it is this keyword, which is given in capitals.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether it is one of these keywords.
    pub fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// The text of what may be a name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// Parts in a comment that not every server executes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conditional {
    parts: Range<usize>,
    version: u32,
    mariadb_only: bool,
}

impl Conditional {
    fn is_executed(&self, mariadb: bool, version: u32) -> bool {
        let skipped = if mariadb {
            !self.mariadb_only && (OLDEST..=MYSQL_ONLY).contains(&self.version)
        } else {
            self.mariadb_only
        };
        self.version <= version && !skipped
    }
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// Its text, with comments.
    pub sql: String,
    /// Where in that it begins.
    pub begins: usize,
    /// Its parts, without comments.
    tokens: Vec<Token>,
    conditional: Vec<Conditional>,
}

impl Statement {
    /// Takes its parts, once for each set of them that servers of some version execute.
    pub fn take_readings(&mut self) -> Vec<Vec<Token>> {
        let tokens = std::mem::take(&mut self.tokens);
        if self.conditional.is_empty() {
            return vec![tokens];
        }
        let versions: BTreeSet<u32> =
            self.conditional.iter().map(|c| c.version.max(OLDEST)).chain([OLDEST]).collect();
        let reading = |mariadb: bool, version: u32| {
            let is_out = |n: &usize| {
                self.conditional.iter().any(|c| c.parts.contains(n) && !c.is_executed(mariadb, version))
            };
            (0..tokens.len()).filter(|n| !is_out(n)).map(|n| tokens[n].clone()).collect()
        };
        versions.iter().flat_map(|v| [reading(false, *v), reading(true, *v)]).collect()
    }
}

/// Takes a file apart, a statement at a time: a dump with its rows is large. Nothing comes after an error.
pub fn split(text: &str) -> impl Iterator<Item = Result<Statement, Unreadable>> {
    let mut splitter = Splitter {
        text,
        at: 0,
        executed: None,
        conditional: Vec::new(),
        delimiter: ";",
        from: 0,
        lines: (0, 1),
    };
    std::iter::from_fn(move || splitter.next().transpose())
}

struct Splitter<'a> {
    text: &'a str,
    at: usize,
    /// The comment at hand, if it is executed.
    executed: Option<Conditional>,
    /// Those of the statement at hand that not every server executes.
    conditional: Vec<Conditional>,
    delimiter: &'a str,
    /// Where the statement at hand begins, comments included.
    from: usize,
    /// A place, and the line that it is in.
    lines: (usize, usize),
}

impl<'a> Splitter<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The line of a place that is behind all that were asked for before.
    fn line(&mut self, at: usize) -> usize {
        let (before, line) = self.lines;
        self.lines = (at, line + self.text[before..at].matches('\n').count());
        self.lines.1
    }

    fn fault(&mut self, (why, help): Fault) -> Unreadable {
        Unreadable { line: self.line(self.at), why, help }
    }

    fn next(&mut self) -> Result<Option<Statement>, Unreadable> {
        let (mut tokens, mut first) = (Vec::new(), 0);
        while let Some(next) = self.rest().chars().next() {
            if is_space(next) {
                self.at += 1;
            } else if self.rest().starts_with(self.delimiter)
                && !(self.delimiter == ";" && program::is_open(&tokens))
            {
                if let Some(statement) = self.end(std::mem::take(&mut tokens), first)? {
                    return Ok(Some(statement));
                }
            } else if tokens.is_empty() && self.changes_delimiter() {
                self.from = self.at;
            } else if !self.comment(tokens.len())? {
                if tokens.is_empty() {
                    first = self.at;
                }
                tokens.push(self.token(next, tokens.last())?);
            }
        }
        self.end(tokens, first)
    }

    /// Ends the statement at hand, if there is one, whose first part is at `first`.
    fn end(&mut self, tokens: Vec<Token>, first: usize) -> Result<Option<Statement>, Unreadable> {
        if self.executed.is_some() {
            return Err(self.fault(UNENDED));
        }
        let conditional = std::mem::take(&mut self.conditional);
        let statement = (!tokens.is_empty()).then(|| {
            let (line, sql) = (self.line(first), self.text[self.from..self.at].to_owned());
            Statement { line, sql, begins: first - self.from, tokens, conditional }
        });
        self.at = (self.at + self.delimiter.len()).min(self.text.len());
        self.from = self.at;
        Ok(statement)
    }

    /// Takes the client's own command for another delimiter.
    fn changes_delimiter(&mut self) -> bool {
        let line = self.rest().lines().next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let is_command = words.next().is_some_and(|word| word.eq_ignore_ascii_case("delimiter"));
        let Some(delimiter) = words.next().filter(|_| is_command) else { return false };
        self.delimiter = delimiter;
        self.at += line.len();
        true
    }

    /// Passes a comment, or the edge of one that is executed, before which there were so many parts.
    fn comment(&mut self, parts: usize) -> Result<bool, Unreadable> {
        let rest = self.rest();
        let begins = |c: char| c == ' ' || c.is_ascii_control();
        let dashes = rest.strip_prefix("--").is_some_and(|r| r.is_empty() || r.starts_with(begins));
        if dashes || rest.starts_with('#') {
            let end = rest.find(['\n', '\0']).unwrap_or(rest.len());
            self.is_read_alike(&rest[..end])?;
            self.at += end;
        } else if rest.starts_with("*/") && self.executed.is_some() {
            self.conditional.extend(self.executed.take().filter(|c| c.mariadb_only || c.version >= OLDEST));
            if let Some(last) = self.conditional.last_mut().filter(|c| c.parts.end == usize::MAX) {
                last.parts.end = parts;
            }
            self.at += 2;
        } else if !rest.starts_with("/*") {
            return Ok(false);
        } else if !self.begins_executed(parts)? {
            let end = rest.find("*/").ok_or_else(|| self.fault(UNENDED))?;
            let body = &rest[2..end.max(2)];
            let hint = body.starts_with('+') && body.contains(['\'', '"', '`']);
            let of_mariadb = self.executed.as_ref().is_some_and(|c| c.mariadb_only);
            if hint || of_mariadb || body.trim_start_matches('M').starts_with('!') && body.contains("/*") {
                return Err(self.fault(COMMENT));
            }
            self.at += end + 2;
        }
        Ok(true)
    }

    /// Passes the beginning of a comment that is executed.
    fn begins_executed(&mut self, parts: usize) -> Result<bool, Unreadable> {
        let rest = self.rest();
        let Some(body) = rest.strip_prefix("/*!").or_else(|| rest.strip_prefix("/*M!")) else {
            return Ok(false);
        };
        let code = body.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &body[..body.len() - code.len()];
        if self.executed.is_some() || !matches!(digits.len(), 0 | 5 | 6) {
            return Err(self.fault(COMMENT));
        }
        let version = digits.parse().unwrap_or(0);
        if version == NO_VERSION {
            return Ok(false);
        }
        let mariadb_only = rest.starts_with("/*M");
        self.executed = Some(Conditional { parts: parts..usize::MAX, version, mariadb_only });
        self.at = self.text.len() - code.len();
        Ok(true)
    }

    /// Refuses what a server that skips the comment at hand would take for its end, or for a comment in it.
    fn is_read_alike(&mut self, quoted: &str) -> Result<(), Unreadable> {
        let ends = self.executed.is_some() && (quoted.contains("*/") || quoted.contains("/*"));
        if ends { Err(self.fault(COMMENT)) } else { Ok(()) }
    }

    fn token(&mut self, first: char, last: Option<&Token>) -> Result<Token, Unreadable> {
        match first {
            '\'' => self.quoted('\'').map(Token::Text),
            '"' | '`' => self.quoted(first).map(Token::Name),
            '@' => self.variable(),
            c if self.begins_number(c, last) => self.number(),
            c if is_word(c) => self.word(),
            other => {
                self.at += other.len_utf8();
                Ok(Token::Sign(other))
            }
        }
    }

    fn variable(&mut self) -> Result<Token, Unreadable> {
        let signs = self.rest().len() - self.rest().trim_start_matches('@').len();
        let from = self.at;
        self.at += signs;
        let name = match self.rest().chars().next() {
            Some(quote @ ('\'' | '"' | '`')) => self.quoted(quote)?,
            // Only those of users have a dot in their names.
            _ => self.pass(|c| is_word(c) || c == '.' && signs == 1).to_owned(),
        };
        Ok(Token::Variable(format!("{}{name}", &self.text[from..from + signs])))
    }

    /// Whether a number begins here: names have digits at their beginning too, and dots between them.
    fn begins_number(&self, first: char, last: Option<&Token>) -> bool {
        let before = self.text[..self.at].chars().next_back();
        match first {
            '.' => {
                let names = matches!(last, Some(Token::Word(_) | Token::Name(_) | Token::Variable(_)));
                let adjoins = before.is_some_and(|c| is_word(c) || c == '`' || c == '"');
                !(names && adjoins) && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit())
            }
            c => c.is_ascii_digit() && !(last == Some(&Token::Sign('.')) && before == Some('.')),
        }
    }

    fn number(&mut self) -> Result<Token, Unreadable> {
        let rest = self.rest();
        let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(0);
        let mut end = whole;
        if rest[end..].starts_with('.') {
            end += 1 + digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(end + 1 + sign);
            end += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
        let after = &rest[end..];
        match after.starts_with(is_word) && !after.starts_with(self.delimiter) {
            true if end == whole => self.word(),
            true => Err(self.fault(GLUED)),
            false => {
                self.at += end;
                Ok(Token::Number)
            }
        }
    }

    fn word(&mut self) -> Result<Token, Unreadable> {
        let word = self.pass(is_word);
        if word.strip_prefix('$').is_some_and(|tag| tag.contains('$')) {
            return Err(self.fault(DOLLARS));
        }
        Ok(Token::Word(word.to_owned()))
    }

    /// Passes what belongs to it, up to the delimiter.
    fn pass(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let ends = |(at, c): &(usize, char)| !belongs(*c) || rest[*at..].starts_with(self.delimiter);
        let end = rest.char_indices().find(ends).map_or(rest.len(), |(at, _)| at);
        self.at += end;
        &rest[..end]
    }

    /// Passes what is in quotes, which are doubled in it or, but for those of names, follow a backslash.
    fn quoted(&mut self, quote: char) -> Result<String, Unreadable> {
        let mut inner = String::new();
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' if quote != '`' => inner.extend(chars.next().map(|(_, c)| c)),
                c if c == quote => match chars.next_if(|(_, next)| *next == quote) {
                    Some(_) => inner.push(quote),
                    None => {
                        self.is_read_alike(&rest[..at])?;
                        self.at += at + 1;
                        return Ok(inner);
                    }
                },
                other => inner.push(other),
            }
        }
        Err(self.fault(UNENDED))
    }
}

/// What a server takes for a space.
fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(text: &str) -> Vec<(usize, String)> {
        let shown = |s: Statement| (s.line, s.sql[s.begins..].trim().to_owned());
        split(text).map(Result::unwrap).map(shown).collect()
    }

    #[test]
    fn quotes_and_comments_hide_delimiters_and_an_executed_comment_does_not_hide_its_body() {
        let text = "-- a; b\nCREATE TABLE t (a TEXT DEFAULT 'x;\\';''' /* ; */, `b;``` INT); # c;\n\n/*!40101 SET @a = 1 */;\n\
                    /*M!999999\\- enable the sandbox mode */ SELECT 1;";
        let found = heads(text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0].0, 2);
        assert!(found[0].1.ends_with("INT)"), "{found:?}");
        assert_eq!(found[1], (4, "SET @a = 1 */".to_owned()));
        assert_eq!(found[2], (5, "SELECT 1".to_owned()));
        for open in ["SELECT 'a", "x;\n/* a", "`b"] {
            assert!(split(open).any(|statement| statement.is_err()), "{open}");
        }
    }

    #[test]
    fn a_program_is_one_statement_with_or_without_a_delimiter_of_its_own() {
        let body = "BEGIN IF NEW.a > 1 THEN SET NEW.a = CASE WHEN 1 THEN 2 END; END IF; END";
        let trigger = format!("CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW {body}");
        for text in [
            format!("{trigger};\nDROP TABLE t"),
            format!("DELIMITER ;;\n{trigger} ;;\nDELIMITER ;\nDROP TABLE t;"),
        ] {
            let found = heads(&text);
            assert_eq!(found.len(), 2, "{found:?}");
            assert_eq!((found[0].1.as_str(), found[1].1.as_str()), (trigger.as_str(), "DROP TABLE t"));
        }
    }
}
