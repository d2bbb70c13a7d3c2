//! A file of SQL statements that makes somebody's tables: read before anything is sent, so that none of it reaches beyond
//! the one database that was named, or takes away what was there.
//!
//! Only statements of known kinds pass. Nothing here repairs a statement or leaves one out.

use std::path::Path;

use converge_mysql::{Address, Connector, Error as ServerError};
use mysql_async::prelude::Queryable;

use super::judge::{Judge, Refusal};
use super::setting;
use super::tokens::{Statement, Unreadable, split};
use crate::error::Error;

/// Characters of a statement that are shown.
const SHOWN: usize = 100;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

const OWN_DATABASE: &str = "name a database without that table: nothing was sent, and what is there stays";
const CORRECT: &str =
    "correct it; statements before it were carried out, so use an empty database for the next attempt";
const AS_TEXT: &str = "write it as UTF-8; what columns of bytes hold is written as such by `mysqldump --hex-blob` (and mariadb-dump)";
const TABLES: &str =
    "give a file that makes some with CREATE TABLE, as `mysqldump --no-data DATABASE` writes them";

/// Statements that may be carried out in a database.
#[derive(Debug)]
pub struct Script {
    file: String,
    statements: Vec<Statement>,
    /// Which statements take away what has these names.
    replaced: Vec<(usize, String)>,
    makes_tables: bool,
}

impl Script {
    /// Reads the statements of a file that is meant for this database. An error names the one that cannot be accepted.
    pub fn parse(file: &Path, text: impl AsRef<[u8]>, database: &str) -> Result<Self, Error> {
        let mut script = Self {
            file: file.display().to_string(),
            statements: Vec::new(),
            replaced: Vec::new(),
            makes_tables: false,
        };
        let text = script.text(text.as_ref())?;
        let mut judge = Judge::new(database);
        for (n, statement) in split(text).enumerate() {
            let mut statement = statement.map_err(|e| script.unreadable(text, e))?;
            // They take many times the room of the text.
            for tokens in statement.take_readings() {
                let refused = |Refusal { why, help }| script.refusal(&statement, why, help);
                let effects = judge.effects(&tokens).map_err(refused)?;
                script.replaced.extend(effects.replaced.into_iter().map(|name| (n, name)));
                script.makes_tables |= effects.makes_table;
            }
            script.statements.push(statement);
        }
        Ok(script)
    }

    /// Refuses a file without tables, where nothing else has any.
    pub fn require_tables(&self) -> Result<(), Error> {
        if self.makes_tables {
            return Ok(());
        }
        Err(Error::NoTables { file: self.file.clone(), help: TABLES })
    }

    /// The file's text, without the mark that some editors begin it with.
    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, Error> {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        std::str::from_utf8(bytes).map_err(|e| {
            let (before, rest) = bytes.split_at(e.valid_up_to());
            let begins = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let shown = &bytes[begins..bytes.len().min(before.len() + SHOWN.min(rest.len()))];
            Error::Script {
                file: self.file.clone(),
                line: before.iter().filter(|b| **b == b'\n').count() + 1,
                why: "it is not UTF-8".into(),
                statement: shortened(String::from_utf8_lossy(shown).lines().next().unwrap_or_default()),
                help: AS_TEXT.into(),
            }
        })
    }

    fn unreadable(&self, text: &str, Unreadable { line, why, help }: Unreadable) -> Error {
        let statement = shortened(text.lines().nth(line - 1).unwrap_or_default());
        Error::Script { file: self.file.clone(), line, why: why.into(), statement, help: help.into() }
    }

    /// Carries the statements out in the address's database, one after the other.
    pub async fn run(&self, address: &Address) -> Result<(), Error> {
        const WHAT: &str = "running the schema's statements";
        let mut conn = Connector::new(address.clone()).with_setup(setting::as_judged()).connect().await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const REACHES_OUT: &str = "it reaches beyond the one database that was named";
    const OTHER_KIND: &str = "it is none of the statements that make and fill tables";

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

    /// What refusals of these say. Each is the second line of its file, or begins there.
    fn assert_refused(texts: &[(&str, &str)]) {
        for (text, words) in texts {
            let said = match parsed(&format!("CREATE TABLE first (a INT);\n{text}")) {
                Ok(script) => panic!("accepted: {:#?}", script.statements),
                Err(error) => format!("{error}, {}", miette::Diagnostic::help(&error).unwrap()),
            };
            assert!(said.contains("shop.sql:2: ") && said.contains(words), "{text}: {said}");
        }
    }

    fn assert_accepted(texts: &[&str]) {
        for text in texts {
            if let Err(error) = parsed(text) {
                panic!("{text}: {error}, {}", miette::Diagnostic::help(&error).unwrap());
            }
        }
    }

    #[test]
    fn nothing_hides_behind_a_semicolon() {
        let (several, body) = ("a statement of its own", "something follows it");
        assert_refused(&[
            ("CREATE TABLE t (event INT PRIMARY KEY, begin INT); DROP DATABASE other;", "beyond"),
            ("CREATE TABLE t (`function` INT, procedure_ INT) COMMENT begin; DROP DATABASE other;", "beyond"),
            ("INSERT INTO t VALUES (1) /*! ; DROP DATABASE other */;", "does not end"),
        ]);
        for (text, words) in [
            ("CREATE TABLE u (a INT PRIMARY KEY, b INT); DROP DATABASE other", several),
            ("CREATE TABLE u (function INT, begin INT); DROP DATABASE other; SELECT end", several),
            ("CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1; DROP DATABASE other", body),
            ("CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN END; DROP DATABASE other", body),
            ("CREATE PROCEDURE p () BEGIN SELECT begin; END; DROP TABLE u; END", body),
            ("CREATE PROCEDURE p (a INT) COMMENT 'x' SQL SECURITY INVOKER DROP TABLE t; DROP TABLE u", body),
            ("CREATE FUNCTION f () RETURNS CHAR(3) CHARSET utf8mb4 RETURN 'a'; DROP DATABASE other", body),
            ("BEGIN NOT ATOMIC DROP DATABASE other; END", "none of the statements"),
        ] {
            let text = format!("/* a line */\nDELIMITER //\n{text}//");
            let said = parsed(&text).unwrap_err().to_string();
            assert!(said.contains("shop.sql:3: ") && said.contains(words), "{text}: {said}");
        }
        assert_accepted(&[
            "DELIMITER //\nCREATE TABLE u (a INT);//\nDELIMITER ;\nDROP TABLE u;",
            "CREATE TABLE t (event INT PRIMARY KEY, begin INT); DROP TABLE t;",
        ]);
    }

    #[test]
    fn statements_are_read_in_the_mode_that_they_were_judged_in() {
        let hides = "INSERT INTO t VALUES (1, LENGTH('\\')); DROP DATABASE other; -- '));";
        for set in [
            "SET sql_mode = CONCAT('NO_BACKSLASH','_ESCAPES')",
            "SET sql_mode = 'STRICT_TRANS_TABLES,NO_BACKSLASH' '_ESCAPES'",
            "SET @@sql_mode = 'ansi'",
            "SET SESSION sql_mode = ORACLE",
            "SET @a = 1, @@LOCAL . sql_mode := 'ANSI_QUOTES'",
            "SET sql_mode = 'Á'",
            "SET sql_mode = 4194304",
            "SET sql_mode = DEFAULT",
            "SET sql_mode = @@GLOBAL.sql_mode",
            "SET @m = CONCAT('ANSI', '_QUOTES'), sql_mode = @`M`",
            "CREATE PROCEDURE p () BEGIN SELECT 'ANSI' INTO @m; END; SET sql_mode = @m",
            "SET NAMES gbk",
            "SET NAMES 'sjis' COLLATE sjis_bin",
            "SET CHARACTER SET big5",
            "SET character_set_client = 'cp932'",
        ] {
            assert_refused(&[(&format!("{set}; {hides}"), "how quotes are read")]);
        }
        assert_accepted(&[
            "SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO'; SET SQL_MODE = @old_sql_mode;",
            "SET @saved_cs_client = @@character_set_client; SET character_set_client = utf8mb4; \
             SET character_set_client = @saved_cs_client; SET NAMES 'utf8mb4' COLLATE utf8mb4_bin;",
            "SET sql_mode = ''; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY;",
        ]);
    }

    #[test]
    fn servers_find_the_parts_that_were_judged() {
        assert_refused(&[
            ("INSERT INTO t VALUES (1 /*!99998 , ' */); DROP DATABASE other; -- ' */)", "different ways"),
            ("/*!99998 CREATE TABLE t (a INT) COMMENT */ DROP DATABASE other", "beyond"),
            ("CREATE /*!99998 TABLE x.y */ /*M!100000 TABLE x */ DATABASE other", "beyond"),
            ("/*!40000 DROP TABLE /*!50000 t */ */", "different ways"),
            ("/*M!100000 a /* b */ c */", "different ways"),
            ("-- \r; '\0 DROP DATABASE other; -- '", "none of the statements"),
            ("INSERT INTO t SELECT 1 --\u{a0}; DROP DATABASE other", "beyond"),
            ("INSERT INTO t SELECT 1.FROM other.x other", "without a space"),
            ("INSERT INTO t SELECT .5FROM other.x other", "without a space"),
            ("INSERT INTO t SELECT 1e5FROM other.x other", "without a space"),
            ("CREATE PROCEDURE p () LANGUAGE JAVASCRIPT AS $a$ ' $a$; DROP DATABASE other; -- '", "quote"),
        ]);
        assert_accepted(&[
            "INSERT INTO t VALUES (1.5, .5, 1e5, 1.e-3, -2.5E+10, 0x1f, x'00'); CREATE TABLE shop.1a (`a` INT, 1b INT)",
            "CREATE TABLE t (a INT /*!80023 INVISIBLE */) /*!50100 PARTITION BY HASH (a) */ /*M!100100 COMMENT 'x' */;",
            "/*!100400 CREATE TABLE t (a INT) */;\n/*!80000 CREATE TABLE t (a INT) */;",
        ]);
    }

    #[test]
    fn settings_of_the_server_and_statements_under_settings_are_refused() {
        let server = "whole server";
        assert_refused(&[
            ("SET STATEMENT max_statement_time=0 FOR DROP DATABASE other;", "none of the statements"),
            ("SET @@GLOBAL .max_connections = 120", server),
            ("SET @@GLOBAL/**/.max_connections = 120", server),
            ("SET @@`global`.max_connections = 120", server),
            ("SET @a = 1, PERSIST max_connections = 120", server),
            ("SET @@persist_only.max_connections = 120", server),
            ("SET PASSWORD = 'x'", server),
            ("SET DEFAULT ROLE x TO root@localhost", "none of the statements"),
            ("SET ROLE x", "none of the statements"),
            ("SET default_storage_engine = FEDERATED", "elsewhere"),
        ]);
        assert_accepted(&[
            "SET @a = @@GLOBAL.gtid_executed, @@SESSION.SQL_LOG_BIN = 0, time_zone = '+00:00';",
        ]);
    }

    #[test]
    fn bodies_of_stored_programs_stay_in_the_database() {
        let (server, inner) = ("whole server", "the body of this stored program has");
        for (statement, words) in [
            ("SET GLOBAL max_connections = 120", server),
            ("SET @@GLOBAL.max_connections = 120", server),
            ("SET NEW.a = 1, GLOBAL max_connections = 120", server),
            ("SET DEFAULT ROLE x TO y", "none of the statements"),
            ("DROP DATABASE other", "beyond"),
            ("CREATE USER x", "none of the statements"),
            ("CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO SET @a = 1", "none of the statements"),
            ("GRANT ALL ON *.* TO x", inner),
            ("PREPARE s FROM 'DROP DATABASE other'", inner),
            ("EXECUTE s", inner),
            ("EXECUTE IMMEDIATE 'DROP DATABASE other'", inner),
            ("LOAD DATA INFILE 'x' INTO TABLE t", inner),
            ("KILL 1", inner),
            ("SELECT 1 INTO OUTFILE '/tmp/x'", "writes a file"),
            ("SELECT 1 INTO DUMPFILE '/tmp/x'", "writes a file"),
            ("INSERT INTO t SELECT LOAD_FILE('/etc/passwd')", "reads a file"),
            ("SET @a = load_file ('/etc/passwd')", "reads a file"),
            ("CALL other.p()", "beyond"),
            ("SET @a = other.f(1)", "beyond"),
        ] {
            for program in [
                "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW",
                "CREATE DEFINER = `a`@`b` PROCEDURE IF NOT EXISTS p (a INT, OUT b INT) READS SQL DATA",
                "CREATE OR REPLACE FUNCTION f (a DECIMAL(5,2)) RETURNS VARCHAR(5) CHARACTER SET utf8mb4 NOT DETERMINISTIC",
            ] {
                assert_refused(&[
                    (&format!("{program} {statement}"), words),
                    (&format!("{program} BEGIN DECLARE other INT; {statement}; END"), words),
                    (&format!("{program} BEGIN IF 1 THEN SET @a = 1; ELSE {statement}; END IF; END"), words),
                    (
                        &format!(
                            "{program} BEGIN DECLARE EXIT HANDLER FOR NOT FOUND, SQLSTATE '1' {statement}; END"
                        ),
                        words,
                    ),
                ]);
            }
        }
        assert_refused(&[("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SET GLOBAL read_only = 1", "none of")]);
    }

    #[test]
    fn bodies_that_work_with_tables_are_accepted() {
        assert_accepted(&[
            "CREATE PROCEDURE p (IN n INT, OUT m INT)\nLANGUAGE SQL MODIFIES SQL DATA COMMENT 'x; y'\nouter_: BEGIN\n\
             DECLARE done, i INT DEFAULT 0; DECLARE c CURSOR FOR SELECT x.a, y.b FROM t x, t y WHERE x.a = y.b; \
             DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1; \
             DECLARE EXIT HANDLER FOR SQLSTATE VALUE '23000', 1062 BEGIN ROLLBACK; RESIGNAL; END; \
             START TRANSACTION; OPEN c; each_: LOOP FETCH c INTO i, m; IF done THEN LEAVE each_; END IF; \
             CASE WHEN i > 1 THEN UPDATE t SET t.a = CASE t.a WHEN 1 THEN 2 ELSE 3 END, t.b = 1; ELSE BEGIN END; END CASE; \
             END LOOP each_; CLOSE c; WHILE i < 3 DO SET i = i + 1; END WHILE; REPEAT SET i = IF(i, 0, 1); UNTIL i END REPEAT; \
             CREATE TEMPORARY TABLE own (a INT); INSERT INTO own VALUES (1), (i); DROP TEMPORARY TABLE own; \
             CALL p2(i); COMMIT; END outer_;\nINSERT INTO t VALUES (1);",
            "CREATE FUNCTION f (a INT) RETURNS INT UNSIGNED DETERMINISTIC RETURN a + 1; SET @a = 1;",
            "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW FOLLOWS y INSERT INTO log VALUES (1, 2), (NEW.a, OLD.b);",
            "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW IF NEW.end > 1 THEN SET NEW.password = 'x'; END IF; SET @a = 1;",
        ]);
    }

    #[test]
    fn an_alias_does_not_make_another_database_a_table() {
        for text in [
            "DELETE other FROM other.x AS other",
            "DELETE FROM other USING other.x other",
            "DELETE other.x FROM t JOIN u other",
            "DELETE QUICK a, other.x FROM t a JOIN u other",
            "UPDATE IGNORE other.x other SET other.a = 1",
            "UPDATE t, other.x other SET other.a = 1",
            "CREATE INDEX other ON other.x (b)",
            "CREATE UNIQUE INDEX other USING BTREE ON other.x (b)",
            "DROP INDEX other ON other.x",
            "CREATE TRIGGER other BEFORE INSERT ON other.x FOR EACH ROW SET @a = 1",
            "CREATE TABLE other LIKE other.x",
            "CREATE TABLE other (LIKE other.x)",
            "CREATE TABLE t (other INT) ENGINE=MERGE UNION=(t, other.x)",
            "ALTER TABLE t RENAME TO other.x, ADD other INT",
            "INSERT INTO t SELECT other.a FROM other.x other",
            "INSERT INTO t SELECT other.a FROM t, other.x other",
            "INSERT INTO t SELECT other.a FROM t y FORCE INDEX FOR ORDER BY (i), other.x other",
            "INSERT INTO t SELECT other.a FROM (t y, (other.x other))",
            "INSERT INTO t SELECT other.a FROM t JOIN u ON t.a = u.a, other.x other",
            "INSERT INTO t SELECT other.a FROM t STRAIGHT_JOIN other.x other",
            "INSERT INTO t SELECT other.a FROM { OJ other.x other LEFT OUTER JOIN t ON 1 }",
            "INSERT INTO t SELECT 1 FROM u other WHERE a IN (SELECT a FROM other.x)",
            "INSERT INTO t SELECT other.f(1) FROM u other",
            "INSERT INTO t SELECT NEXTVAL(other.s) FROM u other",
            "INSERT INTO t SELECT NEXT VALUE FOR other.s FROM u other",
            "SET @a = (SELECT a FROM other.x other)",
        ] {
            assert_refused(&[(text, "beyond the one database")]);
        }
        assert_accepted(&[
            "DELETE x.*, y FROM t x JOIN u y ON x.a = y.a WHERE x.a > 1;",
            "UPDATE t x, u y SET x.a = y.a, y.b = x.b WHERE x.a = 1 ORDER BY x.a, x.b;",
            "INSERT INTO t SELECT x.a, y.b FROM t x, u y GROUP BY x.a, y.b ON DUPLICATE KEY UPDATE t.a = x.a, t.b = y.b;",
            "CREATE VIEW v AS SELECT STRAIGHT_JOIN x.a, TRIM(LEADING 'a' FROM x.b), EXTRACT(DAY FROM x.c), SUBSTRING(x.b FROM 2) \
             FROM (t x JOIN u y ON COALESCE(x.a, y.a) = y.b) JOIN w USING (a) WHERE x.a LIKE y.a UNION ALL SELECT t.a, t.b, 1, 2 FROM t;",
            "CREATE TABLE t (view INT, x TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, CHECK (t.a > 1), \
             FOREIGN KEY (a) REFERENCES u (a) ON UPDATE CASCADE ON DELETE SET NULL);",
            "CREATE TABLE t SELECT view, t.b FROM shop.u t;",
            "DROP TABLE a, shop.b;",
        ]);
    }

    #[test]
    fn a_delimiter_ends_a_word() {
        let dump = "DELIMITER $$\nCREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = @a; END$$\n\
                    DROP TABLE t$$\nDELIMITER ; -- back\nSET @b = 1;";
        let script = parsed(dump).unwrap();
        assert_eq!(script.statements.len(), 3, "{:#?}", script.statements);
        assert!(script.statements[0].sql.ends_with("END"), "{:#?}", script.statements);
    }

    #[test]
    fn tables_keep_their_rows_on_the_server() {
        assert_refused(&[
            ("CREATE TABLE t (a INT) DATA DIRECTORY = '/tmp'", "DATA DIRECTORY"),
            ("CREATE TABLE t (a INT) ENGINE=MyISAM INDEX DIRECTORY='/tmp'", "DIRECTORY"),
            ("ALTER TABLE t ADD PARTITION (PARTITION p VALUES IN (1) DATA DIRECTORY '/tmp')", "DIRECTORY"),
            ("CREATE TABLE t (a INT) ENGINE=FEDERATED CONNECTION='mysql://h/other/x'", "elsewhere"),
            ("CREATE TABLE t (a INT) ENGINE `Connect`", "elsewhere"),
        ]);
        assert_accepted(&["CREATE TABLE t (data INT, `directory` INT, connect INT) ENGINE=InnoDB;"]);
    }

    #[test]
    fn what_is_there_is_found_behind_its_database_and_in_bodies() {
        let replaced = |text: &str| -> Vec<String> {
            parsed(text).unwrap().replaced.into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(replaced("ALTER TABLE shop.t ADD a INT"), ["t"]);
        assert_eq!(replaced("CREATE OR REPLACE TABLE IF NOT EXISTS shop.t (a INT)"), ["t"]);
        assert_eq!(replaced("CREATE INDEX i ON t (a)"), ["t"]);
        assert_eq!(replaced("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u"), ["t", "u"]);
        let trigger = "CREATE TRIGGER x AFTER INSERT ON u FOR EACH ROW BEGIN DELETE FROM t; END";
        assert!(replaced(trigger).contains(&"t".to_owned()));
    }

    #[test]
    fn a_file_is_text_with_or_without_a_mark_and_makes_tables() {
        let parsed = |text: &[u8]| Script::parse(Path::new("shop.sql"), text, "shop");
        parsed(b"\xef\xbb\xbfCREATE TABLE t (a INT);").unwrap().require_tables().unwrap();
        let error = parsed(b"CREATE TABLE t (a BLOB);\nINSERT INTO t\nVALUES ('\xff\xd8');").unwrap_err();
        let said = format!("{error}, {}", miette::Diagnostic::help(&error).unwrap());
        assert!(
            said.contains("shop.sql:3: ") && said.contains("--hex-blob") && said.contains("VALUES"),
            "{said}"
        );
        for text in ["", "-- nothing\n", "CREATE VIEW v AS SELECT 1;"] {
            let error = parsed(text.as_bytes()).unwrap().require_tables().unwrap_err();
            let said = format!("{error}, {}", miette::Diagnostic::help(&error).unwrap());
            assert!(said.contains("shop.sql makes no table") && said.contains("CREATE TABLE"), "{said}");
        }
    }
}
