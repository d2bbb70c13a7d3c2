//! What a definition is of, and where the body of a stored program begins and ends: read as a server does, from the grammar
//! alone, for what comes after that end is a statement of its own.

use super::tokens::{Token, split};

/// A trigger, a routine or an event that is on a server, by its body.
#[derive(Debug)]
pub struct Program {
    body: String,
    /// Its statements, in each way that servers may read it.
    statements: Vec<Vec<Token>>,
}

impl Program {
    /// Takes a body apart. One that cannot be has no statements.
    pub fn new(body: String) -> Self {
        // Without a head it would end at its first semicolon.
        let whole = format!("CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW {body}");
        let inner = |tokens: &Vec<Token>| -> Vec<Vec<Token>> {
            let found = self::body(tokens).and_then(|body| statements(body).ok()).unwrap_or_default();
            found.into_iter().map(<[Token]>::to_vec).collect()
        };
        let statements = readings(&whole).iter().flat_map(inner).collect();
        Self { body, statements }
    }

    /// Whether this is the whole text of a statement in it.
    pub fn has(&self, text: &str) -> bool {
        let read = readings(text);
        let is_whole = |tokens: &Vec<Token>| self.statements.contains(tokens);
        // A number may go on.
        let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let mut places = self.body.match_indices(text).map(|(at, text)| &self.body[at + text.len()..]);
        !read.is_empty() && read.iter().all(is_whole) && places.any(|rest| !rest.starts_with(goes_on))
    }
}

/// The parts of a text that is a single statement.
fn readings(text: &str) -> Vec<Vec<Token>> {
    let mut found = split(text);
    match (found.next(), found.next()) {
        (Some(Ok(mut statement)), None) => statement.take_readings(),
        _ => Vec::new(),
    }
}

/// What has a body of statements.
const PROGRAMS: [&str; 3] = ["TRIGGER", "PROCEDURE", "FUNCTION"];
/// Words of a type after its first.
const OF_TYPES: [&str; 13] = [
    "UNSIGNED",
    "SIGNED",
    "ZEROFILL",
    "BINARY",
    "ASCII",
    "UNICODE",
    "BYTE",
    "PRECISION",
    "VARYING",
    "CHAR",
    "VARCHAR",
    "VARCHARACTER",
    "VARBINARY",
];
/// What may stand before a routine's body: the first word, and how many words it is in all.
const CHARACTERISTICS: [(&str, usize); 8] = [
    ("COMMENT", 2),
    ("DETERMINISTIC", 1),
    ("NOT", 2),
    ("CONTAINS", 2),
    ("NO", 2),
    ("READS", 3),
    ("MODIFIES", 3),
    ("SQL", 3),
];

/// Where the word stands that says of what kind the object of a CREATE, DROP or ALTER is.
pub fn object(tokens: &[Token]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += match tokens.get(at)? {
            word if word.is("DEFINER") => 2 + account(tokens.get(at + 2..)?)?,
            word if word.is_any(&["ALGORITHM", "SQL"]) => 3,
            word if word.is("OR") => 2,
            word if word.is_any(&["TEMPORARY", "AGGREGATE", "IGNORE", "ONLINE"]) => 1,
            word if word.is_any(&["UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR"]) => 1,
            Token::Word(_) => return Some(at),
            _ => return None,
        };
    }
}

/// The parts of an account.
fn account(tokens: &[Token]) -> Option<usize> {
    match (tokens.first()?, tokens.get(1)) {
        (Token::Sign(_) | Token::Number, _) => None,
        (_, Some(Token::Variable(_))) => Some(2),
        (_, Some(Token::Sign('('))) => Some(3),
        _ => Some(1),
    }
}

/// The body of a stored program, if its statement is the definition of one.
pub fn body(tokens: &[Token]) -> Option<&[Token]> {
    let kind = object(tokens).filter(|_| tokens[0].is("CREATE"))?;
    let at = match &tokens[kind] {
        word if word.is("TRIGGER") => after_trigger(tokens)?,
        word if word.is_any(&PROGRAMS) => after_routine(tokens, kind)?,
        _ => return None,
    };
    tokens.get(at..)
}

fn after_trigger(tokens: &[Token]) -> Option<usize> {
    let each_row = |w: &[Token]| w[0].is("FOR") && w[1].is("EACH") && w[2].is("ROW");
    let at = tokens.windows(3).position(each_row)? + 3;
    Some(if tokens.get(at)?.is_any(&["FOLLOWS", "PRECEDES"]) { at + 2 } else { at })
}

fn after_routine(tokens: &[Token], kind: usize) -> Option<usize> {
    let parameters = (kind..tokens.len()).find(|n| tokens[*n] == Token::Sign('('))?;
    let mut at = after_group(tokens, parameters)?;
    if tokens[kind].is("FUNCTION") {
        at = after_type(tokens, at)?;
    }
    loop {
        let word = tokens.get(at)?;
        let language = word.is("LANGUAGE") && tokens.get(at + 1)?.is("SQL");
        let words = CHARACTERISTICS.iter().find(|(first, _)| word.is(first)).map(|(_, words)| *words);
        match words.or(language.then_some(2)) {
            Some(words) => at += words,
            None => return Some(at),
        }
    }
}

/// The place after the parenthesis that closes the one at `at`.
fn after_group(tokens: &[Token], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(n + 1);
        }
    }
    None
}

/// The place after what a function returns.
fn after_type(tokens: &[Token], at: usize) -> Option<usize> {
    tokens.get(at).filter(|token| token.is("RETURNS"))?;
    let mut at = at + 2;
    loop {
        at = match tokens.get(at)? {
            Token::Sign('(') => after_group(tokens, at)?,
            word if word.is_any(&["CHARSET", "COLLATE"]) => at + 2,
            word if word.is("CHARACTER") => at + if tokens.get(at + 1)?.is("SET") { 3 } else { 1 },
            word if word.is_any(&OF_TYPES) => at + 1,
            _ => return Some(at),
        };
    }
}

/// Whether these are the beginning of a stored program in whose body there is more to come.
pub fn is_open(tokens: &[Token]) -> bool {
    body(tokens).is_some_and(|body| !body.is_empty() && statements(body) == Err(Broken::Unended))
}

/// Why a body cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// There is more to come.
    Unended,
    /// It is none, or something follows it.
    Malformed,
}

/// The statements in a body, without those around them that decide when they are carried out.
pub fn statements(body: &[Token]) -> Result<Vec<&[Token]>, Broken> {
    let mut walk = Walk { tokens: body, at: 0, open: Vec::new(), found: Vec::new() };
    while !walk.step()? {}
    Ok(walk.found)
}

struct Walk<'a> {
    tokens: &'a [Token],
    /// Where a statement begins.
    at: usize,
    /// What has been begun and not ended: the words after its END.
    open: Vec<&'static str>,
    found: Vec<&'a [Token]>,
}

impl Walk<'_> {
    fn is(&self, at: usize, words: &[&str]) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_any(words))
    }

    fn is_sign(&self, at: usize, sign: char) -> bool {
        self.tokens.get(at) == Some(&Token::Sign(sign))
    }

    fn is_named(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.name().is_some())
    }

    /// Passes a statement, or its beginning if there are others in it. Whether the body ended with it.
    fn step(&mut self) -> Result<bool, Broken> {
        if self.is_named(self.at) && self.is_sign(self.at + 1, ':') {
            self.at += 2;
            return Ok(false);
        }
        let Some(token) = self.tokens.get(self.at) else { return Err(Broken::Unended) };
        let word = match token {
            Token::Word(word) => word.to_ascii_uppercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "BEGIN" => {
                let atomic = self.is(self.at + 1, &["NOT"]) && self.is(self.at + 2, &["ATOMIC"]);
                self.begin("", self.at + if atomic { 3 } else { 1 });
            }
            "LOOP" => self.begin("LOOP", self.at + 1),
            "REPEAT" => self.begin("REPEAT", self.at + 1),
            "IF" => self.begin("IF", self.after(&["THEN"])?),
            "CASE" => self.begin("CASE", self.after(&["THEN"])?),
            "WHILE" => self.begin("WHILE", self.after(&["DO"])?),
            "FOR" => self.begin("FOR", self.after(&["DO"])?),
            "ELSEIF" | "WHEN" => self.at = self.after(&["THEN"])?,
            "ELSE" => self.at += 1,
            "UNTIL" => self.at = self.after(&["REPEAT"])? - 2,
            "END" => return self.end(),
            "DECLARE" if self.is(self.at + 2, &["HANDLER"]) => self.handler()?,
            _ => return self.simple(),
        }
        Ok(false)
    }

    fn begin(&mut self, kind: &'static str, at: usize) {
        self.open.push(kind);
        self.at = at;
    }

    /// The place after the first of these words that is in no expression's CASE.
    fn after(&self, words: &[&str]) -> Result<usize, Broken> {
        let mut cases = 0_usize;
        for n in self.at + 1..self.tokens.len() {
            let is_name = self.is_sign(n - 1, '.');
            if self.is_sign(n, ';') {
                break;
            } else if self.is(n, &["CASE"]) && !is_name {
                cases += 1;
            } else if self.is(n, &["END"]) && !is_name {
                cases = cases.saturating_sub(1);
            } else if self.is(n, words) && !is_name && cases == 0 {
                return Ok(n + 1);
            }
        }
        Err(Broken::Malformed)
    }

    fn end(&mut self) -> Result<bool, Broken> {
        let kind = self.open.pop().ok_or(Broken::Malformed)?;
        self.at += 1;
        if !kind.is_empty() {
            let is_its = self.is(self.at, &[kind]);
            self.at += if is_its { 1 } else { return Err(Broken::Malformed) };
        }
        self.at += usize::from(self.is_named(self.at));
        self.close()
    }

    /// Passes the conditions of a handler, after which its statement begins.
    fn handler(&mut self) -> Result<(), Broken> {
        self.at += 3;
        self.at += if self.is(self.at, &["FOR"]) { 1 } else { return Err(Broken::Malformed) };
        loop {
            let state = self.is(self.at, &["SQLSTATE"]);
            let value = usize::from(state && self.is(self.at + 1, &["VALUE"]));
            self.at += if state || self.is(self.at, &["NOT"]) { 2 + value } else { 1 };
            if !self.is_sign(self.at, ',') {
                return Ok(());
            }
            self.at += 1;
        }
    }

    fn simple(&mut self) -> Result<bool, Broken> {
        let rest = &self.tokens[self.at..];
        let end = rest.iter().position(|token| *token == Token::Sign(';')).unwrap_or(rest.len());
        self.found.push(if end > 0 { &rest[..end] } else { return Err(Broken::Malformed) });
        self.at += end;
        self.close()
    }

    /// Passes the end of a statement: the body's own, after which there is nothing, or a semicolon.
    fn close(&mut self) -> Result<bool, Broken> {
        match self.tokens.get(self.at) {
            _ if self.open.is_empty() => match self.at == self.tokens.len() {
                true => Ok(true),
                false => Err(Broken::Malformed),
            },
            Some(Token::Sign(';')) => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Err(Broken::Malformed),
            None => Err(Broken::Unended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_whole_statements_alone() {
        let body = "BEGIN\n  DECLARE EXIT HANDLER FOR NOT FOUND DELETE FROM e;\n  -- DELETE FROM a;\n  IF NEW.x > 1 THEN\n    \
                    DELETE FROM t WHERE id = NEW.id AND s = 'UPDATE u SET a = 1';\n  ELSE UPDATE u /* one */ SET a = 7 WHERE \
                    b IN (SELECT c FROM d);\n  END IF;\nEND";
        let program = Program::new(body.into());
        for whole in [
            "DELETE FROM e",
            "DELETE FROM t WHERE id = NEW.id AND s = 'UPDATE u SET a = 1'",
            "UPDATE u /* one */ SET a = 7 WHERE b IN (SELECT c FROM d)",
        ] {
            assert!(program.has(whole), "{whole}");
        }
        for part in [
            "DELETE FROM t",
            "DELETE FROM a",
            "UPDATE u SET a = 1",
            "UPDATE u /* one */ SET a = 7",
            "SELECT c FROM d",
            "",
        ] {
            assert!(!program.has(part), "{part}");
        }
        assert!(Program::new("UPDATE u SET a = 7".into()).has("UPDATE u SET a = 7"));
        for other in ["UPDATE u SET a = 8", "UPDATE u SET a = 70"] {
            assert!(!Program::new(other.into()).has("UPDATE u SET a = 7"), "{other}");
        }
        assert!(!Program::new("BEGIN UPDATE u SET a = 7".into()).has("UPDATE u SET a = 7"));
    }
}
