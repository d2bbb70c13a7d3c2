//! Which statements a schema's file may have: those of known kinds, that make and fill tables of one database.

use super::program::{self, Broken};
use super::reach::reaches_out;
use super::setting::{self, ENGINE, ENGINES_ELSEWHERE, Variables};
use super::tokens::Token;

/// What is made by a schema's file.
const OBJECTS: [&str; 7] = ["TABLE", "VIEW", "INDEX", "TRIGGER", "SEQUENCE", "PROCEDURE", "FUNCTION"];
/// First words of statements in the body of a stored program that change nothing out of it, besides those of a file.
const IN_BODIES: [&str; 21] = [
    "SELECT",
    "WITH",
    "VALUES",
    "CALL",
    "DO",
    "RETURN",
    "LEAVE",
    "ITERATE",
    "OPEN",
    "FETCH",
    "CLOSE",
    "SIGNAL",
    "RESIGNAL",
    "GET",
    "DECLARE",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "COMMIT",
    "INSERT",
    "REPLACE",
];

/// Why a statement is not accepted, and the way out.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// What is wrong with it.
    pub why: &'static str,
    /// What to do.
    pub help: &'static str,
}

/// What is found, or why the statement is not accepted.
pub type Judgement<T> = Result<T, Refusal>;

const DUMP: &str = "give statements that make and fill tables, without a database's name; dump them with `mysqldump --no-data DATABASE`, \
                    without --databases (MySQL: and with --set-gtid-purged=OFF)";
const REACHES_OUT: Refusal = Refusal { why: "it reaches beyond the one database that was named", help: DUMP };
/// What is wrong with a statement of any other kind.
pub const OTHER_KIND: Refusal =
    Refusal { why: "it is none of the statements that make and fill tables", help: DUMP };
const SEVERAL: Refusal = Refusal {
    why: "a semicolon in the middle of it: what follows would be a statement of its own",
    help: "end each statement with the delimiter (`DELIMITER ;` brings the semicolon back)",
};
const BROKEN_BODY: Refusal = Refusal {
    why: "the body of this stored program does not end, or something follows it",
    help: "end blocks with END, and what they hold with semicolons; put names like `end` in backquotes, and let nothing follow \
           the body but the delimiter",
};
const IN_BODY: Refusal = Refusal {
    why: "the body of this stored program has a statement that does more than work with the tables of its database",
    help: "take that statement out, or the program: bodies may read and write tables, call each other, and set variables",
};
const DIRECTORY: Refusal = Refusal {
    why: "it keeps a table outside of the server's own directory",
    help: "take DATA DIRECTORY and INDEX DIRECTORY out",
};
const WRITES_FILE: Refusal = Refusal {
    why: "it writes a file on the server's machine",
    help: "take INTO OUTFILE or INTO DUMPFILE out",
};

const READS_FILE: Refusal = Refusal {
    why: "it reads a file on the server's machine",
    help: "take LOAD_FILE out, and give the value as it is: bytes as X'…' (a name of your own like it goes into another)",
};

/// What a statement does.
#[derive(Debug, Default)]
pub struct Effects {
    /// The names of what it takes away or changes.
    pub replaced: Vec<String>,
    /// Whether it makes a table.
    pub makes_table: bool,
}

/// Judges statements, one after the other.
#[derive(Debug)]
pub struct Judge<'a> {
    database: &'a str,
    variables: Variables,
}

impl<'a> Judge<'a> {
    /// For statements that are meant for this database.
    pub fn new(database: &'a str) -> Self {
        Self { database, variables: Variables::default() }
    }

    /// What the next statement does, or why it is not accepted.
    pub fn effects(&mut self, tokens: &[Token]) -> Judgement<Effects> {
        let last = tokens.iter().rposition(|token| *token != Token::Sign(';'));
        let tokens = &tokens[..last.map_or(0, |last| last + 1)];
        let Some(first) = tokens.first() else { return Ok(Effects::default()) };
        let is = |at: usize, words: &[&str]| tokens.get(at).is_some_and(|token| token.is_any(words));
        let mut effects = if first.is_any(&["UPDATE", "DELETE", "TRUNCATE", "INSERT", "REPLACE", "SET"])
            || first.is_any(&["CREATE", "DROP", "ALTER"])
        {
            self.common(tokens)?
        } else {
            match first {
                word if word.is("USE") => return Err(REACHES_OUT),
                word if word.is("BEGIN") && (tokens.len() == 1 || is(1, &["WORK"])) => {}
                word if word.is("COMMIT") => {}
                word if word.is_any(&["LOCK", "UNLOCK"]) && is(1, &["TABLE", "TABLES"]) => {}
                word if word.is("START") && is(1, &["TRANSACTION"]) => {}
                _ => return Err(OTHER_KIND),
            }
            Effects::default()
        };
        if let Some(body) = program::body(tokens) {
            effects.replaced.extend(self.body(body)?);
        } else if tokens.contains(&Token::Sign(';')) {
            return Err(SEVERAL);
        }
        self.stays_inside(tokens)?;
        Ok(effects)
    }

    /// What a statement does that may stand in a file and in a body.
    fn common(&mut self, tokens: &[Token]) -> Judgement<Effects> {
        if tokens[0].is("SET") {
            setting::judged(&tokens[1..], &mut self.variables)?;
            return Ok(Effects::default());
        }
        self.variables.doubt(tokens);
        if tokens[0].is_any(&["CREATE", "DROP", "ALTER"]) {
            return definition(tokens);
        }
        let takes_away = tokens[0].is_any(&["UPDATE", "DELETE", "TRUNCATE"]);
        let replaced = if takes_away { names(tokens).collect() } else { Vec::new() };
        Ok(Effects { replaced, makes_table: false })
    }

    /// The names of what the statements of a body take away or change.
    fn body(&mut self, body: &[Token]) -> Judgement<Vec<String>> {
        let statements = program::statements(body).map_err(|_: Broken| BROKEN_BODY)?;
        let mut replaced = Vec::new();
        for statement in statements {
            let is = |at: usize, words: &[&str]| statement.get(at).is_some_and(|token| token.is_any(words));
            let mut object = program::object(statement).and_then(|at| statement.get(at));
            object = object.filter(|object| !object.is_any(&["TRIGGER", "PROCEDURE", "FUNCTION"]));
            let works = is(0, &["UPDATE", "DELETE", "TRUNCATE", "SET"])
                || is(0, &["CREATE", "DROP", "ALTER"]) && object.is_some();
            if works {
                replaced.extend(self.common(statement)?.replaced);
            } else if !(is(0, &IN_BODIES)
                || statement[0] == Token::Sign('(')
                || is(0, &["START"]) && is(1, &["TRANSACTION"])
                || is(0, &["SHOW"]) && is(1, &["WARNINGS", "ERRORS"]))
            {
                return Err(IN_BODY);
            }
        }
        Ok(replaced)
    }

    /// Refuses what is of another database, or outside of all.
    fn stays_inside(&self, tokens: &[Token]) -> Judgement<()> {
        let defines = tokens[0].is_any(&["CREATE", "ALTER"]);
        let pair = |first: &[&str], second: &[&str]| {
            tokens.windows(2).any(|pair| pair[0].is_any(first) && pair[1].is_any(second))
        };
        if reaches_out(tokens, self.database) {
            Err(REACHES_OUT)
        } else if pair(&["INTO"], &["OUTFILE", "DUMPFILE"]) {
            Err(WRITES_FILE)
        } else if tokens.windows(2).any(|pair| reads_file(&pair[0], &pair[1])) {
            Err(READS_FILE)
        } else if defines && pair(&["DATA", "INDEX"], &["DIRECTORY"]) {
            Err(DIRECTORY)
        } else if defines && (0..tokens.len()).any(|n| is_engine_elsewhere(&tokens[n..])) {
            Err(ENGINE)
        } else {
            Ok(())
        }
    }
}

/// Whether these are the beginning of the function's call; servers know it under quotes too, and with a space behind it.
fn reads_file(name: &Token, next: &Token) -> bool {
    *next == Token::Sign('(') && name.name().is_some_and(|name| name.eq_ignore_ascii_case("LOAD_FILE"))
}

/// Whether these begin with the choice of an engine that keeps rows elsewhere.
fn is_engine_elsewhere(tokens: &[Token]) -> bool {
    let value = match tokens {
        [engine, Token::Sign('='), value, ..] | [engine, value, ..] if engine.is("ENGINE") => value,
        _ => return false,
    };
    let (Token::Word(name) | Token::Name(name) | Token::Text(name)) = value else { return false };
    ENGINES_ELSEWHERE.iter().any(|engine| name.eq_ignore_ascii_case(engine))
}

/// What a definition takes away or changes.
fn definition(tokens: &[Token]) -> Judgement<Effects> {
    let at = program::object(tokens).ok_or(OTHER_KIND)?;
    let (of, head) = (&tokens[at], &tokens[0]);
    if of.is_any(&["DATABASE", "SCHEMA"]) {
        return Err(REACHES_OUT);
    }
    let known = of.is_any(if head.is("ALTER") { &OBJECTS[..1] } else { &OBJECTS });
    let is_program = of.is_any(&["TRIGGER", "PROCEDURE", "FUNCTION"]);
    // A function of a library is the whole server's, and has no body.
    if !known || head.is("CREATE") && is_program && program::body(tokens).is_none() {
        return Err(OTHER_KIND);
    }
    let makes_table = head.is("CREATE") && of.is("TABLE");
    let named = |n: usize| object_name(&tokens[n + 1..]);
    let after =
        |word: &'static str| (at..tokens.len()).filter(move |n| tokens[*n].is(word)).filter_map(named);
    let replaced = match head {
        head if head.is("DROP") => names(&tokens[at + 1..]).filter(|name| !is_condition(name)).collect(),
        head if head.is("ALTER") => after("TABLE").collect(),
        _ if of.is("INDEX") => after("ON").take(1).collect(),
        _ if tokens[1].is("OR") => named(at).into_iter().collect(),
        _ => Vec::new(),
    };
    Ok(Effects { replaced, makes_table })
}

/// The name that these begin with, without its database and IF EXISTS.
fn object_name(tokens: &[Token]) -> Option<String> {
    let at = tokens.iter().position(|token| !token.name().is_some_and(is_condition))?;
    let qualified = tokens.get(at + 1) == Some(&Token::Sign('.'));
    tokens.get(if qualified { at + 2 } else { at })?.name().map(str::to_owned)
}

fn is_condition(word: &str) -> bool {
    ["IF", "NOT", "EXISTS"].iter().any(|condition| word.eq_ignore_ascii_case(condition))
}

fn names(tokens: &[Token]) -> impl Iterator<Item = String> {
    tokens.iter().filter_map(Token::name).map(str::to_owned)
}
