//! A source's binary log, transaction by transaction: which of them changed what is judged, and by which statements.

use std::collections::BTreeMap;
use std::fmt;

use converge_mysql::{Address, Connector, Error as ServerError, FilePosition, Flavor, ServerInfo, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::judged::{Does, Judged};
use super::{Texts, digest};
use crate::oracle::logs::{self, Torn};
use crate::oracle::silence::{TORN, mapped};

/// Events that are asked for at a time: MariaDB lets nobody commit while it shows them.
const AT_ONCE: u64 = 5000;
/// Characters of a statement that are shown.
const SHOWN: usize = 200;
/// Characters of a statement that are kept.
const KEPT: usize = 4000;

/// The database that a logged statement was sent in, and the statement.
fn in_database(info: &str) -> (String, &str) {
    let parts = info.strip_prefix("use `").and_then(|rest| rest.split_once("`; "));
    parts.map_or((String::new(), info), |(name, statement)| (name.replace("``", "`"), statement))
}

/// A change that no statement of the load explains.
#[derive(Debug, Clone, Default)]
pub struct Suspect {
    table: String,
    /// The log file, and where in it.
    place: (String, u64),
    /// The statements of its transaction.
    digests: Vec<u64>,
    /// The last of them, cut if it is very long.
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
            Some(text) => write!(f, ": {}", text.chars().take(SHOWN).collect::<String>()),
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
    /// one statement does is then in two transactions, of which the first has it. And statements without their changes.
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
            // MariaDB may compress a long one.
            b"Query" | b"Query_compressed" => {
                let info = String::from_utf8_lossy(info);
                let (database, statement) = in_database(&info);
                match judged.does(&database, statement) {
                    Does::Defines(table) => {
                        self.statement(statement.as_bytes());
                        (self.open.table, self.open.place) = (table, (at.file.clone(), at.offset));
                    }
                    Does::Hides if !known.has(digest(statement.as_bytes())) => self.untold += 1,
                    Does::Hides | Does::Nothing => {}
                }
            }
            _ => {}
        }
    }

    fn statement(&mut self, text: &[u8]) {
        self.open.digests.push(digest(text));
        if self.open.table.is_empty() {
            self.open.text = Some(String::from_utf8_lossy(text).chars().take(KEPT).collect());
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
    fn a_definition_is_a_change_and_a_statement_without_rows_leaves_it_open() {
        let seen = scan(&[], &[("Gtid", ""), ("Query", "use `sh``op`; TRUNCATE customer")]);
        assert_eq!((seen.suspects().count(), seen.untold), (0, 0));
        let seen = scan(&[], &[("Gtid", ""), ("Query", "use `shop`; /* x */ truncate table customer")]);
        let said = seen.suspects().next().unwrap().to_string();
        assert!(
            said.contains("shop.customer") && said.ends_with("/* x */ truncate table customer"),
            "{said}"
        );
        let hidden = [("Gtid", ""), ("Query", "use `shop`; DELETE FROM customer")];
        for (known, untold) in [(&[][..], 1), (&["DELETE FROM customer"], 0)] {
            let seen = scan(known, &hidden);
            assert_eq!((seen.suspects().count(), seen.untold), (0, untold));
        }
    }
}
