//! The statement SET: only what is the session's own may be set, and nothing that changes how later statements are read.

use std::collections::HashSet;

use super::judge::{Judgement, OTHER_KIND, Refusal};
use super::tokens::Token;

/// Engines that keep rows somewhere else than on the server.
pub const ENGINES_ELSEWHERE: [&str; 5] = ["FEDERATED", "CONNECT", "SPIDER", "SPHINX", "S3"];
/// Modes in which quotes, or whole statements, are read in another way; the longer names before those in them.
const MODES: [&str; 8] =
    ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI", "DB2", "MAXDB", "MSSQL", "ORACLE", "POSTGRESQL"];
/// Character sets in which a backslash can be a part of another character.
const CHARACTER_SETS: [&str; 5] = ["BIG5", "CP932", "GB18030", "GBK", "SJIS"];

const CLIENT: &str = "CHARACTER_SET_CLIENT";
/// Settings that take a plain value, and none of these.
const GUARDED: [(&str, &[&str], Refusal); 5] = [
    ("SQL_MODE", &MODES, QUOTES),
    (CLIENT, &CHARACTER_SETS, QUOTES),
    ("DEFAULT_STORAGE_ENGINE", &ENGINES_ELSEWHERE, ENGINE),
    ("STORAGE_ENGINE", &ENGINES_ELSEWHERE, ENGINE),
    ("ENFORCE_STORAGE_ENGINE", &ENGINES_ELSEWHERE, ENGINE),
];

const QUOTES: Refusal = Refusal {
    why: "it changes how quotes are read, or it may",
    help: "give sql_mode and character sets as one text, without ANSI, ANSI_QUOTES, NO_BACKSLASH_ESCAPES, ORACLE, and without big5, \
           cp932, gb18030, gbk, sjis; or give a variable back that holds nothing but the former value",
};
/// What is wrong with an engine.
pub const ENGINE: Refusal = Refusal {
    why: "it makes tables whose rows are kept elsewhere, or it may",
    help: "name an engine that keeps its rows on this server, as one text: InnoDB",
};
const WHOLE_SERVER: Refusal = Refusal {
    why: "it changes a setting of the whole server",
    help: "take it out, or set it before: a schema's statements only set what is their own session's",
};

/// The statement after which quotes and statements are read as they were judged, whatever the server's own modes
/// and character sets are.
pub fn as_judged() -> String {
    let without = |modes: String, mode: &&str| format!("REPLACE({modes}, '{mode}', '')");
    let modes = MODES.iter().fold("@@sql_mode".to_owned(), without);
    format!("SET SESSION sql_mode = {modes}, character_set_client = utf8mb4")
}

/// Variables of users that may hold something else than the former value of a guarded setting.
#[derive(Debug, Default)]
pub struct Variables(HashSet<String>);

impl Variables {
    /// Takes it that all of these are given values.
    pub fn doubt(&mut self, tokens: &[Token]) {
        self.0.extend(tokens.iter().filter_map(of_user));
    }
}

fn of_user(token: &Token) -> Option<String> {
    match token {
        Token::Variable(name) if !name.starts_with("@@") => Some(name.to_lowercase()),
        _ => None,
    }
}

/// Refuses a SET, without that word, of anything but the session's.
pub fn judged(tokens: &[Token], variables: &mut Variables) -> Judgement<()> {
    let own = usize::from(is(tokens, 0, &["SESSION", "LOCAL"]));
    if is(tokens, own, &["TRANSACTION"]) {
        return Ok(());
    }
    let mut depth = 0_usize;
    let ends_item = |token: &Token| {
        depth = match token {
            Token::Sign('(') => depth + 1,
            Token::Sign(')') => depth.saturating_sub(1),
            _ => depth,
        };
        depth == 0 && *token == Token::Sign(',')
    };
    tokens.split(ends_item).try_for_each(|item| assigned(item, variables))
}

fn is(tokens: &[Token], at: usize, words: &[&str]) -> bool {
    tokens.get(at).is_some_and(|token| token.is_any(words))
}

/// Refuses an assignment of anything but the session's.
fn assigned(item: &[Token], variables: &mut Variables) -> Judgement<()> {
    let charset = if is(item, 0, &["NAMES", "CHARSET"]) { 1 } else { 2 };
    if charset == 1 || is(item, 0, &["CHARACTER"]) && is(item, 1, &["SET"]) {
        let collation = item.iter().position(|token| token.is("COLLATE")).unwrap_or(item.len());
        return guarded(CLIENT, item.get(charset..collation).unwrap_or_default(), variables);
    }
    let target_ends = |n: &usize| item[*n] == Token::Sign('=');
    let equals = (0..item.len()).find(target_ends).ok_or(OTHER_KIND);
    let global = ["GLOBAL", "PERSIST", "PERSIST_ONLY", "PASSWORD"];
    let of_server = |name: &str| global.iter().any(|word| name.eq_ignore_ascii_case(word));
    let first = match item.first() {
        Some(Token::Variable(name)) => name.strip_prefix("@@").unwrap_or_default(),
        Some(Token::Word(name)) => name,
        _ => "",
    };
    if of_server(first) {
        return Err(WHOLE_SERVER);
    }
    let (target, value) = item.split_at(equals?);
    let target = target.strip_suffix(&[Token::Sign(':')]).unwrap_or(target);
    match target {
        [variable @ Token::Variable(name)] if !name.starts_with("@@") => {
            if !matches!(&value[1..], [Token::Variable(of)] if is_guarded(&of.replacen("@@", "", 1))) {
                variables.doubt(std::slice::from_ref(variable));
                variables.doubt(value);
            }
            Ok(())
        }
        [Token::Variable(_)] => guarded(&first.to_uppercase(), &value[1..], variables),
        [scope, name] if scope.is_any(&["SESSION", "LOCAL"]) => {
            guarded(&name.name().ok_or(OTHER_KIND)?.to_uppercase(), &value[1..], variables)
        }
        [name] => guarded(&name.name().ok_or(OTHER_KIND)?.to_uppercase(), &value[1..], variables),
        [row, Token::Sign('.'), _] if row.is_any(&["NEW", "OLD"]) => guarded("", &value[1..], variables),
        [_, Token::Sign('.'), name] => {
            guarded(&name.name().ok_or(OTHER_KIND)?.to_uppercase(), &value[1..], variables)
        }
        _ => Err(OTHER_KIND),
    }
}

fn is_guarded(name: &str) -> bool {
    GUARDED.iter().any(|(guarded, ..)| name.eq_ignore_ascii_case(guarded))
}

/// Refuses a value of a setting that must be a plain one, if it is not.
fn guarded(name: &str, value: &[Token], variables: &mut Variables) -> Judgement<()> {
    let Some((_, forbidden, refusal)) = GUARDED.iter().find(|(guarded, ..)| name == *guarded) else {
        variables.doubt(value);
        return Ok(());
    };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_, -".contains(&b));
    let allowed = |text: &str| {
        let is_forbidden = |part: &str| forbidden.iter().any(|word| part.trim().eq_ignore_ascii_case(word));
        plain(text) && !text.eq_ignore_ascii_case("DEFAULT") && !text.split(',').any(is_forbidden)
    };
    let is_former = |token: &Token| of_user(token).is_some_and(|name| !variables.0.contains(&name));
    match value {
        [Token::Text(text) | Token::Word(text) | Token::Name(text)] if allowed(text) => Ok(()),
        [variable] if is_former(variable) => Ok(()),
        _ => Err(*refusal),
    }
}
