//! A file of SQL statements taken apart, as a client does it: at its delimiter, outside of quotes and comments, and with
//! the bodies of comments that a server executes.
//!
//! Nothing here knows what a statement means.

/// The version of a comment that no server executes: MariaDB's dumps begin with one.
const NO_VERSION: u32 = 999_999;

/// A part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A keyword, a name without quotes, or a number.
    Word(String),
    /// A name in backquotes; or what is in double quotes, which is a name in some SQL modes.
    Name(String),
    /// A text in single quotes.
    Text,
    /// `@x`, `@@x.y`, or the host of an account.
    Variable(String),
    /// Anything else, a character at a time.
    Sign(char),
}

impl Token {
    /// Whether it is this keyword, which is given in capitals.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// The text of what may be a name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(word) if word.bytes().all(|b| b.is_ascii_digit()) => None,
            Self::Word(name) | Self::Name(name) => Some(name),
            _ => None,
        }
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
    pub tokens: Vec<Token>,
}

/// Takes a file apart, a statement at a time: a dump with its rows is large. An error is the line of a quote or comment
/// that does not end; nothing comes after it.
pub fn split(text: &str) -> impl Iterator<Item = Result<Statement, usize>> {
    let mut splitter = Splitter { text, at: 0, executed: false, delimiter: ";", from: 0, lines: (0, 1) };
    std::iter::from_fn(move || splitter.next().transpose())
}

struct Splitter<'a> {
    text: &'a str,
    at: usize,
    /// Whether it is in a comment that is executed.
    executed: bool,
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

    fn next(&mut self) -> Result<Option<Statement>, usize> {
        let (mut tokens, mut first) = (Vec::new(), 0);
        while let Some(next) = self.rest().chars().next() {
            if next.is_whitespace() {
                self.at += next.len_utf8();
            } else if self.rest().starts_with(self.delimiter) && !(self.delimiter == ";" && is_open(&tokens))
            {
                if let Some(statement) = self.end(std::mem::take(&mut tokens), first) {
                    return Ok(Some(statement));
                }
            } else if tokens.is_empty() && self.changes_delimiter() {
                self.from = self.at;
            } else if !self.comment()? {
                if tokens.is_empty() {
                    first = self.at;
                }
                tokens.push(self.token(next)?);
            }
        }
        Ok(self.end(tokens, first))
    }

    /// Ends the statement at hand, if there is one, whose first part is at `first`.
    fn end(&mut self, tokens: Vec<Token>, first: usize) -> Option<Statement> {
        let statement = (!tokens.is_empty()).then(|| {
            let (line, sql) = (self.line(first), self.text[self.from..self.at].to_owned());
            Statement { line, sql, begins: first - self.from, tokens }
        });
        self.at = (self.at + self.delimiter.len()).min(self.text.len());
        self.from = self.at;
        statement
    }

    /// Takes the client's own command for another delimiter.
    fn changes_delimiter(&mut self) -> bool {
        let line = self.rest().lines().next().unwrap_or_default();
        let Some((word, delimiter)) = line.split_once(char::is_whitespace) else { return false };
        let delimiter = delimiter.trim();
        let is_one = word.eq_ignore_ascii_case("delimiter") && !delimiter.is_empty();
        if is_one {
            self.delimiter = delimiter;
            self.at += line.len();
        }
        is_one
    }

    /// Passes a comment, or the edge of one that is executed.
    fn comment(&mut self) -> Result<bool, usize> {
        let rest = self.rest();
        let dashes =
            rest.strip_prefix("--").is_some_and(|r| r.is_empty() || r.starts_with(char::is_whitespace));
        if dashes || rest.starts_with('#') {
            self.at += rest.find('\n').unwrap_or(rest.len());
            return Ok(true);
        }
        if self.executed && rest.starts_with("*/") {
            self.executed = false;
            self.at += 2;
            return Ok(true);
        }
        if !rest.starts_with("/*") {
            return Ok(false);
        }
        if let Some(body) = rest.strip_prefix("/*!").or_else(|| rest.strip_prefix("/*M!")) {
            let code = body.trim_start_matches(|c: char| c.is_ascii_digit());
            let version = body[..body.len() - code.len()].parse::<u32>();
            if version != Ok(NO_VERSION) {
                self.executed = true;
                self.at = self.text.len() - code.len();
                return Ok(true);
            }
        }
        let end = rest.find("*/").ok_or_else(|| self.line(self.at))?;
        self.at += end + 2;
        Ok(true)
    }

    fn token(&mut self, first: char) -> Result<Token, usize> {
        match first {
            '\'' => self.quoted('\'').map(|_| Token::Text),
            '"' | '`' => self.quoted(first).map(Token::Name),
            '@' => {
                let from = self.at;
                self.at += self.rest().find(|c| c != '@').unwrap_or(self.rest().len());
                match self.rest().chars().next() {
                    Some(quote @ ('\'' | '"' | '`')) => drop(self.quoted(quote)?),
                    _ => self.pass(|c| is_word(c) || c == '.'),
                }
                Ok(Token::Variable(self.text[from..self.at].to_owned()))
            }
            c if is_word(c) => {
                let from = self.at;
                self.pass(is_word);
                Ok(Token::Word(self.text[from..self.at].to_owned()))
            }
            other => {
                self.at += other.len_utf8();
                Ok(Token::Sign(other))
            }
        }
    }

    fn pass(&mut self, belongs: impl Fn(char) -> bool) {
        self.at += self.rest().find(|c| !belongs(c)).unwrap_or(self.rest().len());
    }

    /// Passes what is in quotes, which are doubled in it or, but for those of names, follow a backslash.
    fn quoted(&mut self, quote: char) -> Result<String, usize> {
        let mut inner = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' if quote != '`' => inner.extend(chars.next().map(|(_, c)| c)),
                c if c == quote => match chars.next_if(|(_, next)| *next == quote) {
                    Some(_) => inner.push(quote),
                    None => {
                        self.at += at + 1;
                        return Ok(inner);
                    }
                },
                other => inner.push(other),
            }
        }
        Err(self.line(self.at))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || c as u32 >= 0x80 && !c.is_whitespace()
}

/// Whether these are the beginning of a stored program in whose body there is more to come.
fn is_open(tokens: &[Token]) -> bool {
    let programs = ["TRIGGER", "PROCEDURE", "FUNCTION", "EVENT"];
    let is_program = |token: &Token| programs.iter().any(|program| token.is(program));
    if !tokens.first().is_some_and(|first| first.is("CREATE")) || !tokens.iter().any(is_program) {
        return false;
    }
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate() {
        let ends_other =
            |next: &Token| ["IF", "LOOP", "WHILE", "REPEAT", "FOR"].iter().any(|word| next.is(word));
        let after_end = n > 0 && tokens[n - 1].is("END");
        if token.is("BEGIN") || token.is("CASE") && !after_end {
            depth += 1;
        } else if token.is("END") && !tokens.get(n + 1).is_some_and(ends_other) {
            depth -= 1;
        }
    }
    depth > 0
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
