//! A source's binary log, transaction by transaction: which of them changed what is judged, and by which statements.

use std::collections::BTreeMap;
use std::fmt;

use converge_mover::source::fenced_name;
use converge_mysql::{Address, Connector, Error as ServerError, FilePosition, Flavor, ServerInfo, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Texts, digest};
use crate::oracle::logs::{self, Torn};
use crate::oracle::silence::{TORN, mapped};

/// Events that are asked for at a time: MariaDB lets nobody commit while it shows them.
const AT_ONCE: u64 = 5000;
/// Characters of a statement that are shown.
const SHOWN: usize = 200;

/// Which tables nobody but the load may change.
#[derive(Debug)]
pub struct Judged {
    database: String,
    /// The moved ones and their names behind the fence.
    tables: Vec<String>,
}

impl Judged {
    pub fn new(database: String, moved: &[String]) -> Self {
        let tables = moved.iter().flat_map(|name| [name.clone(), fenced_name(name)]).collect();
        Self { database, tables }
    }

    fn has(&self, database: &str, table: &str) -> bool {
        let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        same(database, &self.database) && self.tables.iter().any(|name| same(name, table))
    }

    /// The table whose rows a logged definition takes away or makes anew, if it is judged. A fence only renames.
    fn emptied(&self, info: &str) -> Option<String> {
        let (database, statement) = in_database(info);
        let mut words = statement;
        let head = ["TRUNCATE", "ALTER", "DROP"].into_iter().find(|head| skip(&mut words, head))?;
        skip(&mut words, "ONLINE");
        skip(&mut words, "IGNORE");
        if !skip(&mut words, "TABLE") && head != "TRUNCATE" {
            return None;
        }
        if skip(&mut words, "IF") {
            skip(&mut words, "EXISTS");
        }
        loop {
            let first = name(&mut words)?;
            let (schema, table) = match words.strip_prefix('.') {
                Some(rest) => {
                    words = rest;
                    (first, name(&mut words)?)
                }
                None => (database.to_owned(), first),
            };
            if self.has(&schema, &table) {
                return Some(format!("{schema}.{table}"));
            }
            words = words.trim_start().strip_prefix(',').filter(|_| head == "DROP")?;
        }
    }
}

/// The database that a logged statement was sent in, and the statement.
fn in_database(info: &str) -> (&str, &str) {
    let parts = info.strip_prefix("use `").and_then(|rest| rest.split_once("`; "));
    parts.unwrap_or(("", info))
}

/// Passes a word, if the text begins with it.
fn skip(text: &mut &str, word: &str) -> bool {
    let rest = text.trim_start();
    let Some((head, after)) = rest.split_at_checked(word.len()) else { return false };
    let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let is = head.eq_ignore_ascii_case(word) && ends;
    if is {
        *text = after;
    }
    is
}

/// Passes a name, in backquotes or bare.
fn name(text: &mut &str) -> Option<String> {
    let rest = text.trim_start();
    let Some(mut quoted) = rest.strip_prefix('`') else {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
        *text = &rest[end..];
        return (end > 0).then(|| rest[..end].to_owned());
    };
    let mut found = String::new();
    loop {
        let (part, after) = quoted.split_once('`')?;
        found.push_str(part);
        match after.strip_prefix('`') {
            Some(more) => {
                found.push('`');
                quoted = more;
            }
            None => {
                *text = after;
                return Some(found);
            }
        }
    }
}

/// A change that no statement of the load explains.
#[derive(Debug, Clone, Default)]
pub struct Suspect {
    table: String,
    /// The log file, and where in it.
    place: (String, u64),
    /// The statements of its transaction.
    digests: Vec<u64>,
    /// The last of them, cut.
    text: Option<String>,
}

impl Suspect {
    /// The statement, if the log has it.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, offset) = &self.place;
        write!(f, "{} was changed at {file}:{offset} of the source's log, and not by the load", self.table)?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => write!(f, ", whose sessions all have their statements logged"),
        }
    }
}

/// What a log shows, up to where it was read.
#[derive(Debug)]
pub struct Scan {
    /// Where the transaction begins that was read last.
    at: FilePosition,
    /// By their places: a transaction that is read again is the same one.
    suspects: BTreeMap<(String, u64), Suspect>,
    /// How often a transaction of the load was seen that changed something.
    pub of_load: u64,
    /// Changes without any statement, on a server that logs the statements of all sessions (MariaDB by its default): what
    /// one statement does is then in two transactions, of which the first has it.
    pub untold: u64,
    asks_all: bool,
    /// Logs that the server left unfinished.
    pub torn: Torn,
    /// The transaction that is being read.
    open: Suspect,
}

impl Scan {
    /// Nothing before this position is looked at.
    pub fn from(at: FilePosition) -> Self {
        let (suspects, torn, open) = (BTreeMap::new(), Torn::default(), Suspect::default());
        Self { at, suspects, of_load: 0, untold: 0, asks_all: false, torn, open }
    }

    /// What is not known to be the load's.
    pub fn suspects(&self) -> impl Iterator<Item = &Suspect> {
        self.suspects.values()
    }

    /// Drops what has turned out to be the load's.
    pub fn forget(&mut self, known: &Texts) {
        let before = self.suspects.len();
        self.suspects.retain(|_, suspect| !suspect.digests.iter().any(|digest| known.has(*digest)));
        self.of_load += (before - self.suspects.len()) as u64;
    }

    /// Reads on to the log's end.
    pub async fn read_on(
        &mut self,
        server: &Address,
        judged: &Judged,
        known: &Texts,
    ) -> Result<(), ServerError> {
        const WHAT: &str = "reading the source's binary log";
        let fail = |e| ServerError::driver(WHAT, e);
        let mut conn = Connector::new(server.clone()).connect().await?;
        let flavor = ServerInfo::read(&mut conn).await?.flavor;
        self.asks_all = flavor == Flavor::MariaDb;
        let names = logs::names(&mut conn).await.map_err(fail)?;
        let Some(first) = names.iter().position(|name| *name == self.at.file) else {
            return Err(ServerError::Lost { what: WHAT.into(), why: format!("{} is gone", self.at.file) });
        };
        for (i, name) in names.iter().enumerate().skip(first) {
            let from = if i == first { self.at.offset } else { 4 };
            // No transaction is in two files.
            self.end(known);
            self.at = FilePosition { file: name.clone(), offset: from };
            let read = self.file(&mut conn, flavor, self.at.clone(), (judged, known)).await.map_err(fail);
            self.torn.note(read, TORN, name, i + 1 == names.len())?;
        }
        self.end(known);
        converge_mysql::connect::close(conn).await;
        Ok(())
    }

    async fn file(
        &mut self,
        conn: &mut Conn,
        flavor: Flavor,
        from: FilePosition,
        (judged, known): (&Judged, &Texts),
    ) -> Result<(), mysql_async::Error> {
        let (name, mut from) = (quote::text(&from.file), from);
        // MySQL holds nobody up, and what it shows of a compressed transaction has one position.
        let limit = if flavor == Flavor::MariaDb { format!(" LIMIT {AT_ONCE}") } else { String::new() };
        loop {
            let query = format!("SHOW BINLOG EVENTS IN {name} FROM {}{limit}", from.offset);
            let (mut seen, mut next) = (0, from.offset);
            let mut events = conn.query_iter(query).await?;
            while let Some(row) = events.next().await? {
                let text = |n: usize| row.get::<Option<Vec<u8>>, _>(n).flatten().unwrap_or_default();
                let position = row.get::<u64, _>(1).unwrap_or_default();
                self.see(
                    &FilePosition { offset: position, ..from.clone() },
                    &text(2),
                    &text(5),
                    (judged, known),
                );
                next = next.max(row.get::<u64, _>(4).unwrap_or_default());
                seen += 1;
            }
            if limit.is_empty() || seen < AT_ONCE || next <= from.offset {
                return Ok(());
            }
            from.offset = next;
        }
    }

    fn see(&mut self, at: &FilePosition, kind: &[u8], info: &[u8], (judged, known): (&Judged, &Texts)) {
        match kind {
            b"Gtid" | b"Anonymous_Gtid" => {
                self.end(known);
                self.at = at.clone();
            }
            b"Rows_query" => self.statement(info.strip_prefix(b"# ").unwrap_or(info)),
            b"Annotate_rows" => self.statement(info),
            b"Table_map" => {
                let table = mapped(&String::from_utf8_lossy(info));
                let table = table.filter(|t| t.split_once('.').is_some_and(|(d, t)| judged.has(d, t)));
                if let Some(table) = table.filter(|_| self.open.table.is_empty()) {
                    (self.open.table, self.open.place) = (table, (at.file.clone(), at.offset));
                }
            }
            b"Query" => {
                let info = String::from_utf8_lossy(info);
                if let Some(table) = judged.emptied(&info) {
                    self.statement(in_database(&info).1.as_bytes());
                    (self.open.table, self.open.place) = (table, (at.file.clone(), at.offset));
                }
            }
            _ => {}
        }
    }

    fn statement(&mut self, text: &[u8]) {
        self.open.digests.push(digest(text));
        if self.open.table.is_empty() {
            self.open.text = Some(String::from_utf8_lossy(text).chars().take(SHOWN).collect());
        }
    }

    /// The transaction that was being read has ended.
    fn end(&mut self, known: &Texts) {
        let ended = std::mem::take(&mut self.open);
        if ended.table.is_empty() {
            return;
        }
        match ended.digests.iter().any(|digest| known.has(*digest)) {
            true => self.of_load += 1,
            false if self.asks_all && ended.digests.is_empty() => self.untold += 1,
            false => drop(self.suspects.insert(ended.place.clone(), ended)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> Judged {
        Judged::new("shop".into(), &["customer".into(), "o`dd".into()])
    }

    fn scan(known: &[&str], events: &[(&str, &str)]) -> Scan {
        let mut texts = Texts::default();
        texts.0.extend(known.iter().map(|text| digest(text.as_bytes())));
        let mut scan = Scan::from(FilePosition { file: "log.1".into(), offset: 4 });
        for (offset, (kind, info)) in (4..).zip(events) {
            let at = FilePosition { file: "log.1".into(), offset };
            scan.see(&at, kind.as_bytes(), info.as_bytes(), (&judged(), &texts));
        }
        scan.end(&texts);
        scan
    }

    const CHANGED: (&str, &str) = ("Table_map", "table_id: 97 (shop.customer)");
    const OURS: (&str, &str) = ("Rows_query", "# UPDATE customer SET a = 1");
    const FOREIGN: (&str, &str) = ("Annotate_rows", "DELETE FROM customer");

    #[test]
    fn what_no_statement_of_the_load_explains_is_named() {
        let known = ["UPDATE customer SET a = 1;"];
        let events = [("Gtid", ""), OURS, CHANGED, ("Gtid", ""), FOREIGN, CHANGED, ("Gtid", ""), CHANGED];
        let scan = scan(&known, &events);
        let said: Vec<String> = scan.suspects().map(ToString::to_string).collect();
        assert_eq!((scan.of_load, said.len()), (1, 2), "{said:?}");
        assert!(
            said[0].contains("shop.customer") && said[0].contains("log.1:9") && said[0].contains(FOREIGN.1)
        );
        assert!(said[1].contains("log.1:11"), "{said:?}");
    }

    #[test]
    fn one_statement_of_the_load_makes_a_transaction_the_loads_also_if_it_is_known_later() {
        // A trigger's own statement is logged instead of the one that set it off.
        let events = [("Gtid", ""), FOREIGN, CHANGED, OURS, CHANGED];
        let known = ["UPDATE customer SET a = 1"];
        assert_eq!(scan(&known, &events).suspects().count(), 0);
        let mut late = scan(&[], &events);
        assert_eq!((late.of_load, late.suspects().count()), (0, 1));
        let mut texts = Texts::default();
        texts.0.insert(digest(known[0].as_bytes()));
        late.forget(&texts);
        assert_eq!((late.of_load, late.suspects().count()), (1, 0));
    }

    #[test]
    fn others_may_write_to_what_is_theirs() {
        let table = |name: &str| format!("table_id: 1 ({name})");
        for (name, count) in [
            ("shop.customer", 1),
            ("shop._customer_fenced", 1),
            ("shop.other", 0),
            ("theirs.customer", 0),
            ("_converge.marks", 0),
            ("mysql.user", 0),
        ] {
            let map = table(name);
            let events = [("Gtid", ""), ("Table_map", map.as_str())];
            assert_eq!(scan(&[], &events).suspects().count(), count, "{name}");
        }
    }

    #[test]
    fn a_definition_that_takes_rows_away_is_a_change_and_a_fence_is_none() {
        let emptied = |info: &str| judged().emptied(info);
        for info in [
            "use `shop`; TRUNCATE customer",
            "use `x`; truncate table shop.customer",
            "use `shop`; DROP TABLE IF EXISTS `t`,`customer` /* generated by server */",
            "ALTER TABLE `shop`.`o``dd` FORCE",
            "use `shop`; ALTER TABLE _customer_fenced FORCE",
        ] {
            assert!(emptied(info).is_some(), "{info}");
        }
        for info in [
            "BEGIN",
            "use `shop`; RENAME TABLE /* converge fence */ `shop`.`customer` TO `shop`.`_customer_fenced`",
            "use `x`; TRUNCATE customer",
            "use `shop`; DROP TABLE `_converge`.`customer`",
            "use `shop`; DROP DATABASE customer",
            "use `shop`; ALTER TABLE other ADD customer INT",
        ] {
            assert_eq!(emptied(info), None, "{info}");
        }
    }
}
