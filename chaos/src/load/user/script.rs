//! A file of SQL statements that makes somebody's tables: read before anything is sent, so that none of it reaches beyond
//! the one database that was named, or takes away what was there.
//!
//! Only statements of known kinds pass. Nothing here repairs a statement or leaves one out.

use std::path::Path;

use converge_mysql::{Address, Connector, Error as ServerError};
use mysql_async::prelude::Queryable;

use super::tokens::{Statement, Token, split};
use crate::error::Error;

/// What is made by a schema's file.
const OBJECTS: [&str; 7] = ["TABLE", "VIEW", "INDEX", "TRIGGER", "SEQUENCE", "PROCEDURE", "FUNCTION"];
/// Words between `CREATE` and what is created, or `DROP` and `ALTER` likewise.
const MODIFIERS: [&str; 14] = [
    "OR",
    "REPLACE",
    "TEMPORARY",
    "UNIQUE",
    "FULLTEXT",
    "SPATIAL",
    "VECTOR",
    "AGGREGATE",
    "ALGORITHM",
    "DEFINER",
    "SQL",
    "SECURITY",
    "IGNORE",
    "INVOKER",
];
/// Words after which the name of a table stands, and never that of a column.
const BEFORE_TABLES: [&str; 13] = [
    "TABLE",
    "TABLES",
    "VIEW",
    "INTO",
    "EXISTS",
    "REFERENCES",
    "JOIN",
    "SEQUENCE",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "TRUNCATE",
    "RENAME",
];
/// What is wrong with a name of another database.
const REACHES_OUT: &str = "it reaches beyond the one database that was named";
/// What is wrong with a statement of any other kind.
const OTHER_KIND: &str = "it is none of the statements that make and fill tables";
/// Characters of a statement that are shown.
const SHOWN: usize = 100;

const DUMP: &str = "give statements that make and fill tables, without a database's name; dump them with `mysqldump --no-data DATABASE`, \
                    without --databases (MySQL: and with --set-gtid-purged=OFF)";
const OWN_DATABASE: &str = "name a database without that table: nothing was sent, and what is there stays";
const CORRECT: &str =
    "correct it; statements before it were carried out, so use an empty database for the next attempt";
const UNENDED: &str = "end it; a text's own quote is doubled or has a backslash before it";

/// Statements that may be carried out in a database.
#[derive(Debug)]
pub struct Script {
    file: String,
    statements: Vec<Statement>,
    /// Which statements take away what has these names.
    replaced: Vec<(usize, String)>,
}

/// The server must read quotes as they were read here, whatever its own mode is.
const AS_JUDGED: &str = "SET SESSION sql_mode = REPLACE(@@sql_mode, 'NO_BACKSLASH_ESCAPES', '')";

impl Script {
    /// Reads the statements of a file that is meant for this database. An error names the one that cannot be accepted.
    pub fn parse(file: &Path, text: &str, database: &str) -> Result<Self, Error> {
        let file = file.display().to_string();
        let unended = |line| Error::Script {
            file: file.clone(),
            line,
            why: "a quote or a comment that does not end".into(),
            statement: shortened(text.lines().nth(line - 1).unwrap_or_default()),
            help: UNENDED.into(),
        };
        let mut script = Self { file: file.clone(), statements: Vec::new(), replaced: Vec::new() };
        for (n, statement) in split(text).enumerate() {
            let mut statement = statement.map_err(unended)?;
            let names = judged(&statement, database).map_err(|why| script.refusal(&statement, why, DUMP))?;
            script.replaced.extend(names.into_iter().map(|name| (n, name)));
            // They take many times the room of the text.
            statement.tokens = Vec::new();
            script.statements.push(statement);
        }
        Ok(script)
    }

    /// Carries the statements out in the address's database, one after the other.
    pub async fn run(&self, address: &Address) -> Result<(), Error> {
        const WHAT: &str = "running the schema's statements";
        let mut conn = Connector::new(address.clone()).with_setup(AS_JUDGED).connect().await?;
        let there: Vec<String> = conn.query(THERE).await.map_err(|e| ServerError::driver(WHAT, e))?;
        let same = |name: &String| there.iter().any(|there| there.eq_ignore_ascii_case(name));
        if let Some((n, name)) = self.replaced.iter().find(|(_, name)| same(name)) {
            let why = format!("{name} was in the database before, and this takes it away or changes it");
            return Err(self.refusal(&self.statements[*n], &why, OWN_DATABASE));
        }
        conn.query_drop("SET SESSION foreign_key_checks = 0")
            .await
            .map_err(|e| ServerError::driver(WHAT, e))?;
        for statement in &self.statements {
            match conn.query_drop(&statement.sql).await {
                Ok(()) => {}
                Err(mysql_async::Error::Server(e)) => {
                    let why = format!("the server refuses it ({}: {})", e.code, e.message);
                    return Err(self.refusal(statement, &why, CORRECT));
                }
                Err(e) => return Err(ServerError::driver(WHAT, e).into()),
            }
        }
        converge_mysql::connect::close(conn).await;
        Ok(())
    }

    fn refusal(&self, statement: &Statement, why: &str, help: &str) -> Error {
        Error::Script {
            file: self.file.clone(),
            line: statement.line,
            why: why.into(),
            statement: shortened(&statement.sql[statement.begins..]),
            help: help.into(),
        }
    }
}

/// Everything in a database that a statement could take away.
const THERE: &str = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() \
     UNION SELECT routine_name FROM information_schema.routines WHERE routine_schema = DATABASE() \
     UNION SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()";

fn shortened(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(SHOWN).collect();
    if short.len() < line.len() { short + "…" } else { short }
}

/// Why a statement is not accepted; or the names of what it takes away or changes.
fn judged(statement: &Statement, database: &str) -> Result<Vec<String>, &'static str> {
    let tokens = &statement.tokens[..];
    let second = |words: &[&str]| tokens.get(1).is_some_and(|token| words.iter().any(|word| token.is(word)));
    let head = match &tokens[0] {
        Token::Word(head) => head.to_ascii_uppercase(),
        _ => return Err(OTHER_KIND),
    };
    let names = match head.as_str() {
        "USE" => return Err(REACHES_OUT),
        "CREATE" | "DROP" | "ALTER" => definition(&head, tokens)?,
        "UPDATE" | "DELETE" | "TRUNCATE" => names(tokens).collect(),
        "INSERT" | "REPLACE" | "BEGIN" | "COMMIT" => Vec::new(),
        "LOCK" | "UNLOCK" if second(&["TABLE", "TABLES"]) => Vec::new(),
        "START" if second(&["TRANSACTION"]) => Vec::new(),
        "SET" => return setting(statement).map(|()| Vec::new()),
        _ => return Err(OTHER_KIND),
    };
    if reaches_out(tokens, database) { Err(REACHES_OUT) } else { Ok(names) }
}

/// The names of what a definition takes away or changes.
fn definition(head: &str, tokens: &[Token]) -> Result<Vec<String>, &'static str> {
    let is_modifier = |n: usize| {
        let modifies = MODIFIERS.iter().any(|word| tokens[n].is(word));
        modifies || !matches!(tokens[n], Token::Word(_)) || tokens[n - 1] == Token::Sign('=')
    };
    let Some(at) = (1..tokens.len()).find(|n| !is_modifier(*n)) else { return Err(OTHER_KIND) };
    let of = |words: &[&str]| words.iter().any(|word| tokens[at].is(word));
    if of(&["DATABASE", "SCHEMA"]) {
        return Err(REACHES_OUT);
    }
    let known = of(if head == "ALTER" { &OBJECTS[..1] } else { &OBJECTS });
    // A function of a library is the whole server's.
    if !known || tokens.iter().any(|token| token.is("SONAME")) {
        return Err(OTHER_KIND);
    }
    let words = ["IF", "NOT", "EXISTS"];
    let mut named =
        names(&tokens[at + 1..]).filter(|name| !words.iter().any(|w| name.eq_ignore_ascii_case(w)));
    Ok(match head {
        "DROP" => named.collect(),
        "CREATE" if !tokens[1].is("OR") => Vec::new(),
        _ => named.next().into_iter().collect(),
    })
}

fn names(tokens: &[Token]) -> impl Iterator<Item = String> {
    tokens.iter().filter_map(Token::name).map(str::to_owned)
}

/// Refuses settings that are not the session's alone, and the one under which quotes are read in another way.
fn setting(statement: &Statement) -> Result<(), &'static str> {
    let global = |token: &Token| match token {
        Token::Word(_) => ["GLOBAL", "PERSIST", "PERSIST_ONLY", "PASSWORD"].iter().any(|word| token.is(word)),
        Token::Variable(name) => {
            ["@@GLOBAL.", "@@PERSIST"].iter().any(|p| name.to_ascii_uppercase().starts_with(p))
        }
        _ => false,
    };
    if statement.tokens.iter().any(global) {
        return Err("it changes a setting of the whole server");
    }
    if statement.sql.to_ascii_uppercase().contains("NO_BACKSLASH_ESCAPES") {
        return Err("it changes how quotes are read");
    }
    Ok(())
}

/// Whether a statement names something of another database. `a.b` is also a table's column: there `a` stands alone
/// somewhere else, as the table or its alias.
fn reaches_out(tokens: &[Token], database: &str) -> bool {
    let dot = |n: usize| tokens.get(n) == Some(&Token::Sign('.'));
    let is =
        |n: Option<usize>, words: &[&str]| n.is_some_and(|n| words.iter().any(|word| tokens[n].is(word)));
    let alone = |name: &str| {
        let same = |n: &usize| tokens[*n].name().is_some_and(|other| other.eq_ignore_ascii_case(name));
        (0..tokens.len()).filter(same).any(|n| !dot(n + 1) && !n.checked_sub(1).is_some_and(dot))
    };
    let row = |name: &str| ["NEW", "OLD"].iter().any(|row| name.eq_ignore_ascii_case(row));
    let lists_tables = is(Some(0), &["DROP", "LOCK"]);
    let into = is(Some(0), &["INSERT", "REPLACE"]);
    let ends_head = |token: &Token| {
        *token == Token::Sign('(') || ["VALUES", "VALUE", "SELECT", "SET"].iter().any(|word| token.is(word))
    };
    let head = tokens.iter().position(ends_head).unwrap_or(tokens.len());
    (0..tokens.len()).any(|n| {
        let Some(name) = tokens[n].name().filter(|_| dot(n + 1) && !n.checked_sub(1).is_some_and(dot)) else {
            return false;
        };
        let (before, before_that) = (n.checked_sub(1), n.checked_sub(2));
        let table = lists_tables
            || into && n < head
            || is(before, &BEFORE_TABLES)
            || is(before, &["UPDATE"]) && !is(before_that, &["KEY"]);
        name != database && (table || dot(n + 3) || !row(name) && !alone(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Script, Error> {
        Script::parse(Path::new("shop.sql"), text, "shop")
    }

    #[test]
    fn a_statement_that_reaches_beyond_the_database_is_refused_with_its_place_and_a_way_out() {
        for (text, words) in [
            ("USE other;", REACHES_OUT),
            ("/*!40000 DROP DATABASE IF EXISTS `other`*/;", REACHES_OUT),
            ("CREATE DATABASE /*!32312 IF NOT EXISTS*/ `other`;", REACHES_OUT),
            ("CREATE SCHEMA other", REACHES_OUT),
            ("ALTER DATABASE other CHARACTER SET latin1", REACHES_OUT),
            ("DROP TABLE other.t", REACHES_OUT),
            ("DROP TABLE a, `other`.`t`", REACHES_OUT),
            ("DROP TABLE other, other.t", REACHES_OUT),
            ("CREATE TABLE other . t (a INT)", REACHES_OUT),
            ("CREATE TABLE \"other\".\"t\" (a INT)", REACHES_OUT),
            ("CREATE TABLE t LIKE other.t", REACHES_OUT),
            ("CREATE TABLE t (a INT REFERENCES other.t (a))", REACHES_OUT),
            ("CREATE VIEW v AS SELECT a FROM other.t", REACHES_OUT),
            ("CREATE VIEW v AS SELECT other.t.a FROM t", REACHES_OUT),
            ("INSERT INTO other.t VALUES (1)", REACHES_OUT),
            ("INSERT IGNORE other.t (other) VALUES (1)", REACHES_OUT),
            ("INSERT INTO t SELECT * FROM other.t", REACHES_OUT),
            ("REPLACE other.t VALUES (1)", REACHES_OUT),
            ("LOCK TABLES t WRITE, other.t WRITE", REACHES_OUT),
            ("CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW INSERT INTO other.t VALUES (1)", REACHES_OUT),
            ("DELETE FROM other.t", REACHES_OUT),
            ("UPDATE other.t SET other = 1", REACHES_OUT),
            ("ALTER TABLE t RENAME other.t", REACHES_OUT),
            ("GRANT ALL ON *.* TO x", OTHER_KIND),
            ("CREATE USER view", OTHER_KIND),
            ("DROP USER root@localhost", OTHER_KIND),
            ("SHUTDOWN", OTHER_KIND),
            ("PREPARE s FROM 'DROP DATABASE other'", OTHER_KIND),
            ("SET GLOBAL read_only = 1", "whole server"),
            ("SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a'", "whole server"),
            ("SET sql_mode = 'NO_BACKSLASH_ESCAPES'", "quotes"),
            ("CREATE TABLE t (a TEXT DEFAULT 'x)", "does not end"),
        ] {
            let error = parsed(&format!("CREATE TABLE first (a INT);\n{text}")).unwrap_err();
            let said = error.to_string();
            let shown: String =
                text.trim_start_matches("/*!40000 ").trim_end_matches(';').chars().take(12).collect();
            assert!(said.contains("shop.sql:2: ") && said.contains(words) && said.contains(&shown), "{said}");
            assert!(miette::Diagnostic::help(&error).is_some());
        }
    }

    #[test]
    fn what_a_dump_of_one_database_holds_is_accepted() {
        let dump = "/*M!999999\\- enable the sandbox mode */\n-- MariaDB dump\n\
            /*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;\n/*!50503 SET NAMES utf8mb4 */;\n\
            DROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (`a` int NOT NULL, d decimal(5,2) DEFAULT 1.5, CHECK (t.a > 0.5), \
            PRIMARY KEY (`a`)) ENGINE=InnoDB;\nLOCK TABLES `t` WRITE;\n/*!40000 ALTER TABLE `t` DISABLE KEYS */;\n\
            INSERT INTO `t` VALUES (1,'USE other; DROP TABLE x.y'),(2,NULL) ON DUPLICATE KEY UPDATE t.a = 1;\nUNLOCK TABLES;\n\
            DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER x BEFORE INSERT ON t FOR EACH \
            ROW BEGIN SET NEW.a = OLD.a; END */;;\nDELIMITER ;\n\
            /*!50001 DROP VIEW IF EXISTS `v`*/;\n/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=root@localhost SQL \
            SECURITY DEFINER */\n/*!50001 VIEW `v` AS select `x`.`a` AS `a` from `t` `x` join t y on x.a = y.a */;\n\
            CREATE TABLE shop.own (a INT);";
        let script = parsed(dump).unwrap();
        let replaced: Vec<&str> = script.replaced.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(replaced, ["t", "t", "v"]);
    }
}
